"""Stored pixels to values: native bytes read directly, compressed ones through pydicom's decoders, then rescale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from .files import Header


def read_stored(header: Header) -> np.ndarray:
    """(frame, row, column) stored values of one file, unscaled, in the frame order of the file.

    Raises:
        InputError: No decoder for the compression is installed, or the compressed pixels are damaged (E311).
    """
    dataset = header.dataset
    shape = (int(dataset.get("NumberOfFrames", None) or 1), int(dataset.Rows), int(dataset.Columns))
    if header.pixel_length is None:
        return _decode(header).reshape(shape)
    bits = int(dataset.BitsAllocated)
    signed = int(dataset.get("PixelRepresentation", 0)) == 1
    order = ">" if dataset.original_encoding[1] is False else "<"
    kind = np.dtype(f"{order}{'i' if signed else 'u'}{bits // 8}")
    stored = np.fromfile(header.path, kind, count=int(np.prod(shape)), offset=header.pixel_offset)
    if order == ">":
        stored = stored.astype(kind.newbyteorder("="))
    return _without_unused_bits(stored, bits, int(dataset.get("BitsStored", bits)), signed).reshape(shape)


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


def _decode(header: Header) -> np.ndarray:
    from pydicom import dcmread
    from pydicom.pixels import pixel_array
    from pydicom.uid import UID

    name = UID(str(header.dataset.file_meta.TransferSyntaxUID)).name
    try:
        return pixel_array(dcmread(header.path), raw=True)
    # pydicom raises RuntimeError both for a decoder that is not installed and for one that fails.
    except (RuntimeError, ValueError, AttributeError, KeyError, EOFError, NotImplementedError) as error:
        raise InputError(
            f"The pixels of '{header.path.name}' are compressed ({name}) and could not be decoded: {error}",
            code="E311",
            hint="Install the decoder named, or export the series uncompressed.",
            path=header.path,
        ) from error


def _without_unused_bits(stored: np.ndarray, allocated: int, used: int, signed: bool) -> np.ndarray:
    """Clears what old files keep above the used bits, such as overlays (PS3.5 8.1.1)."""
    if used >= allocated:
        return stored
    if signed:
        low, high = -(1 << (used - 1)), (1 << (used - 1)) - 1
        if stored.min() >= low and stored.max() <= high:
            return stored
        shift = allocated - used
        return (stored << shift) >> shift
    mask = (1 << used) - 1
    return stored if stored.max() <= mask else stored & stored.dtype.type(mask)
