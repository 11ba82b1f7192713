"""Transferable semantic augmentation as a part of a method: its options, its running statistics, its term in the loss.

The arithmetic and its sources are in ``losses/tsa.py``, the readings taken where the papers are silent in docs/decisions.md. ``transmedseg`` is GraphCL
with this term. Other methods carry it switched off; their option ``tsa_weight``, or the job's ``tsa``, switches it on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..losses.tsa import ClassMoments, head_weight, pair_table, pair_terms, tsa_diagnostics, tsa_loss, tsa_loss_exact
from .base import Progress
from .copy_paste_training import SelfTrainingStep

DEFAULT_WEIGHT = 0.4
"""Of the TSA loss, beta in TransMedSeg: the best of 0.1 to 1.0."""

FAITHFUL_TSA = {"statistics": "teacher", "statistics_every": 1, "momentum": 0.99}
"""What the paper says where it differs from the defaults; no effect where the weight is 0."""


@dataclass(frozen=True)
class TSAOptions:
    """Options of transferable semantic augmentation.

    Attributes:
        tsa_weight: Of the TSA loss, beta. TransMedSeg: 0.4, best of 0.1 to 1.0.
        alpha: Strength of the augmentation at the end of the linear ramp. TSA: 0.25.
        warmup: Part of self-training that only collects statistics. Ours: 200 of 15,000 iterations.
        statistics: "same_net": both moments from the student's own forward pass on the mixtures (ours). "teacher": the unlabeled moments from the
            teacher on the unmixed images (the paper).
        statistics_every: Steps between two updates of the moments; features move slowly. Ours: 4; 1 takes every step.
        momentum: Share of the old moments kept in an update. Ours: 0.96 every fourth step, the same horizon of about 100 steps as 0.99 in every step.
        shift: Use the mean shift. TransMedSeg: yes; without it the loss is ISDA's.
        covariance: "full", "diagonal" or "none". TransMedSeg: full.
        sign: 1 shifts towards the unlabeled features; -1 away from them, an ablation. TSA: 1; TransMedSeg's text has both.
        form: "bound": the closed form (TSA). "exact": the expectation itself, two classes only. "margin": constant margins instead of statistics, an
            ablation for two classes.
            "plain": cross-entropy on the labeled voxels without augmentation, the control. All but the first are ours.
        margins: For form "margin": the two entries M[0, 1] and M[1, 0], differences of logits. Ours.
        confident: Unlabeled voxels enter the statistics where the most probable class has at least this probability; 0 takes all (the papers).
    """

    tsa_weight: float = DEFAULT_WEIGHT
    alpha: float = 0.25
    warmup: float = 200 / 15000
    statistics: str = "same_net"
    statistics_every: int = 4
    momentum: float = 0.96
    shift: bool = True
    covariance: str = "full"
    sign: int = 1
    form: str = "bound"
    margins: tuple[float, float] = (0.0, 0.0)
    confident: float = 0.0

    def __post_init__(self) -> None:
        rest = getattr(super(), "__post_init__", None)  # of the options that these are mixed with
        if rest is not None:
            rest()
        allowed = {
            "statistics": ("same_net", "teacher"),
            "covariance": ("full", "diagonal", "none"),
            "sign": (1, -1),
            "form": ("bound", "exact", "margin", "plain"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} must be one of {values}; got {getattr(self, name)!r}")
        if self.statistics_every < 1 or self.tsa_weight < 0:
            raise ValueError(f"statistics_every must be at least 1 and tsa_weight not negative; got {self.statistics_every} and {self.tsa_weight}")


@dataclass(frozen=True)
class PluggedTSAOptions(TSAOptions):
    """TSA on top of another method, off by default.

    Attributes:
        tsa_weight: Of the TSA loss; 0 leaves the method as it is. TransMedSeg: 0.4 on top of GraphCL.
    """

    tsa_weight: float = 0.0


class TSATerm(nn.Module):
    """The TSA loss with its running statistics. A part of a method, or of another method (see docs/add-a-method.md).

    Args:
        num_classes: Classes including the background.
        num_features: Channels of the classifier's input.
        options: See ``TSAOptions``.

    Raises:
        InputError: The form is for two classes and there are more.
    """

    def __init__(self, num_classes: int, num_features: int, options: TSAOptions) -> None:
        super().__init__()
        if options.form in ("exact", "margin") and num_classes != 2:
            raise InputError(
                f"TSA's form {options.form!r} is for two classes (one structure); here are {num_classes}.", hint="Use the form 'bound'."
            )
        self.options = options
        self.source = ClassMoments(num_classes, num_features, options.momentum)
        self.target = ClassMoments(num_classes, num_features, options.momentum)
        self._last: tuple[Tensor, float] | None = None

    def forward(
        self, head: nn.Module, logits: Tensor, features: Tensor, labels: Tensor, is_truth: Tensor,
        target: tuple[Tensor, Tensor, Tensor], progress: Progress,
    ) -> Tensor:  # fmt: skip
        """The weighted loss of one step; updates the statistics in every ``statistics_every``-th.

        Args:
            head: The student's classifier.
            logits: (batch, class, *space) of the student.
            features: (batch, feature, *space), the classifier's input.
            labels: (batch, *space) int64.
            is_truth: (batch, *space) bool, the voxels with ground truth.
            target: Features, labels and validity of unlabeled voxels, same layout.
            progress: Where the stage is that uses the term.
        """
        options = self.options
        if options.form == "plain":
            table = logits.new_zeros(logits.shape[1], logits.shape[1])
            return options.tsa_weight * tsa_loss(logits, labels, table, is_truth)
        if options.form == "margin":
            background, structure = (logits.new_full((), margin) for margin in options.margins)  # a list would be sent, and waited for
            table = torch.stack([background, structure]).diag().flip(1)
            return options.tsa_weight * tsa_loss(logits, labels, table, is_truth)
        if progress.iteration % options.statistics_every == 0:
            self.source.update(features, labels, is_truth)
            self.target.update(*target)
        alpha = 0.0 if progress.fraction < options.warmup else options.alpha * progress.fraction
        weight = head_weight(head)
        self._last = weight.detach(), alpha
        mean_source, mean_target, covariance, shrinkage = self._statistics()
        if options.form == "exact":
            mean, variance = pair_terms(weight, mean_source, mean_target, covariance, alpha, shrinkage)
            seen = (self.source.seen & self.target.seen)[:, None]
            mean, variance = torch.where(seen, mean, 0), torch.where(seen, variance, 0)
            return options.tsa_weight * tsa_loss_exact(logits, labels, mean, variance, is_truth)
        seen = self.source.seen & self.target.seen
        table = pair_table(weight, mean_source, mean_target, covariance, alpha, shrinkage, seen=seen)
        return options.tsa_weight * tsa_loss(logits, labels, table, is_truth)

    def on_mixtures(self, student: nn.Module, step: SelfTrainingStep, progress: Progress) -> Tensor:
        """The weighted loss of a copy-paste step."""
        if self.options.statistics == "teacher":
            output, labels, valid = step.teacher, step.pseudo, step.untouched
        else:
            output, labels, valid = step.output, step.labels, step.is_pseudo
        target = output.features["head_input"], labels, self.trusted(output.logits, valid)
        drawn = slice(step.num_with_truth)  # the others would pass through the loss with weight 0
        logits, features = step.output.logits[drawn], step.output.features["head_input"][drawn]
        return self(student.head, logits, features, step.labels[drawn], step.is_truth[drawn], target, progress)

    def trusted(self, logits: Tensor, valid: Tensor) -> Tensor:
        """(batch, *space) bool, the unlabeled voxels that enter the statistics."""
        if self.options.confident <= 0:
            return valid
        return valid & (logits.detach().softmax(1).amax(1) >= self.options.confident)

    def _statistics(self) -> tuple[Tensor, Tensor, Tensor, float]:
        options = self.options
        mean_source, mean_target = self.source.mean, self.target.mean
        if not options.shift:
            mean_source = mean_target
        elif options.sign < 0:
            mean_source, mean_target = mean_target, mean_source
        covariance = self.target.covariance
        if options.covariance == "none":
            covariance = torch.zeros_like(covariance)
        return mean_source, mean_target, covariance, 1.0 if options.covariance == "diagonal" else 0.1

    def diagnostics(self) -> dict[str, float]:
        """The numbers of ``tsa_diagnostics``, flat: one entry a class or class pair."""
        if self._last is None:
            return {}
        weight, alpha = self._last
        *used, shrinkage = self._statistics()
        values = tsa_diagnostics(weight, self.source, self.target, alpha, shrinkage, used=tuple(used))
        flat: dict[str, float] = {"tsa_alpha": alpha}
        for name, value in values.items():
            if value.ndim == 0:
                flat[f"tsa_{name}"] = float(value)
            elif value.ndim == 1:
                flat.update({f"tsa_{name}_{index}": float(entry) for index, entry in enumerate(value)})
            else:
                count = len(value)
                pairs = [(y, c) for y in range(count) for c in range(count) if y != c]
                if count <= 4:  # a table of 14 classes is no curve
                    flat.update({f"tsa_{name}_{y}_{c}": float(value[y, c]) for y, c in pairs})
        return flat


def plugged_tsa(student: nn.Module, num_classes: int, options: TSAOptions) -> TSATerm | None:
    """The term for a student whose ``head`` is its classifier; None where its weight is 0."""
    return TSATerm(num_classes, student.head.in_channels, options) if options.tsa_weight > 0 else None
