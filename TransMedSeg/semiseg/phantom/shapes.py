"""Solid shapes as signed distances in millimeters, negative inside, and smooth random fields.

Points are arrays (3, slice, row, column) of positions in LPS millimeters: x to the left, y to the back, z to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Point = Sequence[float]
Box = tuple[np.ndarray, np.ndarray]
"""Lowest and highest x, y, z."""


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid; its distance is exact on the surface and close to it elsewhere.

    Args:
        center: x, y, z.
        radii_mm: Along its three axes.
        axes: (3, 3), rows are its unit axes; those of the patient unless given.
    """

    center: Point
    radii_mm: Point
    axes: np.ndarray | None = None

    @property
    def box(self) -> Box:
        reach = np.asarray(self.radii_mm) if self.axes is None else np.full(3, max(self.radii_mm))
        return np.asarray(self.center) - reach, np.asarray(self.center) + reach

    def distance(self, points: np.ndarray) -> np.ndarray:
        offset = points - _column(self.center)
        if self.axes is not None:
            offset = np.tensordot(np.asarray(self.axes, np.float32), offset, axes=1)
        offset /= _column(self.radii_mm)
        near = np.sqrt(np.einsum("i...,i...->...", offset, offset))
        offset /= _column(self.radii_mm)
        slope = np.sqrt(np.einsum("i...,i...->...", offset, offset))
        return near * (near - 1) / np.maximum(slope, 1e-6)


@dataclass(frozen=True)
class Tube:
    """A bent tube: straight pieces between the points of a path, the radius changing evenly along each."""

    path: Sequence[Point]
    radii_mm: Sequence[float]

    @property
    def box(self) -> Box:
        path, radii = np.asarray(self.path, float), np.asarray(self.radii_mm)[:, None]
        return (path - radii).min(0), (path + radii).max(0)

    def distance(self, points: np.ndarray) -> np.ndarray:
        result = None
        pieces = zip(self.path[:-1], self.path[1:], self.radii_mm[:-1], self.radii_mm[1:], strict=True)
        for start, end, first_mm, last_mm in pieces:
            along = np.asarray(end, np.float32) - np.asarray(start, np.float32)
            offset = points - _column(start)
            place = np.tensordot(along, offset, axes=1) / max(float(along @ along), 1e-6)
            np.clip(place, 0, 1, out=place)
            offset -= _column(along) * place
            piece = np.sqrt(np.einsum("i...,i...->...", offset, offset)) - (first_mm + (last_mm - first_mm) * place)
            result = piece if result is None else np.minimum(result, piece)
        return result


def half_space(points: np.ndarray, origin: Point, normal: Point) -> np.ndarray:
    """Everything behind a plane; the normal points out."""
    normal = np.asarray(normal, np.float32) / np.linalg.norm(normal)
    return np.tensordot(normal.astype(np.float32), points, axes=1) - np.float32(normal @ np.asarray(origin, np.float32))


def smooth_union(first: np.ndarray, second: np.ndarray, width_mm: float) -> np.ndarray:
    """Both shapes with a fillet of about this width where they meet."""
    fillet = np.maximum(width_mm - np.abs(first - second), 0) / width_mm
    return np.minimum(first, second) - fillet * fillet * (width_mm / 4)


def shell(distance: np.ndarray, thickness_mm: float | np.ndarray) -> np.ndarray:
    """The layer of this thickness around a shape, without the shape."""
    return np.abs(distance - thickness_mm / 2) - thickness_mm / 2


class SmoothField:
    """A random function of position with standard deviation 1 that changes over a given length.

    It is the same function on whatever grid it is looked at, so an image and a finer label map agree.

    Args:
        rng: Source of its values.
        correlation_mm: Spacing of its knots.
        reach_mm: Half the extent along x, y and z; beyond it the values at the rim go on.
    """

    def __init__(self, rng: np.random.Generator, correlation_mm: float, reach_mm: Point = (220, 160, 90)) -> None:
        self._correlation_mm = correlation_mm
        self._counts = [int(np.ceil(2 * reach / correlation_mm)) + 4 for reach in reversed(reach_mm)]
        self._knots = rng.standard_normal(self._counts).astype(np.float32) * 3.0  # a spline through noise shrinks it

    def on(self, axes_mm: Sequence[np.ndarray]) -> np.ndarray:
        """(slice, row, column) values on a straight grid, given its z, y and x positions."""
        values = self._knots
        for axis, (positions, count) in enumerate(zip(axes_mm, self._counts, strict=True)):
            place = np.asarray(positions) / self._correlation_mm + (count - 1) / 2
            values = _spline(values, place, axis)
        return values


class Bend:
    """From patient to model millimeters: one scale, a turn and a smooth random bend. No two hearts hang alike."""

    _WARP_MM, _REACH_MM = 1.9, 8.0

    def __init__(self, rng: np.random.Generator) -> None:
        self._scale = float(np.exp(np.clip(rng.normal(0, 0.17), -0.34, 0.34)))
        self._turn = _rotation(np.radians(np.clip(rng.normal(0, 8, 3), -16, 16)))
        self._fields = [SmoothField(rng, 28.0) for _ in range(3)]

    def points(self, axes_mm: Sequence[np.ndarray]) -> np.ndarray:
        """(3, slice, row, column) model x, y, z of a grid given by its z, y, x positions in the patient."""
        straight = np.meshgrid(*axes_mm, indexing="ij", sparse=True)[::-1]
        matrix = self._turn / self._scale
        result = np.empty((3, *(len(axis) for axis in axes_mm)), np.float32)
        for row, bend, out in zip(matrix, self._fields, result, strict=True):
            out[:] = np.clip(self._WARP_MM * bend.on(axes_mm), -self._REACH_MM, self._REACH_MM)
            for factor, place in zip(row, straight, strict=True):
                out += (factor * place).astype(np.float32)
        return result

    def patient_box(self, box: Box) -> Box:
        """What a box of the model can touch in the patient."""
        middle, half = (box[0] + box[1]) / 2, (box[1] - box[0]) / 2 + self._REACH_MM
        middle, half = self._scale * self._turn.T @ middle, self._scale * np.abs(self._turn.T) @ half
        return middle - half, middle + half


def _rotation(angles: np.ndarray) -> np.ndarray:
    """(3, 3) turn about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        turn, (a, b) = np.eye(3), ((1, 2), (2, 0), (0, 1))[axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def _spline(values: np.ndarray, place: np.ndarray, axis: int) -> np.ndarray:
    """Cubic B-spline along one axis."""
    base = np.floor(place).astype(int)
    t = (place - base).astype(np.float32)
    weights = ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
    along = [1] * values.ndim
    along[axis] = -1
    return sum(
        np.take(values, np.clip(base + step, 0, values.shape[axis] - 1), axis=axis) * weight.reshape(along)
        for step, weight in zip((-1, 0, 1, 2), weights, strict=True)
    )


def _column(values: Point) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(3, 1, 1, 1)
