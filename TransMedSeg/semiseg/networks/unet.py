"""U-Net in 2-D and 3-D, in the variant of SSL4MIS that the ACDC literature uses.

Ronneberger, Fischer, Brox: U-Net, MICCAI 2015. Two convolutions a block with dropout between them, max pooling, a 1x1 convolution and
(bi/tri)linear doubling on the way up, concatenation skips, and a last convolution of 3x3 that classifies.
With width 16 and 1 -> 4 classes the 2-D network has 1,813,764 parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .normalization import NORMS, make_norm
from .output import NetworkOutput

_DROPOUT_DOWN = (0.05, 0.1, 0.2, 0.3, 0.5, 0.5)


@dataclass(frozen=True)
class UNetOptions:
    """Options of the U-Net.

    Attributes:
        width: Channels at the finest level; each level down doubles them. SSL4MIS uses 16.
        depth: Levels, 3 to 6. SSL4MIS uses 5; every patch side must divide by ``2 ** (depth - 1)``.
        norm: "batch" (SSL4MIS), "instance", "group" or "none".
        dropout: Factor on SSL4MIS' dropout of 0.05, 0.1, 0.2, 0.3, 0.5 along the encoder; 0 switches it off.
        bottleneck_graph: Put GraphCL's structure-aware alignment on the bottleneck.
    """

    width: int = 16
    depth: int = 5
    norm: str = "batch"
    dropout: float = 1.0
    bottleneck_graph: bool = False

    def __post_init__(self) -> None:
        if not 3 <= self.depth <= 6:
            raise ValueError(f"depth of a U-Net is 3 to 6; got {self.depth}")
        if self.norm not in NORMS:
            raise ValueError(f"norm must be one of {NORMS}; got {self.norm!r}")
        if self.width < 1 or not 0 <= self.dropout <= 1:
            raise ValueError(f"width must be at least 1 and dropout in [0, 1]; got {self.width} and {self.dropout}")


def _block(in_channels: int, out_channels: int, dropout: float, norm: str, spatial_dims: int) -> nn.Sequential:
    convolution = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
    return nn.Sequential(
        convolution(in_channels, out_channels, 3, padding=1),
        make_norm(norm, out_channels, spatial_dims),
        nn.LeakyReLU(0.01, inplace=True),
        nn.Dropout(dropout),
        convolution(out_channels, out_channels, 3, padding=1),
        make_norm(norm, out_channels, spatial_dims),
        nn.LeakyReLU(0.01, inplace=True),
    )


class UNet(nn.Module):
    """(batch, in_channels, *space) -> logits (batch, class, *space), for 2 or 3 axes of space."""

    def __init__(
        self, in_channels: int, num_classes: int, spatial_dims: int, options: UNetOptions = UNetOptions()
    ) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.downscale = 2 ** (options.depth - 1)
        channels = [options.width * 2**level for level in range(options.depth)]
        convolution = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        self.pool = nn.MaxPool3d(2) if spatial_dims == 3 else nn.MaxPool2d(2)
        self.encoder = nn.ModuleList()
        for level, out_channels in enumerate(channels):
            source = in_channels if level == 0 else channels[level - 1]
            dropout = _DROPOUT_DOWN[level] * options.dropout
            self.encoder.append(_block(source, out_channels, dropout, options.norm, spatial_dims))
        self.reduce = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in reversed(range(options.depth - 1)):
            self.reduce.append(convolution(channels[level + 1], channels[level], 1))
            self.decoder.append(_block(2 * channels[level], channels[level], 0.0, options.norm, spatial_dims))
        self.head = convolution(channels[0], num_classes, 3, padding=1)
        self.graph: nn.Module | None = None
        if options.bottleneck_graph:
            from .graph import StructureAlignment

            self.graph = StructureAlignment(channels[-1])

    def forward(self, x: Tensor) -> NetworkOutput:
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else self.pool(x))
            skips.append(x)
        x = skips.pop()
        features = {"bottleneck": x}
        if self.graph is not None:
            x = self.graph(x)
        mode = "trilinear" if self.spatial_dims == 3 else "bilinear"
        for level, (reduce, decode) in enumerate(zip(self.reduce, self.decoder), start=1):
            up = F.interpolate(reduce(x), scale_factor=2, mode=mode, align_corners=True)
            x = decode(torch.cat([skips.pop(), up], dim=1))
            features[f"decoder_{level}"] = x
        features["head_input"] = x
        # The classifier runs in fp32: bf16 logits near 20 come in steps of 0.125, as large as TSA's margins.
        with torch.autocast(x.device.type, enabled=False):
            logits = self.head(x.float())
        return NetworkOutput(logits, features)
