"""Any 3-D network of MONAI by name, such as ``monai:SwinUNETR``, when the optional extra ``monai`` is installed.

MONAI's networks return logits alone. One forward pass on zeros finds the two layers that methods look at: the *head*, the convolution whose output is
the network's, and the *bottleneck*, the last convolution that writes the coarsest map. From then on hooks carry the input of the one and the output of
the other out of every pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ..errors import InputError
from .output import NetworkOutput

PREFIX = "monai:"


@dataclass(frozen=True)
class MonaiOptions:
    """Options of a network of MONAI.

    Attributes:
        arguments: What MONAI's class is called with, such as ``{"feature_size": 12}``; channels and classes follow from the task, and the
            ``img_size`` of a network that is built for one size from the patch.
        downscale: Every patch side must divide by it. 32 suits SwinUNETR, 16 most others.
        bottleneck_graph: Put GraphCL's structure-aware alignment on the bottleneck.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    downscale: int = 32
    bottleneck_graph: bool = False

    def __post_init__(self) -> None:
        if self.downscale < 1:
            raise ValueError(f"downscale must be at least 1; got {self.downscale}")
        if not isinstance(self.arguments, Mapping):
            raise ValueError(f'arguments must be a group such as {{"feature_size": 12}}; got {self.arguments!r}')

    @property
    def fixed_image_size(self) -> tuple[int, ...] | None:
        """The only size of image that the network takes, in voxels along (slice, row, column); None where it takes any."""
        return sides_of(self.arguments.get("img_size"))


class MonaiNetwork(nn.Module):
    """(batch, in_channels, slice, row, column) -> logits of the same space, with ``bottleneck`` and ``head_input``.

    Args:
        name: A class of ``monai.networks.nets``.
        in_channels: Channels of the image.
        num_classes: Classes including the background.
        options: See ``MonaiOptions``.

    Raises:
        InputError: MONAI is missing, has no such network, does not take the arguments, or the network does not end in a convolution.
    """

    spatial_dims = 3

    def __init__(self, name: str, in_channels: int, num_classes: int, options: MonaiOptions) -> None:
        super().__init__()
        self.downscale, self.fixed_image_size = options.downscale, options.fixed_image_size
        self.network = _build(name, in_channels, num_classes, options.arguments)
        self.head_name, self.bottleneck_name, self.bottleneck_channels = self._look(name, in_channels, options)
        self.graph: nn.Module | None = None
        if options.bottleneck_graph:
            from .graph import StructureAlignment

            self.graph = StructureAlignment(self.bottleneck_channels)

    @property
    def head(self) -> nn.Module:
        """The classifier. Not a submodule of its own: its weights are in ``network``."""
        return self.network.get_submodule(self.head_name)

    def forward(self, x: Tensor) -> NetworkOutput:
        features: dict[str, Tensor] = {}

        def keep_input(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            features["head_input"] = inputs[0]

        def keep_output(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
            features["bottleneck"] = output
            return output if self.graph is None else self.graph(output)

        # Registered for this pass alone: a copied network would otherwise keep the hooks of its original.
        hooks = [
            self.head.register_forward_pre_hook(keep_input),
            self.network.get_submodule(self.bottleneck_name).register_forward_hook(keep_output),
        ]
        try:
            logits = self.network(x)
        finally:
            for hook in hooks:
                hook.remove()
        if torch.is_autocast_enabled(x.device.type):
            # As in our own networks the classifier runs in fp32: bf16 logits near 20 come in steps of 0.125.
            with torch.autocast(x.device.type, enabled=False):
                logits = self.head(features["head_input"].float())
        return NetworkOutput(logits, features)

    @torch.no_grad()
    def _look(self, name: str, in_channels: int, options: MonaiOptions) -> tuple[str, str, int]:
        """Names of head and bottleneck, and the bottleneck's channels."""
        outputs: dict[str, Tensor] = {}  # in the order of the pass
        hooks = [
            module.register_forward_hook(lambda _, __, output, key=key: outputs.update({key: output}))
            for key, module in self.network.named_modules()
            if isinstance(module, nn.Conv3d)
        ]
        sides = list(options.fixed_image_size or (options.downscale, 2 * options.downscale, 2 * options.downscale))
        try:
            found = _trained_on_zeros(self.network, torch.zeros(1, in_channels, *sides))
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            raise InputError(
                f"MONAI's {name} does not take an image of {sides} voxels: {error}.",
                hint="Set the network option `downscale` (patch sides must divide by it) or `arguments`.",
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        if not isinstance(found, Tensor) or found.ndim != 5:
            _refuse_several_maps(name, options.arguments)
        heads = [key for key, output in outputs.items() if output is found]
        if not heads or self.network.get_submodule(heads[-1]).groups != 1 or list(found.shape[2:]) != sides:
            raise InputError(
                f"MONAI's {name} does not end in a plain convolution over the whole image, so its features cannot be found.",
                hint="Choose a network whose last layer is a convolution, such as SwinUNETR, UNETR or SegResNet.",
            )
        coarsest = min(output[0, 0].numel() for output in outputs.values())
        bottleneck = [key for key, output in outputs.items() if output[0, 0].numel() == coarsest][-1]
        return heads[-1], bottleneck, outputs[bottleneck].shape[1]


def sides_of(size: Any) -> tuple[int, ...] | None:
    """Three sides from an ``img_size`` of MONAI, which may be one number for all; None for anything else, which MONAI's class refuses itself."""
    sides = [size] * 3 if isinstance(size, int) else size
    is_size = isinstance(sides, (list, tuple)) and len(sides) == 3 and all(isinstance(side, int) and side > 0 for side in sides)
    return tuple(sides) if is_size else None


def _trained_on_zeros(network: nn.Module, image: Tensor) -> Any:
    """What the network returns in a training step: with deep supervision that is more than when it segments. Leaves the network and all that is random as
    they are.
    """
    kept = {key: value.clone() for key, value in network.named_buffers()}  # the running means of batch normalization
    was_training = network.training
    try:
        with torch.random.fork_rng(devices=[]):
            return network.train()(image)
    finally:
        network.train(was_training)
        for key, value in network.named_buffers():
            value.copy_(kept[key])


_MORE_MAPS = {"deep_supervision": False, "dsdepth": 1}
"""Arguments of MONAI's by which a network returns several maps in training, and the value with which it returns one."""


def _refuse_several_maps(name: str, arguments: Mapping[str, Any]) -> NoReturn:
    wanted = " and ".join(f'"{key}": {str(value).lower()}' for key, value in _MORE_MAPS.items() if arguments.get(key, value) != value)
    raise InputError(
        f"In training MONAI's {name} returns something else than one map of the classes (deep supervision); the methods here learn from one.",
        hint=f"Set {wanted} in `network_options.arguments`." if wanted else "Choose a network that returns one map, such as SwinUNETR, UNETR or SegResNet.",
    )


def _build(name: str, in_channels: int, num_classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        from monai.networks import nets
    except ImportError as error:
        raise InputError(
            f"The network 'monai:{name}' needs MONAI, which is not installed here.", hint="Install it with: pip install monai einops"
        ) from error
    kind = getattr(nets, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise InputError(f"MONAI has no network named {name!r}.", hint="Names are those of monai.networks.nets, such as SwinUNETR or UNETR.")
    values = {"in_channels": in_channels, "out_channels": num_classes, **arguments}
    if "spatial_dims" in kind.__init__.__annotations__:
        values["spatial_dims"] = 3
    try:
        return kind(**values)
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"MONAI's {name} cannot be built with {dict(arguments)}: {reason}", hint='Set `network_options.arguments`, such as {"feature_size": 12}.'
        ) from error
