"""How far apart the surfaces of two masks are.

The definitions are medpy's, which the papers of the field use. The surface of a mask is the mask without its erosion
by the cross of 6 neighbors (4 in a plane); outside of the array counts as background. A directed distance set holds,
for each surface voxel of one mask, the distance to the nearest surface voxel of the other.

- HD95 is the 95th percentile of *both* sets together, which is not the larger of two percentiles.
- ASD is the mean of the set from the prediction to the reference alone. It is not symmetric; the papers print it.
- ASSD is the mean of both sets together, symmetric (medpy 0.5; older versions averaged the two directed means).

Distances are asked for where they are needed, at the surface voxels, and they are exact; the usual code makes a distance
map of the whole volume for each of them. Near voxels are found in steps along the axes (``near.py``); what is farther away,
and every distance on a grid whose axes are not at right angles, comes from a k-d tree over the surface voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .near import FAR, NearSurface

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
    if box is None:
        raise ValueError("A surface distance needs two masks that are not empty.")
    return SurfacePair(prediction[box], reference[box]).distances(step)


class SurfacePair:
    """The surfaces of two masks, found once and measured in one unit or several.

    Args:
        prediction: Mask that holds at least one voxel, best cut to the masks' joint box.
        reference: Mask of the same shape that holds at least one voxel.
    """

    def __init__(self, prediction: np.ndarray, reference: np.ndarray) -> None:
        self._surfaces = surface(prediction), surface(reference)
        self._places = tuple(np.flatnonzero(one) for one in self._surfaces)
        if not all(place.size for place in self._places):
            raise ValueError("A surface distance needs two masks that are not empty.")
        # Voxels on both surfaces are 0 apart; where masks agree that is most of them.
        self._apart = tuple(~other.ravel()[place] for place, other in zip(self._places, reversed(self._surfaces)))
        self._near = tuple(NearSurface(one) for one in self._surfaces)

    def distances(self, step: np.ndarray | tuple[float, ...] | None = None) -> SurfaceDistances:
        """Both directed sets, in the unit of ``step``; see :func:`surface_distances`."""
        directed = self._in_voxels if step is None else self._in_mm
        return SurfaceDistances(directed(0, 1, step), directed(1, 0, step))

    def _in_voxels(self, one: int, other: int, step: None) -> np.ndarray:
        squares, apart = np.zeros(len(self._places[one]), np.uint8), self._apart[one]
        squares[apart] = self._near[other].squares(self._places[one][apart])
        distances, far = np.sqrt(squares, dtype=np.float64), squares == FAR
        distances[far] = _nearest(self._points(one)[far], self._points(other))
        return distances

    def _in_mm(self, one: int, other: int, step: np.ndarray | tuple[float, ...]) -> np.ndarray:
        squares, apart = np.zeros(len(self._places[one])), self._apart[one]
        matrix = step_matrix(step, self._surfaces[one].ndim)
        gram = matrix.T @ matrix
        if np.allclose(gram, np.diag(gram.diagonal()), rtol=0, atol=1e-12 * gram.max()):  # axes at right angles
            squares[apart] = self._near[other].squares_mm(self._places[one][apart], gram.diagonal())
        else:
            squares[apart] = np.inf
        distances, far = np.sqrt(squares), np.isinf(squares)
        distances[far] = _nearest(self._points(one)[far] @ matrix.T, self._points(other) @ matrix.T)
        return distances

    def _points(self, one: int) -> np.ndarray:
        """(n, axis) float64 positions of a surface's voxels."""
        index = np.unravel_index(self._places[one], self._surfaces[one].shape)
        return np.stack(index, axis=1).astype(np.float64)


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask that touch the background through a face, or the border of the array."""
    mask = mask.astype(bool, copy=False)
    eroded = mask.copy()
    for axis in range(mask.ndim):
        inside, inner = np.moveaxis(mask, axis, 0), np.moveaxis(eroded, axis, 0)
        inner[1:] &= inside[:-1]
        inner[:-1] &= inside[1:]
        inner[[0, -1]] = False
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


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) distance from each point to the nearest of the others, (n, axis) and (m, axis)."""
    if not len(points):
        return np.zeros(0)
    # Splits at the middle, not at the median: faster to build, and surfaces are evenly spread. Large leaves: voxels
    # come in rows of equal distance, which a deep tree would visit one by one.
    tree = cKDTree(others, leafsize=32, balanced_tree=False, compact_nodes=False)
    return tree.query(points)[0]
