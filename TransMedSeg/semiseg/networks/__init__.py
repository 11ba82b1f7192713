"""The networks by name. A new network is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from ..errors import InputError
from .monai_network import PREFIX as MONAI
from .monai_network import MonaiNetwork, MonaiOptions
from .monai_table import MONAI_NETWORKS, filled
from .resvnet import ResVNet, ResVNetOptions
from .semigda import SemiGDANetwork, SemiGDANetworkOptions
from .two_networks import TwoNetworks, TwoNetworksOptions, TwoPlanarNetworksOptions
from .unet import UNet, UNetOptions
from .vnet import VNet, VNetOptions


class NetworkEntry(NamedTuple):
    """How to build a network and what it can be told.

    Attributes:
        title: One line for people.
        source: Paper, and the code whose variant it is.
        spatial_dims: 2 or 3.
        options: The dataclass of its options; the docstring explains each.
        build: (in_channels, num_classes, options) -> network.
        by_method_only: A method builds it from others and writes it to the model file; a job cannot choose it.
        filled: Options as a job states them -> with what this network needs beyond the defaults of the dataclass.
    """

    title: str
    source: str
    spatial_dims: int
    options: type
    build: Any
    by_method_only: bool = False
    filled: Callable[[Mapping[str, Any]], dict[str, Any]] = dict


def _two_networks(in_channels: int, num_classes: int, options: TwoNetworksOptions) -> TwoNetworks:
    first = build_network(options.first, in_channels, num_classes, dict(options.first_options))
    second = build_network(options.second, in_channels, num_classes, dict(options.second_options))
    return TwoNetworks(first, second, options.average)


NETWORKS: dict[str, NetworkEntry] = {
    "vnet": NetworkEntry("V-Net", "3DV 2016, UA-MT variant", 3, VNetOptions, VNet),
    "resvnet": NetworkEntry("Residual V-Net", "SDCL, MICCAI 2024", 3, ResVNetOptions, ResVNet),
    "unet3d": NetworkEntry(
        "3-D U-Net", "MICCAI 2016, layout of the 2-D one", 3, UNetOptions, lambda i, c, o: UNet(i, c, 3, o)
    ),
    "unet2d": NetworkEntry("2-D U-Net", "MICCAI 2015, SSL4MIS variant", 2, UNetOptions, lambda i, c, o: UNet(i, c, 2, o)),
    "two_networks3d": NetworkEntry("Two 3-D networks", "CPS, MICD", 3, TwoNetworksOptions, _two_networks, True),
    "two_networks2d": NetworkEntry("Two 2-D networks", "CPS, MICD", 2, TwoPlanarNetworksOptions, _two_networks, True),
    "semigda3d": NetworkEntry(
        "SemiGDA, 3-D", "CVPR 2026, ours in 3-D", 3, SemiGDANetworkOptions, lambda i, c, o: SemiGDANetwork(i, c, 3, o), True
    ),
    "semigda2d": NetworkEntry(
        "SemiGDA, 2-D", "CVPR 2026, small autoencoder", 2, SemiGDANetworkOptions, lambda i, c, o: SemiGDANetwork(i, c, 2, o), True
    ),
}

CHOOSABLE = tuple(name for name, entry in NETWORKS.items() if not entry.by_method_only)
"""The networks that a job can choose, beside ``monai:`` and a name of MONAI's."""

DEFAULT_NETWORK = "vnet"
"""Where neither the job nor the layout of its files names one."""


def network_entry(name: str) -> NetworkEntry:
    """The entry of a network; ``monai:NAME`` is any network of MONAI.

    Raises:
        InputError: There is no network of this name.
    """
    if name.startswith(MONAI):
        kind = name.removeprefix(MONAI)
        known = MONAI_NETWORKS.get(kind)
        title, source = (known.title, known.source) if known else (kind, "MONAI")
        return NetworkEntry(title, source, 3, MonaiOptions, lambda i, c, o: MonaiNetwork(kind, i, c, o), filled=partial(filled, kind))
    if name not in NETWORKS:
        raise InputError(f"There is no network named {name!r}.", hint=f"Choose one of {', '.join(CHOOSABLE)}, or {MONAI}NAME with MONAI installed.")
    return NETWORKS[name]


def build_network(name: str, in_channels: int, num_classes: int, options: dict[str, Any] | None = None) -> nn.Module:
    """Builds a network by name.

    Args:
        name: A key of ``NETWORKS``, or ``monai:`` and the name of one of MONAI's.
        in_channels: Channels of the image.
        num_classes: Classes including the background.
        options: Fields of the network's options that differ from their defaults.

    Returns:
        A module that maps (batch, in_channels, *space) to a ``NetworkOutput`` and has the attributes ``head`` (the last
        convolution), ``downscale`` (the patch sides must divide by it) and ``spatial_dims``.

    Raises:
        InputError: The name, an option or its value is unknown.
    """
    entry = network_entry(name)
    known = {field.name for field in fields(entry.options)}
    unknown = set(options or {}) - known
    if unknown:
        raise InputError(
            f"The network {name!r} has no option {', '.join(sorted(unknown))}.", hint=f"It has {', '.join(sorted(known))}."
        )
    try:
        chosen = entry.options(**entry.filled(options or {}))
    except ValueError as error:
        raise InputError(f"The options of the network {name!r} do not fit: {error}.") from error
    return entry.build(in_channels, num_classes, chosen)
