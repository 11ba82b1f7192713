"""MICD: masked image consistency and discrepancy (Zhou, Zhang, Li, arXiv 2503.14013, 2025).

Two students A and B with two moving-average teachers A' and B'. Students see images x^m in which blocks are hidden,
teachers the whole images:

    loss        = supervised + b(t) (cross + feature + discrepancy),  b(t) = b exp(-5 (1 - t)^2)       (equation 7)
    supervised  = sup(A(x_l), y) + sup(B(x_l), y), on whole labeled images                              (equation 6)
    cross       = CE(A(x^m), labels of B(x^m)) + CE(B(x^m), labels of A(x^m))                           (equation 3)
    feature     = sum over decoder levels k of 0.2 k KL(A_k(x^m), B_k(x^m))                             (equation 4)
    discrepancy = CE(A(x^m), labels of A'(x)) + CE(B(x^m), labels of B'(x))                             (equation 5)

Neither the paper's full text nor its code is public; equations are from reviews and from a re-implementation that
numbers them. "Heterogeneous" there means DHC's two class-weight rules on equal networks. With two classes those rules
leave the background unsupervised, so there the second network is of another kind instead: a residual V-Net beside the
V-Net.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batches import Batch
from ..data.randomness import device_generator
from ..errors import InputError
from ..losses.class_weights import DifficultyWeights, RarityWeights, weighted_dice_and_cross_entropy
from ..losses.consistency import gaussian_rampup
from ..losses.cross_pseudo import cross_feature_loss, cross_pseudo_loss, weighted_cross_entropy
from ..losses.masking import block_mask
from ..losses.most_probable import most_probable
from ..losses.segmentation import dice_and_cross_entropy
from ..networks import NETWORKS, build_network
from ..networks.initialization import initialize
from ..networks.monai_network import PREFIX
from ..networks.output import NetworkOutput
from ..networks.two_networks import TwoNetworks, pair_by_name
from .base import AbstractMethod, Progress, Task, total_of
from .presets import FAITHFUL_LA, PLUS
from .teacher import Teacher


class MICD(AbstractMethod):
    """Two different networks that agree on masked images, each kept near its own past."""

    @dataclass(frozen=True)
    class Options:
        """Options of MICD. "Re-implementation" is the only code that exists, by a third party.

        Attributes:
            weight: b, of the three unlabeled terms at the end of the ramp. DHC: 0.1; the re-implementation: 1.
            ramp_share: Part of the training over which b rises. DHC: 1; the re-implementation: 50 of 300 epochs.
            mask_ratio: Share of hidden blocks. MICD: 0.5.
            mask_block: Side of a hidden block in voxels. Re-implementation: 3, which a smoothing filter nearly
                undoes; ours: 8.
            cross_labels: The labels that the students give each other are of the "masked" images (MICD, equation 3) or of
                the "clean" ones (re-implementation).
            feature_level_weight: Weight of the coarsest decoder level; level k counts k times as much. MICD: 0.2.
            feature_levels: Decoder levels that shall agree, counted from the coarsest. Dropping the finest saves most
                of the term's memory. MICD does not say; ours.
            discrepancy_labeled: The discrepancy is over labeled images too (MICD, equation 5); the re-implementation leaves
                them out.
            second_network: A name of the networks, "same", or "auto": "resvnet" beside a "vnet" for two classes
                (MICD), otherwise the same (DHC).
            class_weights: "none", "dhc", or "auto": DHC's for more than two classes.
            starts: Starting weights of both networks: "default" (ours) or "kaiming" (DHC).
            decay: Of the teachers' moving averages. MICD: 0.99.
            perturb: Change the intensity of the students' images. Ours.
            deploy: "first" network alone, "both" (the mean of their logits, as DHC), or "auto": both for more than
                two classes.
            deploy_average: Deploy the teachers instead of the students. Ours, as in our defaults of the other methods.
        """

        weight: float = 0.1
        ramp_share: float = 1.0
        mask_ratio: float = 0.5
        mask_block: int = 8
        cross_labels: str = "masked"
        feature_level_weight: float = 0.2
        feature_levels: int = 4
        discrepancy_labeled: bool = True
        second_network: str = "auto"
        class_weights: str = "auto"
        starts: str = "default"
        decay: float = 0.99
        perturb: bool = True
        deploy: str = "auto"
        deploy_average: bool = True

        def __post_init__(self) -> None:
            allowed = {
                "cross_labels": ("masked", "clean"),
                "class_weights": ("auto", "none", "dhc"),
                "starts": ("default", "kaiming"),
                "deploy": ("auto", "first", "both"),
            }
            for name, values in allowed.items():
                if getattr(self, name) not in values:
                    raise ValueError(f"{name} must be one of {values}; got {getattr(self, name)!r}")
            if (
                not 0 <= self.mask_ratio <= 1
                or self.mask_block < 1
                or not 0 < self.ramp_share <= 1
                or self.feature_levels < 0
            ):
                raise ValueError(
                    "mask_ratio is 0 to 1, mask_block at least 1, ramp_share above 0 up to 1 and feature_levels not "
                    f"negative; got {self}"
                )

    presets = {
        "plus": PLUS,
        "paper-by-proxy": replace(PLUS, method={"mask_block": 3}),
        "faithful": replace(
            FAITHFUL_LA,
            method={
                "weight": 1.0,
                "ramp_share": 1 / 6,
                "mask_block": 3,
                "second_network": "same",
                "starts": "kaiming",
                "perturb": False,
                "deploy_average": False,
            },
            training={**FAITHFUL_LA.training, "schedule": "poly", "gradient_clip": 3.0},
        ),
    }

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        _check_task(task, options)
        self.options = options
        self._first_by_name = (task.network, dict(task.network_options))
        self._second_by_name = _second_network(task, options.second_network)
        first = task.make_network()  # before the second: for one seed every method starts from the same weights
        second = build_network(self._second_by_name[0], task.in_channels, task.num_classes, self._second_by_name[1])
        self.students = TwoNetworks(initialize(first, options.starts), initialize(second, options.starts), "logits")
        self.teachers = Teacher(self.students, options.decay)
        is_weighted = options.class_weights == "dhc" or (options.class_weights == "auto" and task.num_classes > 2)
        self.difficulty = DifficultyWeights(task.num_classes) if is_weighted else None
        self.rarity = RarityWeights(task.num_classes) if is_weighted else None
        self._deploys_both = options.deploy == "both" or (options.deploy == "auto" and task.num_classes > 2)
        self.register_buffer("disagreement", torch.zeros(()))

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        labeled = batch.perturb_labeled() if self.options.perturb else batch.labeled
        clean = self.students.first(labeled).logits, self.students.second(labeled).logits
        if batch.unlabeled is None:
            return total_of(self._supervised(clean, batch.labels))
        images = torch.cat([labeled, batch.perturb_unlabeled() if self.options.perturb else batch.unlabeled])
        generator = device_generator(images.device, batch.seed)
        hidden = images * block_mask(images, self.options.mask_ratio, self.options.mask_block, generator, *batch.places)
        masked = self.students.first(hidden), self.students.second(hidden)
        count = len(labeled)
        self._watch(masked, clean, batch.labels)
        weight = self.options.weight * gaussian_rampup(progress.overall / self.options.ramp_share)
        return total_of(
            {
                **self._supervised(clean, batch.labels),
                "cross": weight * self._cross(masked, images),
                "feature": weight * self._feature(masked),
                "discrepancy": weight * self._discrepancy(masked, torch.cat([batch.labeled, batch.unlabeled]), count),
            }
        )

    def _supervised(self, clean: tuple[Tensor, Tensor], labels: Tensor) -> dict[str, Tensor]:
        weights = self._class_weights()
        losses = [
            dice_and_cross_entropy(logits, labels)
            if weight is None
            else weighted_dice_and_cross_entropy(logits, labels, weight)
            for logits, weight in zip(clean, weights)
        ]
        return {"supervised_first": losses[0], "supervised_second": losses[1]}

    def _cross(self, masked: tuple[NetworkOutput, NetworkOutput], images: Tensor) -> Tensor:
        labels: tuple[Tensor | None, Tensor | None] = None, None
        if self.options.cross_labels == "clean":
            with torch.no_grad():
                labels = most_probable(self.students.first(images).logits), most_probable(self.students.second(images).logits)
        return cross_pseudo_loss(masked[0].logits, masked[1].logits, *labels, *self._class_weights())

    def _feature(self, masked: tuple[NetworkOutput, NetworkOutput]) -> Tensor:
        names = [name for name in masked[0].features if name.startswith("decoder_")][: self.options.feature_levels]
        first, second = ([output.features[name] for name in names] for output in masked)
        if not names:
            return masked[0].logits.new_zeros(())
        return cross_feature_loss(first, second, self.options.feature_level_weight)

    def _discrepancy(self, masked: tuple[NetworkOutput, NetworkOutput], images: Tensor, count: int) -> Tensor:
        start = 0 if self.options.discrepancy_labeled else count
        teachers = self.teachers.network
        with torch.no_grad():
            labels = [most_probable(teacher(images[start:]).logits) for teacher in (teachers.first, teachers.second)]
        first, second = (
            weighted_cross_entropy(output.logits[start:], label, weight)
            for output, label, weight in zip(masked, labels, self._class_weights())
        )
        return first + second

    def _class_weights(self) -> tuple[Tensor | None, Tensor | None]:
        if self.difficulty is None or self.rarity is None:
            return None, None
        # Copies: the next step changes the buffers in place, and a backward may still be waiting for these values.
        return self.difficulty.weight.clone(), self.rarity.weight.clone()

    @torch.no_grad()
    def _watch(self, masked: tuple[NetworkOutput, NetworkOutput], clean: tuple[Tensor, Tensor], labels: Tensor) -> None:
        """Moves the class weights and the diagnostics; before the losses, so that a step uses its own weights."""
        first, second = (most_probable(output.logits[len(labels) :]) for output in masked)
        self.disagreement.copy_((first != second).float().mean())
        if self.difficulty is not None and self.rarity is not None:
            self.difficulty.update(most_probable(clean[0]), labels)
            self.rarity.update(second, labels)

    def after_step(self, progress: Progress) -> None:
        self.teachers.update(self.students, progress.iteration)

    def diagnostics(self) -> dict[str, float]:
        """Share of unlabeled voxels that the students label differently; 0 early on: two networks are one."""
        values = {"disagreement": float(self.disagreement)}
        for name, part in (("difficulty", self.difficulty), ("rarity", self.rarity)):
            if part is not None:
                values.update({f"{name}_weight_{index}": float(weight) for index, weight in enumerate(part.weight)})
        return values

    @property
    def deployed(self) -> nn.Module:
        networks = self.teachers.network if self.options.deploy_average else self.students
        return networks if self._deploys_both else networks.first

    @property
    def deployed_network(self) -> tuple[str, dict[str, Any]] | None:
        if not self._deploys_both:
            return None
        return pair_by_name(self._first_by_name, self._second_by_name, "logits", self.students.spatial_dims)


def _check_task(task: Task, options: MICD.Options) -> None:
    if options.class_weights == "dhc" and task.num_classes == 2:
        raise InputError(
            "DHC's class weights are for several structures; with one they give the background the weight 0.", hint='Set class_weights to "auto" or "none".'
        )
    if options.feature_levels > 0 and task.network.startswith(PREFIX):
        raise InputError(
            f"MICD compares maps of the decoder, and {task.network} shows none: MONAI's networks return logits alone.",
            hint="Set feature_levels to 0 to train without that term, or take a network of this package.",
        )


def _second_network(task: Task, wanted: str) -> tuple[str, dict[str, Any]]:
    """Name and options of B. Another kind takes over those of the task's options that say how large maps are."""
    if wanted == "auto":
        wanted = "resvnet" if task.network == "vnet" and task.num_classes == 2 else "same"
    if wanted in ("same", task.network):
        return task.network, dict(task.network_options)
    known = {entry.name for entry in fields(NETWORKS[wanted].options)} if wanted in NETWORKS else set()
    shared = {"width", "depth", "dropout", "coarse_stem"} & known
    return wanted, {name: value for name, value in task.network_options.items() if name in shared}
