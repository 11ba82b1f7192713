"""Where voxels are in the patient. The only file of the engine that turns RAS into LPS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def flip_ras_lps(affine: np.ndarray) -> np.ndarray:
    """Turns a (4, 4) affine into RAS millimeters into one into LPS millimeters, or back (it is its own inverse)."""
    return _LPS_FROM_RAS @ affine


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a volume: its shape and the affine from array index to patient position.

    Array axes are ``[slice, row, column]``. ``affine @ (k, j, i, 1)`` is the position of the *center* of voxel
    ``[k, j, i]`` in LPS millimeters (DICOM PS3.3 C.7.6.2), so the first column of the affine is the step from slice to slice.

    Args:
        shape: Number of voxels along slice, row and column.
        affine: (4, 4) float64, array index to LPS millimeters.

    Raises:
        ValueError: The affine is singular or not finite, or the shape is not three positive numbers.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        shape = tuple(int(size) for size in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"A grid has three positive sizes (slice, row, column); got {self.shape}.")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise ValueError(f"The affine must be finite, invertible and 4 x 4; got {affine.tolist()}.")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_parts(
        cls,
        shape: tuple[int, int, int],
        spacing_mm: tuple[float, float, float],
        origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
        direction: np.ndarray | None = None,
    ) -> Geometry:
        """Builds a grid from spacing along (slice, row, column), origin (x, y, z) in LPS and unit directions.

        Args:
            direction: (3, 3), one column of LPS direction cosines for each array axis (slice, row, column). Left out:
                slices run towards the head (+z), rows towards the back (+y), columns towards the left (+x).
        """
        if direction is None:
            direction = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(direction, dtype=np.float64) * np.asarray(spacing_mm, dtype=np.float64)
        affine[:3, 3] = origin_mm
        return cls(shape, affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighboring voxels along slice, row and column."""
        return tuple(float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def direction(self) -> np.ndarray:
        """(3, 3), one column of LPS direction cosines for each array axis (slice, row, column)."""
        return self.affine[:3, :3] / np.asarray(self.spacing_mm)

    @property
    def origin_mm(self) -> np.ndarray:
        """(3,) LPS position of the center of voxel [0, 0, 0]."""
        return self.affine[:3, 3].copy()

    @property
    def voxel_volume_ml(self) -> float:
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def is_orthogonal(self) -> bool:
        """False for sheared grids (gantry tilt): array axes further than 0.06 degrees from right angles."""
        gram = self.direction.T @ self.direction
        return bool(np.abs(gram - np.eye(3)).max() < 1e-3)

    def position_mm(self, index: np.ndarray) -> np.ndarray:
        """(..., 3) array indices to (..., 3) LPS millimeters."""
        return np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def index_of(self, position_mm: np.ndarray) -> np.ndarray:
        """(..., 3) LPS millimeters to (..., 3) fractional array indices."""
        return (np.asarray(position_mm, dtype=np.float64) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T

    def max_difference_mm(self, other: Geometry) -> float:
        """Largest distance between equal corners of two grids; infinite when the shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        corners = np.array(np.meshgrid(*[(0, size - 1) for size in self.shape], indexing="ij")).reshape(3, -1).T
        return float(np.linalg.norm(self.position_mm(corners) - other.position_mm(corners), axis=1).max())

    def same_grid_as(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        return self.max_difference_mm(other) <= tolerance_mm

    def describe(self) -> str:
        """One short line for messages: size in columns x rows x slices and spacing in millimeters."""
        size = "×".join(str(n) for n in reversed(self.shape))
        spacing = "×".join(f"{mm:.4g}" for mm in reversed(self.spacing_mm))
        return f"{size} at {spacing} mm"
