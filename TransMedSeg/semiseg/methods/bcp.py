"""Bidirectional copy-paste (BCP): Bai, Chen, Li, Shen, Wang, CVPR 2023.

The arithmetic is in ``copy_paste_training``. The authors' code is MIT-licensed; nothing of it is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from .base import Preset
from .copy_paste_method import AbstractCopyPaste
from .copy_paste_training import FAITHFUL, CopyPasteOptions, SelfTrainingStep
from .presets import FAITHFUL_LA, PLUS
from .tsa_term import FAITHFUL_TSA, PluggedTSAOptions


class BCP(AbstractCopyPaste):
    """Pretraining and self-training on copy-paste mixtures."""

    @dataclass(frozen=True)
    class Options(PluggedTSAOptions, CopyPasteOptions):
        """All options of copy-paste and TSA; each is explained where it is defined."""

    presets = {
        "plus": replace(PLUS, method={"mixing": 0.25}),  # without mixtures it would not be BCP
        "faithful": Preset({**FAITHFUL, **FAITHFUL_TSA}, FAITHFUL_LA.training, FAITHFUL_LA.network, FAITHFUL_LA.augment),
    }

    def added_terms(self, step: SelfTrainingStep) -> dict[str, Tensor]:
        return {}
