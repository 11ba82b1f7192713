"""How long a step takes here: a few steps of every stage on a throwaway copy."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ..data.batches import TwoStreamBatches
from ..methods.base import AbstractMethod, Progress
from .optimizer import make_optimizer
from .options import TrainOptions


def mean_step_seconds(
    make_method: Callable[[], AbstractMethod],
    batches: TwoStreamBatches,
    options: TrainOptions,
    device: torch.device,
    num_steps: int = 4,
) -> float:
    """Seconds of a step, averaged over the stages by their shares. The first two steps of a stage warm up and do not count.

    Args:
        make_method: Makes a fresh method; its copy here is thrown away.
        batches: The batches that training will use.
        options: Of the loop.
        device: Where to compute.
        num_steps: Timed steps of each stage.
    """
    layout = torch.channels_last if options.patch_size[0] == 1 else torch.channels_last_3d
    method = make_method().to(device).to(memory_format=layout).train()
    optimizer = make_optimizer(method, options)
    total = 0.0
    for stage in method.stages:
        method.start_stage(stage.name)
        for step in range(num_steps + 2):
            if step == 2:
                _finish(device)
                started = time.perf_counter()
            batch = batches.batch(step)
            with torch.autocast(device.type, torch.bfloat16, options.mixed_precision and device.type == "cuda"):
                losses = method(batch, Progress(stage.name, 0.5, 0.5, step))
            optimizer.zero_grad()
            losses["total"].backward()
            optimizer.step()
            method.after_step(Progress(stage.name, 0.5, 0.5, step))
        _finish(device)
        total += stage.share * (time.perf_counter() - started) / num_steps
    return total


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
