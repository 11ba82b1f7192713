"""A small variational autoencoder for images and masks alike, whose decoder can take in an encoder's features.

The layout of a latent-diffusion autoencoder (Rombach et al., CVPR 2022) at a V-Net's size: one residual block a
level, group normalization and SiLU, convolutions of stride 2 on the way down, nearest doubling and a convolution on
the way up. With widths 8, 16, 32, 64 in 3-D encoder and decoder have 0.75 million parameters, and 80 x 112 x 112
voxels become 4 x 10 x 14 x 14.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolution(in_channels: int, out_channels: int, side: int, stride: int, spatial_dims: int) -> nn.Module:
    """One convolution that keeps the size, or halves it with a stride of 2."""
    kind = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
    return kind(in_channels, out_channels, side, stride, padding=side // 2)


def group_norm(num_channels: int) -> nn.GroupNorm:
    """Group normalization with up to 16 groups of at least two channels."""
    return nn.GroupNorm(math.gcd(16, max(1, num_channels // 2)), num_channels)


def _silu_convolution(in_channels: int, out_channels: int, spatial_dims: int) -> nn.Sequential:
    return nn.Sequential(group_norm(in_channels), nn.SiLU(), convolution(in_channels, out_channels, 3, 1, spatial_dims))


class _Block(nn.Module):
    """x + f(x), f twice normalization, SiLU, convolution."""

    def __init__(self, channels: int, spatial_dims: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _silu_convolution(channels, channels, spatial_dims), _silu_convolution(channels, channels, spatial_dims)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Encoding(NamedTuple):
    """What an encoder makes of an image.

    Attributes:
        mean: (batch, latent channel, *coarse space).
        log_variance: The same shape.
        skips: One (batch, channel, *space) map for each level, finest first.
    """

    mean: Tensor
    log_variance: Tensor
    skips: list[Tensor]


class Encoder(nn.Module):
    """(batch, in_channels, *space) -> a Gaussian over latents and the features of each level."""

    def __init__(self, in_channels: int, widths: Sequence[int], latent_channels: int, spatial_dims: int) -> None:
        super().__init__()
        self.enter = nn.ModuleList(
            convolution(source, width, 3, 1 if level == 0 else 2, spatial_dims)
            for level, (source, width) in enumerate(zip([in_channels, *widths], widths))
        )
        self.blocks = nn.ModuleList(_Block(width, spatial_dims) for width in widths)
        self.leave = _silu_convolution(widths[-1], 2 * latent_channels, spatial_dims)

    def forward(self, x: Tensor) -> Encoding:
        skips = []
        for enter, block in zip(self.enter, self.blocks):
            x = block(enter(x))
            skips.append(x)
        mean, log_variance = self.leave(x).chunk(2, dim=1)
        return Encoding(mean, log_variance.clamp(-30, 20), skips)


class Decoder(nn.Module):
    """(batch, latent channel, *coarse space) -> (batch, out_channels, *space)."""

    def __init__(self, out_channels: int, widths: Sequence[int], latent_channels: int, spatial_dims: int) -> None:
        super().__init__()
        downwards = list(reversed(widths))
        self.enter = nn.ModuleList(
            convolution(source, width, 3, 1, spatial_dims)
            for source, width in zip([latent_channels, *downwards], downwards)
        )
        self.blocks = nn.ModuleList(_Block(width, spatial_dims) for width in downwards)
        self.before_head = nn.Sequential(group_norm(widths[0]), nn.SiLU())
        self.head = convolution(widths[0], out_channels, 3, 1, spatial_dims)

    def forward(self, latent: Tensor, adapters: nn.ModuleList | None = None, skips: Sequence[Tensor] = ()) -> Tensor:
        """Decodes a latent, with the features of an encoder where adapters are given."""
        return self.values(self.features(latent, adapters, skips)[-1])

    def features(
        self, latent: Tensor, adapters: nn.ModuleList | None = None, skips: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """Maps of all levels, coarsest first; the last is what ``values`` takes.

        Args:
            latent: (batch, latent channel, *coarse space).
            adapters: One ``SkipAdapter`` for each level, coarsest first.
            skips: An encoder's maps, finest first.
        """
        x, maps = latent, []
        for level, (enter, block) in enumerate(zip(self.enter, self.blocks)):
            x = block(enter(x if level == 0 else F.interpolate(x, scale_factor=2.0, mode="nearest")))
            if adapters is not None:
                x = adapters[level](x, skips[-1 - level])
            maps.append(x)
        maps[-1] = self.before_head(maps[-1])
        return maps

    def values(self, head_input: Tensor) -> Tensor:
        """The head, in fp32."""
        with torch.autocast(head_input.device.type, enabled=False):
            return self.head(head_input.float())


class SkipAdapter(nn.Module):
    """Brings an encoder's features into a decoder level that was trained without them (SemiGDA's cross-domain skip
    adapter).

    A residual block on both, concatenated. It starts as the identity on the decoder's features, so that an aligned
    decoder is not disturbed.
    """

    def __init__(self, channels: int, spatial_dims: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _silu_convolution(2 * channels, channels, spatial_dims), _silu_convolution(channels, channels, spatial_dims)
        )
        self.shortcut = convolution(2 * channels, channels, 1, 1, spatial_dims)
        with torch.no_grad():
            for parameter in (*self.body[1][2].parameters(), *self.shortcut.parameters()):
                parameter.zero_()
            self.shortcut.weight[:, :channels].flatten(1).fill_diagonal_(1.0)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        both = torch.cat([x, skip], dim=1)
        return self.shortcut(both) + self.body(both)
