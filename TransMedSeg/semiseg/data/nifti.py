"""NIfTI-1 and NIfTI-2 in one file, plain or gzip, read and written with NumPy.

Our own reader because ITK fills the missing part of a cut-off file without a word, and because a training machine may
have no ITK. Format: nifti1.h and nifti2.h of the NIfTI Data Format Working Group.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .atomic import replacing
from .geometry import Geometry, flip_ras_lps
from .volume import Volume

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_CODES = {kind: code for code, kind in _TYPES.items()}
_NOT_SCALAR = {32: "complex", 128: "RGB", 1792: "complex", 2304: "RGBA"}
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}

# field: (offset, struct format) in the 348 and 540 bytes of the two header versions
_NIFTI1 = {
    "dim": (40, "8h"),
    "datatype": (70, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "slope": (112, "f"),
    "inter": (116, "f"),
    "units": (123, "B"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "quaternion": (256, "3f"),
    "qoffset": (268, "3f"),
    "srow": (280, "12f"),
}
_NIFTI2 = {
    "dim": (16, "8q"),
    "datatype": (12, "h"),
    "pixdim": (104, "8d"),
    "vox_offset": (168, "q"),
    "slope": (176, "d"),
    "inter": (184, "d"),
    "units": (500, "i"),
    "qform_code": (344, "i"),
    "sform_code": (348, "i"),
    "quaternion": (352, "3d"),
    "qoffset": (376, "3d"),
    "srow": (400, "12d"),
}


@dataclass(frozen=True)
class _Header:
    order: str
    fields: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


def read_nifti(path: Path, assumed_spacing_mm: tuple[float, float, float] | None = None) -> Volume:
    """Reads a scalar 3-D volume; the sform gives its position, or the qform where there is no straight sform.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        assumed_spacing_mm: (slice, row, column) for a file that states no spacing.

    Raises:
        InputError: Not NIfTI or cut off (E311), not scalar 3-D (E302), axes not at right angles (E305), no spacing
            (E306).
    """
    path = Path(path)
    content = _content(path)
    header = _header(content, path)
    sizes = _sizes(header, path)
    dtype = np.dtype(header.order + _TYPES[header["datatype"]])
    start, count = int(header["vox_offset"]), int(np.prod(sizes))
    if start < 0 or len(content) < start + count * dtype.itemsize:
        there = max(0, len(content) - start)
        raise _unreadable(path, f"it is cut off: {there} of {count * dtype.itemsize} bytes of voxels are there")
    array = np.frombuffer(content, dtype, count, start).reshape(sizes[::-1])
    array = array.astype(dtype.newbyteorder("="))
    slope, inter = header["slope"], header["inter"]
    if np.isfinite([slope, inter]).all() and slope != 0 and (slope, inter) != (1.0, 0.0):
        array = array * np.float32(slope) + np.float32(inter)
    return Volume(array, _geometry(header, array.shape, path, assumed_spacing_mm))


def write_nifti(path: Path, volume: Volume) -> None:
    """Writes NIfTI-1 with qform and sform of code 1 (scanner) in millimeters, whole or not at all.

    Raises:
        InputError: The axes are not at right angles, which a qform cannot say (E305).
    """
    from scipy.spatial.transform import Rotation

    path, geometry = Path(path), volume.geometry
    if not geometry.is_orthogonal:
        raise InputError(
            "The axes of this volume are not at right angles; NIfTI cannot hold it.",
            code="E305",
            hint="Save it as .nrrd.",
            path=path,
        )
    array = _storable(volume.array)
    kind = f"{array.dtype.kind}{array.dtype.itemsize}"
    affine = flip_ras_lps(geometry.affine)[:, [2, 1, 0, 3]]  # columns i, j, k: the fastest axis first
    rotation = geometry.direction[:, ::-1] * np.array([[-1.0], [-1.0], [1.0]])
    handedness = 1.0 if np.linalg.det(rotation) > 0 else -1.0
    quaternion = Rotation.from_matrix(rotation * [1.0, 1.0, handedness]).as_quat()
    b, c, d = quaternion[:3] * (1.0 if quaternion[3] >= 0 else -1.0)
    header = bytearray(352)
    values = {
        "dim": (3, *array.shape[::-1], 1, 1, 1, 1),
        "datatype": (_CODES[kind],),
        "pixdim": (handedness, *geometry.spacing_mm[::-1], 0, 0, 0, 0),
        "vox_offset": (352.0,),
        "slope": (1.0,),
        "inter": (0.0,),
        "units": (2,),
        "qform_code": (1,),
        "sform_code": (1,),
        "quaternion": (b, c, d),
        "qoffset": tuple(affine[:3, 3]),
        "srow": tuple(affine[:3].ravel()),
    }
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<h", header, 72, 8 * array.dtype.itemsize)
    struct.pack_into("4s", header, 344, b"n+1\0")
    for name, numbers in values.items():
        offset, layout = _NIFTI1[name]
        struct.pack_into("<" + layout, header, offset, *numbers)
    content = bytes(header) + np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    if path.name.lower().endswith(".gz"):
        content = gzip.compress(content, compresslevel=4, mtime=0)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _storable(array: np.ndarray) -> np.ndarray:
    if array.dtype == bool:
        return array.astype(np.uint8)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, f"it is cut off or damaged ({error})") from error


def _header(content: bytes, path: Path) -> _Header:
    for order in "<>":
        for size, layout in ((348, _NIFTI1), (540, _NIFTI2)):
            if len(content) >= size and struct.unpack_from(order + "i", content)[0] == size:
                magic = content[344:348] if size == 348 else content[4:8]
                if magic not in (b"n+1\0", b"n+2\0"):
                    raise _unreadable(path, "it is an Analyze file or one half of a NIfTI pair")
                fields = {
                    name: struct.unpack_from(order + form, content, offset) for name, (offset, form) in layout.items()
                }
                return _Header(order, {name: value if len(value) > 1 else value[0] for name, value in fields.items()})
    raise _unreadable(path, "it is not a NIfTI file")


def _sizes(header: _Header, path: Path) -> tuple[int, int, int]:
    rank = header["dim"][0]
    sizes = list(header["dim"][1 : 1 + rank]) if 1 <= rank <= 7 else []
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    what = _NOT_SCALAR.get(header["datatype"])
    if what is not None or len(sizes) != 3:
        found = f"{what} values" if what else f"{len(sizes)} dimensions ({'×'.join(map(str, sizes))})"
        raise InputError(
            f"'{path.name}' has {found}; a scalar 3-D volume is needed.",
            code="E302",
            hint="Save one time point or channel as a volume of its own.",
            path=path,
        )
    if header["datatype"] not in _TYPES or min(sizes) < 1:
        raise _unreadable(path, f"its header gives data type {header['datatype']} and sizes {sizes}")
    return tuple(sizes)


def _geometry(
    header: _Header, shape: tuple[int, int, int], path: Path, assumed_spacing_mm: tuple[float, float, float] | None
) -> Geometry:
    candidates = []
    if header["sform_code"] > 0:
        candidates.append(np.array(header["srow"], dtype=np.float64).reshape(3, 4))
    if header["qform_code"] > 0:
        candidates.append(_qform(header))
    pixdim = np.abs(header["pixdim"][1:4])
    if not candidates:
        if assumed_spacing_mm is not None:
            return Geometry.from_parts(shape, assumed_spacing_mm)
        if not np.isfinite(pixdim).all() or pixdim.min() <= 0 or (pixdim == 1.0).all():
            raise InputError(
                f"Spacing is missing in '{path.name}', so milliliters and millimeters would be wrong.",
                code="E306",
                hint="Set the spacing in its header.",
                path=path,
            )
        candidates.append(flip_ras_lps(np.diag([*pixdim, 1.0]))[:3])  # along the patient's axes in LPS, as ITK and Slicer take it
    scale = _MM_PER_UNIT.get(header["units"] & 7, 1.0)
    for candidate in candidates:
        affine = np.eye(4)
        affine[:3] = candidate * scale
        try:
            geometry = Geometry(shape, flip_ras_lps(affine)[:, [2, 1, 0, 3]])
        except ValueError as error:
            raise InputError(
                f"Spacing or orientation in '{path.name}' is not usable: {candidate.tolist()}.",
                code="E306",
                hint="Set them in its header.",
                path=path,
            ) from error
        if geometry.is_orthogonal:
            return geometry
    raise InputError(
        f"The image axes of '{path.name}' are not at right angles.",
        code="E305",
        hint="Resample it to a straight grid.",
        path=path,
    )


def _qform(header: _Header) -> np.ndarray:
    """(3, 4) RAS of method 2 in nifti1.h: a unit quaternion, the spacing, and a sign for the third axis."""
    b, c, d = header["quaternion"]
    a = np.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    pixdim = np.array(header["pixdim"][1:4], dtype=np.float64)
    pixdim[2] *= -1.0 if header["pixdim"][0] < 0 else 1.0
    return np.hstack([rotation * pixdim, np.array(header["qoffset"], dtype=np.float64)[:, None]])


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"'{path.name}' cannot be read: {reason}.", code="E311", hint="Copy or download it again.", path=path
    )
