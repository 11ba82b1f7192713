"""The two stages that BCP, GraphCL and TransMedSeg share (BCP, Bai et al., CVPR 2023, sections 3.2 and 3.3).

Pretraining mixes labeled images with labeled images. Self-training mixes labeled with unlabeled ones, both ways; the unlabeled part is
labeled by the teacher, a moving average of the student:

    X_in  = frame of L_a + core of U_a        loss_in  = R(frame, Y_a)  + 0.5 R(core, Y'_a)       (equations 1, 7)
    X_out = frame of U_b + core of L_b        loss_out = 0.5 R(frame, Y'_b) + R(core, Y_b)        (equations 2, 8)

with R half of Dice plus cross-entropy on a region and Y' the teacher's labels, reduced to their largest component. The batch's samples
0, 2, 4, ... are the "a", samples 1, 3, 5, ... the "b".

Differences from the authors' code are options; the preset "faithful" sets all of them back.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batches import REFUSED, Batch
from ..errors import InputError
from ..losses.consistency import confidence
from ..losses.segmentation import dice_and_cross_entropy
from ..networks.output import NetworkOutput
from .base import Progress, Stage, Task
from .copy_paste import box_mask, copy_paste_loss, mix
from .pseudo_label import largest_component, pseudo_labels
from .teacher import Teacher

PRETRAIN, SELF_TRAIN = "pretrain", "self_train"


@dataclass(frozen=True)
class CopyPasteOptions:
    """Options of bidirectional copy-paste.

    Attributes:
        pretrain_share: Part of all iterations that pretrains. BCP: 2,000 of 17,000. Ours: with strong augmentation the labels alone go on teaching for
            thousands of steps, and pseudo-labels of an unsettled network cost Dice (docs/decisions.md, negative results).
        pretrain_mixing: Probability that a pretraining batch is mixed. BCP: 1. Ours: mixtures cost Dice, see docs/decisions.md, negative results.
        pretrain_both: Pretraining takes both mixtures of each pair of images. BCP: one, the frame of the first and the core of the second. Ours: no
            label is wasted.
        pretrain_dice: What the Dice of pretraining is the mean of: "structures" (ours, as in supervised training), or "classes", background included (BCP).
        mixing: Probability that a self-training batch is mixed; otherwise labeled and unlabeled images stay whole. BCP: 1; BCP's preset "plus": 0.25.
            Ours: with instance normalization a network that sees mixtures meets other statistics at inference, and whole images show where an
            organ lies.
        box_fraction: Side of the core relative to the patch. BCP: 2/3.
        pseudo_weight: Weight of the regions under pseudo-labels. BCP: 0.5. Ours: 1.
        decay: Of the teacher's moving average. BCP: 0.99.
        average_buffers: The teacher follows the buffers of batch normalization. BCP on LA: no.
        teacher_training_mode: The teacher keeps dropout and batch statistics. BCP: yes.
        teacher_flips: The teacher's probabilities are averaged over this many mirror images (1 or 2). BCP: 1.
        deploy: "teacher" (ours) or "student" (BCP).
        perturb: Change the intensity of the student's images; the teacher sees them unchanged. BCP: no.
        threshold: Foreground probability from which a voxel is foreground, two classes only. BCP: 0.5.
        connectivity: Neighbors that make a component: 26 (BCP on LA), 18 (Pancreas), 6 or "slices" (ACDC).
        keep_share: Components of at least this share of the largest are kept as well. BCP: 1, the largest alone.
        confidence_weighting: Weigh pseudo-labeled voxels by 1 - entropy / log C. BCP: no.
        labels_from: "cases" (ours): all unlabeled cases are labeled whole by overlapping windows, ``rounds`` times. "patches": the teacher labels
            each patch in its step (BCP).
        rounds: How often self-training labels the unlabeled cases anew, for ``labels_from`` "cases". Ours: 2.
        match_volume: With labels of whole cases and two classes: the threshold of each round is chosen so that the pseudo-labels have, on average, the
            volume of the labeled structures (``training/volume_match.py``). Ours: off; a few labeled cases tell the mean poorly.
        dice_form: "la" (also Pancreas), "acdc", or "present": structures missing in both do not count. BCP: by data set.
    """

    pretrain_share: float = 0.8
    pretrain_mixing: float = 0.0
    pretrain_both: bool = True
    pretrain_dice: str = "structures"
    mixing: float = 0.0
    box_fraction: float = 2 / 3
    pseudo_weight: float = 1.0
    decay: float = 0.99
    average_buffers: bool = True
    teacher_training_mode: bool = False
    teacher_flips: int = 1
    deploy: str = "teacher"
    perturb: bool = True
    threshold: float = 0.5
    connectivity: int | str = 26
    keep_share: float = 1.0
    confidence_weighting: bool = False
    labels_from: str = "cases"
    rounds: int = 2
    match_volume: bool = False
    dice_form: str = "la"

    def __post_init__(self) -> None:
        if self.labels_from not in ("cases", "patches"):
            raise ValueError(f"labels_from must be one of ('cases', 'patches'); got {self.labels_from!r}")
        if self.pretrain_dice not in ("structures", "classes"):
            raise ValueError(f"pretrain_dice must be one of ('structures', 'classes'); got {self.pretrain_dice!r}")
        if self.rounds < 1:
            raise ValueError(f"rounds is 1 or more; got {self.rounds}")
        if self.labels_from == "cases" and self.confidence_weighting:
            raise ValueError("confidence_weighting needs labels_from 'patches': the labels of whole cases carry no confidence")


FAITHFUL = {
    "pretrain_share": 2 / 17,
    "pretrain_mixing": 1.0,
    "pretrain_both": False,
    "pretrain_dice": "classes",
    "mixing": 1.0,
    "pseudo_weight": 0.5,
    "average_buffers": False,
    "teacher_training_mode": True,
    "deploy": "student",
    "perturb": False,
    "labels_from": "patches",
}
"""What BCP's code for LA does, where it differs from the defaults."""


_SELF_TRAINING_ALONE = frozenset(
    ("mixing", "pseudo_weight", "teacher_flips", "threshold", "connectivity", "keep_share", "confidence_weighting", "labels_from", "rounds", "match_volume")
)


@dataclass
class SelfTrainingStep:
    """What one self-training step computed, for methods that add terms.

    Attributes:
        terms: ``"in"`` and ``"out"``.
        output: The student's output for [X_in; X_out], batch first.
        labels: (batch, *space) mixed labels.
        is_truth: (batch, *space) bool, True where the label was drawn by a person.
        is_pseudo: (batch, *space) bool, True where it is a pseudo-label that the component filter left alone; with labels of whole cases, which keep no
            note of what the filter removed, every pseudo-label that was not refused.
        teacher: The teacher's output for the unlabeled images; None where whole cases were labeled and nothing needs it.
        pseudo: (unlabeled, *space) pseudo-labels.
        untouched: (unlabeled, *space) bool, False where the component filter removed foreground of a patch, or the case's labels were refused.
        num_with_truth: The first so many samples hold labels drawn by a person; the others hold none.
    """

    terms: dict[str, Tensor]
    output: NetworkOutput
    labels: Tensor
    is_truth: Tensor
    is_pseudo: Tensor
    teacher: NetworkOutput | None
    pseudo: Tensor
    untouched: Tensor
    num_with_truth: int


class CopyPasteTraining(nn.Module):
    """Student, teacher and the arithmetic of both stages. A part of a method, not a method.

    Args:
        task: What is learned.
        options: See ``CopyPasteOptions``.
        needs_teacher: Every self-training step has the teacher's output, also where the labels come from whole cases.
        **network_changes: Options of the network that the method insists on.
    """

    def __init__(self, task: Task, options: CopyPasteOptions, needs_teacher: bool = False, **network_changes: object) -> None:
        super().__init__()
        self.options = options
        self.num_classes = task.num_classes
        self.student = task.make_network(**network_changes)
        self._needs_teacher = needs_teacher
        self.teacher = Teacher(self.student, options.decay, options.average_buffers, options.teacher_training_mode)
        self.register_buffer("pseudo_share", torch.zeros(()))
        self.register_buffer("pseudo_entropy", torch.zeros(()))

    @property
    def stages(self) -> tuple[Stage, ...]:
        return Stage(PRETRAIN, self.options.pretrain_share), Stage(SELF_TRAIN, 1 - self.options.pretrain_share)

    def pretraining_options(self) -> dict[str, Any]:
        """The options of copy-paste that pretraining depends on."""
        return {entry.name: getattr(self.options, entry.name) for entry in fields(CopyPasteOptions) if entry.name not in _SELF_TRAINING_ALONE}

    @property
    def deployed(self) -> nn.Module:
        return self.teacher.network if self.options.deploy == "teacher" else self.student

    def start_stage(self, stage: str) -> None:
        """The teacher starts self-training as a copy of the pretrained student; with a warm average it stays what it is."""
        if stage == SELF_TRAIN and self.options.deploy == "student":
            self.teacher.copy_from(self.student)

    @property
    def case_labeling(self) -> tuple[str, int]:
        return (SELF_TRAIN, self.options.rounds) if self.options.labels_from == "cases" else ("", 0)

    @property
    def matches_volume(self) -> bool:
        return self.options.match_volume and self.num_classes == 2

    def label_case(self, maps: Tensor, threshold: float | None = None) -> Tensor:
        """The labels of one case from probabilities (map, slice, row, column), reduced to their largest components."""
        threshold = self.options.threshold if threshold is None else threshold
        labels = (maps[0] >= threshold).long() if len(maps) == 1 else maps.argmax(0)
        return largest_component(labels[None], self.num_classes, self.options.connectivity, self.options.keep_share)[0]

    def after_step(self, progress: Progress) -> None:
        # In BCP the teacher exists from the second stage on. A teacher that is deployed averages from the first step.
        if progress.stage == SELF_TRAIN or self.options.deploy == "teacher":
            self.teacher.update(self.student, progress.iteration)

    def pretrain(self, batch: Batch) -> dict[str, Tensor]:
        """Labeled images mixed with labeled images."""
        images = batch.perturb_labeled() if self.options.perturb else batch.labeled
        labels = batch.labels
        generator = torch.Generator().manual_seed(batch.seed)
        if float(torch.rand((), generator=generator)) < self.options.pretrain_mixing:
            frame = self._frame(images, generator)
            partner = torch.arange(len(images), device=images.device) ^ 1  # 0 with 1, 2 with 3, ...
            images, labels = mix(images, images[partner], frame), mix(labels, labels[partner], frame)
            if not self.options.pretrain_both:
                images, labels = images[0::2], labels[0::2]
        logits = self.student(images).logits
        if self.options.pretrain_dice == "structures":
            return {"supervised": dice_and_cross_entropy(logits, labels)}
        everywhere = torch.ones(images.shape[2:], dtype=torch.bool, device=images.device)
        return {"supervised": copy_paste_loss(logits, labels, everywhere, 1.0, 0.0, form=self.options.dice_form)}

    def self_train(self, batch: Batch) -> SelfTrainingStep:
        """Labeled and unlabeled images, mixed both ways or each by itself."""
        generator = torch.Generator().manual_seed(batch.seed)
        if float(torch.rand((), generator=generator)) < self.options.mixing:
            return self._train_mixed(batch, generator)
        return self._train_apart(batch)

    def _train_mixed(self, batch: Batch, generator: torch.Generator) -> SelfTrainingStep:
        options = self.options
        if len(batch.labeled) != len(batch.unlabeled):
            raise InputError(
                f"Copy-paste mixes each labeled patch with an unlabeled one; a step has {len(batch.labeled)} and {len(batch.unlabeled)} of them.",
                hint="Give batch_labeled and batch_unlabeled the same value.",
            )
        teacher, pseudo, untouched, trust = self._label(batch)
        labeled = batch.perturb_labeled() if options.perturb else batch.labeled
        unlabeled = batch.perturb_unlabeled() if options.perturb else batch.unlabeled
        frame = self._frame(labeled, generator)
        (l_a, l_b), (u_a, u_b) = _pairs(labeled), _pairs(unlabeled)
        (y_a, y_b), (p_a, p_b) = _pairs(batch.labels), _pairs(pseudo)
        (t_a, t_b), (k_a, k_b) = _pairs(trust), _pairs(untouched)
        labels_in, labels_out = mix(y_a, p_a, frame), mix(p_b, y_b, frame)
        output = self.student(torch.cat([mix(l_a, u_a, frame), mix(u_b, l_b, frame)]))
        count = len(labels_in)
        ones, none = torch.ones_like(t_a), torch.zeros_like(k_a)
        terms = {
            "in": copy_paste_loss(
                output.logits[:count], labels_in, frame, 1.0, options.pseudo_weight,
                form=options.dice_form, weight_BX=mix(ones, t_a, frame),
            ),
            "out": copy_paste_loss(
                output.logits[count:], labels_out, frame, options.pseudo_weight, 1.0,
                form=options.dice_form, weight_BX=mix(t_b, ones, frame),
            ),
        }  # fmt: skip
        is_truth = torch.cat([mix(~none, none, frame), mix(none, ~none, frame)])
        is_pseudo = torch.cat([mix(none, k_a, frame), mix(k_b, none, frame)])
        labels = torch.cat([labels_in, labels_out])
        return SelfTrainingStep(terms, output, labels, is_truth, is_pseudo, teacher, pseudo, untouched, len(labels))

    def _train_apart(self, batch: Batch) -> SelfTrainingStep:
        """One half of each stream, so that a step costs the student what a mixed one costs: L_a by its labels, U_b by the teacher's."""
        options = self.options
        batch = batch.part(slice(0, None, 2), slice(1, None, 2))
        teacher, pseudo, untouched, trust = self._label(batch)
        labeled = batch.perturb_labeled() if options.perturb else batch.labeled
        unlabeled = batch.perturb_unlabeled() if options.perturb else batch.unlabeled
        truth = batch.labels
        output = self.student(torch.cat([labeled, unlabeled]))
        count, everywhere = len(truth), torch.ones(labeled.shape[2:], dtype=torch.bool, device=labeled.device)
        terms = {
            "in": copy_paste_loss(output.logits[:count], truth, everywhere, 1.0, 0.0, form=options.dice_form),
            "out": copy_paste_loss(
                output.logits[count:], pseudo, everywhere, options.pseudo_weight, 0.0, form=options.dice_form, weight_BX=trust
            ),
        }
        none = torch.zeros_like(truth, dtype=torch.bool)
        is_truth = torch.cat([~none, torch.zeros_like(untouched)])
        is_pseudo = torch.cat([none, untouched])
        return SelfTrainingStep(terms, output, torch.cat([truth, pseudo]), is_truth, is_pseudo, teacher, pseudo, untouched, count)

    def _label(self, batch: Batch) -> tuple[NetworkOutput | None, Tensor, Tensor, Tensor]:
        """The teacher's output, its labels, where the component filter left them alone, and the weight of each voxel."""
        options = self.options
        images, pseudo = batch.unlabeled, batch.unlabeled_labels
        if pseudo is not None:
            kept = pseudo != REFUSED
            pseudo = pseudo.masked_fill(~kept, 0)
            self.pseudo_share.copy_((pseudo > 0).float().mean())
            return self.teacher(images) if self._needs_teacher else None, pseudo, kept, kept.float()
        teacher = self._teach(images)
        pseudo, untouched = pseudo_labels(
            teacher.logits, threshold=options.threshold, connectivity=options.connectivity, keep_share=options.keep_share
        )
        trust = confidence(teacher.logits) if options.confidence_weighting else torch.ones_like(pseudo, dtype=torch.float32)
        self._watch(teacher, pseudo)
        return teacher, pseudo, untouched, trust

    def _teach(self, images: Tensor) -> NetworkOutput:
        output = self.teacher(images)
        if self.options.teacher_flips < 2:
            return output
        mirrored = self.teacher(images.flip(-1)).logits.flip(-1)
        mean = (output.logits.softmax(1) + mirrored.softmax(1)) / 2
        return NetworkOutput(mean.clamp_min(1e-6).log(), output.features)

    def _frame(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return box_mask(tuple(images.shape[2:]), generator, images.device, self.options.box_fraction)

    @torch.no_grad()
    def _watch(self, teacher: NetworkOutput, pseudo: Tensor) -> None:
        self.pseudo_share.copy_((pseudo > 0).float().mean())
        self.pseudo_entropy.copy_(1 - confidence(teacher.logits).mean())

    def diagnostics(self) -> dict[str, float]:
        """Foreground share and mean normalized entropy of the last pseudo-labels; labels of whole cases are reported when they are made."""
        if self.options.labels_from == "cases":
            return {}
        return {"pseudo_label_share": float(self.pseudo_share), "pseudo_label_entropy": float(self.pseudo_entropy)}


def _pairs(values: Tensor) -> tuple[Tensor, Tensor]:
    return values[0::2], values[1::2]
