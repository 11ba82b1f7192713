"""From a goal and a computer to numbers: grid, patch, network width and length of the training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

GOALS = ("quick", "normal", "best")

_MINUTES_CPU = {"quick": 1.5, "normal": 12.0, "best": 60.0}
_MOST_VOXELS_CPU = 350_000
_SHORT_MINUTES_CPU, _SHORT_VOXELS_CPU = 5.0, 85_000
"""A training this short on a CPU gets further on a coarser grid, where a step takes a fifth of the time (docs/benchmarks.md, "A demonstration")."""
_MOST_PIXELS_CPU = 40_000
"""Of a slice. Four of them with a U-Net of width 8 cost about as much as two patches of 48 x 64 x 64 with the V-Net that a CPU is given."""
_ITERATIONS_GPU = {"quick": 3000, "normal": 17000, "best": 40000}


@dataclass(frozen=True)
class Plan:
    """What a goal means for these cases on this computer.

    Attributes:
        spacing_mm: Grid along (slice, row, column); None keeps each case's own.
        network_options: Of the network.
        training: Fields of ``TrainOptions``.
        reason: One sentence for the user.
    """

    spacing_mm: tuple[float, float, float] | None
    network_options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def make_plan(
    goal: str,
    device: torch.device,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    spatial_dims: int = 3,
    downscale: int | None = None,
    minutes: float = 0.0,
) -> Plan:
    """Plans a training.

    A GPU works on the cases' own grid with the published patch of 80 x 112 x 112. A CPU works on a coarser grid, on which a typical case has at
    most about 350,000 voxels, so that a patch sees most of the organ and its surroundings and a step takes a fraction of a second; in trainings
    of less than five minutes at most about 85,000.

    Args:
        goal: One of ``GOALS``.
        device: Where training runs.
        shape: Median shape of the labeled cases along (slice, row, column).
        spacing_mm: Median spacing along the same axes.
        spatial_dims: 2 plans slices: on a GPU on the cases' own grid with the published 12 + 12 samples a step; on a CPU with pixels so coarse that
            a slice has at most about 40,000 and a step takes about as long as one in 3-D. Distances between slices stay as they are.
        downscale: Every side of the patch divides by it, because the network halves them so often; None for a network of ours, whose depth is planned.
        minutes: Length of a training on a CPU; 0 takes the goal's.
    """
    if goal not in GOALS:
        raise ValueError(f"goal must be one of {GOALS}; got {goal!r}")
    minutes = minutes or _MINUTES_CPU[goal]
    if spatial_dims == 2:
        return _plan_slices(goal, device, shape, spacing_mm, downscale or 16, minutes)
    if device.type == "cuda":
        patch = _patch_for(shape, (80, 112, 112), downscale, 16)
        return Plan(
            None,
            {"width": 16},
            {"iterations": _ITERATIONS_GPU[goal], "patch_size": patch, "batch_labeled": 4, "batch_unlabeled": 4},
            f"GPU: own grid, patch {_text(patch)}, {_ITERATIONS_GPU[goal]} iterations.",
        )
    if minutes < _SHORT_MINUTES_CPU:
        most, network, largest, step = _SHORT_VOXELS_CPU, {"width": 8, "depth": 4}, (24, 32, 32), 8
    else:
        most, network, largest, step = _MOST_VOXELS_CPU, {"width": 8, "coarse_stem": True}, (48, 64, 64), 16
    grid, size = _coarsened(shape, spacing_mm, (0, 1, 2), most)
    patch = _patch_for(size, largest, downscale, step)
    reason = f"CPU: grid {_text(tuple(round(mm, 3) for mm in grid))} mm, patch {_text(patch)}, {minutes:g} minutes of training."
    return Plan(_unless_own(grid, spacing_mm), network, {"minutes": minutes, "patch_size": patch}, reason)


def _plan_slices(
    goal: str, device: torch.device, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], downscale: int, minutes: float
) -> Plan:
    if device.type == "cuda":
        patch = (1, *_patch(shape, (16, 256, 256), downscale)[1:])
        training = {"iterations": 2 * _ITERATIONS_GPU[goal], "patch_size": patch, "batch_labeled": 12, "batch_unlabeled": 12}
        return Plan(None, {"width": 16}, training, f"GPU: slices on their own grid, patch {_text(patch[1:])}, 12 + 12 samples a step.")
    grid, size = _coarsened(shape, spacing_mm, (1, 2), _MOST_PIXELS_CPU)
    patch = (1, *_patch(size, (16, 256, 256), downscale)[1:])
    training = {"minutes": minutes, "patch_size": patch, "batch_labeled": 4, "batch_unlabeled": 4}
    pixel = _text(tuple(round(mm, 3) for mm in grid[1:]))
    reason = f"CPU: slices with pixels of {pixel} mm, patch {_text(patch[1:])}, 4 + 4 samples a step, {minutes:g} minutes of training."
    return Plan(_unless_own(grid, spacing_mm), {"width": 8}, training, reason)


def _coarsened(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], axes: tuple[int, ...], most: int
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Spacing and shape of a grid that is coarser along some axes, until these have at most about ``most`` voxels together."""
    grid, size = list(spacing_mm), list(shape)
    while math.prod(size[axis] for axis in axes) > most:
        # Coarsen the finest axes first: voxels become more even, and no axis gets thinner than it must.
        finest = min(grid[axis] for axis in axes)
        for axis in axes:
            if grid[axis] <= finest * 1.3:
                grid[axis] *= 1.25
        size = _size_on(grid, shape, spacing_mm)
    grid = [_even_factor(new, mm) for new, mm in zip(grid, spacing_mm)]
    return tuple(grid), tuple(_size_on(grid, shape, spacing_mm))


def _size_on(grid: list[float], shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> list[int]:
    return [max(1, round(n * mm / new)) for n, mm, new in zip(shape, spacing_mm, grid)]


def _unless_own(grid: tuple[float, ...], spacing_mm: tuple[float, float, float]) -> tuple[float, ...] | None:
    """None for the cases' own grid, which is not resampled."""
    return None if all(abs(new - mm) < 1e-6 for new, mm in zip(grid, spacing_mm)) else grid


def _even_factor(new: float, old: float) -> float:
    """Rounds to an exact half grid where that is near: box averages of 2 are the cleanest way down."""
    factor = new / old
    return old * (round(factor) if abs(factor - round(factor)) < 0.15 else factor)


def _patch(shape: tuple[int, ...], most: tuple[int, int, int], step: int) -> tuple[int, int, int]:
    """Sides that divide by ``step``, at most ``most`` (rounded to it) and no larger than a case needs."""
    return tuple(min(max(step, limit // step * step), max(step, -(-size // step) * step)) for size, limit in zip(shape, most))


def _patch_for(shape: tuple[int, ...], most: tuple[int, int, int], downscale: int | None, usual: int) -> tuple[int, int, int]:
    """The patch of a network whose sides divide by ``downscale``, where the job states it, else by the usual step.

    A stated one has at least two voxels along rows and columns at the coarsest level: of a single one no normalization can be computed.
    """
    patch = _patch(shape, most, downscale or usual)
    return (downscale, 2 * downscale, 2 * downscale) if downscale and max(patch) == downscale else patch


def _text(numbers: tuple[float, ...]) -> str:
    return " × ".join(f"{number:g}" for number in numbers)
