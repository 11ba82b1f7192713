"""The contrast of a scanner that nobody has labeled: a small random network on the intensities.

Global intensity non-linear augmentation (GIN): Ouyang, Chen, Li, Li, Qin, Bai, Rueckert, "Causality-inspired single-source domain generalization for
medical image segmentation", IEEE Transactions on Medical Imaging 42 (2023). Shapes and places stay, so labels stay true; what is dark
may become bright, and edges may be drawn. The authors' code was not used.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from .transfer import to_device

_CHANNELS = (1, 2, 2, 2, 1)
_SLOPE = 0.2  # of the leaky rectifiers between the layers


def random_contrast(x: Tensor, seed: int) -> Tensor:
    """Passes one image through a random network and blends the result with the image.

    Four convolutions with normally distributed weights, each of 1 or 3 voxels a side; the blend's share is uniform in [0, 1]. Mean and spread of the
    image stay what they were (the paper keeps the norm of the whole image; on images of zero mean this is the same).

    Args:
        x: (1, 1, *space) float32, two or three dimensions of space.
        seed: Everything random follows from it.

    Returns:
        A new tensor of the same shape.
    """
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same network on every device
    spread, mean = torch.std_mean(x)
    changed = standard = _standard(x)
    for layer, (taken, given) in enumerate(itertools.pairwise(_CHANNELS)):
        side = 1 if float(torch.rand((), generator=generator)) < 0.5 else 3
        weight = to_device(torch.randn((given, taken, *(side,) * (x.ndim - 2)), generator=generator), x.device)
        bias = to_device(torch.randn(given, generator=generator), x.device)
        changed = _convolve(changed, weight, bias)
        if layer < len(_CHANNELS) - 2:
            changed = F.leaky_relu(changed, _SLOPE)
    share = float(torch.rand((), generator=generator))
    return _standard(share * standard + (1 - share) * _standard(changed)) * spread + mean


def _convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    convolve = F.conv3d if x.ndim == 5 else F.conv2d
    pad = weight.shape[-1] // 2
    # Zeros outside would draw a frame around every patch.
    return convolve(F.pad(x, (pad,) * (2 * (x.ndim - 2)), mode="replicate"), weight, bias)


def _standard(x: Tensor) -> Tensor:
    spread, mean = torch.std_mean(x)
    return (x - mean) / spread.clamp_min(1e-6)
