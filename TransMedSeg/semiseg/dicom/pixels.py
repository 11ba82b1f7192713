"""Stored pixels to values: native bytes read directly, compressed ones through pydicom's decoders, then rescale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .files import damage_in

if TYPE_CHECKING:
    from .files import Header


def read_stored(files: Sequence[Header]) -> np.ndarray:
    """(slice, row, column) stored values of the files, unscaled, frames in the order of files and of each file.

    Raises:
        InputError: No decoder for the compression is installed, or the compressed pixels are damaged (E311).
    """
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1 or any(file.pixel_length is None for file in files):
        return _read_each(files)
    first = files[0].dataset
    num_frames = [int(file.dataset.get("NumberOfFrames", None) or 1) for file in files]
    stored = np.empty((sum(num_frames), int(first.Rows), int(first.Columns)), kinds.pop())
    start = 0
    for file, number in zip(files, num_frames, strict=True):
        # Straight into its place: a second copy of a large series costs as much time as reading it.
        with open(file.path, "rb") as source:
            source.seek(file.pixel_offset)
            source.readinto(memoryview(stored[start : start + number]).cast("B"))
        start += number
    used = min(int(file.dataset.get("BitsStored", None) or stored.itemsize * 8) for file in files)
    return _without_unused_bits(stored.astype(stored.dtype.newbyteorder("="), copy=False), used)


def rescale(stored: np.ndarray, slopes: np.ndarray, intercepts: np.ndarray) -> np.ndarray:
    """Applies one slope and intercept per slice (PS3.3 C.11.1.1.2).

    Integers stay integers where every slope is 1 and every intercept is whole; everything else becomes float32.

    Args:
        stored: (slice, row, column) integers.
        slopes: (slice,) Rescale Slope.
        intercepts: (slice,) Rescale Intercept.
    """
    whole = (slopes == 1).all() and (intercepts == np.round(intercepts)).all()
    if whole and not intercepts.any():
        return stored
    if whole:
        low = int(stored.min()) + int(intercepts.min())
        high = int(stored.max()) + int(intercepts.max())
        kind = np.int16 if low >= -(2**15) and high < 2**15 else np.int32
        values = stored.astype(np.int32)
        values += intercepts.astype(np.int32)[:, None, None]
        return values.astype(kind, copy=False)
    values = stored.astype(np.float32)
    values *= slopes.astype(np.float32)[:, None, None]
    values += intercepts.astype(np.float32)[:, None, None]
    return values


def _kind(file: Header) -> np.dtype:
    """How the stored values of a native file are laid out (PS3.5 8.1.1)."""
    with damage_in(file.path):
        sign = "i" if int(file.dataset.PixelRepresentation) == 1 else "u"
        order = ">" if file.dataset.original_encoding[1] is False else "<"
        return np.dtype(f"{order}{sign}{int(file.dataset.BitsAllocated) // 8}")


def _read_each(files: Sequence[Header]) -> np.ndarray:
    """Compressed files, and files of different kinds, one by one into their places."""
    start, stored = 0, None
    size = sum(int(file.dataset.get("NumberOfFrames", None) or 1) for file in files)
    for file in files:
        part = _read_one(file)
        if stored is None:
            stored = np.empty((size, *part.shape[1:]), part.dtype)
        if stored.dtype != part.dtype:  # a decoder may give fewer bits where these are enough
            stored = stored.astype(np.promote_types(stored.dtype, part.dtype))
        stored[start : start + len(part)] = part
        start += len(part)
    return stored


def _read_one(file: Header) -> np.ndarray:
    if file.pixel_length is not None:
        return read_stored([file])
    dataset = file.dataset
    return _decode(file).reshape(-1, int(dataset.Rows), int(dataset.Columns))


def _decode(header: Header) -> np.ndarray:
    from pydicom import dcmread
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    dataset = header.dataset
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    # pydicom raises RuntimeError both for a decoder that is not installed and for one that fails.
    try:
        if header.pixel_offset < 0:
            return dcmread(header.path).pixel_array
        with open(header.path, "rb") as source:
            source.seek(header.pixel_offset)
            encapsulated = source.read()
        return get_decoder(syntax).as_array(
            encapsulated,
            raw=True,
            pixel_keyword="PixelData",
            number_of_frames=int(dataset.get("NumberOfFrames", None) or 1),
            rows=int(dataset.Rows),
            columns=int(dataset.Columns),
            samples_per_pixel=1,
            photometric_interpretation=str(dataset.get("PhotometricInterpretation", "MONOCHROME2")),
            bits_allocated=int(dataset.BitsAllocated),
            bits_stored=int(dataset.BitsStored),
            pixel_representation=int(dataset.PixelRepresentation),
        )[0]
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, EOFError, NotImplementedError) as error:
        raise InputError(
            f"The pixels of '{header.path.name}' are compressed ({syntax.name}) and could not be decoded: {error}",
            code="E311",
            hint="Install the decoder named, or export the series uncompressed.",
            path=header.path,
        ) from error


def _without_unused_bits(stored: np.ndarray, used: int) -> np.ndarray:
    """Clears what old files keep above the used bits, such as overlays (PS3.5 8.1.1)."""
    allocated = stored.itemsize * 8
    if used >= allocated:
        return stored
    if stored.dtype.kind == "i":
        low, high = -(1 << (used - 1)), (1 << (used - 1)) - 1
        if stored.min() >= low and stored.max() <= high:
            return stored
        return (stored << (allocated - used)) >> (allocated - used)
    mask = (1 << used) - 1
    return stored if stored.max() <= mask else stored & stored.dtype.type(mask)
