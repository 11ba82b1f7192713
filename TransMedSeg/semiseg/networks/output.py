"""What every network returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class NetworkOutput(NamedTuple):
    """Logits and the features that methods look at.

    Attributes:
        logits: (batch, class, *space).
        features: By name, each (batch, channel, *space). Every network has ``"bottleneck"`` (the coarsest map) and ``"head_input"``
            (what the classifier sees, before dropout); every network but MONAI's also ``"decoder_1"`` .. ``"decoder_n"``
            (coarsest first, after their convolutions).
    """

    logits: Tensor
    features: dict[str, Tensor]
