"""Text that fits into DICOM: lengths, forbidden characters, person names, and a character set that can hold it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

_LONG_STRING = 64
UTF_8 = "ISO_IR 192"


def long_string(text: str) -> str:
    """A value of VR LO: one line, no backslash (it separates values), at most 64 characters (PS3.5 6.2)."""
    plain = re.sub(r"[\x00-\x1f\x7f]+", " ", text).replace("\\", "/").strip()
    return plain[:_LONG_STRING].strip()


def person_name(text: str) -> str:
    """``Family^Given``, ``Family, Given`` or ``Given Family`` as a DICOM person name (PS3.5 6.2.1)."""
    plain = re.sub(r"[\x00-\x1f\x7f\\]+", " ", text).strip()
    if "^" in plain or not plain:
        return plain[:_LONG_STRING]
    family, comma, given = (part.strip() for part in plain.partition(","))
    if not comma:
        *names, family = plain.split()
        given = " ".join(names)
    # A single name keeps its caret, else it reads as the retired form without components.
    return f"{family}^{given}"[:_LONG_STRING]


def fits_character_set(texts: list[str], dataset: Dataset) -> bool:
    """Whether the character set of a dataset can hold these texts; else they would be written as question marks."""
    from pydicom.charset import python_encoding

    names = dataset.get("SpecificCharacterSet", None) or ""
    first = names if isinstance(names, str) else (names[0] if len(names) else "")
    # Without a character set only ASCII is allowed; with code extensions the first value is the one in force.
    encoding = python_encoding.get(first, "ascii") if first else "ascii"
    try:
        "".join(texts).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def to_utf8(dataset: Dataset) -> None:
    """Decodes all text of a dataset by its own character set and declares UTF-8, sequences included.

    Only declaring it would keep the old bytes of person names, which then decode to something else.
    """
    dataset.decode()
    _reencode(dataset)
    dataset.SpecificCharacterSet = UTF_8


def _reencode(dataset: Dataset) -> None:
    """Replaces person names, which remember their old bytes, and declarations in items of sequences."""
    from pydicom.charset import python_encoding
    from pydicom.valuerep import PersonName

    if "SpecificCharacterSet" in dataset:
        dataset.SpecificCharacterSet = UTF_8
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _reencode(item)
        elif element.VR == "PN" and element.value:
            is_one = isinstance(element.value, (str, PersonName))
            names = [element.value] if is_one else list(element.value)
            decoded = [PersonName(str(name).encode("utf-8"), [python_encoding[UTF_8]]) for name in names]
            element.value = decoded[0] if is_one else decoded
