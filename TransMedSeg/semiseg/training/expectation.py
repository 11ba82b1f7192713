"""What a training will take of this computer: memory, disk and time, from measured steps and real sizes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from ..data.cache import PreparedSet
from ..methods.base import AbstractMethod
from .memory import peak_host_memory_gb
from .options import TrainOptions
from .probe import Pace

_LOGS_GB = 0.05
"""Events, pictures, tables and masks of the held-out cases; measured runs stay below."""


def lengths(goals: Mapping[str, tuple[TrainOptions, Pace]]) -> dict[str, dict[str, float]]:
    """Iterations and seconds of every goal.

    Args:
        goals: Options of the loop, and the pace as measured, by goal. A goal in minutes becomes iterations, one in iterations becomes seconds.
    """
    found = {}
    for goal, (options, pace) in goals.items():
        iterations = pace.iterations(60 * options.minutes) if options.minutes > 0 else options.iterations
        found[goal] = {"iterations": iterations, "train_s": round(pace.seconds(iterations), 1)}
    return found


def demands(method: AbstractMethod, prepared: PreparedSet, device: torch.device, run_dir: Path) -> dict[str, float | None]:
    """Memory and disk in GB (10^9 bytes), needed and free; None where the system does not tell.

    Call it after measured steps: memory is the peak so far, of the GPU, or of this process on a CPU.

    Args:
        method: Fresh; its tensors are what states and models hold.
        prepared: The prepared cases.
        device: Where it computes.
        run_dir: Where the run will write.
    """
    weights = sum(tensor.nbytes for tensor in method.state_dict().values())
    moments = 2 * sum(one.nbytes for one in method.parameters() if one.requires_grad)
    model = sum(tensor.nbytes for tensor in method.deployed.state_dict().values())
    cases = sum(prepared.num_bytes(index) for index, case in enumerate(prepared.cases) if case.is_used and case.role != "held_out")
    # A new state is written beside the old one; models are model.pt and the best one, and one of them being replaced.
    disk = (cases + 2 * (weights + moments) + 3 * model) / 1e9 + _LOGS_GB
    if device.type == "cuda":
        needed = torch.cuda.max_memory_reserved(device) / 1e9
        free = (torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)) / 1e9
    else:
        needed = peak_host_memory_gb()
        available = _available_gb()
        free = None if available is None else available + (_own_gb() or 0.0)  # what this process holds is given back
    numbers = {"memory_gb": needed, "memory_free_gb": free, "disk_gb": disk, "disk_free_gb": shutil.disk_usage(run_dir).free / 1e9}
    return {name: None if value is None else round(value, 2) for name, value in numbers.items()}


def _own_gb() -> float | None:
    return _from_proc("/proc/self/status", "VmRSS:")


def _available_gb() -> float | None:
    return _from_proc("/proc/meminfo", "MemAvailable:")


def _from_proc(path: str, name: str) -> float | None:
    """A number of kB from one of Linux's tables; None elsewhere."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith(name)), None)
