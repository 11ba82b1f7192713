"""From an image to the latent of its mask, two ways (SemiGDA's two branches).

``LatentMapping`` moves the frozen encoder's latent of the image; its layout is that of GMS (Huo et al., 2024).
``ResidualEncoder`` goes there from the image itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autoencoder import convolution, group_norm
from .residual import residual_stage

_STAGE_BLOCKS = (1, 3, 4, 6, 3)


class _AttentionBlock(nn.Module):
    """A residual block followed by attention of every position to every other, one head."""

    def __init__(self, in_channels: int, out_channels: int, spatial_dims: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(in_channels, out_channels, 3, 1, spatial_dims),
            group_norm(out_channels),
            nn.PReLU(),
            convolution(out_channels, out_channels, 3, 1, spatial_dims),
            group_norm(out_channels),
        )
        self.shortcut = (
            nn.Identity() if in_channels == out_channels else convolution(in_channels, out_channels, 1, 1, spatial_dims)
        )
        self.activation = nn.PReLU()
        self.norm = group_norm(out_channels)
        self.query_key_value = nn.Linear(out_channels, 3 * out_channels)
        self.leave = nn.Linear(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.body(x) + self.shortcut(x))
        tokens_BnC = self.norm(x).flatten(2).transpose(1, 2)
        query, key, value = self.query_key_value(tokens_BnC).chunk(3, dim=2)
        mixed_BnC = self.leave(F.scaled_dot_product_attention(query, key, value))
        return x + mixed_BnC.transpose(1, 2).reshape(x.shape)


class LatentMapping(nn.Module):
    """(batch, latent channel, *coarse space) -> the same, without any change of size.

    With width 32: blocks of 32, 64, 128, 128 and back over 128, 64, 32, 32 with concatenation; 4.05 million
    parameters in 3-D.
    """

    def __init__(self, latent_channels: int, width: int, spatial_dims: int) -> None:
        super().__init__()
        self.enter = convolution(latent_channels, width, 3, 1, spatial_dims)
        forth = (width, width, 2 * width, 4 * width, 4 * width)
        self.forth = nn.ModuleList(_AttentionBlock(a, b, spatial_dims) for a, b in pairwise(forth))
        back = (4 * width, 4 * width, 2 * width, width, width)
        beside = (4 * width, 2 * width, width, width)
        self.back = nn.ModuleList(_AttentionBlock(a + s, b, spatial_dims) for a, s, b in zip(back, beside, back[1:]))
        self.leave = nn.Sequential(
            group_norm(width), nn.SiLU(), convolution(width, latent_channels, 3, 1, spatial_dims)
        )

    def forward(self, latent: Tensor) -> Tensor:
        x = self.enter(latent)
        before = [x]
        for block in self.forth:
            x = block(x)
            before.append(x)
        before.pop()
        for block in self.back:
            x = block(torch.cat([x, before.pop()], dim=1))
        return self.leave(x)


class ResidualEncoder(nn.Module):
    """(batch, in_channels, *space) -> a latent and the maps of each level, shaped as ``autoencoder.Encoder``'s.

    The last convolution has nothing behind it: an activation there would bound the latent from one side.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], latent_channels: int, spatial_dims: int) -> None:
        super().__init__()
        self.enter = convolution(in_channels, widths[0], 3, 1, spatial_dims)
        self.stages = nn.ModuleList(
            residual_stage(
                source, width, _STAGE_BLOCKS[min(level, 4)], 1 if level == 0 else 2, "instance", spatial_dims
            )
            for level, (source, width) in enumerate(zip([widths[0], *widths], widths))
        )
        self.leave = convolution(widths[-1], latent_channels, 3, 1, spatial_dims)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = self.enter(x)
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return self.leave(x), skips
