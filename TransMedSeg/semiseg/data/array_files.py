"""Volumes in files that hold arrays and no geometry: h5, npy and npz as the public benchmarks distribute them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from ..errors import InputError
from .geometry import Geometry
from .slices import files_of, slice_of
from .volume import Volume

H5_SPACING_MM = (0.625, 0.625, 0.625)
"""Spacing assumed for the left-atrium h5 files, which state none: what the challenge says of its images."""

ENDINGS = (".h5", ".hdf5", ".npz", ".npy")

# SSL4MIS writes ACDC volumes, and TransUNet its Synapse volumes, slice by slice; left atrium and pancreas are x, y, z.
_SLICES_FIRST = re.compile(r"(?i)patient\d+_frame\d+\.h5|.+\.npy\.h5|.+\.npy")

_DAMAGED = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)

Spacing = tuple[float, float, float]


def is_array_file(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def read_array(path: Path, dataset: str, spacing_mm: Spacing | None) -> Volume:
    """Reads ``image`` or ``label`` of one file, or of all files of a stack of slices.

    Args:
        path: h5, npz or npy. Axes are x, y, z, except in ACDC frames, ``.npy.h5`` and npy files: slice, row, column.
        dataset: ``"image"`` or ``"label"``; an npy file is one of them by its own name.
        spacing_mm: (slice, row, column); 0.625 mm without it.

    Raises:
        InputError: It cannot be read or lacks the dataset (E311), or has not the dimensions it must have (E302).
    """
    if slice_of(path.name) is not None:
        array = _stacked(path, dataset)
    else:
        array = _load(path, dataset)
        if array.ndim != 3:
            raise InputError(
                f"'{path.name}' has {array.ndim} dimensions; a scalar 3-D volume is needed.", code="E302", path=path
            )
        array = np.ascontiguousarray(array if _SLICES_FIRST.fullmatch(path.name) else array.transpose(2, 1, 0))
    return Volume(array, Geometry.from_parts(array.shape, spacing_mm or H5_SPACING_MM))


def _stacked(path: Path, dataset: str) -> np.ndarray:
    files = files_of(path)
    planes = [_load(file, dataset) for file in files]
    for file, plane in zip(files, planes):
        if plane.ndim != 2 or plane.shape != planes[0].shape:
            raise InputError(
                f"'{file.name}' is {' × '.join(map(str, plane.shape))}; the slices of one volume are 2-D and of one "
                f"size ({' × '.join(map(str, planes[0].shape))}).",
                code="E302",
                path=file,
            )
    return np.stack(planes)


def _load(path: Path, dataset: str) -> np.ndarray:
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return file[_known(path, dataset, file.files)]
        return _load_h5(path, dataset)
    except _DAMAGED as error:
        kind = "h5" if path.suffix.lower() in (".h5", ".hdf5") else "NumPy's"
        raise InputError(
            f"'{path.name}' cannot be read: it is cut off, damaged or not {kind} ({error}).",
            code="E311",
            path=path,
            hint="Copy or download it again.",
        ) from error


def _load_h5(path: Path, dataset: str) -> np.ndarray:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise InputError(
            f"Reading h5 files needs the Python package '{error.name}', which is not installed here.",
            hint="Install it, or convert the file to .nii.gz or .nrrd.",
            path=path,
        ) from error
    with h5py.File(path, "r") as file:
        return file[_known(path, dataset, list(file))][()]


def _known(path: Path, dataset: str, names: list[str]) -> str:
    if dataset not in names:
        raise InputError(
            f"'{path.name}' has no dataset '{dataset}'; found: {', '.join(names) or 'nothing'}.",
            code="E311",
            path=path,
        )
    return dataset


def has_mask(path: Path) -> bool:
    """Whether an h5 or npz file holds its mask beside the image; a damaged file says no, reading it says why."""
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return "label" in file.files
        if path.suffix.lower() in (".h5", ".hdf5"):
            import h5py

            with h5py.File(path, "r") as file:
                return "label" in file
    except _DAMAGED:
        return False
    return False
