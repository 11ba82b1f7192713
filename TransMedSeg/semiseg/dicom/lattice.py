"""Moves a mask onto another grid: exactly where both share a lattice, by nearest neighbor only when asked."""

from __future__ import annotations

import numpy as np

from ..data.geometry import Geometry
from ..errors import InputError

TOLERANCE_MM = 1e-3


def place_on_grid(
    mask: np.ndarray, affine: np.ndarray, grid: Geometry, tolerance_mm: float = TOLERANCE_MM
) -> np.ndarray:
    """Copies a mask whose voxels lie on voxels of ``grid``: cropped, padded, or with axes in another order or sense.

    No value is changed or interpolated. Slicer crops segmentation files to what is drawn, and NIfTI writers flip axes.

    Args:
        mask: (slice, row, column).
        affine: (4, 4) index of ``mask`` to LPS millimeters.
        grid: The grid to fill; what the mask does not cover is 0.

    Raises:
        InputError: A voxel of the mask is further than the tolerance from every voxel of the grid, or foreground lies
            outside of it (E905).
    """
    turn, offset = _whole_steps(Geometry(mask.shape, affine), grid, tolerance_mm)
    # Axis a of the grid runs along axis axes[a] of the mask, in the sense of signs[a].
    axes = np.abs(turn).argmax(axis=1)
    signs = turn[range(3), axes]
    turned = np.transpose(mask, axes)[tuple(slice(None, None, int(sign)) for sign in signs)]
    start = np.where(signs > 0, offset, offset - (np.array(turned.shape) - 1))
    inside, target = [], []
    for size, first, limit in zip(turned.shape, start, grid.shape, strict=True):
        low, high = max(0, int(first)), min(limit, int(first) + size)
        inside.append(slice(low - int(first), max(low, high) - int(first)))
        target.append(slice(low, max(low, high)))
    kept = turned[tuple(inside)]
    lost = int(np.count_nonzero(mask)) - int(np.count_nonzero(kept))
    if lost:
        raise InputError(
            f"{lost} of {np.count_nonzero(mask)} voxels of the mask lie outside the source images.",
            code="E905",
            hint="Check that mask and series belong together, or clip the mask to the images.",
        )
    placed = np.zeros(grid.shape, mask.dtype)
    placed[tuple(target)] = kept
    return placed


def _whole_steps(source: Geometry, grid: Geometry, tolerance_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) turn and (3,) offset in whole voxels from indices of the source to those of the grid.

    Raises:
        InputError: There are none (E905).
    """
    between = np.linalg.inv(grid.affine) @ source.affine
    turn, offset = np.round(between[:3, :3]).astype(int), np.round(between[:3, 3]).astype(int)
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in source.shape], indexing="ij")).reshape(3, -1).T
    if any(not np.array_equal(np.abs(turn).sum(axis=axis), (1, 1, 1)) for axis in (0, 1)):
        raise _other_grid(source, grid)
    apart_mm = np.linalg.norm(source.position_mm(corners) - grid.position_mm(corners @ turn.T + offset), axis=1)
    if apart_mm.max() > tolerance_mm:
        raise _other_grid(source, grid)
    return turn, offset


def resample_on_grid(mask: np.ndarray, affine: np.ndarray, grid: Geometry) -> np.ndarray:
    """Takes, for each voxel of ``grid``, the mask's voxel nearest to its center; 0 outside of the mask."""
    from scipy import ndimage

    between = np.linalg.inv(affine) @ grid.affine
    return ndimage.affine_transform(
        mask, between[:3, :3], between[:3, 3], output_shape=grid.shape, order=0, mode="constant", cval=0
    )


def _other_grid(source: Geometry, grid: Geometry) -> InputError:
    offset_mm = np.linalg.norm(source.origin_mm - grid.origin_mm)
    nearest = np.linalg.norm(source.origin_mm - grid.position_mm(np.round(grid.index_of(source.origin_mm))))
    return InputError(
        f"The mask is on another grid than the source images: {source.describe()} against {grid.describe()}; the first "
        f"voxels are {offset_mm:.3g} mm apart, the mask's is {nearest:.3g} mm off the nearest voxel of the images.",
        code="E905",
        hint="Resample it to the source grid (--resample), or choose the series the mask was drawn on.",
    )
