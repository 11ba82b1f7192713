"""Augmentation: draw, then apply. Geometry moves image and label together; intensity changes the image alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .random_network import random_contrast
from .randomness import device_generator
from .transfer import to_device


@dataclass(frozen=True)
class AugmentOptions:
    """How patches are moved and recolored.

    Attributes:
        flip_axes: Array axes (0 slice, 1 row, 2 column) that may be flipped. BCP on LA: 1 and 2.
        quarter_turns: Turn by 0, 90, 180 or 270 degrees in the row-column plane (BCP on LA); patches with unequal row and column sides by 0 or
            180.
        rotation_deg: Largest turn around each array axis; 0 keeps the voxel grid, so nothing is interpolated.
        scale: Largest relative change of size along each axis, as a natural logarithm: 0.2 means 0.82 to 1.22.
        intensity: Strength of the intensity changes from 0 (off) to 1: contrast curve, bias field, gain, blur and noise.
        elastic: Elastic deformation: standard deviation of the shifts of a grid of 5 x 5 x 5 nodes over the patch, as a part of the distance between
            nodes; 0 is off. Above 0.3 the deformation folds.
        gin: Probability that a sample's contrast is that of a small random network (GIN, ``data/random_network.py``); 0 is off.
        flip: Of the axes that may be flipped "each" with probability one half (ours), or always exactly "one", so that every patch is a mirror image
            (BCP on LA).
    """

    flip_axes: tuple[int, ...] = (0, 1, 2)
    quarter_turns: bool = False
    rotation_deg: float = 15.0
    scale: float = 0.2
    intensity: float = 1.0
    elastic: float = 0.0
    gin: float = 0.0
    flip: str = "each"

    def __post_init__(self) -> None:
        object.__setattr__(self, "flip_axes", tuple(self.flip_axes))
        if any(axis not in (0, 1, 2) for axis in self.flip_axes):
            raise ValueError(f"flip_axes are 0 (slice), 1 (row) and 2 (column); got {self.flip_axes}")
        if self.flip not in ("each", "one") or (self.flip == "one" and not self.flip_axes):
            raise ValueError(f"flip is 'each' or 'one', and 'one' needs flip_axes; got {self.flip!r} of {self.flip_axes}")
        if not (0 <= self.rotation_deg <= 180 and 0 <= self.scale < 1 and 0 <= self.intensity <= 2):
            raise ValueError(f"rotation_deg is 0 to 180, scale 0 to 1 and intensity 0 to 2; got {self}")
        if not 0 <= self.elastic <= 0.5:
            raise ValueError(f"elastic is 0 to 0.5; got {self.elastic}")
        if not 0 <= self.gin <= 1:
            raise ValueError(f"gin is a probability from 0 to 1; got {self.gin}")

    @property
    def keeps_grid(self) -> bool:
        """True when patches are cut, flipped and turned without interpolation."""
        return self.rotation_deg == 0 and self.scale == 0 and self.elastic == 0


@dataclass(frozen=True)
class PatchDraw:
    """Where a patch comes from.

    Attributes:
        center: (3,) position of the patch's center in voxels of the case.
        matrix: (3, 3) from voxels of the patch to voxels of the case, about the two centers.
        bend: (3, nodes, nodes, nodes) shift of each node of a grid over the patch, in voxels of the patch and along its axes, before the matrix; None
            for a straight patch.
    """

    center: np.ndarray
    matrix: np.ndarray
    bend: np.ndarray | None = None

    def reach(self, patch_size: tuple[int, ...]) -> np.ndarray:
        """(3,) how far the patch reaches from its center, in voxels of the case."""
        half = (np.asarray(patch_size) - 1) / 2
        if self.bend is not None:
            half = half + np.abs(self.bend).max((1, 2, 3))
        return np.abs(self.matrix) @ half


BEND_NODES = 5


def draw_patch(
    rng: np.random.Generator, case_shape: tuple[int, ...], patch_size: tuple[int, ...], options: AugmentOptions
) -> PatchDraw:
    """Draws position, turn, size and flips of one patch.

    The center is uniform over the positions at which an unturned patch stays inside the case; along an axis on which the case is smaller
    than the patch, it is the case's center.
    """
    shape = np.asarray(case_shape, dtype=np.float64)
    size = np.asarray(patch_size, dtype=np.float64)
    flat = size == 1  # a slice of a 2-D task: it is neither turned out of its plane nor scaled or flipped across it
    angles = np.deg2rad(rng.uniform(-options.rotation_deg, options.rotation_deg, 3))
    if flat[0]:
        angles[1:] = 0.0
    scales = np.exp(rng.uniform(-options.scale, options.scale, 3))
    is_flipped = (rng.random(3) < 0.5) & np.isin([0, 1, 2], options.flip_axes)
    if options.flip == "one":
        is_flipped = np.arange(3) == options.flip_axes[int(rng.integers(len(options.flip_axes)))]
    flips = np.where(is_flipped, -1.0, 1.0)
    turns = int(rng.integers(4)) if options.quarter_turns else 0
    if size[1] != size[2]:
        turns -= turns % 2
    scales[flat], flips[flat] = 1.0, 1.0
    matrix = _rotation(angles) * scales
    if turns:
        quarter = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float64)
        matrix = matrix @ np.linalg.matrix_power(quarter, turns)
    if options.keeps_grid:
        free = shape - size
        corner = np.where(free >= 0, np.floor(rng.random(3) * (free + 1)), np.floor(free / 2))
        center = corner + (size - 1) / 2
    else:
        low = np.minimum((size - 1) / 2, (shape - 1) / 2)
        center = low + rng.random(3) * (shape - 1 - 2 * low)
        center = np.where(flat, np.floor(rng.random(3) * shape), center)
    return PatchDraw(center, matrix * flips, _draw_bend(rng, size, options.elastic))


def _draw_bend(rng: np.random.Generator, size: np.ndarray, elastic: float) -> np.ndarray | None:
    if elastic == 0:
        return None
    nodes = BEND_NODES
    spacing = (size - 1) / (nodes - 1)  # 0 across a slice, which stays in its plane
    bend = rng.normal(0, elastic, (3, nodes, nodes, nodes)) * spacing[:, None, None, None]
    if size[0] == 1:
        bend[:] = bend[:, nodes // 2, None]
    return bend


def _rotation(angles: np.ndarray) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def cut_patch(
    image: Tensor, label: Tensor | None, draw: PatchDraw, patch_size: tuple[int, int, int]
) -> tuple[Tensor, Tensor | None]:
    """Cuts one patch of an image (trilinear, edge values outside) and of its label (nearest, background outside).

    A draw that keeps the voxel grid copies voxels as they are.

    Args:
        image: (slice, row, column) floating point, on any device.
        label: (slice, row, column) uint8 on the same device, or None.

    Returns:
        Image (*patch_size) float32 and label (*patch_size) int64 or None.
    """
    on_grid = _voxel_numbers(draw, patch_size)
    if on_grid is not None:
        return _copy(image, *on_grid).float(), None if label is None else _copy(label, *on_grid, outside=0).long()
    grid = _sampling_grid(draw, image.shape, patch_size, image.device)
    volume = image[None, None].float()
    patch = F.grid_sample(volume, grid, mode="bilinear", padding_mode="border", align_corners=False)[0, 0]
    if label is None:
        return patch, None
    mask = F.grid_sample(label[None, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return patch, mask[0, 0].round_().long()


def _voxel_numbers(draw: PatchDraw, patch_size: tuple[int, int, int]) -> tuple[list[int], list[np.ndarray]] | None:
    """The patch axis that each axis of the case follows, and the case's voxels along it; None when they are not whole."""
    size = np.abs(draw.matrix)
    if draw.bend is not None or not (np.isin(size, (0, 1)).all() and (size.sum(0) == 1).all() and (size.sum(1) == 1).all()):
        return None
    follows, numbers = [], []
    for axis, center in enumerate(draw.center):
        other = int(size[axis].argmax())
        positions = center + draw.matrix[axis, other] * (np.arange(patch_size[other]) - (patch_size[other] - 1) / 2)
        if (positions != np.rint(positions)).any():
            return None
        follows.append(other)
        numbers.append(positions.astype(np.int64))
    return follows, numbers


def _copy(case: Tensor, follows: list[int], numbers: list[np.ndarray], outside: int | None = None) -> Tensor:
    """Voxels by number along each axis; outside the case its edge values, or ``outside``."""
    for axis, wanted in enumerate(numbers):
        beyond = np.flatnonzero((wanted < 0) | (wanted >= case.shape[axis]))
        index = to_device(torch.from_numpy(wanted.clip(0, case.shape[axis] - 1)), case.device)
        case = case.index_select(axis, index)
        if outside is not None and len(beyond):
            case = case.index_fill(axis, to_device(torch.from_numpy(beyond), case.device), outside)
    return case.permute(*np.argsort(follows).tolist()).contiguous()


def _sampling_grid(
    draw: PatchDraw, case_shape: tuple[int, ...], patch_size: tuple[int, int, int], device: torch.device
) -> Tensor:
    """(1, *patch, 3) in grid_sample's convention: column, row, slice in [-1, 1] from edge to edge."""
    size = torch.tensor(case_shape, dtype=torch.float64)
    matrix = torch.from_numpy(draw.matrix)
    offset = torch.from_numpy(draw.center) - matrix @ ((torch.tensor(patch_size, dtype=torch.float64) - 1) / 2)
    matrix = 2 * matrix / size[:, None]
    offset = (2 * offset + 1) / size - 1
    # grid_sample counts axes from the fastest: both sides of the affine are reversed.
    matrix, offset = to_device(matrix.flip(0).float(), device), to_device(offset.flip(0).float(), device)
    axes = [torch.arange(count, device=device, dtype=torch.float32) for count in patch_size]
    grid = offset + axes[0].view(-1, 1, 1, 1) * matrix[:, 0]
    grid = grid + axes[1].view(1, -1, 1, 1) * matrix[:, 1] + axes[2].view(1, 1, -1, 1) * matrix[:, 2]
    if draw.bend is not None:
        nodes = to_device(torch.from_numpy(draw.bend).float(), device)[None]
        shift = F.interpolate(nodes, size=tuple(patch_size), mode="trilinear", align_corners=True)[0]
        grid = grid + torch.tensordot(shift, matrix, dims=([0], [1]))
    return grid[None]


@dataclass(frozen=True)
class IntensityDraw:
    """One sample's intensity changes; 0 switches a part off.

    Attributes:
        gamma: Natural logarithm of the contrast curve's exponent.
        inverted: Bend the bright end of the curve instead of the dark one.
        bias: (3, 3, 3) logarithms of the multiplicative field at the nodes of a coarse grid.
        log_gain, offset: ``image * exp(log_gain) + offset``, in units of the image's standard deviation.
        blur_voxels: Standard deviation of the Gaussian blur.
        noise: Standard deviation of the added noise, in units of the image's standard deviation.
        seed: Seeds the noise and the random network.
        gin: Pass the sample through a random network.
    """

    gamma: float
    inverted: bool
    bias: np.ndarray
    log_gain: float
    offset: float
    blur_voxels: float
    noise: float
    seed: int
    gin: bool = False


def draw_intensity(rng: np.random.Generator, strength: float, gin: float = 0.0) -> IntensityDraw:
    """Draws one sample's intensity changes for a strength from 0 to 1 (ours, see decisions.md) and a probability of a random network."""
    return IntensityDraw(
        gamma=strength * rng.uniform(-0.6, 0.6) * (rng.random() < 0.7),
        inverted=bool(rng.random() < 0.5),
        bias=strength * rng.normal(0, 0.15, (3, 3, 3)) * (rng.random() < 0.5),
        log_gain=strength * rng.uniform(-0.25, 0.25),
        offset=strength * rng.uniform(-0.25, 0.25),
        blur_voxels=rng.uniform(0.5, 1.2) * (rng.random() < 0.3 * min(strength, 1.0)),
        noise=strength * rng.uniform(0, 0.2) * (rng.random() < 0.3),
        seed=int(rng.integers(2**63)),
        gin=bool(rng.random() < gin),
    )


def change_intensity(image: Tensor, draws: list[IntensityDraw]) -> Tensor:
    """Applies one draw to each sample.

    Args:
        image: (batch, 1, *space) float32, about zero mean and unit spread.

    Returns:
        A new tensor of the same shape.
    """
    return torch.cat([_change_one(image[index : index + 1], draw) for index, draw in enumerate(draws)])


def _change_one(x: Tensor, draw: IntensityDraw) -> Tensor:
    space = x.shape[2:]
    if draw.blur_voxels > 0:
        x = _blur(x, draw.blur_voxels)
    if draw.gamma != 0:
        low, high = x.amin(), x.amax()
        unit = (x - low) / (high - low).clamp_min(1e-6)
        unit = 1 - (1 - unit) ** np.exp(draw.gamma) if draw.inverted else unit ** np.exp(draw.gamma)
        # The curve changes contrast; overall brightness and spread are the gain's and the offset's business.
        spread, mean = torch.std_mean(x)
        new_spread, new_mean = torch.std_mean(unit)
        x = (unit - new_mean) * (spread / new_spread.clamp_min(1e-6)) + mean
    if np.any(draw.bias):
        coarse = to_device(torch.from_numpy(draw.bias).to(x.dtype), x.device)[None, None]
        if len(space) == 2:
            coarse = coarse[:, :, 1]
        mode = "trilinear" if len(space) == 3 else "bilinear"
        x = x * torch.exp(F.interpolate(coarse, size=space, mode=mode, align_corners=True))
    x = x * float(np.exp(draw.log_gain)) + draw.offset
    if draw.gin:
        x = random_contrast(x, draw.seed)
    if draw.noise > 0:
        generator = device_generator(x.device, draw.seed)
        x = x + draw.noise * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return x


def _blur(x: Tensor, sigma_voxels: float) -> Tensor:
    steps = torch.arange(-2, 3, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma_voxels) ** 2)
    kernel = kernel / kernel.sum()
    dims = x.ndim - 2
    convolve = F.conv3d if dims == 3 else F.conv2d
    for axis in range(dims):
        shape, padding = [1] * (dims + 2), [0] * dims
        shape[2 + axis], padding[axis] = 5, 2
        weights = kernel.view(shape)
        # Zero padding darkens the border; dividing by the blurred ones restores it.
        edge = convolve(torch.ones_like(x[:1, :1]), weights, padding=padding)
        x = convolve(x, weights, padding=padding) / edge
    return x
