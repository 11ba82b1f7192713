"""Places to compute: which devices a study has, and how many runs they take at a time."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from ..distributed import World, choose_device


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time.

    Attributes:
        device: "cpu" or "cuda:N".
        threads: CPU threads of the run.
    """

    device: str
    threads: int


def make_slots(device: str, jobs: int, threads: int, world: World = World()) -> list[Slot]:
    """The places of this process.

    Args:
        device: "auto" (all GPUs when there are some), "cpu", "cuda" (all) or "cuda:N".
        jobs: Runs side by side. On several GPUs each takes the free one; more runs than GPUs share them evenly.
        threads: Of each run; 0 divides the processors that this process may use.
        world: Inside ``torchrun`` every rank is one place, with its own GPU.

    Raises:
        InputError: A GPU was asked for and there is none that can be used (E201, E203).
    """
    chosen = choose_device(device, world)
    if world.size > 1:
        devices = [str(chosen)]
        share = world.size
    else:
        all_gpus = chosen.type == "cuda" and ":" not in device
        devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if all_gpus else [str(chosen)]
        share = jobs
    each = threads or max(1, usable_processors() // share)
    return [Slot(devices[place % len(devices)], each) for place in range(1 if world.size > 1 else jobs)]


def usable_processors() -> int:
    """Processors this process may use; a cluster or a ``taskset`` may leave it fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
