"""How far two predictions are apart, and how much that should count.

Axes: B batch, C classes, X space. All of it is worked out in fp32 from logits, through log-softmax, so nothing takes
the logarithm of zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .ranks import mean_over_ranks


def gaussian_rampup(progress: float) -> float:
    """Weight exp(-5 (1 - progress)^2), from 0.007 at progress 0 to 1 at progress 1 and beyond.

    Laine and Aila, ICLR 2017; used by Mean Teacher, UA-MT and MICD.
    """
    return math.exp(-5.0 * (1.0 - min(max(progress, 0.0), 1.0)) ** 2)


def mean_square(logits_BCX: Tensor, other_BCX: Tensor, weight_BX: Tensor | None = None) -> Tensor:
    """Mean squared difference of the probabilities, over voxels and classes (Mean Teacher, NeurIPS 2017).

    Args:
        logits_BCX: (batch, class, *space).
        other_BCX: The same; detach the teacher's.
        weight_BX: (batch, *space) bool or weights, such as ``entropy_gate``; the mean is over what it keeps.
    """
    with torch.autocast(logits_BCX.device.type, enabled=False):
        difference_BCX = logits_BCX.float().softmax(1) - other_BCX.float().softmax(1)
        return weighted_mean(difference_BCX.square().mean(1), weight_BX)


def symmetric_kl(logits_BCX: Tensor, other_BCX: Tensor, weight_BX: Tensor | None = None) -> Tensor:
    """Half the sum of both Kullback-Leibler divergences, mean over voxels, in nats.

    Equals half the sum of (p - q)(log p - log q), which is never negative. Also for feature maps, with a softmax over
    their channels.
    """
    with torch.autocast(logits_BCX.device.type, enabled=False):
        log_p, log_q = logits_BCX.float().log_softmax(1), other_BCX.float().log_softmax(1)
        return weighted_mean(0.5 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(1), weight_BX)


def entropy(probabilities_BCX: Tensor) -> Tensor:
    """(batch, *space) entropy of the class probabilities in nats; 0 log 0 counts as 0."""
    return -torch.xlogy(probabilities_BCX, probabilities_BCX).sum(1)


def confidence(logits_BCX: Tensor) -> Tensor:
    """(batch, *space) 1 - entropy / log C: 1 for a certain voxel, 0 for one that could be any class. No gradient."""
    log_p = logits_BCX.detach().float().log_softmax(1)
    return (1 + (log_p.exp() * log_p).sum(1) / math.log(log_p.shape[1])).clamp(0, 1)


def entropy_gate(probabilities_BCX: Tensor, progress: float) -> Tensor:
    """(batch, *space) bool, voxels certain enough to teach (UA-MT, MICCAI 2019).

    The limit rises from 0.75 to 1 of the largest entropy, log C; the authors' code has log 2 whatever C.

    Args:
        probabilities_BCX: Mean probabilities of several noisy teacher passes.
        progress: Share of training done, 0 to 1.
    """
    limit = (0.75 + 0.25 * gaussian_rampup(progress)) * math.log(probabilities_BCX.shape[1])
    return entropy(probabilities_BCX.float()) < limit


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of the values, or of what ``weight`` keeps of them, over all ranks; 0 when it keeps nothing."""
    if weight is None:
        return values.mean()
    weight = weight.to(values.dtype).expand_as(values)
    return (values * weight).sum() / mean_over_ranks(weight.sum()).clamp(min=torch.finfo(values.dtype).tiny)
