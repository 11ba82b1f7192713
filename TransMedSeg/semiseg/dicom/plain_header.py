"""The header of a plain DICOM file in one pass over its first bytes; whatever is not plain is left to pydicom.

Reading a header element by element from a stream took as long as reading the pixels of an uncompressed series.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import BaseTag

# Headers of scanners are 5 to 100 kB; a longer one is read by pydicom.
_MAX_HEADER = 1 << 18
_PREAMBLE = 132
# VRs with a length of four bytes behind two reserved ones, and those with two bytes (PS3.5 7.1.2).
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US")
)  # fmt: skip
_PIXEL_DATA = 0x7FE00010
# Implicit VR, deflated and big endian (PS3.5 A.1, A.5, A.3) are not plain.
_OTHERWISE_ENCODED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
_element = struct.Struct("<HH2sH").unpack_from
_length = struct.Struct("<L").unpack_from


def read_plain_header(file: BinaryIO) -> Dataset | None:
    """What is before the pixels of an explicit-VR little-endian file; the file then stands at Pixel Data.

    Private attributes, of which scanners write hundreds into each image, are left out.

    Returns:
        None, with the file at its start, for anything unusual: another encoding, no preamble, an element of undefined
        length, tags out of order, no pixels, a header that is damaged or very long.
    """
    from pydicom import Dataset
    from pydicom.charset import convert_encodings
    from pydicom.dataset import FileMetaDataset

    content = file.read(_MAX_HEADER)
    file.seek(0)
    walked = _walk(content) if content[128:_PREAMBLE] == b"DICM" else None
    if walked is None:
        return None
    meta_elements, elements, end = walked
    meta = FileMetaDataset(meta_elements)
    if str(meta.get("TransferSyntaxUID", "")) in ("", *_OTHERWISE_ENCODED):
        return None
    dataset = Dataset(elements)
    names = dataset.get("SpecificCharacterSet", None)
    dataset.set_original_encoding(False, True, convert_encodings(names or ""))
    dataset.file_meta = meta
    file.seek(end)
    return dataset


def _walk(content: bytes) -> tuple[dict[BaseTag, RawDataElement], dict[BaseTag, RawDataElement], int] | None:
    """The elements of the file meta information and those before Pixel Data, by tag, and where that begins."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import BaseTag

    meta: dict[BaseTag, RawDataElement] = {}
    elements: dict[BaseTag, RawDataElement] = {}
    position, last, limit = _PREAMBLE, 0, len(content) - 12
    while position <= limit:
        group, number, vr, length = _element(content, position)
        tag = group << 16 | number
        if tag == _PIXEL_DATA:
            return meta, elements, position
        start = position + 8
        if vr in _LONG:
            length, start = _length(content, start)[0], start + 4
        elif vr not in _SHORT:
            return None
        position = start + length
        if tag <= last or position > limit:  # an undefined length is beyond every limit
            return None
        last = tag
        if group & 1:
            continue
        key, value = BaseTag(tag), content[start:position]
        (meta if group == 2 else elements)[key] = RawDataElement(key, vr.decode(), length, value, start, False, True, True)
    return None
