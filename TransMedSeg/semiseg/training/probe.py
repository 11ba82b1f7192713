"""How long a training takes here: a few steps of every stage on a throwaway copy, and the labels of one whole case."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..data.batches import Batch, TwoStreamBatches
from ..distributed import any_rank, from_owner
from ..methods.base import AbstractMethod, Progress
from .optimizer import make_optimizer
from .options import TrainOptions
from .whole_case import whole_case_maps

_ENOUGH_S = 1.0
_MOST_BLOCKS = 4
"""Short steps are timed more often: up to so many times ``num_steps``, until they have taken ``_ENOUGH_S``."""

_FEWEST_ITERATIONS = 20
MOST_LABELING = 0.5
"""Share of a budget that rounds of labeling may take."""


@dataclass(frozen=True)
class Pace:
    """What a training takes.

    Attributes:
        step_s: Seconds of a step, averaged over the stages by their shares.
        labeling_s: Seconds of all rounds in which unlabeled cases are labeled whole; 0 for methods without.
        first_s: Seconds of a step of the first stage; 0 takes ``step_s``.
    """

    step_s: float
    labeling_s: float = 0.0
    first_s: float = 0.0

    def __post_init__(self) -> None:
        if self.first_s == 0.0:
            object.__setattr__(self, "first_s", self.step_s)

    def iterations(self, seconds: float) -> int:
        """Steps in so many seconds, rounds of labeling included; those never count as more than ``MOST_LABELING`` of the time."""
        return max(_FEWEST_ITERATIONS, int(max(seconds - self.labeling_s, (1 - MOST_LABELING) * seconds) / self.step_s))

    def seconds(self, iterations: int) -> float:
        """Of a training of so many steps."""
        return iterations * self.step_s + self.labeling_s


def measure_pace(
    make_method: Callable[[], AbstractMethod],
    batches: TwoStreamBatches,
    options: TrainOptions,
    device: torch.device,
    num_steps: int = 4,
) -> Pace:
    """Times steps as training takes them. The first two of a stage warm up and do not count.

    Args:
        make_method: Makes a fresh method; its copy here is thrown away.
        batches: The batches that training will use.
        options: Of the loop.
        device: Where to compute.
        num_steps: Timed steps of each stage, or a few times as many where they are short.

    Returns:
        That of rank 0, on every rank; all of them must ask.
    """
    layout = torch.channels_last if options.patch_size[0] == 1 else torch.channels_last_3d
    method = make_method().to(device).to(memory_format=layout).train()
    optimizer = make_optimizer(method, options)

    def steps(stage: str, numbers: range) -> float:
        _finish(device)
        started = time.perf_counter()
        for number in numbers:
            batch, progress = _as_trained(batches.batch(number), method, stage), Progress(stage, 0.5, 0.5, number)
            with torch.autocast(device.type, torch.bfloat16, options.mixed_precision and device.type == "cuda"):
                losses = method(batch, progress)
            optimizer.zero_grad()
            losses["total"].backward()
            optimizer.step()
            method.after_step(progress)
        _finish(device)
        return time.perf_counter() - started

    step_s, first_s = 0.0, 0.0
    for stage in method.stages:
        method.start_stage(stage.name)
        steps(stage.name, range(2))
        spent, count = 0.0, 0
        # Together: losses may ask all ranks, so that each must take as many steps as the others.
        while count == 0 or any_rank(spent < _ENOUGH_S and count < _MOST_BLOCKS * num_steps):
            spent += steps(stage.name, range(2 + count, 2 + count + num_steps))
            count += num_steps
        step_s += stage.share * spent / count
        first_s = first_s or spent / count
    return _of_first_rank(Pace(step_s, _labeling_seconds(method, batches, options, device), first_s))


def _of_first_rank(pace: Pace) -> Pace:
    """Iterations follow from it, and ranks that counted different ones would wait for each other forever."""
    return Pace(*from_owner(torch.tensor([pace.step_s, pace.labeling_s, pace.first_s], dtype=torch.float64), 0).tolist())


def _as_trained(batch: Batch, method: AbstractMethod, stage: str) -> Batch:
    """The batch as it comes in this stage: where cases have been labeled whole, labels of the unlabeled ones save the teacher's pass."""
    if stage != method.case_labeling[0] or batch.unlabeled_stream is None:
        return batch
    return Batch(batch.labeled_stream, batch.unlabeled_stream.as_background(), batch.seed)


def _labeling_seconds(method: AbstractMethod, batches: TwoStreamBatches, options: TrainOptions, device: torch.device) -> float:
    """All rounds together, from one case of middling size."""
    stage, rounds = method.case_labeling
    if not stage or not batches.unlabeled:
        return 0.0
    voxels = {index: batches.store.num_voxels(index) for index in batches.unlabeled}
    index = sorted(voxels, key=lambda one: voxels[one])[len(voxels) // 2]
    network = method.deployed.eval()
    for _ in range(2):  # the first one warms up
        _finish(device)
        started = time.perf_counter()
        method.label_case(whole_case_maps(network, batches.store.image(index), options.patch_size)).to("cpu", torch.uint8)
        spent = time.perf_counter() - started
    return rounds * spent * sum(voxels.values()) / voxels[index]


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
