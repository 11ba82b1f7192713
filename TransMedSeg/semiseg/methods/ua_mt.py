"""UA-MT: uncertainty-aware mean teacher (Yu, Wang, Li, Fu, Heng, MICCAI 2019).

    loss = supervised(student(x_l), y)
         + 0.1 ramp(t) mean over certain voxels of |softmax(student(x_u)) - softmax(teacher(x_u + noise))|^2

A voxel is certain when the entropy of the mean of 8 teacher passes, each with its own noise and dropout, is below
(0.75 + 0.25 ramp(t)) log C. The limit in the authors' code has log 2 whatever C. ramp(t) = exp(-5 (1 - t)^2) over the
whole training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..data.batches import Batch
from ..data.randomness import device_generator
from ..losses.consistency import entropy_gate, gaussian_rampup, mean_square
from ..losses.segmentation import dice_and_cross_entropy
from .base import AbstractMethod, Progress, Task, total_of
from .mean_teacher import MeanTeacherOptions
from .presets import FAITHFUL_UA_MT, PLUS
from .teacher import Teacher


class UAMeanTeacher(AbstractMethod):
    """Mean Teacher that learns only where the teacher is sure."""

    @dataclass(frozen=True)
    class Options(MeanTeacherOptions):
        """Options of UA-MT: those of Mean Teacher and the number of passes.

        Attributes:
            teacher_training_mode: The teacher keeps dropout and batch statistics. UA-MT: yes; its uncertainty comes
                from them.
            num_passes: Teacher passes whose mean decides what is certain. UA-MT: 8.
        """

        teacher_training_mode: bool = True
        num_passes: int = 8

        def __post_init__(self) -> None:
            if self.num_passes < 1:
                raise ValueError(f"num_passes must be at least 1; got {self.num_passes}")

    presets = {
        # Without dropout the passes differ by their noise alone, which is no uncertainty.
        "plus": replace(PLUS, network={**PLUS.network, "dropout": 0.5}),
        "faithful": replace(FAITHFUL_UA_MT, method={"perturb": False, "average_buffers": False, "deploy": "student"}),
    }

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        self.options = options
        self.student = task.make_network()
        self.teacher = Teacher(self.student, options.decay, options.average_buffers, options.teacher_training_mode)
        self.register_buffer("certain_share", torch.zeros(()))

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        options = self.options
        labeled = batch.perturb_labeled() if options.perturb else batch.labeled
        if batch.unlabeled is None:
            return total_of({"supervised": dice_and_cross_entropy(self.student(labeled).logits, batch.labels)})
        unlabeled = batch.perturb_unlabeled() if options.perturb else batch.unlabeled
        logits = self.student(torch.cat([labeled, unlabeled])).logits
        generator = device_generator(batch.unlabeled.device, batch.seed)
        target = self.teacher(self._noisy(batch.unlabeled, generator)).logits
        certain = self._certain(batch.unlabeled, generator, progress.overall)
        self.certain_share.copy_(certain.float().mean())
        count = len(batch.labels)
        return total_of(
            {
                "supervised": dice_and_cross_entropy(logits[:count], batch.labels),
                "consistency": options.weight
                * gaussian_rampup(progress.overall)
                * mean_square(logits[count:], target, certain),
            }
        )

    def _noisy(self, images: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        return images + (self.options.noise * noise).clamp(-2 * self.options.noise, 2 * self.options.noise)

    @torch.no_grad()
    def _certain(self, images: Tensor, generator: torch.Generator, overall: float) -> Tensor:
        """(batch, *space) bool. The passes go one after the other and leave only their sum."""
        total: Tensor | int = 0
        for _ in range(self.options.num_passes):
            total = total + self.teacher(self._noisy(images, generator)).logits.float().softmax(1)
        return entropy_gate(total / self.options.num_passes, overall)

    def after_step(self, progress: Progress) -> None:
        self.teacher.update(self.student, progress.iteration)

    def diagnostics(self) -> dict[str, float]:
        """Share of unlabeled voxels that the teacher was sure about."""
        return {"certain_share": float(self.certain_share)}

    @property
    def student_network(self) -> nn.Module | None:
        return None if self.deployed is self.student else self.student

    @property
    def deployed(self) -> nn.Module:
        return self.teacher.network if self.options.deploy == "teacher" else self.student
