"""SemiGDA: from the latent of an image to the latent of its mask (Huang, Zhou, Zhang, Li, Zhou, CVPR 2026).

Experimental. Three stages:

    ae       loss = |D(E(i)) - i|^2 + |D(E(m)) - m|^2 + 1e-6 KL(E || N(0, 1))
    align    loss = |M(E(x_l)) - E(m)|^2 + |R(x_l) - E(m)|^2 + b(t) |M(E(x_u)) - R(x_u)|^2
    segment  loss = align's + Dice(p, y) + Dice(q, y) + b(t) [Dice(p_u, q_u) + Dice(q_u, p_u)]

with images i, masks m of -1 and 1, and the two predictions p = D(M(E(x)), skips of E) and q = D(R(x), skips of R).

E and D are frozen after the first stage; the segment stage adds adapters that bring skips into D. The weight is
b(t) = 0.1 exp(-5 (1 - t)^2) over each stage. In the last term each branch learns from the other without gradient: the
Dice of two soft masks is symmetric, so without that both terms would be one.

The published method is 2-D, for two classes, and starts from the autoencoder of Stable Diffusion. Training a small
autoencoder first, three dimensions and several classes are ours. How well a mask survives the autoencoder is a
ceiling for the result: below a Dice of 0.99 the run says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.batches import Batch
from ..data.randomness import device_generator
from ..losses.consistency import gaussian_rampup
from ..losses.latent import (
    LatentScale,
    certain_from,
    decode_labels,
    draw_latent,
    encode_labels,
    gaussian_kl,
    hard_dice,
    soft_dice_loss,
    structures_of,
)
from ..networks import build_network
from .base import AbstractMethod, Preset, Progress, Stage, Task, total_of
from .copy_paste import box_mask, mix
from .presets import PLUS
from .pseudo_label import pseudo_labels
from .teacher import Teacher

AUTOENCODE, ALIGN, SEGMENT = "ae", "align", "segment"
GATE = 0.99
"""Smallest Dice of masks that went through the autoencoder."""
_GATE_EVERY = 8  # steps; it costs one pass of the decoder


class _Branches(NamedTuple):
    """Both ways: standardized latents, and logits once there are adapters."""

    mapped: Tensor
    direct: Tensor
    logits: tuple[Tensor, Tensor] | None


class SemiGDA(AbstractMethod):
    """Two encoders whose latents of an image are moved onto the latent of its mask."""

    @dataclass(frozen=True)
    class Options:
        """Options of SemiGDA.

        Attributes:
            autoencoder_share: Part of all iterations that trains the autoencoder. Ours: 0.3; SemiGDA takes a trained
                one.
            align_share: Part of all iterations that aligns latents before anything is decoded. Ours: 0.2; SemiGDA:
                200 of 550 epochs.
            weight: b, of the terms on unlabeled images at the end of the ramp. Paper: 0.1; the authors' code: 0.3.
            kl_weight: Of the autoencoder's divergence from a standard normal latent. Latent diffusion: 1e-6.
            latent_loss_in_segment: Keep the latent terms in the last stage. Paper: yes; the authors' code: no.
            stop_gradient: The latent term on unlabeled images pulls each branch towards a fixed other one. The
                authors' code: yes.
            cross_labels: What the branches give each other: "soft" probabilities (ours), or "hard" labels, the largest
                component of what is certain (the authors' code).
            temperature: For hard labels of one structure, foreground is certain where p^(1 / temperature) is at least one
                half; of several, the most probable wins. The authors' code: 0.1, so p >= 0.933.
            copy_paste: In the last two thirds of the last stage also learn from boxes swapped between labeled and
                unlabeled images. The authors' code: yes.
            latent_noise: Probability of a step in which the image's latent is drawn instead of its mean. The authors'
                code: 0.5.
            perturb: Change the intensity of the images. Ours.
            width: Channels at the finest level; 0 takes half of the task's network, which makes sizes comparable (8
                beside a V-Net of 16). Ours.
            depth: Levels; 0 takes one less than the task's network, so that the same patches fit. A level less keeps
                more of a mask and costs about eight times as much in the latents. Ours.
            average_decay: Deploy a moving average of the weights with this decay; 0 deploys the weights themselves.
                Ours: 0.99.
        """

        autoencoder_share: float = 0.3
        align_share: float = 0.2
        weight: float = 0.1
        kl_weight: float = 1e-6
        latent_loss_in_segment: bool = True
        stop_gradient: bool = False
        cross_labels: str = "soft"
        temperature: float = 0.1
        copy_paste: bool = False
        latent_noise: float = 0.0
        perturb: bool = True
        width: int = 0
        depth: int = 0
        average_decay: float = 0.99

        def __post_init__(self) -> None:
            if self.cross_labels not in ("soft", "hard"):
                raise ValueError(f"cross_labels is 'soft' or 'hard'; got {self.cross_labels!r}")
            if min(self.autoencoder_share, self.align_share) <= 0 or self.autoencoder_share + self.align_share >= 1:
                raise ValueError(
                    "autoencoder_share and align_share are above 0 and leave a part of 1 for the last stage"
                )

    presets = {
        "plus": replace(PLUS, training={**PLUS.training, "schedule": "stage_cosine"}),  # its stages learn different things
        # The authors train M with AdamW 2e-3 and R with SGD 0.01, and begin every stage at the full rate; here one optimizer serves both, and the
        # autoencoder, and one rate falls over all three.
        "faithful": Preset(
            {
                "align_share": 0.7 * 200 / 550,
                "weight": 0.3,
                "latent_loss_in_segment": False,
                "stop_gradient": True,
                "cross_labels": "hard",
                "copy_paste": True,
                "latent_noise": 0.5,
                "perturb": False,
                "average_decay": 0.0,
            },
            {
                "optimizer": "adamw",
                "learning_rate": 2e-3,
                "weight_decay": 1e-2,
                "schedule": "poly",
                "gradient_clip": 0.0,
            },
            {},
            {"flip_axes": (1, 2), "quarter_turns": True, "rotation_deg": 20.0, "scale": 0.1, "intensity": 0.0},
        ),
    }

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        self.options, self.num_classes = options, task.num_classes
        self.stages = (
            Stage(AUTOENCODE, options.autoencoder_share),
            Stage(ALIGN, options.align_share),
            Stage(SEGMENT, 1 - options.autoencoder_share - options.align_share),
        )
        self._by_name = _network_of(task, options.width, options.depth)
        self.network = build_network(self._by_name[0], task.in_channels, task.num_classes, self._by_name[1])
        self.average = Teacher(self.network, options.average_decay) if options.average_decay > 0 else None
        self.scale = LatentScale(self.network.latent_mean.shape[1])
        self.register_buffer("mask_dice", torch.zeros(()))
        self._learning_in = ""

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        self._freeze_for(progress.stage)
        images = batch.perturb_labeled() if self.options.perturb else batch.labeled
        if batch.unlabeled is not None:
            images = torch.cat([images, batch.perturb_unlabeled() if self.options.perturb else batch.unlabeled])
        generator = device_generator(images.device, batch.seed)
        masks = encode_labels(batch.labels, self.num_classes)
        if progress.stage == AUTOENCODE:
            return total_of(self._autoencode(images, masks, generator, progress.iteration))
        branches = self._branches(images, generator, progress.stage == SEGMENT)
        ramp = self.options.weight * gaussian_rampup(progress.fraction)
        terms = {}
        if progress.stage == ALIGN or self.options.latent_loss_in_segment:
            terms.update(self._latent_terms(branches, masks, ramp))
        if progress.stage == SEGMENT:
            terms.update(self._mask_terms(branches, masks, ramp))
            if self.options.copy_paste and batch.unlabeled is not None and progress.fraction >= 1 / 3:
                terms["mask_copy_paste"] = ramp * self._copy_paste(images, branches, masks, batch.seed)
        return total_of(terms)

    def _freeze_for(self, stage: str) -> None:
        """Lets only a stage's parts learn. Here and not in ``start_stage``, which a resumed run does not call again."""
        if stage == self._learning_in:
            return
        self._learning_in = stage
        network = self.network
        learning: dict[str, list[nn.Module]] = {
            AUTOENCODE: [network.encoder, network.decoder],
            ALIGN: [network.mapping, network.residual_encoder],
            SEGMENT: [network.mapping, network.residual_encoder, network.image_adapters, network.mask_adapters],
        }
        network.requires_grad_(False)
        for part in learning[stage]:
            part.requires_grad_(True)

    def _autoencode(
        self, images: Tensor, masks: Tensor, generator: torch.Generator, iteration: int
    ) -> dict[str, Tensor]:
        network, count = self.network, len(images)
        both = torch.cat([network.as_code(images), masks])
        encoding = network.encoder(both)
        decoded = network.decoder(draw_latent(encoding.mean, encoding.log_variance, generator))
        mask_latents = encoding.mean[count:].detach()
        self.scale.update(mask_latents)
        network.latent_mean.copy_(self.scale.mean.view_as(network.latent_mean))
        network.latent_spread.copy_(self.scale.spread.view_as(network.latent_spread))
        if iteration % _GATE_EVERY == 0:
            with torch.no_grad():
                dice = hard_dice(decode_labels(network.decoder(mask_latents)), decode_labels(masks), self.num_classes)
                self.mask_dice.copy_(torch.where(self.mask_dice > 0, 0.8 * self.mask_dice + 0.2 * dice, dice))
        return {
            "image_reconstruction": F.mse_loss(decoded[:count], both[:count]),
            "mask_reconstruction": F.mse_loss(decoded[count:], both[count:]),
            "latent_kl": self.options.kl_weight * gaussian_kl(encoding.mean, encoding.log_variance),
        }

    def _branches(self, images: Tensor, generator: torch.Generator, decodes: bool) -> _Branches:
        network = self.network
        with torch.no_grad():
            encoding = network.encoder(network.as_code(images))
            latent = encoding.mean
            if self.options.latent_noise > 0:
                drawn = draw_latent(latent, encoding.log_variance, generator)
                chosen = torch.rand((), generator=generator, device=images.device) < self.options.latent_noise
                latent = torch.where(chosen, drawn, latent)
        mapped = network.mapping(network.standardize(latent))
        direct, skips = network.residual_encoder(images)
        if not decodes:
            return _Branches(mapped, direct, None)
        first, _ = network.decode(mapped, network.image_adapters, encoding.skips)
        second, _ = network.decode(direct, network.mask_adapters, skips)
        return _Branches(mapped, direct, (first, second))

    def _latent_terms(self, branches: _Branches, masks: Tensor, ramp: float) -> dict[str, Tensor]:
        with torch.no_grad():
            target = self.network.standardize(self.network.encoder(masks).mean)
        count = len(masks)
        mapped, direct = branches.mapped.float(), branches.direct.float()
        terms = {"latent_supervised": F.mse_loss(mapped[:count], target) + F.mse_loss(direct[:count], target)}
        if len(mapped) > count:
            mapped, direct = mapped[count:], direct[count:]
            if self.options.stop_gradient:
                distance = F.mse_loss(mapped, direct.detach()) + F.mse_loss(direct, mapped.detach())
            else:
                distance = F.mse_loss(mapped, direct)
            terms["latent_unlabeled"] = ramp * distance
        return terms

    def _mask_terms(self, branches: _Branches, masks: Tensor, ramp: float) -> dict[str, Tensor]:
        truth, count = structures_of(masks), len(masks)
        first, second = (logits.softmax(1)[:, 1:] for logits in branches.logits)
        terms = {"mask_supervised": soft_dice_loss(first[:count], truth) + soft_dice_loss(second[:count], truth)}
        if len(first) > count:
            target_first, target_second = self._targets(branches, count)
            distance = soft_dice_loss(first[count:], target_second) + soft_dice_loss(second[count:], target_first)
            terms["mask_unlabeled"] = ramp * distance
        return terms

    @torch.no_grad()
    def _targets(self, branches: _Branches, count: int) -> list[Tensor]:
        """What each branch says of the unlabeled images, (batch, structure, *space), without gradient."""
        logits = [one[count:].detach() for one in branches.logits]
        if self.options.cross_labels == "soft":
            return [one.softmax(1)[:, 1:] for one in logits]
        certain = certain_from(self.options.temperature)
        labels = [pseudo_labels(one, threshold=certain)[0] for one in logits]
        return [structures_of(encode_labels(one, self.num_classes)) for one in labels]

    def _copy_paste(self, images: Tensor, branches: _Branches, masks: Tensor, seed: int) -> Tensor:
        """Dice on boxes swapped both ways; under the unlabeled part each branch learns from the other."""
        count = min(len(masks), len(images) - len(masks))
        labeled, unlabeled = images[:count], images[len(masks) : len(masks) + count]
        frame = box_mask(tuple(images.shape[2:]), torch.Generator().manual_seed(seed), images.device)
        mixed = torch.cat([mix(labeled, unlabeled, frame), mix(unlabeled, labeled, frame)])
        found = self._branches(mixed, device_generator(images.device, seed), decodes=True)
        truth = structures_of(masks[:count])
        loss = mixed.new_zeros(())
        for logits, other in zip(found.logits, reversed(self._targets(branches, len(masks)))):
            target = torch.cat([mix(truth, other[:count], frame), mix(other[:count], truth, frame)])
            loss = loss + soft_dice_loss(logits.softmax(1)[:, 1:], target)
        return loss

    def start_stage(self, stage: str) -> str | None:
        if stage != ALIGN or float(self.mask_dice) >= GATE:
            return None
        return (
            f"Masks that pass SemiGDA's autoencoder keep a Dice of {float(self.mask_dice):.3f}; {GATE} was expected. "
            "The result cannot become better than that: train longer, give the autoencoder a larger share, or make the "
            "network wider."
        )

    def after_step(self, progress: Progress) -> None:
        if self.average is not None:
            self.average.update(self.network, progress.iteration)

    def diagnostics(self) -> dict[str, float]:
        """Dice of the training masks after the autoencoder, a moving average over the first stage."""
        return {"autoencoder_mask_dice": float(self.mask_dice)}

    @property
    def deployed(self) -> nn.Module:
        return self.network if self.average is None else self.average.network

    @property
    def deployed_network(self) -> tuple[str, dict[str, Any]]:
        return self._by_name


def _network_of(task: Task, width: int, depth: int) -> tuple[str, dict[str, Any]]:
    """Name and options; 0 follows the task's network."""
    task_width, task_depth = (
        int(task.network_options.get(name, default)) for name, default in (("width", 16), ("depth", 5))
    )
    options = {"width": width or max(4, task_width // 4 * 2), "depth": depth or min(max(task_depth - 1, 2), 5)}
    return f"semigda{2 if task.two_dimensional else 3}d", options
