"""Hiding blocks of an image (masked image consistency, Hoyer et al., CVPR 2023; MICD's equation 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def block_mask(
    images: Tensor, ratio: float, block: int, generator: torch.Generator, samples: Sequence[int] | None = None, num_samples: int = 0
) -> Tensor:
    """(batch, 1, *space) of 0 and 1, constant on cubes (squares) of ``block`` voxels; multiply the images with it.

    Exactly ``round(ratio * blocks)`` blocks of each sample are 0, drawn without replacement: with independent draws
    the hidden share of a patch of few blocks would vary from step to step. Blocks at the far faces are cut where the
    side does not divide.

    Args:
        images: (batch, channel, *space); shape and device count.
        ratio: Share of hidden blocks, 0 to 1.
        block: Side of a block in voxels.
        generator: On the device of the images.
        samples: Number of each image among ``num_samples`` that share the generator, such as those of all ranks; None: they are all.
        num_samples: How many images share the generator.

    Raises:
        ValueError: Ratio or block are out of range.
    """
    if not 0 <= ratio <= 1 or block < 1:
        raise ValueError(f"ratio must be in [0, 1] and block at least 1; got {ratio} and {block}")
    space = images.shape[2:]
    grid = [math.ceil(side / block) for side in space]
    count = math.prod(grid)
    total = len(images) if samples is None else num_samples
    noise_Bn = torch.rand(total, count, generator=generator, device=images.device)
    if samples is not None:
        noise_Bn = noise_Bn[list(samples)]
    rank_Bn = noise_Bn.argsort(1).argsort(1)
    visible = (rank_Bn >= round(ratio * count)).to(images.dtype).view(len(images), 1, *grid)
    mask = F.interpolate(visible, scale_factor=float(block), mode="nearest") if block > 1 else visible
    return mask[(..., *(slice(side) for side in space))]
