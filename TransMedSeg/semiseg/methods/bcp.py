"""Bidirectional copy-paste (BCP): Bai, Chen, Li, Shen, Wang, CVPR 2023.

The arithmetic is in ``copy_paste_training``. The authors' code is MIT-licensed; nothing of it is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from ..data.batches import Batch
from .base import AbstractMethod, Preset, Progress, Task, total_of
from .copy_paste_training import FAITHFUL, PRETRAIN, CopyPasteOptions, CopyPasteTraining
from .presets import FAITHFUL_LA, PLUS
from .tsa_term import FAITHFUL_TSA, PluggedTSAOptions, plugged_tsa


class BCP(AbstractMethod):
    """Pretraining and self-training on copy-paste mixtures."""

    @dataclass(frozen=True)
    class Options(PluggedTSAOptions, CopyPasteOptions):
        """All options of copy-paste and TSA; each is explained where it is defined."""

    presets = {
        "plus": replace(PLUS, method={"mixing": 0.25}),  # without mixtures it would not be BCP
        "faithful": Preset({**FAITHFUL, **FAITHFUL_TSA}, FAITHFUL_LA.training, FAITHFUL_LA.network, FAITHFUL_LA.augment),
    }

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        self.core = CopyPasteTraining(task, options)
        self.tsa = plugged_tsa(self.core.student, task.num_classes, options)
        self.stages = self.core.stages

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        if progress.stage == PRETRAIN or batch.unlabeled is None:
            return total_of(self.core.pretrain(batch)[0])
        step = self.core.self_train(batch)
        if self.tsa is None:
            return total_of(step.terms)
        return total_of({**step.terms, "tsa": self.tsa.on_mixtures(self.core.student, step, progress)})

    def start_stage(self, stage: str) -> None:
        self.core.start_stage(stage)

    @property
    def case_labeling(self) -> tuple[str, int]:
        return self.core.case_labeling

    def label_case(self, maps: Tensor) -> Tensor:
        return self.core.label_case(maps)

    def after_step(self, progress: Progress) -> None:
        self.core.after_step(progress)

    def diagnostics(self) -> dict[str, float]:
        return {**self.core.diagnostics(), **(self.tsa.diagnostics() if self.tsa is not None else {})}

    @property
    def student_network(self) -> nn.Module | None:
        return None if self.deployed is self.core.student else self.core.student

    @property
    def deployed(self) -> nn.Module:
        return self.core.deployed
