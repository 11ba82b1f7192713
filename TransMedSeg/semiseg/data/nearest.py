"""A label map on another grid: each voxel takes the value of the nearest one, outside is background."""

from __future__ import annotations

import numpy as np

from .geometry import Geometry
from .volume import Volume


def nearest_on_grid(volume: Volume, grid: Geometry) -> Volume:
    """The label map on another grid, made slice by slice.

    Args:
        volume: (slice, row, column) integers.
        grid: Shape and place of the result.
    """
    result = np.zeros(grid.shape, volume.array.dtype)
    step = np.linalg.inv(volume.geometry.affine) @ grid.affine  # index in grid -> index in volume
    rows, columns = np.meshgrid(*[np.arange(size) for size in grid.shape[1:]], indexing="ij")
    in_plane = step[:3, 1, None, None] * rows + step[:3, 2, None, None] * columns + step[:3, 3, None, None]
    sizes = np.array(volume.array.shape)[:, None, None]
    for k in range(grid.shape[0]):
        # The half-voxel tie goes up on every axis, as in ITK.
        index = np.floor(in_plane + step[:3, 0, None, None] * k + 0.5).astype(np.int64)
        inside = ((index >= 0) & (index < sizes)).all(axis=0)
        result[k][inside] = volume.array[tuple(index[:, inside])]
    return Volume(result, grid)
