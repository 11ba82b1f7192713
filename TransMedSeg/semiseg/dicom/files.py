"""Finds DICOM images on disk and reads their headers; knows where in each file the pixels begin."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import InputError
from .plain_header import read_plain_header

if TYPE_CHECKING:
    from pydicom import Dataset

# Files that people keep beside their images. Anything else that is not DICOM may be a damaged slice and is reported.
_OTHER_SUFFIXES = {
    ".bmp", ".csv", ".doc", ".docx", ".exe", ".gif", ".gz", ".htm", ".html", ".inf", ".ini", ".jpeg", ".jpg", ".json",
    ".log", ".md", ".mha", ".mhd", ".mrb", ".mrml", ".nii", ".npy", ".npz", ".nrrd", ".pdf", ".png", ".pt", ".py",
    ".stl", ".tif", ".tiff", ".toml", ".txt", ".vtk", ".vtp", ".xls", ".xlsx", ".xml", ".yaml", ".yml", ".zip",
}  # fmt: skip
_OTHER_NAMES = {"dicomdir", "thumbs.db", "desktop.ini", "lockfile", "version", "license", "readme"}
# Objects with rows and columns that are results, not acquired images (PS3.3 C.7.3.1.1.1, Modality).
_RESULT_MODALITIES = {"SEG", "RTDOSE", "PR", "SR", "KO", "REG", "M3D"}
_DEFLATED = "1.2.840.10008.1.2.1.99"
_UNDEFINED_LENGTH = 0xFFFFFFFF
# Headers kept from the first look, so that they are not read twice; a patient's whole archive would fill the memory.
_MAX_KEPT_HEADERS = 1000


@dataclass(frozen=True)
class Header:
    """One file: everything before its pixels, and where those are.

    Args:
        path: The file.
        dataset: All attributes before Pixel Data; private ones may be left out.
        pixel_offset: Byte at which the value of Pixel Data begins; -1 where the whole file is deflated.
        pixel_length: Bytes of native pixels; None for encapsulated (compressed) ones.
    """

    path: Path
    dataset: Dataset
    pixel_offset: int
    pixel_length: int | None


@dataclass(frozen=True)
class SeriesSummary:
    """One image series of a folder, in the words a person chooses by."""

    series_uid: str
    description: str
    modality: str
    number: int | None
    num_images: int
    size: tuple[int, int]
    paths: tuple[Path, ...]

    def describe(self) -> str:
        """One line: number, description, modality, images and size (columns x rows)."""
        number = "–" if self.number is None else str(self.number)
        name = self.description or "without description"
        columns, rows = self.size
        return f"series {number} '{name}' ({self.modality}, {self.num_images} images of {columns}×{rows})"


@dataclass(frozen=True)
class FolderContents:
    """What a folder holds: its image series, and the files that look like images but cannot be read.

    Args:
        series: By series number.
        unreadable: Each file with the reason.
        headers: Of the first files, as far as they were kept.
    """

    series: list[SeriesSummary]
    unreadable: list[tuple[Path, InputError]]
    headers: dict[Path, Header]


def scan(folder: str | Path) -> FolderContents:
    """Looks into every file of a folder and its subfolders, headers only.

    Raises:
        InputError: There is no such folder (E311).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("There is no such folder.", code="E311", hint="Choose the folder of a series.", path=folder)
    found: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    contents = FolderContents([], [], {})
    for path in _candidates(folder):
        try:
            header = read_header(path)
            if header is None:
                continue
            with damage_in(path):
                facts = _choice_facts(header.dataset)
        except InputError as error:
            contents.unreadable.append((path, error))
            continue
        found.setdefault(facts["series_uid"], []).append((path, facts))
        if len(contents.headers) < _MAX_KEPT_HEADERS:
            contents.headers[path] = header
    contents.series.extend(_summarize(uid, files) for uid, files in found.items())
    contents.series.sort(key=lambda summary: (summary.number is None, summary.number or 0, summary.series_uid))
    return contents


def read_header(path: Path) -> Header | None:
    """Reads everything before the pixels of one file and checks that the pixels are all there.

    Returns:
        The header, or None when the file is DICOM but not an image: a result, a document, a directory.

    Raises:
        InputError: Not DICOM, or cut off (E311).
    """
    with open(path, "rb") as file, damage_in(path):
        dataset = _dcmread(file, path)
        if not _is_image(dataset):
            return None
        size = path.stat().st_size
        if "Rows" not in dataset or "Columns" not in dataset:
            raise _cut_off(path, f"at byte {size}, within its header")
        if dataset.file_meta.get("TransferSyntaxUID") == _DEFLATED:
            return Header(path, dataset, -1, None)
        offset, length = _pixel_element(file, dataset, path)
        if length is None:
            _check_fragments(file, offset, size, path)
            return Header(path, dataset, offset, None)
        needed = _native_length(dataset)
    if offset + length > size or length < needed:
        raise _cut_off(path, f": {min(length, size - offset)} of {needed} bytes of its pixels are there")
    return Header(path, dataset, offset, length)


@contextmanager
def damage_in(path: Path) -> Iterator[None]:
    """Turns what pydicom and conversions raise on a value that is none into words (E311)."""
    from pydicom.errors import BytesLengthException

    odd_values = (ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError, OverflowError)
    try:
        yield
    except (*odd_values, BytesLengthException) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"'{path.name}' cannot be read: its header is damaged ({error}).",
        code="E311",
        hint="Copy or export the series again.",
        path=path,
    )


def _cut_off(path: Path, how: str) -> InputError:
    how = how if how.startswith(":") else f" {how}"
    message = f"'{path.name}' is cut off{how}."
    return InputError(message, code="E311", hint="Copy or export the series again.", path=path)


def _candidates(folder: Path) -> Iterator[Path]:
    """All files that may be DICOM, in the order of their names."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        other = path.suffix.lower() in _OTHER_SUFFIXES or path.stem.lower() in _OTHER_NAMES
        if path.is_file() and not hidden and not other:
            yield path


def _is_image(dataset: Dataset) -> bool:
    """False for results, documents and directories; a header too short to tell counts as an image."""
    if dataset.get("Modality", None) in _RESULT_MODALITIES:
        return False
    if "Rows" in dataset:
        return True
    from pydicom.uid import UID

    meta_class = dataset.file_meta.get("MediaStorageSOPClassUID", "")
    uid = UID(str(dataset.get("SOPClassUID", "") or meta_class))
    if uid.name == uid:  # a class of a vendor, or a damaged or cut UID; whole objects belong to a series
        return not uid.is_valid or "SeriesInstanceUID" not in dataset
    return "Image Storage" in uid.name


def _dcmread(file: BinaryIO, path: Path) -> Dataset:
    """Reads up to the pixels; also files without the 128-byte preamble, when they begin like DICOM (PS3.10 7.1)."""
    import zlib

    import pydicom

    plain = read_plain_header(file)
    if plain is not None:
        return plain
    start = file.read(132)
    file.seek(0)
    has_preamble = start[128:] == b"DICM"
    if not has_preamble and start[:2] not in (b"\x02\x00", b"\x08\x00"):
        size = path.stat().st_size
        kind = "it looks like a placeholder" if size < 1024 else "it is not DICOM"
        raise InputError(
            f"'{path.name}' cannot be read (the file is {size} bytes, {kind}).",
            code="E311",
            hint="Remove it from the folder or copy the series again.",
            path=path,
        )
    # A file cut inside its header lets pydicom trip over an unset local of its own, hence UnboundLocalError.
    damaged = (pydicom.errors.InvalidDicomError, EOFError, OSError, ValueError, KeyError, struct.error, zlib.error)
    try:
        return pydicom.dcmread(file, stop_before_pixels=True, force=not has_preamble)
    except (*damaged, UnboundLocalError) as error:
        raise _damaged(path, error) from error


def _pixel_element(file: BinaryIO, dataset: Dataset, path: Path) -> tuple[int, int | None]:
    """Offset and length of the value of Pixel Data; the file stands at its tag (PS3.5 7.1)."""
    little = dataset.original_encoding[1] is not False
    implicit = bool(dataset.original_encoding[0])
    order = "<" if little else ">"
    start = file.tell()
    head = file.read(12)
    if len(head) < 12 or struct.unpack(order + "HH", head[:4]) != (0x7FE0, 0x0010):
        raise _cut_off(path, f"at byte {path.stat().st_size}, before its pixels")
    header_length = 8 if implicit else 12
    length = struct.unpack(order + "L", head[header_length - 4 : header_length])[0]
    return start + header_length, None if length == _UNDEFINED_LENGTH else length


def _check_fragments(file: BinaryIO, offset: int, size: int, path: Path) -> None:
    """Walks the items of encapsulated pixels to their end mark (PS3.5 A.4)."""
    position = offset
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) == 8:
            group, element, length = struct.unpack("<HHL", head)
            if (group, element) == (0xFFFE, 0xE0DD):
                return
            position += 8 + length
        if len(head) < 8 or position > size or (group, element) != (0xFFFE, 0xE000):
            raise _cut_off(path, f": its compressed pixels end at byte {size} without an end mark")


def _native_length(dataset: Dataset) -> int:
    """Bytes that uncompressed pixels need (PS3.5 8.1.1)."""
    samples = int(dataset.get("SamplesPerPixel", 1)) * int(dataset.get("NumberOfFrames", None) or 1)
    bits = int(dataset.Rows) * int(dataset.Columns) * samples * int(dataset.get("BitsAllocated", 16))
    return (bits + 7) // 8


def _choice_facts(dataset: Dataset) -> dict[str, Any]:
    """What a person chooses a series by; plain values, so that the header itself need not be kept."""
    number = dataset.get("SeriesNumber", None)
    return {
        "series_uid": str(dataset.get("SeriesInstanceUID", "") or ""),
        "description": str(dataset.get("SeriesDescription", "") or ""),
        "modality": str(dataset.get("Modality", "") or ""),
        "number": None if number in (None, "") else int(number),
        "num_frames": int(dataset.get("NumberOfFrames", None) or 1),
        "size": (int(dataset.Columns), int(dataset.Rows)),
    }


def _summarize(series_uid: str, files: list[tuple[Path, dict[str, Any]]]) -> SeriesSummary:
    first = files[0][1]
    return SeriesSummary(
        series_uid=series_uid,
        description=first["description"],
        modality=first["modality"],
        number=first["number"],
        num_images=sum(facts["num_frames"] for _, facts in files),
        size=first["size"],
        paths=tuple(path for path, _ in files),
    )
