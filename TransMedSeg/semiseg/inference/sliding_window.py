"""Patches over a volume and their blend.

The window grid is the one of the literature (UA-MT's test code): equal strides from the first corner, the last window
of each axis aligned to the far border. What makes this fast:

- windows run in batches of nearly equal size. One window at a time is the slow case, on a CPU as well: PyTorch
  computes small 3-D convolutions of a single sample without oneDNN.
- The grid is the product of one list of starts for each axis and both blends are products of one profile for each
  axis. So the sum of
  the weights over all windows is an outer product of three short vectors: no second volume is accumulated.
- Two classes need one probability map, not two.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WindowFunction = Callable[[Tensor], Tensor]
"""(batch, channel, *patch) -> (batch, map, *patch): what is averaged over windows, in any floating-point type."""

GAUSSIAN_SIGMA = 0.125
"""Standard deviation of the Gaussian blend in patch sides, as in nnU-Net (Nature Methods 2021) and MONAI."""


def sliding_window(
    window_function: WindowFunction,
    image: Tensor,
    patch_size: Sequence[int],
    stride: Sequence[int],
    batch_windows: int = 4,
    blend: str = "constant",
    flips: Sequence[int] = (),
    progress: Callable[[int, int], None] | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Averages a network's maps over all windows of a volume.

    Args:
        window_function: What runs on each batch of windows; see :func:`window_probabilities`. With a ``patch_size`` of
            two numbers it gets planes (batch, channel, row, column).
        image: (1, channel, slice, row, column) float. An axis shorter than the patch is padded with zeros on both
            sides, and the result cut back.
        patch_size: Window along slice, row, column in voxels; two numbers (row, column) for a network of planes.
        stride: Step from window to window along the same axes, in voxels.
        batch_windows: Windows that run together, at most.
        blend: ``"constant"`` weighs each voxel of a window alike (the papers), ``"gaussian"`` trusts the middle more.
        flips: Axes to mirror (0 slice, 1 row, 2 column); each window is averaged over all their combinations.
        progress: Called with (windows done, windows in all) after each batch.
        device: Where windows run; the image's device unless given. The sums stay on the image's device.

    Returns:
        (map, slice, row, column) float32 on the image's device.
    """
    planar = len(patch_size) == 2
    patch = (1, *patch_size) if planar else tuple(patch_size)
    step = (1, *stride) if planar else tuple(stride)
    _check(image, patch, step, batch_windows, blend)
    padded, inside = _pad(image, patch)
    starts = [window_starts(*sizes) for sizes in zip(padded.shape[2:], patch, step)]
    corners = list(itertools.product(*starts))
    profiles = [blend_profile(size, blend).to(image.device) for size in patch]
    weight = None if blend == "constant" else _outer(profiles)
    maps_of = functools.partial(_maps, window_function, _mirrors(flips, planar), planar, torch.device(device or image.device))
    sums = _summed(maps_of, padded, corners, patch, batch_windows, weight, progress)
    _divide(sums, [_coverage(size, *axis) for size, *axis in zip(padded.shape[2:], starts, profiles)])
    return sums[(slice(None), *inside)].contiguous()


def _maps(window_function: WindowFunction, mirrors: Sequence, planar: bool, device: torch.device, windows: Tensor) -> Tensor:
    """What the network says of some windows (window, channel, *patch), on their own device."""
    inside = windows.to(device)
    maps = _run(window_function, inside.squeeze(2) if planar else inside, mirrors)
    return (maps.unsqueeze(2) if planar else maps).to(windows.device)


def _summed(
    maps_of: Callable[[Tensor], Tensor],
    padded: Tensor,
    corners: list[tuple[int, ...]],
    patch: tuple[int, ...],
    batch_windows: int,
    weight: Tensor | None,
    progress: Callable[[int, int], None] | None,
) -> Tensor:
    """(map, *space) sums of the weighed maps of all windows, before they are divided by how often each voxel was seen."""
    sums: Tensor | None = None
    done = 0
    with torch.no_grad():
        for batch in _batches(corners, batch_windows):
            maps = maps_of(torch.stack([padded[(0, slice(None), *_window(corner, patch))] for corner in batch]))
            if sums is None:
                sums = torch.zeros(maps.shape[1], *padded.shape[2:], device=padded.device)
            for corner, window in zip(batch, maps):
                place = sums[(slice(None), *_window(corner, patch))]
                place.add_(window) if weight is None else place.addcmul_(window, weight)
            done += len(batch)
            if progress is not None:
                progress(done, len(corners))
    assert sums is not None  # every axis has at least one start
    return sums


def window_probabilities(logits: Tensor) -> Tensor:
    """Logits (batch, class, *space) to the probabilities worth averaging, float32.

    Two classes give one map, the foreground: softmax of two classes is the sigmoid of their difference. More classes
    give a map for each class, background first.
    """
    logits = logits.float()
    if logits.shape[1] == 2:
        return (logits[:, 1:] - logits[:, :1]).sigmoid_()
    return logits.softmax(dim=1)


def window_starts(size: int, patch: int, stride: int) -> list[int]:
    """First voxels of the windows along one axis: every ``stride`` voxels, and the last window ends at the border."""
    last = size - patch
    return [*range(0, last, stride), last]


def dense_stride(shape: Sequence[int], patch_size: Sequence[int], most_windows: int = 64) -> tuple[int, ...]:
    """The densest step between windows that keeps their number small: an eighth, a quarter or a half of the window.

    Dense windows are worth Dice (docs/benchmarks.md) and cost time in proportion to their number; a cropped heart needs few, a whole chest many.

    Args:
        shape: (slice, row, column) of the volume.
        patch_size: Window along the same axes; two numbers (row, column) for planes, of which each slice has its own.
        most_windows: The most that an eighth or a quarter may make, for planes in each slice; a half is taken without asking.
    """
    space = shape[-len(patch_size) :]
    for parts in (8, 4):
        stride = tuple(max(1, side // parts) for side in patch_size)
        count = math.prod(len(window_starts(max(size, side), side, step)) for size, side, step in zip(space, patch_size, stride))
        if count <= most_windows:
            return stride
    return tuple(max(1, side // 2) for side in patch_size)


def blend_profile(size: int, blend: str) -> Tensor:
    """(size,) weights of a window's voxels along one axis; the largest is 1 or close to it."""
    if blend == "constant":
        return torch.ones(size)
    offset = torch.arange(size) - (size - 1) / 2
    return torch.exp(-0.5 * (offset / (GAUSSIAN_SIGMA * size)) ** 2)


def _check(image: Tensor, patch: tuple[int, ...], stride: tuple[int, ...], batch_windows: int, blend: str) -> None:
    if image.ndim != 5 or image.shape[0] != 1:
        raise ValueError(f"image must be (1, channel, slice, row, column); got {tuple(image.shape)}.")
    if len(patch) != 3 or len(stride) != 3 or min(patch) < 1 or min(stride) < 1:
        raise ValueError(f"patch_size and stride must be positive and of one length; got {patch} and {stride}.")
    if batch_windows < 1 or blend not in ("constant", "gaussian"):
        raise ValueError(
            f"batch_windows must be positive, blend 'constant' or 'gaussian'; got {batch_windows}, {blend!r}."
        )


def _pad(image: Tensor, patch: tuple[int, ...]) -> tuple[Tensor, tuple[slice, ...]]:
    """Pads each axis up to the patch, half of it in front as the papers' code does; also where the image lies in it."""
    missing = [max(0, side - size) for side, size in zip(patch, image.shape[2:])]
    front = [voxels // 2 for voxels in missing]
    inside = tuple(slice(first, first + size) for first, size in zip(front, image.shape[2:]))
    if not any(missing):
        return image, inside
    amounts = [amount for first, voxels in zip(front, missing) for amount in (voxels - first, first)]
    return F.pad(image, amounts[::-1]), inside


def _batches(corners: list[tuple[int, ...]], size: int) -> list[list[tuple[int, ...]]]:
    """Cuts a list into parts whose lengths differ by one at most: no lone window at the end."""
    count = -(-len(corners) // size)
    bounds = [len(corners) * part // count for part in range(count + 1)]
    return [corners[first:last] for first, last in itertools.pairwise(bounds)]


def _mirrors(flips: Sequence[int], planar: bool) -> list[tuple[int, ...]]:
    axes = sorted(set(flips))
    if axes and not (1 if planar else 0) <= axes[0] <= axes[-1] <= 2:
        raise ValueError(f"flips names axes 0 (slice, volumes only), 1 (row) and 2 (column); got {tuple(flips)}.")
    shift = 1 if planar else 2
    combinations = itertools.chain.from_iterable(itertools.combinations(axes, count) for count in range(len(axes) + 1))
    return [tuple(axis + shift for axis in chosen) for chosen in combinations]


def _run(window_function: WindowFunction, windows: Tensor, mirrors: list[tuple[int, ...]]) -> Tensor:
    """Maps of a batch, averaged over the mirrored copies."""
    total: Tensor | None = None
    for axes in mirrors:
        with torch.inference_mode():
            maps = window_function(windows.flip(axes) if axes else windows)
            maps = maps.flip(axes) if axes else maps
        if maps.shape[0] != windows.shape[0] or maps.shape[2:] != windows.shape[2:]:
            raise ValueError(f"Windows {tuple(windows.shape)} came back as {tuple(maps.shape)}: other batch or space.")
        # A sum in float32: bf16 has 8 bits, too few for an average.
        total = maps.float() if total is None else total + maps
    assert total is not None
    return total if len(mirrors) == 1 else total / len(mirrors)


def _window(corner: tuple[int, ...], patch: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(first, first + size) for first, size in zip(corner, patch))


def _outer(profiles: list[Tensor]) -> Tensor:
    return profiles[0][:, None, None] * profiles[1][:, None] * profiles[2]


def _coverage(size: int, starts: list[int], profile: Tensor) -> Tensor:
    """(size,) sum of the profile over all windows along one axis."""
    total = torch.zeros(size, device=profile.device)
    for first in starts:
        total[first : first + len(profile)] += profile
    return total


def _divide(sums: Tensor, coverage: list[Tensor]) -> None:
    """Divides by the outer product of the coverage in place, slice by slice: no further volume in memory."""
    plane = coverage[1][:, None] * coverage[2]
    for index, weight in enumerate(coverage[0]):
        sums[:, index] /= plane * weight
