"""Small volumes for tests: spheres and boxes in unequal, oblique grids, written in every format.

Sizes and spacings differ along every axis and nothing is symmetric, so a swapped axis or a flip cannot pass unnoticed.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from semiseg.data.files import write_h5, write_labels, write_volume
from semiseg.data.geometry import Geometry
from semiseg.data.segmentation import Segment
from semiseg.data.volume import Volume

SHAPE = (10, 20, 30)
SPACING_MM = (2.5, 0.9, 0.7)
ORIGIN_MM = (-81.25, 12.5, 340.0)

FILE_FORMATS = (".nii", ".nii.gz", ".nrrd", ".mha")
"""Endings that hold a geometry. Left-atrium h5 files hold none; DICOM series are in ``synthetic_series``."""

MASK_FORMATS = (".nii.gz", ".nrrd", ".mha", ".seg.nrrd")
LEFT_ATRIUM = Segment(1, "left atrium")


def rotation(angles_deg: tuple[float, float, float]) -> np.ndarray:
    """(3, 3) rotation about x, then y, then z."""
    a, b, c = np.radians(angles_deg)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def geometry(
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    angles_deg: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Geometry:
    """An anisotropic grid, turned by some angles from slices to the head, rows to the back, columns to the left."""
    straight = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    return Geometry.from_parts(shape, spacing_mm, ORIGIN_MM, rotation(angles_deg) @ straight)


def oblique(shape: tuple[int, int, int] = SHAPE) -> Geometry:
    return geometry(shape, angles_deg=(20.0, -35.0, 15.0))


def all_orientations() -> list[np.ndarray]:
    """The 48 directions of axes along the patient's: 24 turns and their mirror images, columns slice, row, column."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            found.append(np.eye(3)[:, order] * np.array(signs))
    return found


def sphere(
    grid: Geometry, radius_mm: float = 5.0, center: tuple[float, float, float] = (0.45, 0.55, 0.4)
) -> np.ndarray:
    """(slice, row, column) uint8 ball around a place given as fractions of the grid; with a box at one side of it."""
    middle_mm = grid.position_mm(np.array(center) * (np.array(grid.shape) - 1))
    index = np.stack(np.meshgrid(*[np.arange(size) for size in grid.shape], indexing="ij"), axis=-1)
    ball = np.linalg.norm(grid.position_mm(index) - middle_mm, axis=-1) <= radius_mm
    corner = np.rint(np.array(center) * (np.array(grid.shape) - 1)).astype(int)
    ball[corner[0] :, corner[1] : corner[1] + 3, corner[2] : corner[2] + 8] = True
    return ball.astype(np.uint8)


def image_of(mask: np.ndarray, seed: int = 0, contrast: float = 3.0) -> np.ndarray:
    """(slice, row, column) float32: smooth noise of the seed, brighter inside the mask, brighter towards one corner."""
    noise = np.random.default_rng(seed).normal(0.0, 1.0, mask.shape)
    ramp = np.add.outer(np.add.outer(np.arange(mask.shape[0]), np.arange(mask.shape[1])), np.arange(mask.shape[2]))
    return (noise + contrast * mask + ramp / sum(mask.shape)).astype(np.float32)


def make_case(seed: int = 0, grid: Geometry | None = None) -> tuple[Volume, Volume]:
    """An image and its mask: a ball whose place, size and noise come from the seed."""
    grid = oblique() if grid is None else grid
    rng = np.random.default_rng(seed)
    mask = sphere(grid, rng.uniform(4.0, 6.0), tuple(rng.uniform(0.35, 0.6, 3)))
    return Volume(image_of(mask, seed), grid), Volume(mask, grid)


def write_case(
    folder: Path,
    name: str,
    seed: int = 0,
    ending: str = ".nii.gz",
    mask_ending: str | None = ".nii.gz",
    grid: Geometry | None = None,
) -> Path:
    """Writes ``<name><ending>`` and, unless ``mask_ending`` is None, its mask. Returns the path of the image.

    The mask is ``<name>_seg<mask_ending>``, ``<name>.seg.nrrd``, or inside an h5 file.
    """
    image, mask = make_case(seed, grid)
    path = Path(folder) / f"{name}{ending}"
    if ending == ".h5":
        write_h5(path, image.array, None if mask_ending is None else mask.array)
        return path
    write_volume(path, image)
    if mask_ending is not None:
        suffix = mask_ending if mask_ending == ".seg.nrrd" else f"_seg{mask_ending}"
        write_labels(path.with_name(f"{name}{suffix}"), mask, [LEFT_ATRIUM])
    return path


def write_cohort(
    folder: Path,
    num_labeled: int = 3,
    num_unlabeled: int = 2,
    num_held_out: int = 1,
    ending: str = ".nii.gz",
    grid: Geometry | None = None,
) -> Path:
    """Writes subfolders ``labeled``, ``unlabeled`` and ``heldout`` of different cases and returns the folder."""
    seed = 0
    for role, count in (("labeled", num_labeled), ("unlabeled", num_unlabeled), ("heldout", num_held_out)):
        for number in range(count):
            seed += 1
            mask_ending = None if role == "unlabeled" else ".nii.gz"
            write_case(folder / role, f"{role}_{number:02d}", seed, ending, mask_ending, grid)
    return folder


def write_left_atrium_layout(folder: Path, num_train: int = 4, num_test: int = 2) -> tuple[list[str], list[str]]:
    """Writes ``<name>/mri_norm2.h5`` and both lists; train.list is not in alphabetical order. Returns the names."""
    names = [f"{chr(90 - number)}{number:02d}LACASE" for number in range(num_train + num_test)]
    for seed, name in enumerate(names):
        write_case(folder / name, "mri_norm2", seed, ".h5", grid=geometry(spacing_mm=(0.625, 0.625, 0.625)))
    train, test = names[:num_train], names[num_train:]
    (folder / "train.list").write_text("\n".join(train) + "\n")
    (folder / "test.list").write_text("\n".join(test) + "\n")
    return train, test


def tiny_train_job(cohort: Path, training: dict, **changes: object) -> dict:
    """Options of a training of seconds on ``write_cohort``'s volumes, without those held out.

    Args:
        cohort: Its folder.
        training: How long, and what else differs from patches of 8 x 16 x 16 voxels and a look after every step.
        **changes: Other options.
    """
    return {
        "labeled": [str(cohort / "labeled")],
        "unlabeled": [str(cohort / "unlabeled")],
        "device": "cpu",
        "network_options": {"width": 2, "depth": 3},
        "training": {"patch_size": [8, 16, 16], "log_every": 1, **training},
        **changes,
    }
