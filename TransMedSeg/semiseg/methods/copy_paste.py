"""Bidirectional copy-paste (BCP, Bai et al., CVPR 2023): mixtures of two images and the loss on both their regions.

Each region of a mixture is scored by itself, so a voxel of the smaller region weighs more, and the region under
pseudo-labels as a whole weighs half. The *core* is a box, the *frame* is what surrounds it.

Axes: B batch, C classes, X space of any number of dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..losses.ranks import mean_over_ranks, sum_over_ranks


def box_mask(
    shape: tuple[int, ...], generator: torch.Generator, device: torch.device | str = "cpu", fraction: float = 2 / 3
) -> Tensor:
    """(*space) bool, False inside a box whose sides are floor(fraction * side of the map), True in the frame.

    The corner is uniform over 0 .. side of the map - side of the box - 1, as in the authors' code: the box never
    touches the far faces.

    Args:
        shape: Sides of the map.
        generator: On the CPU, so that nothing waits for a GPU.
        device: Where the mask is wanted.
        fraction: Side of the box relative to the side of the map.
    """
    frame = torch.ones(shape, dtype=torch.bool, device=device)
    box = []
    for size in shape:
        side = math.floor(size * fraction + 1e-9)
        start = int(torch.randint(max(size - side, 1), (1,), generator=generator))
        box.append(slice(start, start + side))
    frame[tuple(box)] = False
    return frame


def mix(frame_values: Tensor, core_values: Tensor, frame: Tensor) -> Tensor:
    """The first in the frame and the second in the core; for images, labels and weights alike."""
    return torch.where(frame, frame_values, core_values)


def copy_paste_loss(
    logits_BCX: Tensor,
    labels_BX: Tensor,
    frame: Tensor,
    frame_weight: float,
    core_weight: float,
    *,
    form: str = "la",
    weight_BX: Tensor | None = None,
) -> Tensor:
    """Half of Dice plus cross-entropy, on frame and core separately, weighted and summed (BCP, equations 7 and 8).

    The published weights are 1 for the region with ground truth and 0.5 for the other; 1 and 1 in ACDC's pretraining.

    Args:
        logits_BCX: (batch, class, *space) for the mixed image.
        labels_BX: (batch, *space) mixed labels, ``mix(labels of the frame, labels of the core, frame)``.
        frame: (*space) bool from ``box_mask``.
        frame_weight: Weight of the frame.
        core_weight: Weight of the core.
        form: Dice of the authors' code for each data set, see ``region_dice``.
        weight_BX: (batch, *space) or broadcastable; weights of voxels, such as confidence or 0 for a refused
            pseudo-label.
    """
    with torch.autocast(logits_BCX.device.type, enabled=False):
        log_p_BCX = logits_BCX.to(torch.promote_types(logits_BCX.dtype, torch.float32)).log_softmax(1)
        probabilities_BCX = log_p_BCX.exp()
        labels_BX = labels_BX.long()
        cross_entropy_BX = -log_p_BCX.gather(1, labels_BX[:, None]).squeeze(1)
        total = log_p_BCX.new_zeros(())
        for region, weight in ((frame, frame_weight), (~frame, core_weight)):
            if weight == 0:
                continue  # whole images have no core
            region_BX = region.to(log_p_BCX.dtype).expand_as(cross_entropy_BX)
            if weight_BX is not None:
                region_BX = region_BX * weight_BX.to(log_p_BCX.dtype)
            mean_ce = (cross_entropy_BX * region_BX).sum() / (mean_over_ranks(region_BX.sum()) + 1e-16)
            total = total + 0.5 * weight * (region_dice(probabilities_BCX, labels_BX, region_BX, form) + mean_ce)
        return total


def region_dice(probabilities_BCX: Tensor, labels_BX: Tensor, region_BX: Tensor, form: str = "la") -> Tensor:
    """1 - Dice within a region, background included.

    Args:
        probabilities_BCX: (batch, class, *space).
        labels_BX: (batch, *space) int64.
        region_BX: (batch, *space) weights, 0 outside the region.
        form: ``"la"`` (also Pancreas): overlap over the sum of both, for each sample and class, then the mean.
            ``"acdc"``: over the sum of squares, over the whole batch at once, mean of the classes. ``"present"``: as
            "la" without the samples and classes that are missing in both label and prediction, which would count as
            perfect (ours).

    Raises:
        ValueError: There is no such form.
    """
    if form not in ("la", "acdc", "present"):
        raise ValueError(f"form must be 'la', 'acdc' or 'present'; got {form!r}")
    flat = (probabilities_BCX.flatten(2), labels_BX.flatten(1), region_BX.flatten(1))
    overlap, predicted, labeled = [], [], []
    for c in range(probabilities_BCX.shape[1]):  # class by class: no one-hot copy of the labels
        p_BX, y_BX = flat[0][:, c], (flat[1] == c).to(flat[0].dtype)
        weighted_BX = p_BX * flat[2]
        overlap.append((weighted_BX * y_BX).sum(1))
        predicted.append((weighted_BX * p_BX if form == "acdc" else weighted_BX).sum(1))
        labeled.append((flat[2] * y_BX).sum(1))
    overlap_BC, predicted_BC, labeled_BC = (torch.stack(parts, dim=1) for parts in (overlap, predicted, labeled))
    if form == "acdc":
        overlap_C, total_C = sum_over_ranks(torch.stack([overlap_BC.sum(0), predicted_BC.sum(0) + labeled_BC.sum(0)]))
        return 1 - ((2 * overlap_C + 1e-10) / (total_C + 1e-10)).mean()
    dice_BC = (2 * overlap_BC + 1e-5) / (predicted_BC + labeled_BC + 1e-5)
    if form == "la":
        return 1 - dice_BC.mean()
    present_BC = ((labeled_BC > 0) | (predicted_BC.detach() >= 1)).to(dice_BC.dtype)
    return ((1 - dice_BC) * present_BC).sum() / mean_over_ranks(present_BC.sum()).clamp(min=1)
