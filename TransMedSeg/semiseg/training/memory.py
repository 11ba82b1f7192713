"""Memory of a training: what to do when a GPU's runs out, and the most that the process has held."""

from __future__ import annotations

import sys

import torch

from ..errors import InputError
from .options import TrainOptions
from .smaller import fixes_for


def what_would_fit(options: TrainOptions, device: torch.device, iteration: int, has_one_size: bool = False) -> InputError:
    """The message E206 with settings that need less than what is free.

    Activations grow with the voxels of a step, so memory is taken as proportional to them; a tenth is kept in reserve.
    A network that is built for patches of one size is offered no smaller patch.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        needed = torch.cuda.max_memory_allocated(device) * 1.1
        available = free + torch.cuda.memory_reserved(device)
    else:
        total = available = needed = 0.0
    ratio = 0.5 if needed <= 0 else min(0.9 * available / max(needed, 1.0), 0.9)
    fixes = fixes_for(options, ratio, has_one_size)
    suggestions = []
    for change in (fix["training"] for fix in fixes):
        if "batch_labeled" in change:
            suggestions.append(f"batch {change['batch_labeled']} instead of {options.batch_labeled}")
        else:
            suggestions.append("patch " + "×".join(map(str, change["patch_size"])) + " instead of " + "×".join(map(str, options.patch_size)))
    numbers = f"more than {needed / 1e9:.1f} GB with these settings, {available / 1e9:.1f} of {total / 1e9:.1f} GB can be used" if total else "more memory"
    return InputError(
        f"Training needs {numbers}; it stopped at iteration {iteration}.",
        code="E206",
        hint=("Use " + " or ".join(suggestions) + "." if suggestions else "Use a narrower network or the CPU.")
        + " The run continues from its last saved state.",
        fixes=fixes,
    )


def peak_host_memory_gb() -> float:
    """The most main memory this process has held at once, in 10^9 bytes; 0 where the system does not tell (Windows)."""
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9  # bytes on macOS, KiB elsewhere
