"""A model small enough to think through: inside where the prepared image is above a threshold."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from semiseg.data.geometry import Geometry
from semiseg.data.preprocess import Preprocessing
from semiseg.data.volume import Volume
from semiseg.inference.model_file import write_model
from semiseg.networks import build_network

LEFT_ATRIUM = [{"value": 1, "name": "left atrium"}]
OPTIONS = {"width": 2, "depth": 3, "norm": "batch"}


def thresholding_weights(thresholds, slope=20.0, name="vnet"):
    """Weights of a V-Net (or U-Net) whose logits only depend on the voxel itself.

    The finest level copies the image and its ReLU; every coarser level is silent. Class c wins between thresholds[c -
    1] and thresholds[c]. Two classes: logits 0 and slope * (x - threshold).
    """
    network = build_network(name, 1, len(thresholds) + 1, OPTIONS).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        center = (0, 0) + (1,) * network.spatial_dims
        norms = [m for m in network.modules() if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm3d))]
        for norm in norms:
            norm.weight.fill_(float(np.sqrt(1 + norm.eps)))  # an exact identity with running mean 0 and variance 1
        network.encoder[0][0].weight[center] = 1.0  # channel 0 = relu(image)
        network.decoder[-1][0].weight[center] = 1.0
        for place, threshold in enumerate(thresholds, start=1):
            # Steeper for every further class, so that each wins above its own threshold.
            network.head.weight[place, 0] = slope * place
            network.head.bias[place] = -slope * sum(thresholds[:place])
            assert threshold > 0
    return network.state_dict()


def card_of(labels=LEFT_ATRIUM, patch_size=(8, 8, 8), preprocessing=None, name="vnet", **more):
    return {
        "name": "tiny",
        "network": {"name": name, "in_channels": 1, "num_classes": len(labels) + 1, "options": OPTIONS},
        "labels": labels,
        "preprocessing": (preprocessing or Preprocessing(intensity="none")).to_json(),
        "patch_size": list(patch_size),
        **more,
    }


def write_tiny_model(path: Path, thresholds=(0.5,), **card):
    write_model(path, card_of(**card), thresholding_weights(thresholds))
    return path


def box_volume(shape=(12, 14, 16), box=(slice(3, 8), slice(4, 9), slice(5, 12)), value=1.0, spacing_mm=(2.0, 1.0, 1.5)):
    """A bright box on black; the shape and the spacing differ on every axis, so that a swapped axis shows."""
    array = np.zeros(shape, np.float32)
    array[box] = value
    return Volume(array, Geometry.from_parts(shape, spacing_mm, origin_mm=(7.0, -20.0, 30.0)))
