"""Values of a header as text and numbers, without what pydicom builds around each of them.

A series is hundreds of headers with a dozen decimal strings each; a fifth of the time to read it went into objects that
nobody kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

# Value representations of plain ASCII with a backslash between values (PS3.5 6.2).
_PLAIN = ("UI", "DS", "IS", "CS")


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """All values of an attribute of VR UI, DS, IS or CS; empty where it is missing or has no value."""
    from pydicom.dataelem import RawDataElement

    if keyword not in dataset:
        return []
    element = dataset.get_item(keyword)
    if isinstance(element, RawDataElement) and element.VR in _PLAIN and isinstance(element.value, bytes):
        return [part.strip(" \0") for part in element.value.decode("ascii").split("\\")] if element.value else []
    value = dataset[keyword].value
    if value is None or value == "":
        return []
    return [str(value)] if isinstance(value, (str, int, float)) else [str(part) for part in value]


def text(dataset: Dataset, keyword: str) -> str:
    """The only value of such an attribute, or an empty text."""
    return "\\".join(texts(dataset, keyword))
