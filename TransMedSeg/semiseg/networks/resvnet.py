"""Residual V-Net, the second network of SDCL (Song and Wang, MICCAI 2024) and of our MICD on two classes.

An encoder of residual blocks with the stage lengths of ResNet-34 in front of the V-Net's decoder. Decoder maps have
the V-Net's shapes level by level, which MICD's feature consistency needs. With width 16 and 1 -> 2 classes it has
17.92 million parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from .residual import STAGE_BLOCKS, plain_norm, residual_stage
from .vnet import VNet, VNetOptions


@dataclass(frozen=True)
class ResVNetOptions:
    """Options of the residual V-Net.

    Attributes:
        width: Channels at the finest level; each level down doubles them. SDCL uses 16.
        depth: Levels, 3 to 6. SDCL uses 5; every patch side must divide by ``2 ** (depth - 1)``.
        norm: "instance" (SDCL; without scale and shift in the encoder), "batch", "group" or "none".
        dropout: Channel dropout after the bottleneck and before the classifier, training only. SDCL uses 0.5.
        coarse_stem: Images enter through the first halving and leave through a last doubling, without the 7x7x7
            convolution at the finest level, as the V-Net's option of this name; SDCL does not.
    """

    width: int = 16
    depth: int = 5
    norm: str = "instance"
    dropout: float = 0.5
    coarse_stem: bool = False

    def __post_init__(self) -> None:
        _ = self.vnet  # its own checks

    @property
    def vnet(self) -> VNetOptions:
        """The V-Net whose decoder this is."""
        return VNetOptions(self.width, self.depth, self.norm, self.dropout, coarse_stem=self.coarse_stem)


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
                    plain_norm(options.norm, channels[0], 3),
                    nn.ReLU(inplace=True),
                )
            )
        for level in range(1, options.depth):
            source = in_channels if options.coarse_stem and level == 1 else channels[level - 1]
            stages.append(residual_stage(source, channels[level], STAGE_BLOCKS[level - 1], 2, options.norm, 3))
        self.encoder = nn.ModuleList(stages)
