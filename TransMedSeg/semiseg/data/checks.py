"""Can this volume be used? Each check says what was found and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from .orientation import place_on_grid
from .volume import Volume

# Generous: micro-CT of a mouse to a thick localizer. Outside, the header is wrong rather than the scanner unusual.
SPACING_RANGE_MM = (0.01, 25.0)

OTHER_VALUES = ("refuse", "background")
"""What to do with values of a mask that nobody named."""


class UnnamedValues(InputError):
    """A mask holds values that nobody named (E704).

    Args:
        values: What a person may choose the structure from, in order: the values that the file itself gives the name of one,
            else every value above 0.
    """

    def __init__(self, message: str, *, values: Sequence[int], hint: str) -> None:
        super().__init__(message, code="E704", hint=hint)
        self.values = list(values)


def check_volume(volume: Volume, name: str) -> None:
    """Refuses what no network can learn from or segment.

    Raises:
        InputError: A single slice (E302), sheared axes (E305), implausible spacing (E306), no usable values (E309).
    """
    geometry, array = volume.geometry, volume.array
    if min(geometry.shape) < 2:
        raise InputError(
            f"'{name}' is a single slice ({geometry.describe()}); a 3-D scalar volume is needed.", code="E302"
        )
    if not geometry.is_orthogonal:
        raise InputError(
            f"The image axes of '{name}' are not at right angles (gantry tilt or shear).",
            code="E305",
            hint="Resample it to a straight grid.",
        )
    low, high = SPACING_RANGE_MM
    if min(geometry.spacing_mm) < low or max(geometry.spacing_mm) > high:
        raise InputError(
            f"The spacing of '{name}' is implausible: {geometry.describe()}, so milliliters and "
            "millimeters would be wrong.",
            code="E306",
            hint="Set the spacing in its header.",
        )
    num_broken = 0 if array.dtype.kind in "iub" else int(array.size - np.isfinite(array).sum())
    if num_broken:
        raise InputError(
            f"'{name}' contains no usable values in {num_broken} of {array.size} voxels (NaN or infinite).",
            code="E309",
            hint="Export it again or fill them.",
        )
    if array.min() == array.max():
        raise InputError(f"'{name}' contains no usable values: every voxel is {array.flat[0]:g}.", code="E309")


def mask_on_image(mask: Volume, image: Volume, name: str, *, may_be_smaller: bool = False) -> Volume:
    """The mask on its image's grid; flips and, where allowed, a cut-out are undone exactly, nothing is resampled.

    Raises:
        InputError: It lies on another grid (E803).
    """
    placed = place_on_grid(mask, image.geometry, may_be_smaller=may_be_smaller)
    if placed is not None:
        return placed
    found, wanted = mask.geometry.describe(), image.geometry.describe()
    if found == wanted:
        apart = mask.geometry.max_difference_mm(image.geometry)
        detail = f"the same size and spacing, but lies up to {apart:.2f} mm away or turned"
    else:
        detail = f"another grid ({found}; image {wanted})"
    raise InputError(
        f"The mask of '{name}' has {detail}. Excluded.",
        code="E803",
        hint="Export the mask again with the image as reference.",
    )


def mask_channels(
    mask: Volume,
    labels: Sequence[dict[str, Any]],
    name: str,
    names_in_file: dict[int, str] | None = None,
    other_values: str = "refuse",
) -> np.ndarray:
    """(slice, row, column) uint8: 0 background, else the place in ``labels`` counted from 1.

    Args:
        mask: Integers as stored.
        labels: ``{"value", "name"}`` per structure.
        names_in_file: Value to name where the file has names; a name decides before a value.
        other_values: One of ``OTHER_VALUES``: values that nobody named refuse the mask, or are background.

    Raises:
        UnnamedValues: A value that nobody named or, where those are background, nothing else (E704).
        InputError: No voxel of any structure (E309).
    """
    array = mask.array
    by_value = {int(label["value"]): place for place, label in enumerate(labels, start=1)}
    by_name = {str(label["name"]).strip().lower(): place for place, label in enumerate(labels, start=1)}
    values, counts = np.unique(array, return_counts=True)
    stated = {value: name.strip().lower() for value, name in (names_in_file or {}).items()}
    claimed = {by_name[name] for name in stated.values() if name in by_name}
    channels = np.zeros(array.shape, np.uint8)
    strangers = {}
    for value, count in zip(values.astype(np.int64).tolist(), counts.tolist(), strict=True):
        if value == 0:
            continue
        place = by_name.get(stated.get(value, ""))
        if place is None and by_value.get(value) not in claimed:  # a name in the file outweighs a value
            place = by_value.get(value)
        if place is None:
            strangers[value] = count
        else:
            channels[array == value] = place
    if strangers and (other_values == "refuse" or not channels.any()):
        named = [value for value in map(int, values) if stated.get(value) in by_name]
        raise _unnamed(strangers, named or [int(value) for value in values if value > 0], labels, name)
    if not channels.any():
        raise InputError(
            f"The mask of '{name}' is empty.",
            code="E309",
            hint="Move the image to the unlabeled volumes or draw the mask.",
        )
    return channels


def _unnamed(
    strangers: dict[int, int], values: Sequence[int], labels: Sequence[dict[str, Any]], name: str
) -> UnnamedValues:
    """What to say of values that nobody named and their numbers of voxels."""
    found = ", ".join(f"{value} ({count} voxels)" for value, count in list(strangers.items())[:5])
    more = f" and {len(strangers) - 5} more" if len(strangers) > 5 else ""
    known = ", ".join(f"{label['value']} = {label['name']}" for label in labels)
    return UnnamedValues(
        f"The mask of '{name}' has values nobody named: {found}{more}. Named: {known}.",
        values=values,
        hint="Name them in the job's labels or remove them from the mask.",
    )
