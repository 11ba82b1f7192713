"""Residual V-Net, the second network of SDCL (Song and Wang, MICCAI 2024) and of our MICD on two classes.

An encoder of residual blocks with the stage lengths of ResNet-34 in front of the V-Net's decoder. Decoder maps have the V-Net's shapes level by level, which MICD's feature consistency needs. With width 16 and 1 -> 2 classes it has 17.92 million parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .normalization import InstanceNorm, make_norm
from .vnet import VNet, VNetOptions

_BLOCKS = (3, 4, 6, 3, 3)  # ResNet-34; a sixth level repeats the last


@dataclass(frozen=True)
class ResVNetOptions:
    """Options of the residual V-Net.

    Attributes:
        width: Channels at the finest level; each level down doubles them. SDCL uses 16.
        depth: Levels, 3 to 6. SDCL uses 5; every patch side must divide by ``2 ** (depth - 1)``.
        norm: "instance" (SDCL; without scale and shift in the encoder), "batch", "group" or "none".
        dropout: Channel dropout after the bottleneck and before the classifier, training only. SDCL uses 0.5.
        coarse_stem: Images enter through the first halving and leave through a last doubling, without the 7x7x7 convolution at the
            finest level. On a CPU a step costs a third; SDCL does not.
    """

    width: int = 16
    depth: int = 5
    norm: str = "instance"
    dropout: float = 0.5
    coarse_stem: bool = False

    def __post_init__(self) -> None:
        self.vnet  # its own checks

    @property
    def vnet(self) -> VNetOptions:
        """The V-Net whose decoder this is."""
        return VNetOptions(self.width, self.depth, self.norm, self.dropout, coarse_stem=self.coarse_stem)


def _norm(name: str, channels: int) -> nn.Module:
    return InstanceNorm(channels, affine=False) if name == "instance" else make_norm(name, channels, 3)


class _ResidualBlock(nn.Module):
    """ReLU(x + f(x)), f two convolutions 3x3x3; where the shape changes, x passes a 1x1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            _norm(norm, out_channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False),
            _norm(norm, out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, stride, bias=False), _norm(norm, out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class ResVNet(VNet):
    """(batch, in_channels, slice, row, column) -> logits (batch, class, slice, row, column)."""

    def __init__(self, in_channels: int, num_classes: int, options: ResVNetOptions = ResVNetOptions()) -> None:
        super().__init__(in_channels, num_classes, options.vnet)
        channels = [options.width * 2**level for level in range(options.depth)]
        stages: list[nn.Module] = []
        if not options.coarse_stem:
            stages.append(
                nn.Sequential(
                    nn.Conv3d(in_channels, channels[0], 7, padding=3, bias=False),
                    _norm(options.norm, channels[0]),
                    nn.ReLU(inplace=True),
                )
            )
        for level in range(1, options.depth):
            source = in_channels if options.coarse_stem and level == 1 else channels[level - 1]
            blocks = [_ResidualBlock(source, channels[level], 2, options.norm)]
            blocks += [_ResidualBlock(channels[level], channels[level], 1, options.norm) for _ in range(_BLOCKS[level - 1] - 1)]
            stages.append(nn.Sequential(*blocks))
        self.encoder = nn.ModuleList(stages)
