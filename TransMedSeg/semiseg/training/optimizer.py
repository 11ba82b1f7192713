"""Optimizer and learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..methods.base import Progress, Stage
from .options import TrainOptions


def make_optimizer(method: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """One optimizer over everything that may learn.

    Weight decay falls on the weights of convolutions and linear layers; scales, shifts and biases have no reason to be small.
    """
    learning = [parameter for parameter in method.parameters() if parameter.requires_grad]
    if options.optimizer == "sgd":
        return torch.optim.SGD(learning, options.learning_rate, options.momentum, weight_decay=options.weight_decay)
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    on_cpu = all(p.device.type == "cpu" for p in learning)  # in one kernel a CPU updates three times as fast, which is a twentieth of a small step
    return torch.optim.AdamW(groups, options.learning_rate, foreach=not on_cpu, fused=on_cpu)


def learning_rate(options: TrainOptions, progress: Progress, stages: tuple[Stage, ...]) -> float:
    """The learning rate of a step: a function of where training is, nothing else."""
    rate = options.learning_rate
    if progress.iteration < options.warmup_iterations:
        rate *= (progress.iteration + 1) / options.warmup_iterations
    if options.schedule == "stage_cosine":
        start = 0.5 if len(stages) > 1 and progress.stage == stages[-1].name else 1.0
        return rate * start * 0.5 * (1 + math.cos(math.pi * progress.fraction))
    if options.schedule == "cosine":
        return rate * 0.5 * (1 + math.cos(math.pi * progress.overall))
    if options.schedule == "poly":
        return rate * (1 - progress.overall) ** 0.9
    if options.schedule == "bcp_step" and progress.stage == stages[-1].name:
        return rate * 0.1 ** int(6 * progress.fraction)
    if options.schedule == "ua_mt_step":
        return rate * 0.1 ** int(2.4 * progress.overall)
    return rate
