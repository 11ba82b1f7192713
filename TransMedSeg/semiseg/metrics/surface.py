"""How far apart the surfaces of two masks are.

The definitions are medpy's, which the papers of the field use. The surface of a mask is the mask without its erosion
by the cross of 6 neighbors (4 in a plane); outside of the array counts as background. A directed distance set holds,
for each surface voxel of one mask, the distance to the nearest surface voxel of the other.

- HD95 is the 95th percentile of *both* sets together, which is not the larger of two percentiles.
- ASD is the mean of the set from the prediction to the reference alone. It is not symmetric; the papers print it.
- ASSD is the mean of both sets together, symmetric (medpy 0.5; older versions averaged the two directed means).

Distances come from a k-d tree over the surface voxels. That needs no distance map of the volume, which is what makes
the usual code slow, and it is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

Box = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """The two directed sets of distances, in voxels or millimeters.

    Args:
        to_reference: (n,) from each surface voxel of the prediction to the reference.
        to_prediction: (m,) from each surface voxel of the reference to the prediction.
    """

    to_reference: np.ndarray
    to_prediction: np.ndarray

    @property
    def hd95(self) -> float:
        """95th percentile of both sets together."""
        return float(np.percentile(np.concatenate([self.to_reference, self.to_prediction]), 95))

    @property
    def hausdorff(self) -> float:
        """The largest distance of both sets."""
        return float(max(self.to_reference.max(), self.to_prediction.max()))

    @property
    def asd(self) -> float:
        """Mean distance from prediction to reference; the name the papers print, not symmetric."""
        return float(self.to_reference.mean())

    @property
    def assd(self) -> float:
        """Mean of both sets together, symmetric."""
        return float(np.concatenate([self.to_reference, self.to_prediction]).mean())

    def scaled(self, factor: float) -> SurfaceDistances:
        """The same distances in another unit."""
        return SurfaceDistances(self.to_reference * factor, self.to_prediction * factor)


def surface_distances(
    prediction: np.ndarray, reference: np.ndarray, step: np.ndarray | tuple[float, ...] | None = None
) -> SurfaceDistances:
    """Distances between the surfaces of two masks that both hold at least one voxel.

    Args:
        prediction: Mask of any number of axes.
        reference: Mask of the same shape.
        step: What one voxel is worth: nothing for voxels, the spacing of each axis in mm, or the (axis, axis) matrix
            whose columns are the steps in mm (grids whose axes are not at right angles).
    """
    box = joint_box(prediction, reference)
    if box is None or not prediction[box].any() or not reference[box].any():
        raise ValueError("A surface distance needs two masks that are not empty.")
    surface_a, surface_b = surface(prediction[box]), surface(reference[box])
    points_a, points_b = _points(surface_a, step), _points(surface_b, step)
    # Voxels on both surfaces are 0 apart; where masks agree that is most of them.
    apart_a, apart_b = ~surface_b[surface_a], ~surface_a[surface_b]
    return SurfaceDistances(_nearest(points_a, points_b, apart_a), _nearest(points_b, points_a, apart_b))


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask that touch the background through a face, or the border of the array."""
    mask = mask.astype(bool, copy=False)
    padded = np.pad(mask, 1)
    inner = (slice(1, -1),) * mask.ndim
    eroded = mask.copy()
    for axis in range(mask.ndim):
        for side in (slice(None, -2), slice(2, None)):
            eroded &= padded[(*inner[:axis], side, *inner[axis + 1 :])]
    return mask ^ eroded


def joint_box(*masks: np.ndarray) -> Box | None:
    """The smallest box around all masks together; None where all are empty."""
    if len({mask.shape for mask in masks}) != 1:
        raise ValueError(f"The masks differ in shape: {', '.join(str(mask.shape) for mask in masks)}.")
    box: list[slice] = []
    parts = list(masks)
    for axis in range(masks[0].ndim):
        others = tuple(other for other in range(masks[0].ndim) if other != axis)
        used = np.flatnonzero(np.logical_or.reduce([part.any(axis=others) for part in parts]))
        if used.size == 0:
            return None
        box.append(slice(int(used[0]), int(used[-1]) + 1))
        parts = [part[(slice(None),) * axis + (box[-1],)] for part in parts]
    return tuple(box)


def step_matrix(step: np.ndarray | tuple[float, ...] | None, num_axes: int) -> np.ndarray:
    """The (axis, axis) matrix of ``step`` as :func:`surface_distances` takes it."""
    if step is None:
        return np.eye(num_axes)
    matrix = np.asarray(step, dtype=np.float64)
    matrix = np.diag(matrix) if matrix.ndim == 1 else matrix
    if matrix.shape != (num_axes, num_axes) or not math.isfinite(float(np.abs(matrix).sum())):
        raise ValueError(f"step must be {num_axes} spacings or a {num_axes} x {num_axes} matrix; got {step!r}.")
    return matrix


def diagonal(shape: tuple[int, ...], step: np.ndarray | tuple[float, ...] | None = None) -> float:
    """Diagonal of an image in voxels or in the unit of ``step``: the distance to a mask that is missing."""
    return float(np.linalg.norm(step_matrix(step, len(shape)) @ np.asarray(shape, dtype=np.float64)))


def _points(mask: np.ndarray, step: np.ndarray | tuple[float, ...] | None) -> np.ndarray:
    index = np.stack(np.nonzero(mask), axis=1).astype(np.float64)
    return index if step is None else index @ step_matrix(step, mask.ndim).T


def _nearest(points: np.ndarray, others: np.ndarray, apart: np.ndarray) -> np.ndarray:
    distances = np.zeros(len(points))
    if apart.any():
        # Splits at the middle, not at the median: faster to build, and surfaces are evenly spread. Large leaves: voxels
        # come in rows of equal distance, which a deep tree would visit one by one.
        tree = cKDTree(others, leafsize=32, balanced_tree=False, compact_nodes=False)
        distances[apart] = tree.query(points[apart])[0]
    return distances
