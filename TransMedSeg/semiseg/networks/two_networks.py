"""Two networks that predict as one, for methods that train a pair (cross pseudo-supervision, MICD)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .output import NetworkOutput

AVERAGES = ("probabilities", "logits")


@dataclass(frozen=True)
class TwoNetworksOptions:
    """Options of a pair in 3-D.

    Attributes:
        first: Name of the first network.
        first_options: Its options.
        second: Name of the second network.
        second_options: Its options.
        average: What the pair averages: "probabilities", or "logits" (DHC, which MICD builds on).
    """

    first: str = "vnet"
    first_options: Mapping[str, Any] = field(default_factory=dict)
    second: str = "resvnet"
    second_options: Mapping[str, Any] = field(default_factory=dict)
    average: str = "probabilities"

    def __post_init__(self) -> None:
        if self.average not in AVERAGES:
            raise ValueError(f"average must be one of {AVERAGES}; got {self.average!r}")


@dataclass(frozen=True)
class TwoPlanarNetworksOptions(TwoNetworksOptions):
    """Options of a pair in 2-D; the same as in 3-D with other defaults."""

    first: str = "unet2d"
    second: str = "unet2d"


class TwoNetworks(nn.Module):
    """(batch, in_channels, *space) -> the average of both; its features are the first network's.

    The average of probabilities is returned as its logarithm, so that softmax gives it back.
    """

    def __init__(self, first: nn.Module, second: nn.Module, average: str = "probabilities") -> None:
        super().__init__()
        self.first, self.second, self.average = first, second, average
        self.spatial_dims = first.spatial_dims
        self.downscale = max(first.downscale, second.downscale)  # both are powers of two

    @property
    def head(self) -> nn.Module:
        """The first network's classifier."""
        return self.first.head

    def forward(self, x: Tensor) -> NetworkOutput:
        first, second = self.first(x), self.second(x)
        return NetworkOutput(average_logits(first.logits, second.logits, self.average), first.features)


def pair_by_name(
    first: tuple[str, Mapping[str, Any]],
    second: tuple[str, Mapping[str, Any]],
    average: str = "probabilities",
    spatial_dims: int = 3,
) -> tuple[str, dict[str, Any]]:
    """Name and options with which ``build_network`` makes a pair again.

    Args:
        first: Name and options of the first network.
        second: Of the second.
        average: One of ``AVERAGES``.
        spatial_dims: 2 or 3.
    """
    options = {
        "first": first[0],
        "first_options": dict(first[1]),
        "second": second[0],
        "second_options": dict(second[1]),
        "average": average,
    }
    return f"two_networks{spatial_dims}d", options


def average_logits(first_BCX: Tensor, second_BCX: Tensor, average: str = "probabilities") -> Tensor:
    """Logits of an average of two predictions, in fp32.

    Args:
        first_BCX: (batch, class, *space) logits.
        second_BCX: The same.
        average: One of ``AVERAGES``.
    """
    first_BCX, second_BCX = first_BCX.float(), second_BCX.float()
    if average == "logits":
        return (first_BCX + second_BCX) / 2
    # log((p + q) / 2) from the logarithms of both: nothing is rounded to 0 on the way.
    return first_BCX.log_softmax(1).logaddexp(second_BCX.log_softmax(1)) - 0.6931471805599453
