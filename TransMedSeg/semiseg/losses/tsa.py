"""Transferable semantic augmentation (TSA) for segmentation, as a plug-in. Copy this file: it needs only torch.

The loss is the cross-entropy of a voxel averaged over infinitely many augmented copies of its feature vector. A copy is
the vector plus Gaussian noise whose mean points from the labeled to the unlabeled features of its class and whose
covariance is that of the unlabeled features. The average has a closed upper bound in which all augmentation is one
small class-pair table, the same for every voxel:

    shift_y     = mean_target_y - mean_source_y
    table[y, c] = alpha (w_c - w_y)' shift_y + alpha / 2 (w_c - w_y)' covariance_target_y (w_c - w_y)
    loss        = mean over voxels of cross_entropy(logits + table[label], label)

With two classes that is a learned margin per class: mean of softplus(z_other - z_label + table[label, other]).

Use, in any training loop whose network ends in a convolution ``head`` fed with ``features``:

    source, target = ClassMoments(num_classes, num_features), ClassMoments(num_classes, num_features)
    ...
    source.update(features_labeled, labels)                       # every step; no gradient
    target.update(features_unlabeled, pseudo_labels, keep)
    table = pair_table(head_weight(head), source.mean, target.mean, target.covariance, alpha,
                       seen=source.seen & target.seen)
    loss = loss + 0.4 * tsa_loss(logits_labeled, labels, table)

Sources: TSA, Li et al., CVPR 2021 (loss with mean shift); ISDA, Wang et al., NeurIPS 2019 (closed form without it);
TransMedSeg (TSA between labeled and unlabeled scans, weight 0.4). The published codes build arrays of voxels x classes
x features; the table gives the same numbers without them.

Suffixes name the axes: N voxels (or B samples and *X* space), C classes, A features, K sampled voxels per class.
Logits and features may be (N, C) and (N, A) or dense maps (B, C, *space) and (B, A, *space): the class or feature axis
is axis 1 in both, labels are (N,) or (B, *space). Nothing here waits for a GPU: no ``.item()``, no boolean indexing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HERMITE_ROOTS = (0.0, 1.023255663789133, 2.07684797867783, 3.20542900285647, 4.512745863399783)
_HERMITE_WEIGHTS = (0.4063492063492064, 0.2440975028949394, 0.0499164067652179, 2.789141321232e-3, 2.23458440077e-5)


class ClassMoments(nn.Module):
    """Running mean and covariance of the feature vectors of each class.

    State lives in persistent buffers in fp32, so it follows ``.to()`` and checkpoints. An update takes about a
    millisecond on a CPU: it looks at up to ``max_voxels`` voxels of each class, spread evenly over all voxels of that
    class, others in each call. The choice depends on ``num_calls`` alone, so a resumed run repeats it. With
    ``torch.distributed`` initialized all ranks hold the moments of all ranks' voxels; every rank must then call
    ``update`` equally often.

    Args:
        num_classes: C, background included.
        num_features: A, channels of the classifier's input.
        momentum: Share of the old moments kept in an update; the first ``1 / (1 - momentum)`` updates are a plain
            average.
        min_count: An update skips a class with fewer voxels than this.
        max_voxels: Sampled voxels per class and update; 1,024 give a variance to 4 %, before averaging over updates.

    Attributes:
        mean: (C, A).
        covariance: (C, A, A), biased (divided by the count).
        num_updates: (C,) int64, updates each class has had.
        num_calls: () int64, calls of ``update``.
        voxel_count: (C,) candidates of each class in the last call.
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
        index_CK, taken_CK, count_C = _sample_each_class(
            labels_N, valid_N, self.num_classes, self.max_voxels, self.num_calls
        )
        features_BAX = features_NA.detach().flatten(2) if features_NA.ndim > 2 else features_NA.detach().unsqueeze(2)
        size = features_BAX.shape[2]
        sample_CKA = features_BAX[index_CK // size, :, index_CK % size].float()
        with torch.autocast(sample_CKA.device.type, enabled=False):
            count_C, mean_CA, covariance_CAA = class_moments(sample_CKA, taken_CK, count_C)
            finite_C = mean_CA.isfinite().all(1) & covariance_CAA.isfinite().flatten(1).all(1)
            accepted_C = (count_C >= self.min_count) & finite_C  # a diverged step must not poison the statistics
            self.num_updates += accepted_C
            weight_C = (1 / self.num_updates.clamp(min=1)).clamp(min=1 - self.momentum)
            merged = merge_moments(self.mean, self.covariance, mean_CA, covariance_CAA, weight_C)
        self.mean.copy_(torch.where(accepted_C[:, None], merged[0], self.mean))
        self.covariance.copy_(torch.where(accepted_C[:, None, None], merged[1], self.covariance))
        self.voxel_count.copy_(count_C)
        self.num_calls += 1

    def extra_repr(self) -> str:
        return f"{self.num_classes}, {self.num_features}, momentum={self.momentum}, min_count={self.min_count}"


def _sample_each_class(
    labels: Tensor, valid: Tensor | None, num_classes: int, max_voxels: int, call: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Picks evenly spread voxels of every class, with shapes that do not depend on the data.

    Returns:
        Flat voxel numbers (C, K), which of them count (C, K) bool (a class with fewer than K voxels fills up with
        others), and the voxels of each class among the candidates (C,).
    """
    labels_N = labels.reshape(-1)
    device = labels_N.device
    # Every stride-th voxel is a candidate; odd, so that it walks through the columns of a row whose length is even.
    stride = 1 if labels_N.numel() <= 32 * max_voxels else (labels_N.numel() // (32 * max_voxels)) | 1
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


def _sum_over_ranks(values: Tensor) -> Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


def head_weight(conv: nn.Module) -> Tensor:
    """(C, A) weight of the classifier, with its gradient.

    A kernel larger than 1 is summed over its taps: exact when the augmentation is the same everywhere under the kernel.

    Raises:
        ValueError: The layer is not a plain convolution or linear layer.
    """
    weight = getattr(conv, "weight", None)
    if weight is None or weight.ndim < 2 or getattr(conv, "groups", 1) != 1 or getattr(conv, "transposed", False):
        raise ValueError(f"the classifier must be a convolution with one group or a linear layer; got {conv}")
    return weight.flatten(2).sum(2) if weight.ndim > 2 else weight


def pair_terms(
    weight_CA: Tensor,
    mean_source_CA: Tensor,
    mean_target_CA: Tensor,
    covariance_target_CAA: Tensor,
    alpha: float | Tensor,
    shrinkage: float = 0.1,
    floor: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """Mean and variance of the change that augmentation makes to logit c minus logit y, as (C, C) tables [y, c].

    Gradients flow to the weight alone, in fp32 or better.
    """
    with torch.autocast(weight_CA.device.type, enabled=False):
        weight_CA = weight_CA.to(torch.promote_types(weight_CA.dtype, torch.float32))
        shift_CA = (mean_target_CA - mean_source_CA).detach().to(weight_CA)
        covariance_CAA = covariance_target_CAA.detach().to(weight_CA)
        variance_CA = covariance_CAA.diagonal(dim1=1, dim2=2)
        covariance_CAA = (1 - shrinkage) * covariance_CAA + torch.diag_embed(shrinkage * variance_CA + floor)
        difference_CCA = weight_CA[None, :] - weight_CA[:, None]
        mean_CC = alpha * torch.einsum("yca,ya->yc", difference_CCA, shift_CA)
        variance_CC = alpha * torch.einsum("yca,yab,ycb->yc", difference_CCA, covariance_CAA, difference_CCA)
    return mean_CC, variance_CC


def pair_table(
    weight_CA: Tensor,
    mean_source_CA: Tensor,
    mean_target_CA: Tensor,
    covariance_target_CAA: Tensor,
    alpha: float | Tensor,
    shrinkage: float = 0.1,
    clamp: float = 5.0,
    *,
    floor: float = 1e-5,
    seen: Tensor | None = None,
) -> Tensor:
    """What augmentation adds to logit c of a voxel of class y: a (C, C) table [y, c] with a zero diagonal.

    Args:
        weight_CA: Classifier weight (``head_weight``); the only input that receives a gradient.
        mean_source_CA: Class means of labeled features. Pass the target's for ISDA (no mean shift).
        mean_target_CA: Class means of unlabeled features under pseudo-labels.
        covariance_target_CAA: Their covariances. Pass zeros for the mean shift alone.
        alpha: Strength, 0 is plain cross-entropy. TSA raises it linearly to 0.25 over training.
        shrinkage: Share of the off-diagonal covariance to drop; 1 keeps the diagonal alone.
        clamp: Entries are kept within +-clamp: the bound is loose there, and the gradient of such an entry stops.
        floor: Added to the variances; dead channels have none.
        seen: (C,) bool; rows of other classes are 0. Pass ``source.seen & target.seen``.
    """
    mean_CC, variance_CC = pair_terms(
        weight_CA, mean_source_CA, mean_target_CA, covariance_target_CAA, alpha, shrinkage, floor
    )
    table_CC = (mean_CC + variance_CC / 2).clamp(-clamp, clamp)
    return table_CC if seen is None else torch.where(seen[:, None], table_CC, 0)


def tsa_loss(logits_NC: Tensor, labels_N: Tensor, table_CC: Tensor, valid_N: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of ``logits + table[label]``; 0 when no voxel is valid.

    Args:
        logits_NC: (N, C) or (B, C, *space), without the table.
        labels_N: (N,) or (B, *space) integers in 0 .. C-1 wherever valid.
        table_CC: From ``pair_table``.
        valid_N: Like the labels, bool or weights; leaves voxels out (unlabeled, ignored).
    """
    with torch.autocast(logits_NC.device.type, enabled=False):
        logits_NC = logits_NC.to(torch.promote_types(logits_NC.dtype, torch.float32))
        table_CC = table_CC.to(logits_NC)
        if logits_NC.shape[1] == 2:
            loss_N = F.softplus(_two_class_gap(logits_NC, labels_N) + _two_class_entry(table_CC, labels_N))
        else:
            labels_N = (labels_N if valid_N is None else torch.where(valid_N.bool(), labels_N, 0)).long()
            loss_N = F.cross_entropy(logits_NC + _rows(table_CC, labels_N), labels_N, reduction="none")
        return _mean(loss_N, valid_N)


def tsa_loss_exact(
    logits_NC: Tensor, labels_N: Tensor, mean_CC: Tensor, variance_CC: Tensor, valid_N: Tensor | None = None
) -> Tensor:
    """The expectation itself instead of its bound, for two classes: Gauss-Hermite quadrature with nine nodes.

    Args:
        logits_NC: (N, 2) or (B, 2, *space).
        labels_N: As in ``tsa_loss``.
        mean_CC: From ``pair_terms``.
        variance_CC: From ``pair_terms``.
        valid_N: As in ``tsa_loss``.

    Raises:
        ValueError: There are more than two classes.
    """
    if logits_NC.shape[1] != 2:
        raise ValueError(f"the exact expectation is for two classes; got {logits_NC.shape[1]}")
    with torch.autocast(logits_NC.device.type, enabled=False):
        logits_NC = logits_NC.to(torch.promote_types(logits_NC.dtype, torch.float32))
        gap_N = _two_class_gap(logits_NC, labels_N) + _two_class_entry(mean_CC.to(logits_NC), labels_N)
        # The root of a zero variance has an infinite slope.
        spread_N = _two_class_entry(variance_CC.to(logits_NC).clamp(min=1e-12).sqrt(), labels_N)
        loss_N = _HERMITE_WEIGHTS[0] * F.softplus(gap_N)
        for root, weight in zip(_HERMITE_ROOTS[1:], _HERMITE_WEIGHTS[1:]):
            loss_N = loss_N + weight * (F.softplus(gap_N + root * spread_N) + F.softplus(gap_N - root * spread_N))
        return _mean(loss_N, valid_N)


def _two_class_gap(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    """The other logit minus the label's."""
    background_N, foreground_N = logits_NC.unbind(1)
    return (foreground_N - background_N) * (1 - 2 * labels_N.to(logits_NC.dtype))


def _two_class_entry(table_CC: Tensor, labels_N: Tensor) -> Tensor:
    """The off-diagonal entry of the label's row. Arithmetic instead of an index, whose gradient is slow."""
    return table_CC[0, 1] + labels_N.to(table_CC.dtype) * (table_CC[1, 0] - table_CC[0, 1])


def _rows(table_CC: Tensor, labels_N: Tensor) -> Tensor:
    """table[label] in the layout of the logits.

    A product with one-hot labels: the gradient of an index with few rows and millions of repeats is slow on a GPU.
    """
    one_hot_NC = labels_N[..., None] == torch.arange(table_CC.shape[0], device=labels_N.device)
    return (one_hot_NC.to(table_CC.dtype) @ table_CC).movedim(-1, 1)


def _mean(loss_N: Tensor, valid_N: Tensor | None) -> Tensor:
    if valid_N is None:
        return loss_N.mean()
    weight_N = valid_N.to(loss_N.dtype)
    return (loss_N * weight_N).sum() / weight_N.sum().clamp(min=1)


@torch.no_grad()
def tsa_diagnostics(
    weight_CA: Tensor,
    source: ClassMoments,
    target: ClassMoments,
    alpha: float | Tensor,
    shrinkage: float = 0.1,
    clamp: float = 5.0,
) -> dict[str, Tensor]:
    """What to watch while training, a value per class (C,) or class pair (C, C). For every hundredth step or so.

    A condition number above 1e6 or a clamp count above 0 asks for attention; a table with [0, 1] far from [1, 0] moves
    the boundary of a two-class task.
    """
    seen = source.seen & target.seen
    inputs = (weight_CA, source.mean, target.mean, target.covariance, alpha, shrinkage)
    mean_CC, variance_CC = pair_terms(*inputs)
    eigenvalues_CA = torch.linalg.eigvalsh(target.covariance.double())
    return {
        "shift_norm": (target.mean - source.mean).norm(dim=1),
        "source_trace": source.covariance.diagonal(dim1=1, dim2=2).sum(1),
        "target_trace": target.covariance.diagonal(dim1=1, dim2=2).sum(1),
        "covariance_difference": (target.covariance - source.covariance).flatten(1).norm(dim=1),
        "condition_number": (eigenvalues_CA[:, -1] / eigenvalues_CA[:, 0].clamp(min=1e-12)).float(),
        "table": pair_table(*inputs, clamp, seen=seen),
        "mean_part": torch.where(seen[:, None], mean_CC, 0),
        "quadratic_part": torch.where(seen[:, None], variance_CC / 2, 0),
        "clamp_count": (((mean_CC + variance_CC / 2).abs() > clamp) & seen[:, None]).sum(),
        "source_voxels": source.voxel_count.clone(),
        "target_voxels": target.voxel_count.clone(),
    }
