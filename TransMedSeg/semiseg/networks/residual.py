"""The basic block of residual networks (He et al., CVPR 2016), in 2-D and 3-D."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .normalization import InstanceNorm, make_norm

STAGE_BLOCKS = (3, 4, 6, 3, 3)
"""Blocks of ResNet-34's stages; a fifth repeats the last."""


def plain_norm(name: str, num_channels: int, spatial_dims: int) -> nn.Module:
    """A normalization without scale and shift where it is by instance, as SDCL's residual encoder has it."""
    return (
        InstanceNorm(num_channels, affine=False) if name == "instance" else make_norm(name, num_channels, spatial_dims)
    )


class ResidualBlock(nn.Module):
    """ReLU(x + f(x)), f two convolutions of side 3; where the shape changes, x passes a convolution of side 1."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str, spatial_dims: int) -> None:
        super().__init__()
        convolution = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        self.body = nn.Sequential(
            convolution(in_channels, out_channels, 3, stride, padding=1, bias=False),
            plain_norm(norm, out_channels, spatial_dims),
            nn.ReLU(inplace=True),
            convolution(out_channels, out_channels, 3, padding=1, bias=False),
            plain_norm(norm, out_channels, spatial_dims),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                convolution(in_channels, out_channels, 1, bias=False), plain_norm(norm, out_channels, spatial_dims)
            )
        # Instead of a stride of the convolution: with one of side 1 on channels-last planes of fewer than 16 channels
        # PyTorch 2.13 writes beyond its memory on a CPU.
        self._kept = (..., *[slice(None, None, stride)] * spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x[self._kept]))


def residual_stage(
    in_channels: int, out_channels: int, num_blocks: int, stride: int, norm: str, spatial_dims: int
) -> nn.Sequential:
    """Blocks one after the other; the first changes channels and size."""
    blocks = [ResidualBlock(in_channels, out_channels, stride, norm, spatial_dims)]
    blocks += [ResidualBlock(out_channels, out_channels, 1, norm, spatial_dims) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)
