"""Mean Teacher (Tarvainen and Valpola, NeurIPS 2017), in the 3-D form of UA-MT's and SSL4MIS' code.

    loss = supervised(student(x_l), y) + 0.1 ramp(t) mean |softmax(student(x_u)) - softmax(teacher(x_u + noise))|^2

with ramp(t) = exp(-5 (1 - t)^2) over the whole training and noise clip(0.1 N(0, 1), -0.2, 0.2) on the teacher's input. One student pass sees
labeled and unlabeled images together, so that batch normalization sees both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..data.batches import Batch
from ..losses.consistency import gaussian_rampup, mean_square
from ..losses.most_probable import most_probable
from ..losses.segmentation import dice_and_cross_entropy
from ..networks.output import NetworkOutput
from .base import AbstractMethod, Progress, Task, total_of
from .presets import FAITHFUL_UA_MT, PLUS
from .teacher import Teacher
from .tsa_term import FAITHFUL_TSA, PluggedTSAOptions, plugged_tsa


@dataclass(frozen=True)
class MeanTeacherOptions:
    """Options of Mean Teacher.

    Attributes:
        decay: Of the teacher's moving average. UA-MT: 0.99.
        weight: Of the consistency at the end of the ramp. UA-MT: 0.1.
        noise: Standard deviation of the teacher's input noise, clipped at twice of it. UA-MT: 0.1.
        perturb: Change the intensity of the student's images. Ours; the published code does not.
        average_buffers: The teacher follows the buffers of batch normalization. UA-MT: no.
        teacher_training_mode: The teacher keeps dropout and batch statistics. UA-MT: yes.
        deploy: "teacher" (ours) or "student" (UA-MT).
    """

    decay: float = 0.99
    weight: float = 0.1
    noise: float = 0.1
    perturb: bool = True
    average_buffers: bool = True
    teacher_training_mode: bool = False
    deploy: str = "teacher"


class MeanTeacher(AbstractMethod):
    """A student that agrees with its own moving average on unlabeled images."""

    @dataclass(frozen=True)
    class Options(PluggedTSAOptions, MeanTeacherOptions):
        """All options of Mean Teacher and TSA; each is explained where it is defined."""

    presets = {
        "plus": PLUS,
        "faithful": replace(
            FAITHFUL_UA_MT,
            method={"perturb": False, "average_buffers": False, "teacher_training_mode": True, "deploy": "student", **FAITHFUL_TSA},
        ),
    }

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        self.options = options
        self.student = task.make_network()
        self.teacher = Teacher(self.student, options.decay, options.average_buffers, options.teacher_training_mode)
        self.tsa = plugged_tsa(self.student, task.num_classes, options)

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        options = self.options
        labeled = batch.perturb_labeled() if options.perturb else batch.labeled
        if batch.unlabeled is None:
            return total_of({"supervised": dice_and_cross_entropy(self.student(labeled).logits, batch.labels)})
        unlabeled = batch.perturb_unlabeled() if options.perturb else batch.unlabeled
        output = self.student(torch.cat([labeled, unlabeled]))
        logits = output.logits
        noise = (options.noise * batch.unlabeled_noise()).clamp(-2 * options.noise, 2 * options.noise)
        taught = self.teacher(batch.unlabeled + noise)
        weight = options.weight * gaussian_rampup(progress.overall)
        count = len(batch.labels)
        terms = {
            "supervised": dice_and_cross_entropy(logits[:count], batch.labels),
            "consistency": weight * mean_square(logits[count:], taught.logits),
        }
        if self.tsa is not None:
            terms["tsa"] = self._tsa(output, taught, batch.labels, progress)
        return total_of(terms)

    def _tsa(self, output: NetworkOutput, taught: NetworkOutput, labels: Tensor, progress: Progress) -> Tensor:
        """TSA on the labeled part; the teacher's classes sort the unlabeled features."""
        count, features = len(labels), output.features["head_input"]
        pseudo = most_probable(taught.logits)
        source = taught.features["head_input"] if self.options.statistics == "teacher" else features[count:]
        target = source, pseudo, self.tsa.trusted(taught.logits, torch.ones_like(pseudo, dtype=torch.bool))
        truth = torch.ones_like(labels, dtype=torch.bool)
        return self.tsa(self.student.head, output.logits[:count], features[:count], labels, truth, target, progress)

    def after_step(self, progress: Progress) -> None:
        self.teacher.update(self.student, progress.iteration)

    def diagnostics(self) -> dict[str, float]:
        return self.tsa.diagnostics() if self.tsa is not None else {}

    @property
    def student_network(self) -> nn.Module | None:
        return None if self.deployed is self.student else self.student

    @property
    def deployed(self) -> nn.Module:
        return self.teacher.network if self.options.deploy == "teacher" else self.student
