"""Reads NRRD files with all their fields; what a segmentation file says about its segments is lost in other readers."""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.geometry import flip_ras_lps
from ..errors import InputError

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPE_OF = {name: kind for kind, names in _TYPES.items() for name in names}
_LPS = {"left-posterior-superior", "lps"}
_RAS = {"right-anterior-superior", "ras"}
_MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Nrrd:
    """One file.

    Args:
        layers: (layer, slice, row, column); one layer for an ordinary volume.
        affine: (4, 4) array index (slice, row, column) to LPS millimeters.
        fields: The header's fields and key/value pairs.
    """

    layers: np.ndarray
    affine: np.ndarray
    fields: dict[str, str]


def read_nrrd(path: Path) -> Nrrd:
    """Reads one NRRD file with its data in it, raw or gzip.

    Raises:
        InputError: Not NRRD, cut off, of an unknown kind (E311), not 3D (E302) or without geometry (E306).
    """
    content = Path(path).read_bytes()
    end, skip = min(
        ((content.find(mark, 0, _MAX_HEADER_BYTES), len(mark)) for mark in (b"\n\n", b"\r\n\r\n")),
        key=lambda found: found[0] if found[0] >= 0 else _MAX_HEADER_BYTES,
    )
    if not content.startswith(b"NRRD000") or end < 0:
        raise _unreadable(path, "it is not a NRRD file")
    fields = _fields(content[:end].decode("utf-8", errors="replace"))
    if "data file" in fields:
        raise _unreadable(path, "its voxels are in another file")
    sizes = [int(size) for size in fields.get("sizes", "").split()]
    kind = _TYPE_OF.get(fields.get("type", "").lower())
    if kind is None or len(sizes) not in (3, 4):
        if len(sizes) not in (3, 4):
            message = f"'{path.name}' has {len(sizes)} axes; a 3D volume is needed."
            raise InputError(message, code="E302", hint="Choose a 3D segmentation.", path=path)
        raise _unreadable(path, f"its voxels are of the unknown type '{fields.get('type', '')}'")
    order = ">" if fields.get("endian", "little").lower() == "big" else "<"
    data = _decode(content[end + skip :], fields.get("encoding", "raw").lower(), path)
    dtype = np.dtype(order + kind)
    needed = int(np.prod(sizes)) * dtype.itemsize
    if len(data) < needed:
        raise _unreadable(path, f"it is cut off: {len(data)} of {needed} bytes of its voxels are there")
    array = np.frombuffer(data, dtype, count=int(np.prod(sizes))).reshape(sizes[::-1])
    array = array.astype(dtype.newbyteorder("="), copy=False)
    directions = _directions(fields, path)
    spatial = [axis for axis, direction in enumerate(directions) if direction is not None]
    if len(spatial) != 3:
        raise InputError(
            f"'{path.name}' has {len(spatial)} axes in space; a 3D volume is needed.",
            code="E302",
            hint="Choose a 3D segmentation.",
            path=path,
        )
    if len(sizes) == 4:
        # NRRD lists the fastest axis first, NumPy last.
        layer_axis = next(axis for axis in range(4) if axis not in spatial)
        array = np.moveaxis(array, 3 - layer_axis, 0)
    else:
        array = array[None]
    return Nrrd(array, _affine([directions[axis] for axis in spatial], fields, path), fields)


def _fields(header: str) -> dict[str, str]:
    fields = {}
    for line in header.splitlines()[1:]:
        if line.startswith("#"):
            continue
        key, mark, value = line.partition(":=")
        if mark:
            fields[key] = value.replace("\\n", "\n").replace("\\\\", "\\")
            continue
        key, mark, value = line.partition(":")
        if mark:
            fields[key.strip().lower()] = value.strip()
    return fields


def _decode(data: bytes, encoding: str, path: Path) -> bytes:
    if encoding == "raw":
        return data
    if encoding in ("gzip", "gz"):
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(path, f"its compressed voxels are damaged ({error})") from error
    raise _unreadable(path, f"its voxels are encoded as '{encoding}'")


def _directions(fields: dict[str, str], path: Path) -> list[np.ndarray | None]:
    """One vector per axis, fastest first; None for an axis that is not in space."""
    text = fields.get("space directions", "")
    if not text:
        raise InputError(
            f"'{path.name}' has no geometry (space directions).",
            code="E306",
            hint="Save the segmentation again with its reference volume.",
            path=path,
        )
    vectors = re.findall(r"none|\([^)]*\)", text)
    return [None if vector == "none" else np.array([float(mm) for mm in vector[1:-1].split(",")]) for vector in vectors]


def _affine(directions: list[np.ndarray], fields: dict[str, str], path: Path) -> np.ndarray:
    space = fields.get("space", "").lower()
    if space not in _LPS | _RAS:
        raise InputError(
            f"'{path.name}' does not say how it lies in the patient (space '{space}').",
            code="E306",
            hint="Save the segmentation again with its reference volume.",
            path=path,
        )
    affine = np.eye(4)
    affine[:3, :3] = np.stack(directions[::-1], axis=1)
    affine[:3, 3] = [float(mm) for mm in fields.get("space origin", "(0,0,0)").strip("() ").split(",")]
    if abs(np.linalg.det(affine)) < 1e-12:
        raise _unreadable(path, "its axes span no volume (space directions)")
    return flip_ras_lps(affine) if space in _RAS else affine


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"'{path.name}' cannot be read: {reason}.", code="E311", hint="Save the segmentation again.", path=path
    )
