"""Bidirectional copy-paste (BCP): Bai, Chen, Li, Shen, Wang, CVPR 2023.

The arithmetic is in ``copy_paste_training``. The authors' code is MIT-licensed; nothing of it is copied.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..data.batches import Batch
from .base import AbstractMethod, Preset, Progress, Task, total_of
from .copy_paste_training import FAITHFUL, PRETRAIN, CopyPasteOptions, CopyPasteTraining
from .presets import FAITHFUL_LA, PLUS


class BCP(AbstractMethod):
    """Pretraining and self-training on copy-paste mixtures."""

    Options = CopyPasteOptions
    presets = {
        "plus": PLUS,
        "faithful": Preset(FAITHFUL, FAITHFUL_LA.training, FAITHFUL_LA.network, FAITHFUL_LA.augment),
    }

    def __init__(self, task: Task, options: CopyPasteOptions) -> None:
        super().__init__()
        self.core = CopyPasteTraining(task, options)
        self.stages = self.core.stages

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        if progress.stage == PRETRAIN or batch.unlabeled is None:
            return total_of(self.core.pretrain(batch)[0])
        return total_of(self.core.self_train(batch).terms)

    def start_stage(self, stage: str) -> None:
        self.core.start_stage(stage)

    def after_step(self, progress: Progress) -> None:
        self.core.after_step(progress)

    def diagnostics(self) -> dict[str, float]:
        return self.core.diagnostics()

    @property
    def deployed(self) -> nn.Module:
        return self.core.deployed
