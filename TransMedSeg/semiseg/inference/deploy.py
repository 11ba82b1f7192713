"""A trained network made ready to predict: same numbers, less work."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .onednn import hand_to_onednn


def deploy(network: nn.Module, device: torch.device | str = "cpu") -> nn.Module:
    """Copies a network for prediction; the original stays as it is.

    Batch normalization is folded into the convolution before it (their product is one convolution; results agree to
    rounding), and weights are stored channels-last, the layout that oneDNN and cuDNN compute fastest in. On a CPU
    convolutions go straight to oneDNN, see ``onednn.py``.

    Args:
        network: Any module whose convolutions and batch normalizations follow each other inside ``nn.Sequential``;
            others stay apart.
        device: Where it shall run.
    """
    deployed = fold_batch_norm(copy.deepcopy(network).eval()).to(device)
    planar = any(isinstance(module, nn.Conv2d) for module in deployed.modules())
    deployed = deployed.to(memory_format=torch.channels_last if planar else torch.channels_last_3d)
    if torch.device(device).type == "cpu":
        deployed = hand_to_onednn(deployed)
    return deployed.requires_grad_(False)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Folds each batch normalization that directly follows a convolution in an ``nn.Sequential``, in place.

    Only there the convolution's output has no other reader, so folding cannot change what else sees it.
    """
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for first, second in zip(range(len(module)), range(1, len(module))):
            convolution, norm = module[first], module[second]
            if not isinstance(convolution, _ConvNd) or not isinstance(norm, _BatchNorm) or norm.running_mean is None:
                continue
            module[first] = fuse_conv_bn_eval(convolution, norm, transpose=isinstance(convolution, _ConvTransposeNd))
            module[second] = nn.Identity()
    return network
