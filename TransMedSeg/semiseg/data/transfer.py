"""From the host to the device without waiting."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device. Nothing waits: a plain ``.to`` to a GPU would let the host stand still until all that was queued before is done.

    The values are taken over before this returns, so the tensor may be changed or forgotten.
    """
    return values.to(device, non_blocking=True)
