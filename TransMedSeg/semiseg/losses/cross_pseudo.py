"""Two networks that teach each other: hard labels of one for the other, and decoder features that agree.

Axes: B batch, C classes or channels, X space. Everything is worked out in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .consistency import symmetric_kl, weighted_mean
from .most_probable import most_probable
from .segmentation import cross_entropy_map


def weighted_cross_entropy(logits_BCX: Tensor, labels_BX: Tensor, class_weight_C: Tensor | None = None) -> Tensor:
    """Mean cross-entropy, each voxel weighted by its label's class: sum w[y] CE / sum w[y]; 0 where all weights are 0.

    Args:
        logits_BCX: (batch, class, *space).
        labels_BX: (batch, *space) int64.
        class_weight_C: (class,); None is the plain mean. Only the proportions matter.
    """
    with torch.autocast(logits_BCX.device.type, enabled=False):
        loss_BX = cross_entropy_map(logits_BCX.float(), labels_BX)
        return weighted_mean(loss_BX, None if class_weight_C is None else class_weight_C[labels_BX])


def cross_pseudo_loss(
    first_BCX: Tensor,
    second_BCX: Tensor,
    first_labels_BX: Tensor | None = None,
    second_labels_BX: Tensor | None = None,
    first_weight_C: Tensor | None = None,
    second_weight_C: Tensor | None = None,
) -> Tensor:
    """Each network learns the other's hard labels: CE(first, labels of second) + CE(second, labels of first).

    Cross pseudo-supervision (Chen et al., CVPR 2021) and, on masked images with class weights, MICD's equation 3.

    Args:
        first_BCX: (batch, class, *space) logits of the first network.
        second_BCX: The same of the second.
        first_labels_BX: (batch, *space) labels that the first gives to the second; None: its most probable classes.
        second_labels_BX: The other way.
        first_weight_C: Class weights of the first network's loss.
        second_weight_C: Class weights of the second's.
    """
    first_labels_BX = most_probable(first_BCX) if first_labels_BX is None else first_labels_BX
    second_labels_BX = most_probable(second_BCX) if second_labels_BX is None else second_labels_BX
    return weighted_cross_entropy(first_BCX, second_labels_BX, first_weight_C) + weighted_cross_entropy(
        second_BCX, first_labels_BX, second_weight_C
    )


def cross_feature_loss(first: Sequence[Tensor], second: Sequence[Tensor], level_weight: float = 0.2) -> Tensor:
    """Sum over decoder levels k = 1 (coarsest) .. n of ``level_weight`` k KL(first_k, second_k) (MICD, equation 4).

    Features become distributions by a softmax over their channels; KL is the half sum of both directions.

    Args:
        first: One (batch, channel, *space) map for each level, coarsest first.
        second: Maps of the same shapes.
        level_weight: Weight of the coarsest level; level k has k times this.
    """
    return sum(
        level_weight * k * symmetric_kl(a, b) for k, (a, b) in enumerate(zip(first, second, strict=True), start=1)
    )
