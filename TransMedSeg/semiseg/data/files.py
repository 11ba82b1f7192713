"""Volumes from and to files, with full geometry: NIfTI, NRRD, MetaImage, h5 and NumPy arrays, DICOM series folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .array_files import Spacing, is_array_file, read_array
from .atomic import replacing
from .geometry import Geometry
from .naming import ending
from .nifti import read_nifti, write_nifti
from .nrrd import read_nrrd, write_nrrd
from .segmentation import Segment, json_beside, merge_layers, read_names, slicer_fields, stored_segments, write_facts
from .volume import Volume


def read_volume(path: Path, name: str | None = None, assumed_spacing_mm: Spacing | None = None) -> Volume:
    """Reads a scalar 3-D volume.

    Args:
        path: NIfTI, NRRD, MetaImage, h5, npz or npy file (see ``array_files``), or the folder of a DICOM series.
        name: What messages call the volume; the file name unless given.
        assumed_spacing_mm: (slice, row, column) for files that state no spacing. Without it 0.625 mm is assumed for
            h5, npz and npy files; other formats without spacing are refused.

    Raises:
        InputError: It cannot be read (E311), is not a scalar 3-D volume (E302), its axes are not at right angles
            (E305) or its spacing is missing (E306).
    """
    path = Path(path)
    if path.is_dir():
        return _read_series(path)
    name = name or path.name
    _refuse_placeholder(path, name)
    kind = ending(path)
    if is_array_file(path):
        return read_array(path, "image", assumed_spacing_mm)
    if kind in (".nii", ".nii.gz"):
        return read_nifti(path, assumed_spacing_mm)
    if kind in (".mha", ".mhd"):
        return _read_meta_image(path, assumed_spacing_mm)
    if kind in (".nrrd", ".nhdr", ".seg.nrrd"):
        file = read_nrrd(path)
        if len(file.layers) > 1:
            raise InputError(
                f"'{path.name}' holds {len(file.layers)} volumes; a scalar 3-D volume is needed.",
                code="E302",
                hint="Save one of them as a volume of its own.",
                path=path,
            )
        return Volume(file.layers[0], _nrrd_geometry(path, file.layers.shape[1:], file.affine, assumed_spacing_mm))
    raise InputError(
        f"'{name}' has an ending that is not known here.",
        code="E311",
        path=path,
        hint="Use .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, .h5 or a folder of DICOM files.",
    )


def read_labels(
    path: Path, name: str | None = None, assumed_spacing_mm: Spacing | None = None
) -> tuple[Volume, dict[int, str]]:
    """Reads a label map and the names of its values, as far as the file or the JSON file beside it has names.

    Args:
        path: As for :func:`read_volume`; of an h5 file the dataset ``label``.

    Raises:
        InputError: As for :func:`read_volume`; and where values are not whole numbers, or segments overlap (E704).
    """
    path = Path(path)
    _refuse_placeholder(path, name or path.name)
    kind = ending(path)
    if kind in (".nrrd", ".seg.nrrd"):
        file = read_nrrd(path)
        stored = stored_segments(file.fields)
        if stored:
            geometry = _nrrd_geometry(path, file.layers.shape[1:], file.affine, assumed_spacing_mm)
            merged, names = merge_layers(_whole(file.layers, path), stored, path)
            return Volume(merged, geometry), names
    if is_array_file(path):
        volume = read_array(path, "label", assumed_spacing_mm)
    else:
        volume = read_volume(path, name, assumed_spacing_mm)
    return volume.with_array(_whole(volume.array, path)), read_names(path)


def write_volume(path: Path, volume: Volume) -> None:
    """Writes ``.nii``, ``.nii.gz``, ``.nrrd``, ``.mha`` or ``.h5`` by the ending, whole or not at all.

    h5 is the left-atrium layout: dataset ``image``, axes x, y, z, no geometry.
    """
    path, kind = Path(path), ending(Path(path))
    if kind in (".nii", ".nii.gz"):
        write_nifti(path, volume)
    elif kind in (".nrrd", ".seg.nrrd"):
        array = volume.array.astype(np.float32) if volume.array.dtype == np.float16 else volume.array
        write_nrrd(path, array[None], volume.geometry)
    elif kind == ".mha":
        _write_meta_image(path, volume)
    elif kind in (".h5", ".hdf5"):
        write_h5(path, volume.array)
    else:
        raise InputError(
            f"'{path.name}' has an ending that cannot be written.",
            code="E311",
            path=path,
            hint="Use .nii.gz, .seg.nrrd, .nrrd, .mha or .h5.",
        )


def write_labels(path: Path, volume: Volume, segments: Sequence[Segment]) -> None:
    """Writes a label map with names, colors and codes: in the header of ``.seg.nrrd``, else as JSON beside the file.

    Args:
        volume: Integers 0..65535; values without a segment are written but have no name.
    """
    path = Path(path)
    labels = _whole(volume.array, path)
    labels = labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
    if ending(path) == ".seg.nrrd":
        write_nrrd(path, labels[None], volume.geometry, slicer_fields(labels, segments))
    else:
        write_volume(path, volume.with_array(labels))
        write_facts(path, segments)


def label_files(path: Path) -> list[Path]:
    """What :func:`write_labels` leaves on disk for a path."""
    return [path] if ending(path) == ".seg.nrrd" else [path, json_beside(path)]


def write_h5(path: Path, image: np.ndarray, label: np.ndarray | None = None) -> None:
    """Writes (slice, row, column) arrays in left-atrium layout: ``image`` float32 and ``label`` uint8, axes x, y, z."""
    import h5py

    with replacing(Path(path)) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("image", data=image.astype(np.float32).transpose(2, 1, 0), compression="gzip")
        if label is not None:
            file.create_dataset("label", data=label.astype(np.uint8).transpose(2, 1, 0), compression="gzip")


def _whole(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        if not np.array_equal(array, np.rint(array)):
            raise InputError(
                f"'{path.name}' holds fractions; a label map has whole numbers.",
                code="E704",
                hint="Choose a label map, not an image or probabilities.",
                path=path,
            )
        return array.astype(np.int32)
    return array


def _refuse_placeholder(path: Path, name: str) -> None:
    if not path.is_file():
        raise InputError(
            f"'{name}' cannot be read: there is no such file on this computer.",
            code="E311",
            path=path,
            hint="Download it if it lies in a cloud.",
        )
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(64)
    if not start.strip(b"\0") or start.startswith(b"version https://git-lfs"):
        raise InputError(
            f"'{name}' cannot be read: the file is {size} bytes, it looks like a placeholder.",
            code="E311",
            path=path,
            hint="Download the file itself (git lfs pull, or from the cloud).",
        )


def _read_series(folder: Path) -> Volume:
    try:
        from ..dicom.series import read_series  # above this layer: a folder is a format like any other to the caller
    except ModuleNotFoundError as error:
        raise _missing(error, "DICOM series", folder) from error
    return read_series(folder)[0]


def _nrrd_geometry(
    path: Path, shape: tuple[int, ...], affine: np.ndarray | None, spacing_mm: Spacing | None
) -> Geometry:
    if affine is None:
        if spacing_mm is None:
            raise _no_spacing(path)
        return Geometry.from_parts(shape, spacing_mm)
    return _checked_geometry(path, shape, affine)


def _checked_geometry(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> Geometry:
    try:
        geometry = Geometry(shape, affine)
    except ValueError as error:
        raise InputError(
            f"Spacing or orientation in '{path.name}' is not usable: {affine.tolist()}.",
            code="E306",
            hint="Set them in its header.",
            path=path,
        ) from error
    if not geometry.is_orthogonal:
        raise InputError(
            f"The image axes of '{path.name}' are not at right angles (gantry tilt or shear).",
            code="E305",
            hint="Resample it to a straight grid.",
            path=path,
        )
    return geometry


def _read_meta_image(path: Path, spacing_mm: Spacing | None) -> Volume:
    sitk = _simpleitk(path)
    # ITK reads a missing spacing as 1 mm; only the header's text tells.
    header = path.read_bytes()[:65536].partition(b"ElementDataFile")[0].decode("latin-1")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"'{path.name}' cannot be read: it is cut off or damaged ({reason}).",
            code="E311",
            path=path,
            hint="Copy or download it again.",
        ) from error
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"'{path.name}' has {image.GetDimension()} dimensions with "
            f"{image.GetNumberOfComponentsPerPixel()} values each; a scalar 3-D volume is needed.",
            code="E302",
            path=path,
        )
    array = sitk.GetArrayFromImage(image)
    if not re.search(r"^\s*Element(Spacing|Size)\s*=", header, re.MULTILINE):
        if spacing_mm is None:
            raise _no_spacing(path)
        return Volume(array, Geometry.from_parts(array.shape, spacing_mm))
    affine = np.eye(4)
    affine[:3, :3] = (np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing())[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return Volume(array, _checked_geometry(path, array.shape, affine))


def _write_meta_image(path: Path, volume: Volume) -> None:
    sitk = _simpleitk(path)
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    image = sitk.GetImageFromArray(array.astype(np.float32) if array.dtype == np.float16 else array)
    image.SetSpacing(volume.geometry.spacing_mm[::-1])
    image.SetOrigin(volume.geometry.origin_mm.tolist())
    image.SetDirection(volume.geometry.direction[:, ::-1].ravel().tolist())
    with replacing(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)


def _simpleitk(path: Path) -> Any:
    try:
        import SimpleITK
    except ModuleNotFoundError as error:
        raise _missing(error, "MetaImage files", path) from error
    return SimpleITK


def _no_spacing(path: Path) -> InputError:
    return InputError(
        f"Spacing is missing in '{path.name}', so milliliters and millimeters would be wrong.",
        code="E306",
        hint="Set the spacing in its header.",
        path=path,
    )


def _missing(error: ModuleNotFoundError, what: str, path: Path) -> InputError:
    return InputError(
        f"Reading {what} needs the Python package '{error.name}', which is not installed here.",
        hint="Install it, or convert the file to .nii.gz or .nrrd.",
        path=path,
    )
