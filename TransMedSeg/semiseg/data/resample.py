"""Changing the number of voxels along an axis, half-pixel centers: the outer faces of the volume stay where they are.

Each output voxel is a short weighted sum of input voxels along one axis at a time. Fewer voxels: the average over the
box the new voxel covers, so that a factor of 2 is the mean of 2 x 2 x 2 and nothing aliases; where a box ends within a
voxel, the result is off by at most an eighth of that voxel. More voxels: linear.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def resample(array: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(..., slice, row, column) to (..., *shape), in the precision it has. Axes of unchanged size are not touched."""
    lead = array.ndim - 3
    sizes = tuple(array.shape[lead:])
    for axis in sorted(range(3), key=lambda axis: shape[axis] / sizes[axis]):  # shrink first: less to compute
        if shape[axis] < sizes[axis] or (axis == 0 and shape[axis] > sizes[axis]):
            array = weigh(array, lead + axis, *taps(sizes[axis], shape[axis]))
    if tuple(array.shape[-2:]) == tuple(shape[1:]):
        return array
    # Rows and columns grow by the same rule within torch, which is many times faster along the innermost axis.
    planes = array.reshape(1, -1, *array.shape[-2:])
    planes = torch.nn.functional.interpolate(planes, tuple(shape[1:]), mode="bilinear", align_corners=False)
    return planes.reshape(*array.shape[:-2], *shape[1:])


def likeliest(scores: Tensor) -> Tensor:
    """(class, ...) to the uint8 index of the highest score, the lowest of equal ones.

    ``argmax`` over the outermost axis takes a hundred times longer on a CPU.
    """
    best = scores[0]
    labels = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for index in range(1, len(scores)):
        labels.masked_fill_(scores[index] > best, index)
        best = torch.maximum(best, scores[index])
    return labels


def taps(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Which input voxels make each output voxel, and with what weight.

    Returns:
        (size_out, k) indices and (size_out, k) weights; each row of weights sums to 1.
    """
    if size_out >= size_in:
        center = (np.arange(size_out) + 0.5) * size_in / size_out - 0.5
        low = np.floor(center).astype(np.int64)
        upper_weight = center - low
        index = np.clip(np.stack([low, low + 1], axis=1), 0, size_in - 1)
        return index, np.stack([1.0 - upper_weight, upper_weight], axis=1)
    start = np.arange(size_out) * size_in // size_out
    stop = -(-np.arange(1, size_out + 1) * size_in // size_out)
    index = start[:, None] + np.arange(int((stop - start).max()))
    left = (np.arange(size_out) * size_in / size_out)[:, None]
    right = (np.arange(1, size_out + 1) * size_in / size_out)[:, None]
    weight = np.clip(np.minimum(index + 1, right) - np.maximum(index, left), 0.0, None) * (size_out / size_in)
    return np.minimum(index, size_in - 1), weight / weight.sum(axis=1, keepdims=True)


def weigh(array: Tensor, axis: int, index: np.ndarray, weight: np.ndarray) -> Tensor:
    """Applies :func:`taps` (or some rows of them) along one axis."""
    shape = [1] * array.ndim
    shape[axis] = -1
    result = None
    for tap in range(index.shape[1]):
        weights = torch.as_tensor(weight[:, tap], dtype=array.dtype, device=array.device).view(shape)
        chosen = torch.as_tensor(index[:, tap], device=array.device)
        part = array.index_select(axis, chosen).mul_(weights)
        result = part if result is None else result.add_(part)
    assert result is not None
    return result


def resample_labels(labels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """(slice, row, column) integers to ``shape``: each voxel gets the value that fills most of it; ties the lowest."""
    if labels.shape == tuple(shape):
        return labels.copy()
    values = np.unique(labels)
    result = np.full(shape, values[0], labels.dtype)
    best = resample(torch.from_numpy((labels == values[0]).astype(np.float32)), shape).numpy()
    for value in values[1:]:
        fraction = resample(torch.from_numpy((labels == value).astype(np.float32)), shape).numpy()
        # Fractions of equal size differ by rounding; without the margin a tie would fall to either side.
        wins = fraction > best + 1e-5
        result[wins] = value
        best[wins] = fraction[wins]
    return result
