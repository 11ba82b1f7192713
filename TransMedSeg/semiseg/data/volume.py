"""An array that never travels without its geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .geometry import Geometry


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and their grid.

    Args:
        array: (slice, row, column), any dtype.
        geometry: Its grid; the shapes must agree.

    Raises:
        ValueError: The shapes disagree.
    """

    array: np.ndarray
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise ValueError(f"Array {self.array.shape} does not fit the grid {self.geometry.shape}.")

    def with_array(self, array: np.ndarray) -> Volume:
        """Other voxels on the same grid."""
        return Volume(array, self.geometry)

    def same_grid_as(self, other: Volume, tolerance_mm: float = 1e-3) -> bool:
        return self.geometry.same_grid_as(other.geometry, tolerance_mm)
