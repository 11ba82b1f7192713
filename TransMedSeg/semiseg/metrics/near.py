"""The distance to a surface from voxels that are near it, by whole steps along the axes.

The squared distance is a sum over the axes, so its minimum over a surface is found one axis after the other. Along the last
axis steps are the same in every unit and looked for once. In voxels the other axes follow in the same way, in bytes. In mm
each voxel looks at the rows around its own, nearest rows first, and stops as soon as no other row can be nearer.
"""

from __future__ import annotations

import numpy as np

REACH = 10
"""Steps along each axis within which is looked."""
FAR = (REACH + 1) ** 2
"""Stands for everything farther away. FAR + REACH**2 must not overflow uint8, in which squares of steps are summed."""
_BLOCK = 2**18
"""Voxels worked on together: as many bytes, which stay in a processor's cache."""
_ROWS_BETWEEN_LOOKS = 8
"""Rows that all voxels look at before those leave that are done."""


class NearSurface:
    """What is near a surface.

    Args:
        surface: (*space) bool.
    """

    def __init__(self, surface: np.ndarray) -> None:
        self._shape = surface.shape
        # Rows that nothing lies in around it, and columns between one row and the next: nobody asks for a border.
        padded = tuple(side + 2 * REACH for side in surface.shape[:-1]) + (surface.shape[-1] + REACH,)
        self._inside = tuple(slice(REACH, REACH + side) for side in surface.shape[:-1]) + (slice(surface.shape[-1]),)
        self._rows = np.full(padded, FAR, np.uint8)
        self._rows[self._inside][surface] = 0
        rows = self._rows.reshape(-1, padded[-1])
        per_block = max(1, _BLOCK // padded[-1])
        for start in range(0, len(rows), per_block):
            _spread(rows[start : start + per_block].reshape(-1), 0)

    def squares(self, places: np.ndarray) -> np.ndarray:
        """Squared distances in voxels, (n,) uint8; ``FAR`` where they are that large or larger.

        The first axis comes last, for then only the voxels asked for are left to look at.

        Args:
            places: (n,) flat indices of the voxels to measure from.
        """
        first, *others = self._inside
        if not others:
            return self._rows[places]
        squares = np.ascontiguousarray(self._rows[(slice(None), *others)])
        middle = squares[first]
        per_block = max(1, _BLOCK // middle[0].size)
        for start in range(0, len(middle), per_block):
            for axis in range(1, squares.ndim - 1):
                _spread(middle[start : start + per_block], axis)
        flat, stride = squares.ravel(), middle[0].size
        places = places + REACH * stride
        nearest = flat[places]
        for step in range(1, REACH + 1):
            for side in (-step, step):
                np.minimum(nearest, flat[places + side * stride] + np.uint8(step**2), out=nearest)
        return np.minimum(nearest, FAR)

    def squares_mm(self, places: np.ndarray, spacing_squares: np.ndarray) -> np.ndarray:
        """Squared distances in mm, (n,) float64; infinite where they are too large to be sure.

        Args:
            places: (n,) flat indices of the voxels to measure from.
            spacing_squares: (axis,) squared spacings.
        """
        reached = FAR * float(spacing_squares.min())  # all that is nearer lies within the reach of every axis
        squares_of_steps = np.full(256, np.inf)
        squares_of_steps[: REACH**2 + 1] = np.arange(REACH**2 + 1) * spacing_squares[-1]
        rows, away = self._rows_around(spacing_squares[:-1], reached)
        flat, found = self._rows.ravel(), np.full(len(places), np.inf)
        here = np.ravel_multi_index(np.unravel_index(places, self._shape), self._rows.shape) + self._offset
        left, nearest = np.arange(len(places)), found.copy()
        for number, (row, square) in enumerate(zip(rows, away)):
            if number % _ROWS_BETWEEN_LOOKS == 0:
                going_on = nearest > square
                found[left[~going_on]] = nearest[~going_on]
                left, here, nearest = left[going_on], here[going_on], nearest[going_on]
                if not len(left):
                    break
            np.minimum(nearest, squares_of_steps[flat[here + row]] + square, out=nearest)
        found[left] = nearest
        found[found >= reached] = np.inf
        return found

    def _rows_around(self, spacing_squares: np.ndarray, reached: float) -> tuple[np.ndarray, np.ndarray]:
        """How far away in memory the rows around a voxel are, and their squared distances in mm, nearest first."""
        steps = np.indices((2 * REACH + 1,) * len(spacing_squares)).reshape(len(spacing_squares), -1) - REACH
        away = (steps**2 * spacing_squares[:, None]).sum(0)
        order = np.argsort(away, kind="stable")
        order = order[away[order] < reached]
        return (steps * self._strides[:-1, None]).sum(0)[order], away[order]

    @property
    def _strides(self) -> np.ndarray:
        return np.array(self._rows.strides)  # of bytes, so in voxels as well

    @property
    def _offset(self) -> int:
        """Of the surface's first voxel in the padded array."""
        return int(REACH * self._strides[:-1].sum())


def _spread(squares: np.ndarray, axis: int) -> None:
    """Lowers each entry to the least of the entries along an axis plus the squared number of steps to them, in place."""
    before, raised = squares.copy(), np.empty_like(squares)
    lowered, raised_along = np.moveaxis(squares, axis, 0), np.moveaxis(raised, axis, 0)
    for step in range(1, min(REACH + 1, len(lowered))):
        np.add(before, np.uint8(step**2), out=raised)
        np.minimum(lowered[step:], raised_along[:-step], out=lowered[step:])
        np.minimum(lowered[:-step], raised_along[step:], out=lowered[:-step])
