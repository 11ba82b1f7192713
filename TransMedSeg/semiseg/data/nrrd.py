"""NRRD and its header file NHDR, read and written with every field; what a segmentation says of its segments is one.

Our own reader because others lose such fields, do not say when spacing is missing, or need a package that a training
machine does not have.
"""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError
from .atomic import replacing
from .geometry import Geometry, flip_ras_lps

_TYPES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_TYPE_OF = {name: kind for kind, names in _TYPES.items() for name in names.split("|")}
_LPS, _RAS = ("left-posterior-superior", "lps"), ("right-anterior-superior", "ras")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?nan|[-+]?inf"
_MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Nrrd:
    """One file.

    Args:
        layers: (layer, slice, row, column); one layer for an ordinary volume.
        affine: (4, 4) array index (slice, row, column) to LPS millimeters; None where the file states no spacing.
        fields: The header's fields (lower case) and key/value pairs (as written).
    """

    layers: np.ndarray
    affine: np.ndarray | None
    fields: dict[str, str] = field(default_factory=dict)


def read_nrrd(path: Path) -> Nrrd:
    """Reads one file with its voxels in it or in one other file beside it: raw, gzip, bzip2 or text.

    Raises:
        InputError: Not NRRD, cut off or of an unknown kind (E311), or not three axes in space (E302).
    """
    path = Path(path)
    content = path.read_bytes()
    header = re.match(rb"NRRD000\d.*?(?:\r?\n\r?\n|\Z)", content[:_MAX_HEADER_BYTES], re.DOTALL)
    if header is None:
        raise _unreadable(path, "it is not a NRRD file")
    fields = _fields(header.group().decode("utf-8", errors="replace"))
    sizes = [int(size) for size in re.findall(r"\d+", fields.get("sizes", ""))]
    kind = _TYPE_OF.get(fields.get("type", "").lower())
    if kind is None or not sizes:
        raise _unreadable(
            path, f"its header gives type '{fields.get('type', '')}' and sizes '{fields.get('sizes', '')}'"
        )
    directions = _directions(fields, len(sizes))
    spatial = [axis for axis, direction in enumerate(directions) if direction is not None]
    kinds = fields.get("kinds", "").lower().split()
    others = [axis for axis in range(len(sizes)) if axis not in spatial and sizes[axis] > 1]
    if len(spatial) != 3 or len(others) > 1 or any("color" in word for word in kinds):
        raise InputError(
            f"'{path.name}' has {len(sizes)} axes of {fields['sizes']} voxels, {len(spatial)} of them in "
            "space; a scalar 3-D volume is needed.",
            code="E302",
            path=path,
        )
    data = content[header.end() :]
    for key in ("data file", "datafile"):
        if key in fields:
            data = _detached(path, fields[key])
    array = _voxels(
        data, np.dtype(("<" if fields.get("endian", "little").lower() == "little" else ">") + kind), sizes, fields, path
    )
    # NRRD names the fastest axis first, NumPy last.
    rank = len(sizes)
    order = [rank - 1 - axis for axis in range(rank) if axis not in spatial] + [
        rank - 1 - axis for axis in spatial[::-1]
    ]
    layers = array.transpose(order).reshape(-1, *[sizes[axis] for axis in spatial[::-1]])
    return Nrrd(layers, _affine([directions[axis] for axis in spatial], fields, path), fields)


def write_nrrd(path: Path, layers: np.ndarray, geometry: Geometry, pairs: dict[str, str] | None = None) -> None:
    """Writes (layer, slice, row, column) voxels, gzip, whole or not at all.

    One layer becomes an ordinary 3-D file. Several become a 4-D file whose fastest axis is the list of layers, as
    Slicer writes overlapping segments.
    """
    layers = np.asarray(layers)
    layers = layers.astype(layers.dtype.newbyteorder("<"), copy=False)
    kind = f"{layers.dtype.kind}{layers.dtype.itemsize}"
    if kind not in _TYPES:
        raise ValueError(f"NRRD has no type for {layers.dtype}.")
    several = len(layers) > 1
    vectors = [_vector(geometry.affine[:3, axis]) for axis in (2, 1, 0)]
    sizes = [*([len(layers)] if several else []), *geometry.shape[::-1]]
    lines = [
        "NRRD0004",
        f"type: {_TYPES[kind].split('|')[-1] if kind[0] != 'f' else _TYPES[kind]}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {'none ' if several else ''}{' '.join(vectors)}",
        f"kinds: {'list ' if several else ''}domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(geometry.origin_mm)}",
    ]
    for key, value in (pairs or {}).items():
        escaped = str(value).replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"{key}:={escaped}")
    voxels = np.moveaxis(layers, 0, -1) if several else layers[0]
    data = gzip.compress(np.ascontiguousarray(voxels).tobytes(), compresslevel=4, mtime=0)
    with replacing(path) as temporary:
        temporary.write_bytes("\n".join(lines).encode("utf-8") + b"\n\n" + data)


def _vector(numbers: np.ndarray) -> str:
    return "(" + ",".join(repr(float(number)) for number in numbers) + ")"


def _fields(header: str) -> dict[str, str]:
    fields = {}
    for line in header.splitlines()[1:]:
        pair = re.match(r"([^#:][^:]*):(=?) ?(.*)", line)
        if pair is None:
            continue
        key, is_pair, value = pair.groups()
        if is_pair:
            fields[key] = re.sub(r"\\(.)", lambda mark: "\n" if mark.group(1) == "n" else mark.group(1), value)
        else:
            fields[key.strip().lower()] = value.strip()
    return fields


def _directions(fields: dict[str, str], rank: int) -> list[np.ndarray | None]:
    """One vector per axis, fastest first; None for an axis that is not in space."""
    text = fields.get("space directions", "")
    if text:
        vectors = [
            None if part == "none" else np.array([float(n) for n in re.findall(_NUMBER, part)])
            for part in re.findall(r"none|\([^)]*\)", text)
        ]
        if len(vectors) == rank:
            return vectors
    spacings = re.findall(_NUMBER, fields.get("spacings", ""))
    kinds = fields.get("kinds", "").lower().split()
    spatial = [axis for axis in range(rank) if len(kinds) != rank or kinds[axis] in ("domain", "space", "???", "none")]
    known = {axis: float(spacings[axis]) for axis in spatial if len(spacings) == rank}
    return [
        np.eye(3)[spatial.index(axis)] * known.get(axis, np.nan)
        if axis in spatial and spatial.index(axis) < 3
        else None
        for axis in range(rank)
    ]


def _affine(directions: list[np.ndarray], fields: dict[str, str], path: Path) -> np.ndarray | None:
    if not np.isfinite(directions).all():
        return None
    space = fields.get("space", "left-posterior-superior").lower()
    if space not in _LPS + _RAS:
        raise InputError(
            f"'{path.name}' lies in the space '{space}', which is not tied to the patient.",
            code="E306",
            hint="Save it again from a program that writes left-posterior-superior.",
            path=path,
        )
    affine = np.eye(4)
    affine[:3, :3] = np.stack(directions[::-1], axis=1)
    origin = re.findall(_NUMBER, fields.get("space origin", ""))
    affine[:3, 3] = [float(number) for number in origin] if len(origin) == 3 else 0.0
    return flip_ras_lps(affine) if space in _RAS else affine


def _detached(path: Path, name: str) -> bytes:
    if name.startswith("LIST") or "%" in name:
        raise _unreadable(path, "its voxels are spread over several files")
    other = path.parent / name
    if not other.is_file():
        raise _unreadable(path, f"its voxels should lie in '{name}', which is not there")
    return other.read_bytes()


def _voxels(data: bytes, dtype: np.dtype, sizes: list[int], fields: dict[str, str], path: Path) -> np.ndarray:
    encoding = fields.get("encoding", "raw").lower()
    for _ in range(int(fields.get("line skip", 0))):
        data = data.partition(b"\n")[2]
    skip = int(fields.get("byte skip", 0))
    count = int(np.prod(sizes))
    try:
        if encoding in ("gzip", "gz", "bzip2", "bz2"):
            data = gzip.decompress(data) if encoding.startswith("g") else bz2.decompress(data)
        elif encoding in ("txt", "text", "ascii"):
            data = np.array(data.split(), dtype=dtype).tobytes()
        elif encoding != "raw":
            raise _unreadable(path, f"its voxels are encoded as '{encoding}'")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _unreadable(path, f"its voxels are cut off or damaged ({error})") from error
    data = data[len(data) - count * dtype.itemsize :] if skip == -1 else data[skip:]
    if len(data) < count * dtype.itemsize:
        raise _unreadable(path, f"it is cut off: {len(data)} of {count * dtype.itemsize} bytes of voxels are there")
    array = np.frombuffer(data, dtype, count)
    # A copy, because the bytes of the file are read-only.
    return array.astype(dtype.newbyteorder("=")).reshape(sizes[::-1])


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"'{path.name}' cannot be read: {reason}.", code="E311", hint="Copy or save it again.", path=path)
