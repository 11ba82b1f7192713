"""Batches small enough for one core: noisy balls, drawn anew for each seed."""

from __future__ import annotations

import torch

from semiseg.data.augment import IntensityDraw, draw_intensity
from semiseg.data.batches import Batch, Stream
from semiseg.data.randomness import generator_for
from semiseg.methods.base import Progress, Task

TINY = {"width": 2, "depth": 3, "norm": "instance", "dropout": 0.0}


def tiny_task(num_classes: int = 2, two_dimensional: bool = False, **options) -> Task:
    """A V-Net or 2-D U-Net of three levels and two channels."""
    return Task(
        num_classes, "unet2d" if two_dimensional else "vnet", {**TINY, **options}, two_dimensional=two_dimensional
    )


def balls(
    count: int, shape: tuple[int, ...], num_classes: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (count, 1, *shape) and labels: shells of one ball each, brighter inwards."""
    axes = [torch.arange(side, dtype=torch.float32) for side in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    labels = []
    for _ in range(count):
        center = torch.tensor(shape) * (0.4 + 0.2 * torch.rand(len(shape), generator=generator))
        radius = min(shape) * (0.3 + 0.1 * float(torch.rand(1, generator=generator)))
        distance = (grid - center.view(-1, *[1] * len(shape))).square().sum(0).sqrt()
        labels.append(((1 - distance / radius).clamp(0, 1) * (num_classes - 1)).ceil().long())
    stacked = torch.stack(labels)
    images = stacked / (num_classes - 1) + 0.3 * torch.randn(stacked.shape, generator=generator)
    return images[:, None], stacked


def tiny_batch(seed: int = 0, shape: tuple[int, ...] = (16, 16, 16), num_classes: int = 2, num_each: int = 2) -> Batch:
    """Two labeled and two unlabeled samples, without intensity changes."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = balls(2 * num_each, shape, num_classes, generator)
    draws: list[IntensityDraw] = [
        draw_intensity(generator_for(seed, 0, sample, "test"), 0.0) for sample in range(2 * num_each)
    ]
    labeled = Stream.of(images[:num_each], labels[:num_each], draws[:num_each], [0] * num_each)
    return Batch(labeled, Stream.of(images[num_each:], None, draws[num_each:], list(range(num_each))), seed)


def at(stage: str = "train", fraction: float = 0.5, iteration: int = 10) -> Progress:
    """Somewhere in a training."""
    return Progress(stage, fraction, fraction, iteration)


def train_steps(
    method, num_steps: int, learning_rate: float = 0.05, first_seed: int = 0, **batch
) -> list[dict[str, float]]:
    """A few plain gradient steps; returns the losses of each."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], learning_rate)
    history = []
    for step in range(num_steps):
        losses = method(tiny_batch(first_seed + step, **batch), at(fraction=step / num_steps, iteration=step))
        optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        optimizer.step()
        method.after_step(at(fraction=step / num_steps, iteration=step))
        history.append({name: float(value.detach()) for name, value in losses.items()})
    return history
