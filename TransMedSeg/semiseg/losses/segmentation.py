"""Dice and cross-entropy.

Axes: B batch, C classes, X space of any number of dimensions. Everything is computed in fp32: sums over a million voxels overflow fp16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy_map(logits_BCX: Tensor, labels_BX: Tensor) -> Tensor:
    """(batch, *space) cross-entropy of each voxel; with two classes as one softplus, which needs a quarter of the memory."""
    if logits_BCX.shape[1] == 2:
        background_BX, foreground_BX = logits_BCX.unbind(1)
        return F.softplus((foreground_BX - background_BX) * (1 - 2 * labels_BX.to(logits_BCX.dtype)))
    return F.cross_entropy(logits_BCX, labels_BX, reduction="none")


def foreground_dice(logits_BCX: Tensor, labels_BX: Tensor, smooth: float = 1e-5) -> Tensor:
    """1 - mean soft Dice of the structures (UA-MT): for each sample and class, background left out.

    A structure that a patch does not show and the network does not see scores 1 by the smoothing term.
    """
    probabilities_BCX = logits_BCX.softmax(1)
    scores = []
    for index in range(1, logits_BCX.shape[1]):
        p_BX = probabilities_BCX[:, index].flatten(1)
        y_BX = (labels_BX == index).flatten(1).to(p_BX.dtype)
        scores.append((2 * (p_BX * y_BX).sum(1) + smooth) / (p_BX.sum(1) + y_BX.sum(1) + smooth))
    return 1 - torch.stack(scores).mean()


def dice_and_cross_entropy(logits_BCX: Tensor, labels_BX: Tensor) -> Tensor:
    """Half of cross-entropy plus half of foreground Dice, the field's supervised loss (UA-MT, Yu et al., MICCAI 2019).

    Args:
        logits_BCX: (batch, class, *space).
        labels_BX: (batch, *space) int64.
    """
    with torch.autocast(logits_BCX.device.type, enabled=False):
        logits_BCX = logits_BCX.float()
        return 0.5 * (cross_entropy_map(logits_BCX, labels_BX).mean() + foreground_dice(logits_BCX, labels_BX))
