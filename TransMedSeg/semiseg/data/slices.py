"""Slice files, one 2-D array each: ``patient001_frame01_slice_7.h5``, ``case0005_slice012.npz``. Stacked to volumes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError

_SLICE = re.compile(r"(?i)(?P<stack>.+)_slice_?(?P<number>\d+)(?P<ending>\.(?:h5|hdf5|npz))")


def slice_of(name: str) -> tuple[str, int] | None:
    """Name of the stack and number of the slice that a file name says; None for any other file."""
    match = _SLICE.fullmatch(name)
    return (match["stack"], int(match["number"])) if match else None


def first_slices(names: Iterable[str]) -> list[str]:
    """The names in one folder with only the first slice of each stack left, in the order given."""
    names = list(names)
    first: dict[str, tuple[int, str]] = {}
    for name in names:
        found = slice_of(name)
        if found is not None:
            stack, number = found
            first[stack] = min(first.get(stack, (number, name)), (number, name))
    return [name for name in names if (found := slice_of(name)) is None or first[found[0]][1] == name]


def files_of(path: Path) -> list[Path]:
    """Every file a volume is read from: all slices of its stack in order, else the file alone.

    Raises:
        InputError: Numbers of the slices repeat or have gaps (E311).
    """
    mine = slice_of(path.name)
    if mine is None:
        return [path]
    numbered: dict[int, Path] = {}
    # The stem keeps the listing short; the exact rule decides.
    for other in path.parent.iterdir():
        found = slice_of(other.name)
        if found is None or found[0] != mine[0] or other.suffix.lower() != path.suffix.lower():
            continue
        if found[1] in numbered:
            raise InputError(
                f"Two files are slice {found[1]} of '{mine[0]}': {numbered[found[1]].name} and {other.name}.",
                code="E311",
                path=path,
                hint="Leave one.",
            )
        numbered[found[1]] = other
    if not numbered:
        return [path]
    missing = sorted(set(range(min(numbered), max(numbered))) - set(numbered))
    if missing:
        raise InputError(
            f"Slices of '{mine[0]}' are missing: {', '.join(map(str, missing[:8]))} "
            f"of {min(numbered)} to {max(numbered)}.",
            code="E311",
            path=path.parent,
            hint="Copy or unpack the data set again.",
        )
    return [numbered[number] for number in sorted(numbered)]
