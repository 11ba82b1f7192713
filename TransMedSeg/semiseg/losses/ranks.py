"""Sums over the global batch: what each of several ranks adds to a loss or a statistic that is one ratio over the samples of all.

The ranks' gradients are averaged after the backward pass. With these functions that average is the gradient of one process with the joint batch. Every rank
must ask; with one process the values stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a number over the ranks, without gradient.

    A weighted mean over the global batch is, on each rank, its own weighted sum over the ranks' mean of the sums of weights: the average of the
    ranks' gradients is then the gradient of one process.
    """
    return total_over_ranks(value) / torch.distributed.get_world_size() if _has_ranks() else value.detach()


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of a number over the ranks, with gradient: that of the rank's own part times the number of ranks."""
    if not _has_ranks():
        return value
    return total_over_ranks(value) + torch.distributed.get_world_size() * (value - value.detach())


def total_over_ranks(value: Tensor) -> Tensor:
    """The sum of a number over the ranks, without gradient."""
    value = value.detach()
    if _has_ranks():
        value = value.clone()
        torch.distributed.all_reduce(value)
    return value


def _has_ranks() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
