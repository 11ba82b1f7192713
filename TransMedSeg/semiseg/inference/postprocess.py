"""What is taken away from a label map after the network: everything but the largest piece, and small islands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from ..metrics.surface import joint_box

CONNECTIVITY = {6: 1, 18: 2, 26: 3}
"""Neighbors of a voxel (through faces; also edges; also corners) and SciPy's number for them."""


def keep_largest_component(
    labels: np.ndarray, values: Sequence[int] | None = None, connectivity: int = 26, slicewise: bool = False
) -> np.ndarray:
    """Keeps the largest connected piece of each structure, as BCP's test code does on the left atrium.

    Args:
        labels: (slice, row, column) label map, 0 is background.
        values: Structures to clean; all that occur unless given. The others stay as they are.
        connectivity: 6, 18 or 26 neighbors; the papers use 26. Within a slice 6 means 4 neighbors, 18 and 26 mean 8.
        slicewise: Keep the largest piece of each slice, for networks of planes.

    Returns:
        A new label map of the same type. Of several pieces of one size the first in array order stays.
    """

    def keep(sizes: np.ndarray) -> np.ndarray:
        return np.arange(len(sizes)) == np.argmax(sizes)

    return _clean(labels, values, connectivity, slicewise, keep)


def remove_small_islands(
    labels: np.ndarray,
    min_voxels: int,
    values: Sequence[int] | None = None,
    connectivity: int = 26,
    slicewise: bool = False,
) -> np.ndarray:
    """Removes every connected piece of fewer than ``min_voxels`` voxels.

    The other arguments are those of :func:`keep_largest_component`.
    """
    return _clean(labels, values, connectivity, slicewise, lambda sizes: sizes >= min_voxels)


def _structure(connectivity: int) -> np.ndarray:
    if connectivity not in CONNECTIVITY:
        raise ValueError(f"connectivity is 6, 18 or 26; got {connectivity}.")
    return ndimage.generate_binary_structure(3, CONNECTIVITY[connectivity])


def _clean(
    labels: np.ndarray,
    values: Sequence[int] | None,
    connectivity: int,
    slicewise: bool,
    keep: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    structure = _structure(connectivity)
    cleaned = labels.copy()
    for value in np.unique(labels) if values is None else values:
        mask = labels == value
        box = joint_box(mask) if value != 0 else None
        if box is None:
            continue
        # Pieces lie inside the box around the structure; the rest of the volume need not be looked at.
        parts = [mask[box][k : k + 1] for k in range(mask[box].shape[0])] if slicewise else [mask[box]]
        dropped = np.concatenate([_dropped(part, structure, keep) for part in parts])
        cleaned[box][dropped] = 0
    return cleaned


def _dropped(mask: np.ndarray, structure: np.ndarray, keep: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Voxels of the pieces that ``keep`` (sizes of the pieces -> which stay) lets go."""
    pieces, count = ndimage.label(mask, structure)
    if count == 0:
        return np.zeros_like(mask)
    gone = np.zeros(count + 1, bool)
    gone[1:] = ~keep(np.bincount(pieces.ravel(), minlength=count + 1)[1:])
    return gone[pieces]
