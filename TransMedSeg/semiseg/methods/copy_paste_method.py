"""What BCP and the methods on top of it share as methods: every member but the terms they add to self-training."""

from __future__ import annotations

import abc
from typing import Any

from torch import Tensor, nn

from ..data.batches import Batch
from .base import AbstractMethod, Progress, Task, total_of
from .copy_paste_training import PRETRAIN, CopyPasteTraining, SelfTrainingStep
from .tsa_term import plugged_tsa


class AbstractCopyPaste(AbstractMethod):
    """A method in BCP's two stages, with TSA where its options ask for it. Subclasses are final.

    Args:
        task: What is learned.
        options: Of the method, with the fields of ``CopyPasteOptions`` and ``TSAOptions``.
        **network_changes: Options of the network that the method insists on.
    """

    labels_of_patches = {"labels_from": "patches"}
    whole_case_options = ("labels_from", "rounds", "match_volume")

    def __init__(self, task: Task, options: Any, **network_changes: Any) -> None:
        super().__init__()
        self.options = options
        # The paper's statistics come from the teacher's features, so it looks at the patches even when it labels whole cases.
        needs_teacher = options.tsa_weight > 0 and options.statistics == "teacher"
        self.core = CopyPasteTraining(task, options, needs_teacher, **network_changes)
        self.tsa = plugged_tsa(self.core.student, task.num_classes, options)
        self.stages = self.core.stages
        self._network_changes = {name: value for name, value in network_changes.items() if value}
        self._by_name = (task.network, {**task.network_options, **network_changes}) if network_changes else None

    @abc.abstractmethod
    def added_terms(self, step: SelfTrainingStep) -> dict[str, Tensor]:
        """The weighted terms of a self-training step beside copy-paste's and TSA's, by name."""

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        if progress.stage == PRETRAIN or batch.unlabeled is None:
            return total_of(self.core.pretrain(batch))
        step = self.core.self_train(batch)
        terms = {**step.terms, **self.added_terms(step)}
        if self.tsa is not None:
            terms["tsa"] = self.tsa.on_mixtures(self.core.student, step, progress)
        return total_of(terms)

    def start_stage(self, stage: str) -> None:
        self.core.start_stage(stage)

    @property
    def first_stage(self) -> dict[str, Any]:
        """Pretraining is of copy-paste alone; graph and TSA begin with self-training."""
        return {"stage": PRETRAIN, "network": self._network_changes, "options": self.core.pretraining_options()}

    @property
    def case_labeling(self) -> tuple[str, int]:
        return self.core.case_labeling

    @property
    def matches_volume(self) -> bool:
        return self.core.matches_volume

    def label_case(self, maps: Tensor, threshold: float | None = None) -> Tensor:
        return self.core.label_case(maps, threshold)

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

    @property
    def deployed_network(self) -> tuple[str, dict[str, Any]] | None:
        return self._by_name
