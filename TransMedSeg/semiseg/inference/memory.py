"""How much memory there is, on the computer and on a GPU, and what would fit."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from ..data.geometry import Geometry
from ..errors import InputError


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU had too little memory; cuDNN and cuBLAS say so in their own words."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return "out of memory" in text or "CUBLAS_STATUS_ALLOC_FAILED" in text


def gpu_memory_gb(device: torch.device, reason: str) -> tuple[float, float]:
    """Returns what was needed at least when memory ran out, and what is free for us, in GB; zeros without a GPU.

    PyTorch's own cache counts as free and is given back.

    Args:
        device: The GPU.
        reason: The message of the exception, which names the last allocation.
    """
    if device.type != "cuda":
        return 0.0, 0.0
    tried = re.search(r"Tried to allocate ([0-9.]+) (MiB|GiB)", reason)
    wanted = float(tried.group(1)) * (2**30 if tried.group(2) == "GiB" else 2**20) if tried else 0.0
    needed = torch.cuda.max_memory_allocated(device) + wanted
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return needed / 1e9, (torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_allocated(device)) / 1e9


def fitting_patch(patch: tuple[int, ...], downscale: int, needed_gb: float, free_gb: float) -> tuple[int, ...]:
    """The largest window of about the same shape that would fit: memory grows with its number of voxels."""
    share = min(1.0, 0.9 * free_gb / needed_gb) if needed_gb > 0 else 0.5
    factor = share ** (1 / len(patch))
    return tuple(max(downscale, int(side * factor) // downscale * downscale) for side in patch)


def place_for_sums(device: torch.device, image: Tensor, num_maps: int) -> torch.device:
    """Where a sliding window sums: on the GPU when image and sums take less than a quarter of its free memory."""
    if device.type != "cuda":
        return torch.device("cpu")
    free, _ = torch.cuda.mem_get_info(device)
    return device if image.numel() * 4 * (num_maps + 1) < free / 4 else torch.device("cpu")


def check_memory(source: Geometry, prepared_shape: tuple[int, ...], num_maps: int, name: str) -> None:
    """Refuses a volume that cannot fit, before the system ends the program.

    Raises:
        InputError: It needs more memory than is free (E310). Nothing is known, and nothing refused, outside of Linux.
    """
    free = free_memory_bytes()
    voxels, prepared = (int(torch.Size(shape).numel()) for shape in (source.shape, prepared_shape))
    # float32: source, prepared image, one sum for each map and its way back; measured 20 bytes a voxel for one map.
    needed = 4 * (max(voxels, prepared) * 3 + (voxels + prepared) * num_maps)
    if free is None or needed < free:
        return
    raise InputError(
        f"'{name}' ({source.describe()}) needs about {needed / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB is free.",
        code="E310",
        hint="Close other programs, or cut the volume to the organ.",
    )


def free_memory_bytes() -> int | None:
    """What programs can still take without swapping; None where the system does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return int(found.group(1)) * 1024 if found else None
