"""Reading and writing volumes with their full geometry: NIfTI, NRRD, MHA, left-atrium h5, DICOM series folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .geometry import Geometry
from .naming import ending
from .volume import Volume

H5_SPACING_MM = (0.625, 0.625, 0.625)
"""Spacing assumed for the left-atrium h5 files, which state none: what the challenge says of its images."""


def read_volume(path: Path, name: str | None = None, assumed_spacing_mm: tuple[float, float, float] | None = None
                ) -> Volume:
    """Reads a scalar 3-D volume.

    Args:
        path: NIfTI, NRRD, MetaImage, h5 file (dataset ``image``, axes x, y, z), or the folder of a DICOM series.
        name: What messages call the volume; the file name unless given.
        assumed_spacing_mm: (slice, row, column) for files that state no spacing. Without it 0.625 mm is assumed for
            h5 files; other formats without spacing are refused.

    Raises:
        InputError: It cannot be read (E311), is not a scalar 3-D volume (E302), its axes are not at right angles
            (E305) or its spacing is missing (E306).
    """
    path = Path(path)
    name = name or path.name
    if path.is_dir():
        from ..dicom.series import read_series

        return read_series(path)[0]
    _refuse_placeholder(path, name)
    if ending(path) in (".h5", ".hdf5"):
        return _read_h5(path, "image", name, assumed_spacing_mm)
    raise NotImplementedError(path)


def _refuse_placeholder(path: Path, name: str) -> None:
    if not path.is_file():
        raise InputError(f"'{name}' cannot be read: there is no such file.", code="E311", path=path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(64)
    if size == 0 or start.startswith(b"version https://git-lfs"):
        raise InputError(f"'{name}' cannot be read: the file has {size} bytes and looks like a placeholder.",
                         code="E311", path=path, hint="Download the file itself (git lfs pull, or from the cloud).")


def _read_h5(path: Path, dataset: str, name: str, spacing_mm: tuple[float, float, float] | None) -> Volume:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if dataset not in file:
                raise InputError(f"'{name}' has no dataset '{dataset}'; found: {', '.join(file) or 'nothing'}.",
                                 code="E311", path=path)
            array = file[dataset][()]
    except OSError as error:
        raise InputError(f"'{name}' cannot be read; the file is damaged or not h5 ({error}).", code="E311",
                         path=path, hint="Copy or download it again.") from error
    if array.ndim != 3:
        raise InputError(f"'{name}' has {array.ndim} dimensions; a 3-D volume is needed.", code="E302", path=path)
    array = np.ascontiguousarray(array.transpose(2, 1, 0))
    return Volume(array, Geometry.from_parts(array.shape, spacing_mm or H5_SPACING_MM))


def read_labels(path: Path, name: str | None = None,
                assumed_spacing_mm: tuple[float, float, float] | None = None) -> tuple[Volume, dict[int, str]]:
    path = Path(path)
    return _read_h5(path, "label", name or path.name, assumed_spacing_mm), {}
