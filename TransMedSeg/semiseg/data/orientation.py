"""Turning a volume so that its axes run as nearly as possible along those of the patient, and back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from .geometry import Geometry
from .volume import Volume

# Array axis 0 (slice) runs towards the head, 1 (row) towards the back, 2 (column) towards the left: +z, +y, +x in LPS.
_WORLD_AXIS = (2, 1, 0)


@dataclass(frozen=True)
class Orientation:
    """A permutation of the array axes followed by flips; no voxel changes its value.

    Args:
        axes: Axis ``a`` of the turned array is axis ``axes[a]`` of the source.
        flips: Whether axis ``a`` of the turned array runs backwards.
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    @classmethod
    def to_canonical(cls, geometry: Geometry) -> Orientation:
        """The turn after which slices run towards the head, rows towards the back and columns towards the left."""
        direction = geometry.direction
        axes = max(
            itertools.permutations(range(3)),
            key=lambda order: sum(abs(direction[_WORLD_AXIS[a], order[a]]) for a in range(3)),
        )
        flips = tuple(bool(direction[_WORLD_AXIS[a], axes[a]] < 0) for a in range(3))
        return cls(axes, flips)

    @property
    def flipped_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(3) if self.flips[axis])

    def apply(self, array: Any) -> Any:
        """(..., slice, row, column) NumPy array or tensor, turned. A NumPy array comes back as a view."""
        lead = array.ndim - 3
        order = (*range(lead), *(lead + axis for axis in self.axes))
        flipped = tuple(lead + axis for axis in self.flipped_axes)
        if isinstance(array, np.ndarray):
            return np.flip(array.transpose(order), flipped)
        return array.permute(order).flip(flipped)

    def undo(self, array: Any) -> Any:
        """The inverse of :meth:`apply`."""
        lead = array.ndim - 3
        flipped = tuple(lead + axis for axis in self.flipped_axes)
        back = (*range(lead), *(lead + self.axes.index(axis) for axis in range(3)))
        if isinstance(array, np.ndarray):
            return np.flip(array, flipped).transpose(back)
        return array.flip(flipped).permute(back)

    def apply_to_geometry(self, geometry: Geometry) -> Geometry:
        """The grid of the turned array: every voxel keeps its position in the patient."""
        shape = tuple(geometry.shape[axis] for axis in self.axes)
        index_of_turned = np.zeros((4, 4))  # turned index -> source index
        index_of_turned[3, 3] = 1.0
        for turned, source in enumerate(self.axes):
            index_of_turned[source, turned] = -1.0 if self.flips[turned] else 1.0
            index_of_turned[source, 3] = shape[turned] - 1 if self.flips[turned] else 0.0
        return Geometry(shape, geometry.affine @ index_of_turned)


def place_on_grid(
    volume: Volume, geometry: Geometry, *, may_be_smaller: bool = False, tolerance_voxels: float = 0.01
) -> Volume | None:
    """The same voxels on another description of the same lattice, or None where the two lattices differ.

    Masks are often stored turned or flipped against their image, and segmentation files cut to the box around the
    segments. Both are exact: no value is interpolated.

    Args:
        volume: Integers to place.
        geometry: The grid wanted.
        may_be_smaller: Accept a volume that covers only a part of the grid; the rest becomes 0.
        tolerance_voxels: How far a voxel center may lie from that of the grid, in voxels.
    """
    step = np.linalg.inv(geometry.affine) @ volume.geometry.affine  # index in volume -> index in grid
    turn = np.rint(step[:3, :3])
    if not np.array_equal(np.sort(np.abs(turn), axis=0), np.array([[0.0] * 3, [0.0] * 3, [1.0] * 3])):
        return None
    if np.linalg.matrix_rank(turn) < 3:
        return None
    corners = np.array(list(itertools.product(*[(0, size - 1) for size in volume.geometry.shape])), dtype=float)
    exact = corners @ step[:3, :3].T + step[:3, 3]
    if np.abs(exact - np.rint(exact)).max() > tolerance_voxels:
        return None
    axes = tuple(int(np.flatnonzero(turn[axis])[0]) for axis in range(3))
    flips = tuple(bool(turn[axis, axes[axis]] < 0) for axis in range(3))
    turned = Orientation(axes, flips).apply(volume.array)
    low = np.rint(exact).astype(int).min(axis=0)
    if turned.shape == geometry.shape and not low.any():
        return Volume(np.ascontiguousarray(turned), geometry)
    if not may_be_smaller or (low < 0).any() or (low + turned.shape > geometry.shape).any():
        return None
    placed = np.zeros(geometry.shape, volume.array.dtype)
    placed[tuple(slice(start, start + size) for start, size in zip(low, turned.shape, strict=True))] = turned
    return Volume(placed, geometry)
