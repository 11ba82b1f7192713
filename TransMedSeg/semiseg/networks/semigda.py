"""SemiGDA's network at a V-Net's size: a frozen autoencoder, and two ways from an image to its mask's latent.

Huang, Zhou, Zhang, Li, Zhou: SemiGDA, CVPR 2026. The original is 2-D, for two classes, and uses the autoencoder of
Stable Diffusion; here a small one is trained first, in 2-D or 3-D, and masks of K > 2 classes are K channels of -1
and 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .autoencoder import Decoder, Encoder, SkipAdapter
from .latent_mapping import LatentMapping, ResidualEncoder
from .output import NetworkOutput
from .two_networks import average_logits

SHARPNESS = 8.0
"""Logit of the foreground at a decoded value of 1: probability 0.9997, and no clamp whose gradient is zero."""


@dataclass(frozen=True)
class SemiGDANetworkOptions:
    """Options of SemiGDA's network.

    Attributes:
        width: Channels at the finest level; each level down doubles them, and the latent mapping starts with four
            times as many. Ours: 8.
        depth: Levels, 2 to 5; every patch side must divide by ``2 ** (depth - 1)``. Ours: 4, as the original's
            autoencoder.
        latent_channels: Channels of a latent. SemiGDA: 4.
    """

    width: int = 8
    depth: int = 4
    latent_channels: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.depth <= 5 or self.width < 2 or self.latent_channels < 1:
            raise ValueError(f"depth is 2 to 5, width at least 2 and latent_channels at least 1; got {self}")


class SemiGDANetwork(nn.Module):
    """(batch, 1, *space) -> logits (batch, class, *space), the mean of both branches.

    Latents of ``map_image`` and of the branches are standardized by the mean and spread of mask latents, which
    training collects.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        options: SemiGDANetworkOptions = SemiGDANetworkOptions(),
    ) -> None:
        super().__init__()
        if in_channels != 1:
            raise ValueError(
                f"SemiGDA's encoder is shared by images and masks and needs images of 1 channel; got {in_channels}"
            )
        self.num_classes, self.spatial_dims = num_classes, spatial_dims
        self.downscale = 2 ** (options.depth - 1)
        self.code_channels = 1 if num_classes == 2 else num_classes
        widths = [options.width * 2**level for level in range(options.depth)]
        self.encoder = Encoder(self.code_channels, widths, options.latent_channels, spatial_dims)
        self.decoder = Decoder(self.code_channels, widths, options.latent_channels, spatial_dims)
        self.mapping = LatentMapping(options.latent_channels, 4 * options.width, spatial_dims)
        self.residual_encoder = ResidualEncoder(in_channels, widths, options.latent_channels, spatial_dims)
        self.image_adapters = nn.ModuleList(SkipAdapter(width, spatial_dims) for width in reversed(widths))
        self.mask_adapters = nn.ModuleList(SkipAdapter(width, spatial_dims) for width in reversed(widths))
        shape = (1, options.latent_channels, *[1] * spatial_dims)
        self.register_buffer("latent_mean", torch.zeros(shape))
        self.register_buffer("latent_spread", torch.ones(shape))

    @property
    def head(self) -> nn.Module:
        """The decoder's last convolution."""
        return self.decoder.head

    def as_code(self, images: Tensor) -> Tensor:
        """Images in the range and with the channels of masks, (batch, code channel, *space)."""
        return images.tanh().expand(-1, self.code_channels, *[-1] * self.spatial_dims)

    def standardize(self, latent: Tensor) -> Tensor:
        """A latent of the encoder, as the branches see it."""
        return (latent - self.latent_mean) / self.latent_spread

    def read_out(self, values: Tensor) -> Tensor:
        """Decoded values (batch, code channel, *space) to logits (batch, class, *space)."""
        if self.code_channels == 1:
            return torch.cat([torch.zeros_like(values), SHARPNESS * values], dim=1)
        return SHARPNESS / 2 * values

    def decode(self, latent: Tensor, adapters: nn.ModuleList, skips: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits and decoder maps (coarsest first) of a standardized latent, with the skips of a branch."""
        maps = self.decoder.features(latent * self.latent_spread + self.latent_mean, adapters, skips)
        return self.read_out(self.decoder.values(maps[-1])), maps

    def forward(self, x: Tensor) -> NetworkOutput:
        encoding = self.encoder(self.as_code(x))
        mapped = self.mapping(self.standardize(encoding.mean))
        first, maps = self.decode(mapped, self.image_adapters, encoding.skips)
        second, _ = self.decode(*self._residual_branch(x))
        features = {
            "bottleneck": mapped,
            **{f"decoder_{k}": one for k, one in enumerate(maps, start=1)},
            "head_input": maps[-1],
        }
        return NetworkOutput(average_logits(first, second), features)

    def _residual_branch(self, x: Tensor) -> tuple[Tensor, nn.ModuleList, list[Tensor]]:
        latent, skips = self.residual_encoder(x)
        return latent, self.mask_adapters, skips
