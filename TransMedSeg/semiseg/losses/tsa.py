"""Transferable semantic augmentation (TSA) for segmentation, as a plug-in.

To use it elsewhere copy this file and ``class_moments.py``; they need only torch.

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

Suffixes name the axes: N voxels (B samples and their space), C classes, A features. Logits and features may be lists
(N, C) and (N, A) or maps (B, C, *space) and (B, A, *space): classes and features are axis 1 in both. Labels are (N,) or
(B, *space). Nothing here waits for a GPU: no ``.item()``, no boolean indexing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .class_moments import ClassMoments

_HERMITE_ROOTS = (0.0, 1.023255663789133, 2.07684797867783, 3.20542900285647, 4.512745863399783)
_HERMITE_WEIGHTS = (0.4063492063492064, 0.2440975028949394, 0.0499164067652179, 2.789141321232e-3, 2.23458440077e-5)


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
        valid_N: Like the labels, bool; False leaves a voxel out (unlabeled, ignored).
    """
    with torch.autocast(logits_NC.device.type, enabled=False):
        logits_NC = logits_NC.to(torch.promote_types(logits_NC.dtype, torch.float32))
        table_CC = table_CC.to(logits_NC)
        if logits_NC.shape[1] == 2:
            return _TwoClassLoss.apply(logits_NC, labels_N, table_CC, valid_N)
        labels_N = (labels_N if valid_N is None else torch.where(valid_N.bool(), labels_N, 0)).long()
        return _mean(F.cross_entropy(logits_NC + _rows(table_CC, labels_N), labels_N, reduction="none"), valid_N)


class _TwoClassLoss(torch.autograd.Function):
    """Mean of softplus(z_other - z_label + table[label, other]), its gradient worked out on the way.

    Automatic differentiation gives the same numbers with twice the time and memory. On a CPU selections by a mask cost
    as much as all the arithmetic together, so voxels are left out by a factor of 0.
    """

    @staticmethod
    def forward(ctx, logits_N2: Tensor, labels_N: Tensor, table_22: Tensor, valid_N: Tensor | None) -> Tensor:
        kind = logits_N2.dtype
        sign_N = labels_N.to(torch.uint8).to(kind).mul_(-2).add_(1)  # 1 for background, -1 for the structure
        weight_N = None if valid_N is None else valid_N.bool().view(torch.uint8).to(kind)
        half, middle = (table_22[1, 0] - table_22[0, 1]) / 2, (table_22[1, 0] + table_22[0, 1]) / 2
        margin_N = (logits_N2[:, 1] - logits_N2[:, 0]).sub_(half).mul_(sign_N).add_(middle)
        slope_N = torch.sigmoid(margin_N)
        # softplus(m) = relu(m) - log(max(sigmoid(m), sigmoid(-m))); a logarithm is cheaper than PyTorch's softplus.
        loss_N = (slope_N - 0.5).abs_().add_(0.5).log_()
        loss_N = margin_N.relu_().sub_(loss_N)
        if weight_N is None:
            total, loss = loss_N.new_full((), loss_N.numel()), loss_N.sum()
            sum_of_slopes = slope_N.sum()
        else:
            total, loss = weight_N.sum().clamp(min=1), torch.dot(loss_N.flatten(), weight_N.flatten())
            sum_of_slopes = torch.dot(slope_N.flatten(), weight_N.flatten())
            slope_N.mul_(weight_N)
        slope_N.mul_(sign_N)
        difference = slope_N.sum()  # of background's slopes minus the structure's
        rows_2 = torch.stack([sum_of_slopes + difference, sum_of_slopes - difference]) / (2 * total)
        ctx.save_for_backward(slope_N, rows_2.diag().flip(1), total)
        ctx.layout = torch.empty_like(logits_N2, device="meta")
        return loss / total

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, ...]:
        slope_N, table_slope_22, total = ctx.saved_tensors
        slope_N2 = torch.empty_like(ctx.layout, device=slope_N.device)
        torch.mul(slope_N, slope / total, out=slope_N2[:, 1])
        torch.neg(slope_N2[:, 1], out=slope_N2[:, 0])
        return slope_N2, None, table_slope_22 * slope, None


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
        for root, weight in zip(_HERMITE_ROOTS[1:], _HERMITE_WEIGHTS[1:], strict=True):
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
    used: tuple[Tensor, Tensor, Tensor] | None = None,
) -> dict[str, Tensor]:
    """What to watch while training, a value per class (C,) or class pair (C, C). For every hundredth step or so.

    A condition number above 1e6 or a clamp count above 0 asks for attention; a table with [0, 1] far from [1, 0] moves
    the boundary of a two-class task.

    Args:
        weight_CA: As for ``pair_table``, like ``alpha``, ``shrinkage`` and ``clamp``.
        source: Moments of labeled voxels.
        target: Moments of unlabeled voxels.
        alpha: Strength of the augmentation.
        shrinkage: Of the covariance towards its diagonal.
        clamp: Largest entry of the table.
        used: Mean of the source (C, A), mean (C, A) and covariance (C, A, A) of the target that the table is made of, where a part of the moments is
            left out.
    """
    seen = source.seen & target.seen
    mean_source_CA, mean_target_CA, covariance_CAA = used or (source.mean, target.mean, target.covariance)
    inputs = (weight_CA, mean_source_CA, mean_target_CA, covariance_CAA, alpha, shrinkage)
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
