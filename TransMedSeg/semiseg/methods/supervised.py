"""Supervised training on the labeled cases alone: the baseline every gain is measured against."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from ..data.batches import Batch
from ..losses.segmentation import dice_and_cross_entropy
from .base import AbstractMethod, Progress, Task, total_of
from .presets import FAITHFUL_UA_MT, PLUS
from .teacher import Teacher


class Supervised(AbstractMethod):
    """Half of Dice plus cross-entropy on labeled patches."""

    @dataclass(frozen=True)
    class Options:
        """Options of supervised training.

        Attributes:
            perturb: Change the intensity of the patches. Ours; the published baselines do not.
            average_decay: Deploy a moving average of the weights with this decay; 0 deploys the weights themselves. Ours: 0.99.
        """

        perturb: bool = True
        average_decay: float = 0.99

    presets = {
        "plus": PLUS,
        "faithful": replace(FAITHFUL_UA_MT, method={"perturb": False, "average_decay": 0.0}),
    }
    needs_unlabeled = False

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        self.options = options
        self.student = task.make_network()
        self.average = Teacher(self.student, options.average_decay) if options.average_decay > 0 else None

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        images = batch.perturb_labeled() if self.options.perturb else batch.labeled
        return total_of({"supervised": dice_and_cross_entropy(self.student(images).logits, batch.labels)})

    def after_step(self, progress: Progress) -> None:
        if self.average is not None:
            self.average.update(self.student, progress.iteration)

    @property
    def student_network(self) -> nn.Module | None:
        return None if self.deployed is self.student else self.student

    @property
    def deployed(self) -> nn.Module:
        return self.student if self.average is None else self.average.network
