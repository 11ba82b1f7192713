"""A network's maps of one whole prepared case, window by window, in the middle of a training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..inference.sliding_window import sliding_window, window_probabilities


def whole_case_maps(network: nn.Module, image: np.ndarray, patch_size: tuple[int, int, int]) -> Tensor:
    """Probabilities of one case, windows overlapping by half.

    Windows have the size of the training patches: instance normalization sees the share of background that it was trained with. (A V-Net that was
    shown whole left-atrium volumes instead found 17 % too much volume; by windows 2 %.)

    Args:
        network: In evaluation mode.
        image: (slice, row, column) float16 or float32, prepared.
        patch_size: Of training; a first side of 1 means planes.

    Returns:
        (map, slice, row, column) float32 on the network's device: the foreground of two classes, else every class.
    """
    device = next(network.parameters()).device
    volume = torch.from_numpy(np.array(image, dtype=np.float32))[None, None].to(device)
    window = patch_size[1:] if patch_size[0] == 1 else patch_size
    stride = [max(1, side // 2) for side in window]

    def probabilities(windows: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            return window_probabilities(network(windows).logits.float())

    return sliding_window(probabilities, volume, window, stride)
