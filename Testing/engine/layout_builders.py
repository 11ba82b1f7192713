"""Public data sets in miniature: their folders, lists and file names, with made-up balls inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from semiseg.data.files import write_volume
from semiseg.data.geometry import Geometry
from semiseg.data.volume import Volume

SHAPE = (6, 20, 24)


def balls(seed: int, num_structures: int = 1, shape: Sequence[int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """(image float32 in 0..1, label uint8), slice first: a ball of nested balls, or of slabs where there are many structures."""
    rng = np.random.default_rng(seed)
    center = np.array(shape)[:, None, None, None] * rng.uniform(0.4, 0.6, 3)[:, None, None, None]
    distance = np.sqrt((((np.indices(shape) - center) / np.array(shape)[:, None, None, None]) ** 2).sum(0))
    label = np.zeros(shape, np.uint8)
    for structure in range(1, num_structures + 1):
        label[distance < 0.42 * (1 - (structure - 1) / (num_structures + 0.5))] = structure
    if num_structures > 3:
        inside = distance < 0.38
        columns = np.broadcast_to(np.arange(shape[2]), shape)
        first, last = columns[inside].min(), columns[inside].max()
        label = np.where(inside, 1 + (columns - first) * num_structures // (last - first + 1), 0).astype(np.uint8)
    image = 0.2 + 0.6 * label / num_structures + rng.normal(0, 0.03, shape)
    return image.clip(0, 1).astype(np.float32), label


def write_arrays(path: Path, image: np.ndarray, label: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, image=image, label=label)
    else:
        with h5py.File(path, "w") as file:
            file["image"], file["label"] = image, label
    return path


def write_nifti(path: Path, array: np.ndarray, spacing_mm: tuple[float, float, float] = (2.5, 0.8, 0.8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, Volume(array, Geometry.from_parts(array.shape, spacing_mm)))
    return path


def write_ct(
    folder: Path, images: str, labels: str, names: Sequence[tuple[str, str | None]], num_structures: int, scale: float = 500.0
) -> None:
    """NIfTI pairs in Hounsfield units from -200; a name without a mask is an image alone."""
    for seed, (image_name, label_name) in enumerate(names):
        image, label = balls(seed, num_structures)
        write_nifti(folder / images / image_name, image * scale - 200)
        if label_name is not None:
            write_nifti(folder / labels / label_name, label)


def write_list(path: Path, names: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def write_acdc(
    folder: Path,
    num_patients: int = 4,
    num_held_out: int = 2,
    num_slices: int = 12,
    slices: str = "data/slices",
    shape: tuple[int, int] = (20, 24),
) -> list[str]:
    """SSL4MIS' layout; patients in the list in falling order, the slices of a frame in none. Returns the patients in order."""
    patients, lines = [f"patient{number:03d}" for number in range(num_patients, 0, -1)], []
    for patient in patients:
        for frame in (1, 2):
            image, label = balls(10 * int(patient[-3:]) + frame, 3, (num_slices, *shape))
            names = [f"{patient}_frame{frame:02d}_slice_{number}" for number in range(1, num_slices + 1)]
            for name, plane, mask in zip(names, image, label):
                write_arrays(folder / slices / f"{name}.h5", plane, mask)
            lines += reversed(names)
    write_list(folder / "train_slices.list", lines)
    held_out = [f"patient{900 + number}_frame01" for number in range(num_held_out)]
    for number, name in enumerate(held_out):
        write_arrays(folder / "data" / f"{name}.h5", *balls(500 + number, 3, (5, *shape)))
    write_list(folder / "val.list", held_out)
    return patients


def write_left_atrium(folder: Path, num_train: int, num_test: int, shape: tuple[int, int, int] = (40, 64, 60)) -> None:
    """UA-MT's layout: lists, and one folder a case with axes x, y, z and no spacing."""
    names = {"train": [f"TRAIN{number:02d}" for number in range(num_train)], "test": [f"TEST{number:02d}" for number in range(num_test)]}
    for part, cases in names.items():
        for number, name in enumerate(cases):
            image, label = balls(number + 100 * (part == "test"), 1, shape)
            write_arrays(folder / name / "mri_norm2.h5", image.transpose(2, 1, 0), label.transpose(2, 1, 0))
        write_list(folder / f"{part}.list", cases)


def write_pancreas(folder: Path, numbers: Sequence[int], lists: bool, name: str = "{:04d}.h5") -> None:
    """CoraNet's and BCP's layout: x, y, z."""
    for number in numbers:
        image, label = balls(number)
        write_arrays(folder / name.format(number), image.transpose(2, 1, 0), label.transpose(2, 1, 0))
    if lists:
        write_list(folder / "train_lab.txt", [f"{number:04d}.h5" for number in numbers[:2]])
        write_list(folder / "train_unlab.txt", [f"{number:04d}.h5" for number in numbers[2:-1]])
        write_list(folder / "test.txt", [f"{number:04d}.h5" for number in numbers[-1:]])


def write_resized(folder: Path, ids: Sequence[str], num_structures: int) -> None:
    """DHC's layout: two lists of labels (2 and 3 of the training cases), one validation and one test case."""
    (folder / "npy").mkdir(parents=True)
    for seed, name in enumerate(ids):
        image, label = balls(seed, num_structures)
        np.save(folder / "npy" / f"{name}_image.npy", image * 500 - 200)
        np.save(folder / "npy" / f"{name}_label.npy", label)
    train = list(ids[:-2])
    for percent, chosen in ((20, train[1:3]), (40, train[:3])):
        write_list(folder / "splits" / f"labeled_{percent}p.txt", chosen)
        write_list(folder / "splits" / f"unlabeled_{percent}p.txt", [name for name in train if name not in chosen])
    write_list(folder / "splits" / "eval.txt", ids[-2:-1])
    write_list(folder / "splits" / "test.txt", ids[-1:])


def write_dataset_json(folder: Path, **fields: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(fields), encoding="utf-8")


def write_decathlon(folder: Path, order: Sequence[str], modality: str = "MRI", test: Sequence[str] = ("t_9",)) -> None:
    write_ct(folder, "imagesTr", "labelsTr", [(f"{name}.nii.gz", f"{name}.nii.gz") for name in order], 2)
    write_ct(folder, "imagesTs", "", [(f"{name}.nii.gz", None) for name in test], 2)
    listed = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in order]
    labels = {"0": "background", "1": "pancreas", "2": "cancer"}
    write_dataset_json(folder, name="Pancreas", modality={"0": modality}, labels=labels, numTraining=len(order), training=listed)


def write_nnunet(folder: Path, names: Sequence[str], channel: str = "CT", scored: Sequence[str] = ()) -> None:
    write_ct(folder, "imagesTr", "labelsTr", [(f"{name}_0000.nii.gz", f"{name}.nii.gz") for name in names], 2)
    write_ct(folder, "imagesTs", "labelsTs", [(f"{name}_0000.nii.gz", f"{name}.nii.gz") for name in scored], 2)
    labels = {"background": 0, "tumor": 2, "kidney": 1}
    write_dataset_json(folder, channel_names={"0": channel}, labels=labels, numTraining=len(names), file_ending=".nii.gz")
