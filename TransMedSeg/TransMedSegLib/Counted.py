"""Texts with a number: "1 case", "2 cases"."""

from __future__ import annotations


def counted(count: int, one: str, many: str, **values: object) -> str:
    """Chooses between singular and plural, both of them translated, and fills in.

    `tr` of Slicer has no plural forms. The strings are translated where they are written, so that they are found there.

    Args:
        count: Of the things; the texts call it {count}, if they name it.
        one: Text for exactly one.
        many: Text for any other number, 0 included.
        values: What else the texts name.
    """
    return (one if count == 1 else many).format(count=count, **values)
