"""Pseudo-labels: hard labels of a teacher, reduced to the largest component of each class.

Axes: B batch, C classes, X space. Connectivity is named by the neighbors of a voxel: 6, 18 or 26 in a volume,
``"slices"`` for the 8 neighbors within each (row, column) slice. BCP uses 26 on LA, 18 on Pancreas and slices on ACDC.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CONNECTIVITIES = (6, 18, 26, "slices")


def hard_labels(logits_BCX: Tensor, threshold: float = 0.5) -> Tensor:
    """(batch, *space) int64 labels without gradient.

    Two classes: foreground where its probability is at least ``threshold``. More: the most probable class.
    """
    logits_BCX = logits_BCX.detach()
    if logits_BCX.shape[1] > 2:
        return logits_BCX.argmax(1)
    background_BX, foreground_BX = logits_BCX.float().unbind(1)
    return (foreground_BX - background_BX >= math.log(threshold / (1 - threshold))).long()


def pseudo_labels(
    logits_BCX: Tensor, *, threshold: float = 0.5, connectivity: int | str = 26, keep_share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Hard labels reduced to their largest components.

    Returns:
        Labels (batch, *space) int64, and (batch, *space) bool that is False where the reduction removed foreground:
        such voxels are background to the loss, and nothing that statistics should learn from.
    """
    labels_BX = hard_labels(logits_BCX, threshold)
    reduced_BX = largest_component(labels_BX, logits_BCX.shape[1], connectivity, keep_share)
    return reduced_BX, reduced_BX == labels_BX


def largest_component(
    labels_BX: Tensor, num_classes: int, connectivity: int | str = 26, keep_share: float = 1.0
) -> Tensor:
    """Keeps the largest connected component of each foreground class; the rest becomes background.

    A class without any voxel stays as it is. On a GPU nothing waits: labels spread over the components for a fixed
    number of rounds (see ``_components_on_device``). On a CPU ``scipy.ndimage`` does it.

    Args:
        labels_BX: (batch, *space) integers.
        num_classes: C, background included.
        connectivity: One of ``CONNECTIVITIES``. Maps with two space dimensions always use 8 neighbors.
        keep_share: Components of at least this share of the largest are kept too. 1 keeps one; 0.2 suits organs in
            parts.

    Returns:
        (batch, *space), same type and device.

    Raises:
        ValueError: The connectivity is not one of these.
    """
    if connectivity not in CONNECTIVITIES:
        raise ValueError(f"connectivity must be one of {CONNECTIVITIES}; got {connectivity!r}")
    two_dimensional = labels_BX.ndim == 3
    maps = labels_BX[:, None] if two_dimensional else labels_BX  # (batch, slice, row, column)
    per_slice = two_dimensional or connectivity == "slices"
    samples = maps.reshape(-1, 1, *maps.shape[2:]) if per_slice else maps
    connectivity = 26 if per_slice else connectivity
    result = torch.zeros_like(samples)
    for c in range(1, num_classes):
        member = samples == c
        if samples.device.type == "cpu":
            kept = torch.from_numpy(
                np.stack([_largest_on_host(sample, connectivity, keep_share) for sample in member.numpy()])
            )
        else:
            kept = _largest_on_device(member, connectivity, keep_share)
        result = torch.where(kept, c, result)
    return result.reshape(labels_BX.shape)


def _largest_on_host(member: np.ndarray, connectivity: int, keep_share: float) -> np.ndarray:
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    components, count = ndimage.label(member, structure)
    if count <= 1:
        return member
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    kept = sizes >= max(keep_share * sizes.max(), 1)
    if keep_share >= 1:  # of equal ones the first
        kept = np.arange(len(sizes)) == sizes.argmax()
    return kept[components]


def _largest_on_device(member_BX: Tensor, connectivity: int, keep_share: float) -> Tensor:
    roots_BX = _components_on_device(member_BX, connectivity)
    flat = roots_BX.flatten(1)
    sizes = torch.zeros(flat.shape[0], flat.shape[1] + 1, dtype=torch.int64, device=flat.device)
    sizes.scatter_add_(1, flat, torch.ones_like(flat))
    sizes[:, -1] = 0  # the last entry gathers the background
    if keep_share >= 1:
        kept = flat == sizes.argmax(1, keepdim=True)
    else:
        kept = sizes.gather(1, flat) >= (keep_share * sizes.amax(1, keepdim=True)).clamp(min=1)
    return kept.reshape(member_BX.shape) & member_BX


def _components_on_device(member_BX: Tensor, connectivity: int, num_rounds: int = 8) -> Tensor:
    """The first voxel of each voxel's component, without waiting for the device; background gets the number of voxels.

    Each round hooks every tree under its smallest neighboring root and then shortens the paths (the scheme of Shiloach
    and Vishkin, 1982), so the rounds needed grow with the logarithm of the length of a component. One that is still not
    joined after ``num_rounds`` is merely split; its largest part counts. Atria, noise and spirals take three to five.
    """
    batch, num_voxels = member_BX.shape[0], member_BX[0].numel()
    member = member_BX.reshape(batch, -1)
    parent = torch.arange(num_voxels + 1, device=member.device).expand(batch, -1).contiguous()
    for _ in range(num_rounds):
        roots = torch.where(member, parent[:, :-1], num_voxels)
        smallest = _smallest_neighbor(roots.reshape(member_BX.shape), connectivity).reshape(batch, -1)
        target = torch.where(member, smallest, num_voxels)
        parent.scatter_reduce_(1, roots, target, "amin")
        for _ in range(3):
            parent = parent.gather(1, parent)
    return torch.where(member, parent[:, :-1], num_voxels)


def _smallest_neighbor(values_BX: Tensor, connectivity: int) -> Tensor:
    """Smallest value among a voxel and its neighbors. Values are whole numbers below 2^24, exact in fp32."""
    negated = -values_BX[:, None].float()
    windows = {26: [(3, 3, 3)], 18: [(1, 3, 3), (3, 1, 3), (3, 3, 1)], 6: [(1, 1, 3), (1, 3, 1), (3, 1, 1)]}
    largest = None
    for window in windows[connectivity]:
        pooled = F.max_pool3d(negated, window, stride=1, padding=tuple(side // 2 for side in window))
        largest = pooled if largest is None else torch.maximum(largest, pooled)
    return (-largest[:, 0]).to(values_BX.dtype)
