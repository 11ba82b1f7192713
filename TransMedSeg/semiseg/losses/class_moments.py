"""Running means and covariances of feature vectors by class, for transferable semantic augmentation. Needs only torch.

Suffixes name the axes: N voxels (B samples and their space), C classes, A features, P candidates, K sampled voxels per
class. Nothing here waits for a GPU: every shape is known beforehand, there is no ``.item()`` and no boolean indexing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FEWEST = 8
"""Candidates that a class must have in an update, however many voxels each of them stands for."""


class ClassMoments(nn.Module):
    """Running mean and covariance of the feature vectors of each class.

    State lives in persistent buffers in fp32, so it follows ``.to()`` and checkpoints. An update takes about a
    millisecond on a CPU: it looks at up to ``max_voxels`` voxels of each class, spread evenly over all voxels of that
    class, others in each call. The choice depends on ``num_calls`` alone, so a resumed run repeats it. With
    ``torch.distributed`` initialized all ranks hold the moments of all ranks' voxels; every rank must then call
    ``update`` equally often. Where even that is much, update every fourth step: the moments change slowly.

    Args:
        num_classes: C, background included.
        num_features: A, channels of the classifier's input.
        momentum: Share of the old moments kept in an update; the first ``1 / (1 - momentum)`` updates are a plain
            average.
        min_count: An update skips a class with fewer voxels than this. In a large batch the voxels are estimated from every so many-th, of which
            at least 8 must be of the class.
        max_voxels: Sampled voxels per class and update; 1,024 give a variance to 4 %, before averaging over updates.

    Attributes:
        mean: (C, A).
        covariance: (C, A, A), biased (divided by the count).
        num_updates: (C,) int64, updates each class has had.
        num_calls: () int64, calls of ``update``.
        voxel_count: (C,) voxels of each class in the last call, in a large batch estimated from every so many-th.
    """

    def __init__(
        self, num_classes: int, num_features: int, momentum: float = 0.99, min_count: int = 64, max_voxels: int = 1024
    ) -> None:
        super().__init__()
        if num_classes < 2 or num_features < 1 or not 0 <= momentum < 1 or min_count < 1 or max_voxels < 1:
            raise ValueError("needs at least 2 classes, 1 feature, 1 voxel, and a momentum in [0, 1)")
        self.num_classes, self.num_features = num_classes, num_features
        self.momentum, self.min_count, self.max_voxels = momentum, min_count, max_voxels
        self.register_buffer("mean", torch.zeros(num_classes, num_features))
        self.register_buffer("covariance", torch.zeros(num_classes, num_features, num_features))
        self.register_buffer("num_updates", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("num_calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("voxel_count", torch.zeros(num_classes))

    @property
    def seen(self) -> Tensor:
        """(C,) bool, classes that have moments."""
        return self.num_updates > 0

    @torch.no_grad()
    def update(self, features_NA: Tensor, labels_N: Tensor, valid_N: Tensor | None = None) -> None:
        """Merges the moments of these voxels into the running ones.

        Args:
            features_NA: (N, A) or (B, A, *space), any floating type.
            labels_N: (N,) or (B, *space) integers; values outside 0 .. C-1 are left out.
            valid_N: Like the labels, bool; False leaves a voxel out.
        """
        stride = _candidate_stride(labels_N.numel(), self.max_voxels)
        index_CK, taken_CK, count_C = _sample_each_class(
            labels_N, valid_N, self.num_classes, self.max_voxels, self.num_calls, stride
        )
        features_BAX = features_NA.detach().flatten(2) if features_NA.ndim > 2 else features_NA.detach().unsqueeze(2)
        size = features_BAX.shape[2]
        sample_CKA = features_BAX[index_CK // size, :, index_CK % size].float()
        with torch.autocast(sample_CKA.device.type, enabled=False):
            count_C, mean_CA, covariance_CAA = class_moments(sample_CKA, taken_CK, count_C)
            finite_C = mean_CA.isfinite().all(1) & covariance_CAA.isfinite().flatten(1).all(1)
            # Every stride-th voxel was looked at. A diverged step must not poison the statistics.
            accepted_C = (count_C * stride >= self.min_count) & (count_C >= min(self.min_count, _FEWEST)) & finite_C
            self.num_updates += accepted_C
            weight_C = (1 / self.num_updates.clamp(min=1)).clamp(min=1 - self.momentum)
            merged = merge_moments(self.mean, self.covariance, mean_CA, covariance_CAA, weight_C)
        self.mean.copy_(torch.where(accepted_C[:, None], merged[0], self.mean))
        self.covariance.copy_(torch.where(accepted_C[:, None, None], merged[1], self.covariance))
        self.voxel_count.copy_(count_C * stride)
        self.num_calls += 1

    def extra_repr(self) -> str:
        return f"{self.num_classes}, {self.num_features}, momentum={self.momentum}, min_count={self.min_count}"


def _candidate_stride(num_voxels: int, max_voxels: int) -> int:
    """Every so many-th voxel is a candidate; odd, so that it walks through the columns of a row whose length is even."""
    return 1 if num_voxels <= 32 * max_voxels else (num_voxels // (32 * max_voxels)) | 1


def _sample_each_class(
    labels: Tensor, valid: Tensor | None, num_classes: int, max_voxels: int, call: Tensor, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Picks evenly spread voxels of every class, with shapes that do not depend on the data.

    Returns:
        Flat voxel numbers (C, K), which of them count (C, K) bool (a class with fewer than K voxels fills up with
        others), and the voxels of each class among the candidates (C,).
    """
    labels_N = labels.reshape(-1)
    device = labels_N.device
    index_P = torch.arange(labels_N.numel() // stride, device=device) * stride + call % stride
    labels_P = labels_N[index_P]
    member_CP = labels_P == torch.arange(num_classes, device=device)[:, None]
    if valid is not None:
        member_CP &= valid.reshape(-1)[index_P].bool()
    rank_CP = member_CP.cumsum(1, dtype=torch.int32)  # number of voxels of the class up to here
    count_C = rank_CP[:, -1].long()
    num_taken = min(max_voxels, index_P.numel())
    step_K = torch.arange(num_taken, device=device)
    # Of a large class the voxels ranked (k n + shift) / K, of a small one the first n ranks: all of it.
    shift_C = (call * 7919) % count_C.clamp(min=1)
    spread_CK = (step_K * count_C[:, None] + shift_C[:, None]) // num_taken
    wanted_CK = torch.where(count_C[:, None] > num_taken, spread_CK, step_K)
    position_CK = torch.searchsorted(rank_CP, (wanted_CK + 1).int()).clamp(max=index_P.numel() - 1)
    return index_P[position_CK], step_K < count_C[:, None], count_C.float()


def class_moments(sample_CKA: Tensor, taken_CK: Tensor, count_C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count (C,), mean (C, A) and biased covariance (C, A, A) of sampled vectors, over all ranks.

    Two passes: the mean first, then products of centered vectors. The mean square minus the squared mean loses every
    digit in fp32 when the mean is large. A rank's sample stands for ``count_C`` voxels, so ranks weigh by what they
    have.
    """
    per_sample_C = count_C / taken_CK.sum(1).clamp(min=1)
    sample_CKA = torch.where(taken_CK[..., None], sample_CKA, 0)
    sums = _sum_over_ranks(torch.cat([count_C[:, None], per_sample_C[:, None] * sample_CKA.sum(1)], dim=1))
    count_C, mean_CA = sums[:, 0], sums[:, 1:] / sums[:, :1].clamp(min=1)
    centered_CKA = torch.where(taken_CK[..., None], sample_CKA - mean_CA[:, None], 0)
    products_CAA = per_sample_C[:, None, None] * (centered_CKA.transpose(1, 2) @ centered_CKA)
    return count_C, mean_CA, _sum_over_ranks(products_CAA) / count_C.clamp(min=1)[:, None, None]


def merge_moments(
    mean_CA: Tensor, covariance_CAA: Tensor, new_mean_CA: Tensor, new_covariance_CAA: Tensor, weight_C: Tensor
) -> tuple[Tensor, Tensor]:
    """Moments of the mixture (1 - weight) old + weight new. Weight n_new / n_all makes it the pooled moments."""
    weight_C1, weight_C11 = weight_C[:, None], weight_C[:, None, None]
    gap_CA = mean_CA - new_mean_CA
    spread_CAA = weight_C11 * (1 - weight_C11) * gap_CA[:, :, None] * gap_CA[:, None, :]
    covariance_CAA = (1 - weight_C11) * covariance_CAA + weight_C11 * new_covariance_CAA + spread_CAA
    return (1 - weight_C1) * mean_CA + weight_C1 * new_mean_CA, (covariance_CAA + covariance_CAA.transpose(1, 2)) / 2


def _sum_over_ranks(values: Tensor) -> Tensor:  # as in ranks.py: this file is for copying, and needs torch alone
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values
