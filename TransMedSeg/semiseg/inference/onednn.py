"""Convolutions for prediction on a CPU, handed to oneDNN in the form that it computes fastest.

PyTorch's own convolution decides call by call whether oneDNN may compute it: a single window and every convolution of side 1
are left to slow code (a classifier of 16 channels: 10 times slower). Here oneDNN computes all of them, with the rectifier
behind a convolution on the way.

oneDNN fills a vector register with output channels; with 4 channels and registers of 16 numbers it wastes three quarters of
its work. A convolution of few channels is therefore computed for several neighboring columns at once: one of 4 channels that
looks at 3 columns becomes one of 16 channels, 4 columns apart, that looks at 6. In channels-last memory its output *is* the
output of the first, so nothing is moved. Measured with windows of 80 x 112 x 112: 1.9 times faster with 4 channels, 1.4 times
with 8.

The operators carry an underscore because PyTorch keeps them for its own compiler; where they are missing or the processor is
not an x86, networks stay as they are.
"""

from __future__ import annotations

import functools
import math
from collections import Counter

import torch
from torch import Tensor, nn

_Convolution = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d
_KINDS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)


class OneDNNConvolution(nn.Module):
    """(batch, channel, *space) float32 on a CPU -> what the convolution says, after the rectifier if there is one.

    Args:
        convolution: One that :func:`hand_to_onednn` accepts.
        activation: The rectifier behind it.
    """

    def __init__(self, convolution: _Convolution, activation: nn.ReLU | nn.LeakyReLU | None = None) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.transposed = isinstance(convolution, _TRANSPOSED)
        self.out_channels, self.columns = convolution.out_channels, columns_at_once(convolution)
        if self.columns > 1:
            layout = torch.channels_last if self.weight.ndim == 4 else torch.channels_last_3d
            self.weight_of_columns = nn.Parameter(side_by_side(self.weight.detach(), self.columns).to(memory_format=layout), False)
            self.bias_of_columns = None if self.bias is None else nn.Parameter(self.bias.detach().repeat(self.columns), False)
        self.stride, self.arguments = tuple(convolution.stride), (convolution.dilation, convolution.groups)
        self.padding = (convolution.padding, convolution.output_padding) if self.transposed else (convolution.padding,)
        if activation is None:
            self.fused = ("none", [], "")
        elif isinstance(activation, nn.LeakyReLU):
            self.fused = ("leaky_relu", [activation.negative_slope], "")
        else:
            self.fused = ("relu", [], "")

    def forward(self, x: Tensor) -> Tensor:
        if self.transposed:
            operator = torch.ops.mkldnn._convolution_transpose_pointwise
            return operator(x, self.weight, self.bias, *self.padding, self.stride, *self.arguments, *self.fused)
        operator = torch.ops.mkldnn._convolution_pointwise
        # At least two groups of columns: with one, and one input channel, oneDNN 3.12 computes wrong sums.
        if self.columns == 1 or x.shape[-1] % self.columns or x.shape[-1] < 2 * self.columns:
            return operator(x, self.weight, self.bias, *self.padding, self.stride, *self.arguments, *self.fused)
        stride = (*self.stride[:-1], self.columns)
        maps = operator(x, self.weight_of_columns, self.bias_of_columns, *self.padding, stride, *self.arguments, *self.fused)
        maps = maps.movedim(1, -1)  # (batch, ..., column group, column and channel)
        return maps.reshape(*maps.shape[:-2], x.shape[-1], self.out_channels).movedim(-1, 1)

    def extra_repr(self) -> str:
        return f"{self.out_channels} channels, {self.columns} columns at once, activation {self.fused[0]}"


def hand_to_onednn(network: nn.Module) -> nn.Module:
    """Replaces the convolutions of a network in place, and with each the rectifier that follows it in an ``nn.Sequential``.

    Convolutions stay that are used in several places, of a subclass, not float32 or padded with anything but zeros.
    """
    if not is_available():
        return network
    places = [(parent, name) for parent in network.modules() for name, module in parent._modules.items() if isinstance(module, _KINDS)]
    uses = Counter(parent._modules[name] for parent, name in places)
    for parent, name in places:
        convolution = parent._modules[name]
        if uses[convolution] > 1 or not _is_accepted(convolution):
            continue
        behind = _rectifier_behind(parent, name)
        parent._modules[name] = OneDNNConvolution(convolution, None if behind is None else parent._modules[behind])
        if behind is not None:
            parent._modules[behind] = nn.Identity()
    return network


@functools.cache
def is_available() -> bool:
    """Whether this computer has an x86 processor with vectors, and this PyTorch the operators with the arguments known here."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX") or not torch.backends.mkldnn.is_available():
        return False
    try:
        with torch.inference_mode():
            for convolution in (nn.Conv3d(1, 1, 1), nn.ConvTranspose3d(1, 1, 1)):
                OneDNNConvolution(convolution)(torch.zeros(1, 1, 2, 2, 2))
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


def columns_at_once(convolution: _Convolution) -> int:
    """How many neighboring columns fill a vector register: a power of two, 1 where nothing is won."""
    side, padding = convolution.kernel_size[-1], convolution.padding[-1]
    keeps_columns = side % 2 == 1 and padding == side // 2 and convolution.stride[-1] == 1 and convolution.dilation[-1] == 1
    if isinstance(convolution, _TRANSPOSED) or not keeps_columns or side == 1 or convolution.groups > 1:
        return 1
    lanes = 16 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 8
    return 2 ** int(math.log2(max(1, lanes // convolution.out_channels)))


def side_by_side(weight: Tensor, columns: int) -> Tensor:
    """Weight of the convolution that computes neighboring columns as channels.

    Args:
        weight: (out, in, ..., side).
        columns: How many.

    Returns:
        (columns * out, in, ..., side + columns - 1): the weight for the first column, then those for the next, each moved on by one.
    """
    side = weight.shape[-1]
    wide = weight.new_zeros(columns, *weight.shape[:-1], side + columns - 1)
    for column in range(columns):
        wide[column, ..., column : column + side] = weight
    return wide.flatten(0, 1)


def _is_accepted(convolution: _Convolution) -> bool:
    plain = type(convolution) in _KINDS and convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    return plain and convolution.weight.dtype == torch.float32


def _rectifier_behind(parent: nn.Module, name: str) -> str | None:
    """The name under which the rectifier right behind a module stands, identities aside."""
    if not isinstance(parent, nn.Sequential):
        return None
    names = list(parent._modules)
    for other in names[names.index(name) + 1 :]:
        if not isinstance(parent._modules[other], nn.Identity):
            return other if type(parent._modules[other]) in (nn.ReLU, nn.LeakyReLU) else None
    return None
