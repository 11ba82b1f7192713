"""Decides whether planes form one regular volume, and says with numbers why not.

Readers that only sort and average (ITK, dcmqi) accept stacks with gaps, double positions or a tilted gantry and put
the voxels in the wrong place. Here every such stack is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..data.geometry import Geometry
from ..errors import InputError

# Planes closer than this along the stack are at the same position.
_SAME_POSITION_MM = 0.01
# Direction cosines written with few decimals differ by less than this between the images of one stack.
_SAME_DIRECTION = 1e-3
# Same limit as ``Geometry.is_orthogonal``: 0.06 degrees.
_MAX_TILT = 1e-3
# Positions written with two decimals: 0.01 mm each; highdicom's readers allow 1 % of the spacing.
_MAX_UNEVENNESS_MM = 0.02
_MAX_UNEVENNESS = 0.01


@dataclass(frozen=True)
class Plane:
    """One image or frame as its header describes it (PS3.3 C.7.6.2).

    Args:
        position_mm: (3,) LPS center of the first voxel, Image Position (Patient).
        orientation: (6,) direction of the rows, then of the columns, Image Orientation (Patient).
        spacing_mm: Between rows and between columns, Pixel Spacing.
        size: Rows and columns.
        slice_spacing_mm: What the header says; used for a stack of one plane only.
        timing: Gives the attributes that tell repetitions apart, such as echo time, by keyword.
        name: File name or frame number, for messages.
    """

    position_mm: np.ndarray
    orientation: np.ndarray
    spacing_mm: tuple[float, float]
    size: tuple[int, int]
    slice_spacing_mm: float | None
    timing: Callable[[], dict[str, str]]
    name: str


def stack_planes(planes: list[Plane]) -> tuple[Geometry, list[int]]:
    """Sorts planes along their normal, as ITK and Slicer do, and gives the grid they form.

    Returns:
        The grid (slice, row, column) and, for each slice, the index of its plane in ``planes``.

    Raises:
        InputError: The planes are not one regular volume (E302, E304, E305, E306, E315).
    """
    _check_alike(planes)
    row, column = _unit(planes[0].orientation[:3]), _unit(planes[0].orientation[3:])
    if abs(row @ column) > _SAME_DIRECTION:
        raise _refuse(
            f"The rows and columns of '{planes[0].name}' are not at right angles ({_angle(row, column):.2f} degrees).",
            "E305",
            "Reconstruct the series again at the scanner.",
        )
    normal = _unit(np.cross(row, column))
    positions = np.array([plane.position_mm for plane in planes])
    order = np.argsort(positions @ normal, kind="stable")
    distances = (positions @ normal)[order]
    ordered = [planes[index] for index in order]
    if len(planes) == 1:
        spacing = _single_spacing(planes[0])
    else:
        _check_repetitions(ordered, distances)
        _check_tilt(positions[order], normal)
        _check_even(ordered, distances)
        spacing = float(distances[-1] - distances[0]) / (len(planes) - 1)
    spacing_mm = (spacing, *planes[0].spacing_mm)
    shape = (len(planes), *planes[0].size)
    direction = np.stack([normal, column, row], axis=1)
    geometry = Geometry.from_parts(shape, spacing_mm, positions[order[0]], direction)
    return geometry, [int(index) for index in order]


def _check_alike(planes: list[Plane]) -> None:
    """All planes have the size, spacing and orientation of most of them; a localizer among them has not."""
    orientations = [tuple(np.round(plane.orientation / (2 * _SAME_DIRECTION)).astype(int)) for plane in planes]
    common = planes[orientations.index(Counter(orientations).most_common(1)[0][0])]
    turned = [p for p in planes if np.abs(p.orientation - common.orientation).max() > _SAME_DIRECTION]
    if turned:
        raise _refuse(
            f"{len(turned)} of {len(planes)} images {_is(turned)} of another orientation than the "
            f"others ({_names(turned)}); a localizer (scout) among the slices looks like this.",
            "E302",
            "Take these images out of the folder, or choose the series without them.",
        )
    size = Counter(plane.size for plane in planes).most_common(1)[0][0]
    odd = [plane for plane in planes if plane.size != size]
    if odd:
        raise _refuse(
            f"{len(odd)} of {len(planes)} images {_is(odd)} {odd[0].size[1]}×{odd[0].size[0]} pixels, "
            f"the others {size[1]}×{size[0]} ({_names(odd)}).",
            "E302",
            "Take these images out of the folder, or choose the series without them.",
        )
    spacing = np.array([plane.spacing_mm for plane in planes])
    typical = np.median(spacing, axis=0)
    odd = [plane for plane, off in zip(planes, np.abs(spacing / typical - 1).max(axis=1), strict=True) if off > 1e-4]
    if odd:
        raise _refuse(
            f"{len(odd)} of {len(planes)} images {_is(odd)} made of pixels of {_mm(odd[0].spacing_mm)} mm, "
            f"the others of {_mm(typical)} mm ({_names(odd)}).",
            "E302",
            "Take these images out of the folder, or choose the series without them.",
        )


def _check_repetitions(planes: list[Plane], distances: np.ndarray) -> None:
    """No two planes at one position: repetitions at all positions are time points, at some are duplicates."""
    is_new = np.concatenate([[True], np.diff(distances) > _SAME_POSITION_MM])
    group = np.cumsum(is_new) - 1
    counts = np.bincount(group)
    if counts.max() == 1:
        return
    if counts.min() == counts.max():
        raise _refuse(
            f"There are {counts[0]} images at each of {len(counts)} positions: time points, echoes or phases"
            f"{_differences(planes, group)}. A single 3D volume is needed.",
            "E302",
            "Split the series and choose one time point.",
        )
    extra = [plane for plane, new in zip(planes, is_new, strict=True) if not new]
    raise _refuse(
        f"{len(extra)} of {len(planes)} images {_is(extra)} where another image of the series already is: "
        f"{_names(extra)}.",
        "E315",
        "Remove the duplicates, or choose the original series.",
    )


def _check_tilt(positions: np.ndarray, normal: np.ndarray) -> None:
    path = positions[-1] - positions[0]
    along = float(path @ normal)
    across = float(np.linalg.norm(path - along * normal))
    if across > _MAX_TILT * along:
        raise _refuse(
            f"The slices are tilted by {np.degrees(np.arctan2(across, along)):.1f} degrees against their stack (gantry "
            f"tilt): from the first to the last they shift sideways by {across:.1f} mm over {along:.1f} mm.",
            "E305",
            "Resample the series to a straight volume first, or choose a series without tilt.",
        )
    sideways = positions - positions[0] - np.outer((positions - positions[0]) @ normal, normal)
    worst = float(np.linalg.norm(sideways, axis=1).max())
    if worst > max(_MAX_TILT * along, _MAX_UNEVENNESS_MM):
        raise _refuse(
            f"The slices are not above each other: one is shifted sideways by {worst:.2f} mm.",
            "E305",
            "Choose the original series.",
        )


def _check_even(planes: list[Plane], distances: np.ndarray) -> None:
    """Slices at equal distances; where gaps are whole multiples, slices are missing."""
    gaps = np.diff(distances)
    usual = float(np.median(gaps))
    regular = np.linspace(distances[0], distances[-1], len(distances))
    limit = max(_MAX_UNEVENNESS_MM, _MAX_UNEVENNESS * usual)
    if np.abs(distances - regular).max() <= limit and np.abs(gaps - usual).max() <= 2 * limit:
        return
    multiples = gaps / usual
    wide = np.flatnonzero(multiples > 1.5)
    whole = np.abs(multiples - np.round(multiples)).max() < 0.05
    if len(wide) and whole:
        missing = int(np.round(multiples).sum()) - len(gaps)
        where = "; ".join(
            f"{gaps[index]:.4g} mm between {planes[index].name} and {planes[index + 1].name}" for index in wide[:3]
        )
        more = f"; and {len(wide) - 3} more gaps" if len(wide) > 3 else ""
        raise _refuse(
            f"{missing} {'slice is' if missing == 1 else 'slices are'} missing: the slices are "
            f"{usual:.4g} mm apart, but there are {where}{more}.",
            "E304",
            "Import the whole series again.",
        )
    raise _refuse(
        f"The slices are not evenly spaced: from {gaps.min():.4g} to {gaps.max():.4g} mm (usually {usual:.4g} mm).",
        "E304",
        "Resample the series to even spacing first.",
    )


def _single_spacing(plane: Plane) -> float:
    if not plane.slice_spacing_mm:
        raise _refuse(
            "The series is one slice and its header has neither Spacing Between Slices nor Slice Thickness.",
            "E306",
            "Volumes in mL need the thickness; choose another series.",
        )
    return plane.slice_spacing_mm


def _differences(planes: list[Plane], group: np.ndarray) -> str:
    """Which attributes tell the images of the first position apart, such as ' (EchoTime 2.3, 4.6)'."""
    first = [plane.timing() for plane, index in zip(planes, group, strict=True) if index == 0]
    found = []
    for keyword in first[0]:
        values = sorted({timing.get(keyword, "") for timing in first})
        if len(values) > 1:
            found.append(f"{keyword} {', '.join(values[:4])}{', …' if len(values) > 4 else ''}")
    return f" ({'; '.join(found)})" if found else ""


def _refuse(message: str, code: str, hint: str) -> InputError:
    return InputError(message, code=code, hint=hint)


def _names(planes: list[Plane]) -> str:
    shown = ", ".join(plane.name for plane in planes[:3])
    return shown if len(planes) <= 3 else f"{shown} and {len(planes) - 3} more"


def _is(planes: list[Plane]) -> str:
    return "is" if len(planes) == 1 else "are"


def _mm(spacing: np.ndarray | tuple[float, ...]) -> str:
    return "×".join(f"{value:.4g}" for value in spacing)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _angle(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(first @ second, -1, 1))))
