"""TransMedSeg: GraphCL with transferable semantic augmentation (TSA) of the labeled features.

    loss = loss_in + loss_out + 0.01 loss_clustering + 0.4 loss_tsa

    loss_tsa = mean over voxels with ground truth of CE(z + M[y], y)
    M[y, c]  = alpha (w_c - w_y)' (mean_t^y - mean_s^y) + alpha / 2 (w_c - w_y)' Sigma_t^y (w_c - w_y)

z are the student's logits, w the rows of its classifier, s the labeled and t the unlabeled features (the classifier's input) of class y. The
arithmetic is in ``losses/tsa.py``, its place in a method in ``tsa_term.py``; copy-paste and graph are BCP's and GraphCL's. The paper's code is not
public; docs/decisions.md lists the reading taken at every ambiguity: the shift points from labeled to unlabeled features, student features on labeled
voxels are augmented, and alpha rises linearly from 0 to 0.25 as in TSA (Li et al., CVPR 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..data.batches import Batch
from .base import AbstractMethod, Preset, Progress, Task, total_of
from .copy_paste_training import FAITHFUL, PRETRAIN, CopyPasteOptions, CopyPasteTraining
from .graphcl import GraphOptions, GraphTerm, bottleneck_channels
from .presets import FAITHFUL_LA, PLUS
from .tsa_term import FAITHFUL_TSA, TSAOptions, plugged_tsa


class TransMedSeg(AbstractMethod):
    """BCP with graph alignment, clustering and transferable semantic augmentation."""

    @dataclass(frozen=True)
    class Options(TSAOptions, GraphOptions, CopyPasteOptions):
        """All options of copy-paste, graph and TSA; each is explained where it is defined."""

    presets = {
        "plus": PLUS,
        "faithful": Preset(
            {**FAITHFUL, **FAITHFUL_TSA},
            FAITHFUL_LA.training,
            FAITHFUL_LA.network,
            FAITHFUL_LA.augment,
        ),
    }

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        self.options = options
        self.core = CopyPasteTraining(task, options, bottleneck_graph=options.graph_alignment)
        self.graph = GraphTerm(bottleneck_channels(self.core.student, task.two_dimensional), options)
        self.tsa = plugged_tsa(self.core.student, task.num_classes, options)
        self.stages = self.core.stages

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        if progress.stage == PRETRAIN or batch.unlabeled is None:
            return total_of(self.core.pretrain(batch)[0])
        step = self.core.self_train(batch)
        terms = dict(step.terms)
        if self.options.clustering_weight > 0:
            terms["clustering"] = self.graph(step.output.features["bottleneck"])
        if self.tsa is not None:
            terms["tsa"] = self.tsa.on_mixtures(self.core.student, step, progress)
        return total_of(terms)

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
        return {
            **self.core.diagnostics(),
            "negative_affinity_share": float(self.graph.negative_share),
            **(self.tsa.diagnostics() if self.tsa is not None else {}),
        }

    @property
    def student_network(self) -> nn.Module | None:
        return None if self.deployed is self.core.student else self.core.student

    @property
    def deployed(self) -> nn.Module:
        return self.core.deployed
