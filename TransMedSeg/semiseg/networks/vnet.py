"""V-Net, as the left-atrium literature uses it.

Milletari, Navab, Ahmadi: V-Net, 3DV 2016, in the variant of UA-MT (Yu et al., MICCAI 2019): addition skips, no residuals,
1-2-3-3-3 convolutions down and 3-3-2-1 up. With width 16, batch normalization and 1 -> 2 classes it has 9,448,866 parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .normalization import NORMS, make_norm
from .output import NetworkOutput

_CONVOLUTIONS_DOWN = (1, 2, 3, 3, 3, 3)
_CONVOLUTIONS_UP = (1, 2, 3, 3, 3)  # finest level first


@dataclass(frozen=True)
class VNetOptions:
    """Options of the V-Net.

    Attributes:
        width: Channels at the finest level; each level down doubles them. The papers use 16.
        depth: Levels, 3 to 6. The papers use 5; every patch side must divide by ``2 ** (depth - 1)``.
        norm: "batch" (the papers), "instance", "group" or "none".
        dropout: Channel dropout after the bottleneck and before the classifier, training only. The papers use 0.5 on LA.
        bottleneck_graph: Put GraphCL's structure-aware alignment on the bottleneck.
        coarse_stem: The finest level has no 3x3x3 convolutions: images enter through the first halving and leave through a
            last doubling. On a CPU a step costs about two thirds; the papers do not.
    """

    width: int = 16
    depth: int = 5
    norm: str = "batch"
    dropout: float = 0.5
    bottleneck_graph: bool = False
    coarse_stem: bool = False

    def __post_init__(self) -> None:
        if not 3 <= self.depth <= 6:
            raise ValueError(f"depth of a V-Net is 3 to 6; got {self.depth}")
        if self.norm not in NORMS:
            raise ValueError(f"norm must be one of {NORMS}; got {self.norm!r}")
        if self.width < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"width must be at least 1 and dropout in [0, 1); got {self.width} and {self.dropout}")


class _Convolutions(nn.Sequential):
    """``count`` times convolution 3x3x3, normalization, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, count: int, norm: str) -> None:
        layers: list[nn.Module] = []
        for index in range(count):
            layers += [
                nn.Conv3d(in_channels if index == 0 else out_channels, out_channels, 3, padding=1),
                make_norm(norm, out_channels, 3),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class _Halve(nn.Sequential):
    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__(
            nn.Conv3d(in_channels, out_channels, 2, stride=2), make_norm(norm, out_channels, 3), nn.ReLU(inplace=True)
        )


class _Double(nn.Sequential):
    def __init__(self, channels: int, norm: str) -> None:
        super().__init__(
            nn.ConvTranspose3d(channels, channels // 2, 2, stride=2),
            make_norm(norm, channels // 2, 3),
            nn.ReLU(inplace=True),
        )


class VNet(nn.Module):
    """(batch, in_channels, slice, row, column) -> logits (batch, class, slice, row, column)."""

    spatial_dims = 3

    def __init__(self, in_channels: int, num_classes: int, options: VNetOptions = VNetOptions()) -> None:
        super().__init__()
        channels = [options.width * 2**level for level in range(options.depth)]
        self.downscale = 2 ** (options.depth - 1)
        self.coarse_stem = options.coarse_stem
        self.encoder = nn.ModuleList()
        if not options.coarse_stem:
            self.encoder.append(_Convolutions(in_channels, channels[0], _CONVOLUTIONS_DOWN[0], options.norm))
        for level in range(1, options.depth):
            source = in_channels if options.coarse_stem and level == 1 else channels[level - 1]
            self.encoder.append(
                nn.Sequential(
                    _Halve(source, channels[level], options.norm),
                    _Convolutions(channels[level], channels[level], _CONVOLUTIONS_DOWN[level], options.norm),
                )
            )
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in reversed(range(options.depth - 1)):
            self.up.append(_Double(channels[level + 1], options.norm))
            if level > 0 or not options.coarse_stem:
                self.decoder.append(_Convolutions(channels[level], channels[level], _CONVOLUTIONS_UP[level], options.norm))
        self.dropout = nn.Dropout3d(options.dropout)
        self.head = nn.Conv3d(channels[0], num_classes, 1)
        self.graph: nn.Module | None = None
        if options.bottleneck_graph:
            from .graph import StructureAlignment

            self.graph = StructureAlignment(channels[-1])

    def forward(self, x: Tensor) -> NetworkOutput:
        skips: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        x = skips.pop()
        features = {"bottleneck": x}
        if self.graph is not None:
            x = self.graph(x)
        x = self.dropout(x)
        for level, up in enumerate(self.up, start=1):
            x = up(x)
            if skips:
                x = self.decoder[level - 1](x + skips.pop())
            features[f"decoder_{level}"] = x
        features["head_input"] = x
        # The classifier runs in fp32: bf16 logits near 20 come in steps of 0.125, as large as TSA's margins.
        with torch.autocast(x.device.type, enabled=False):
            logits = self.head(self.dropout(x).float())
        return NetworkOutput(logits, features)
