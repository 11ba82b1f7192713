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

from torch import Tensor

from .base import Preset, Task
from .copy_paste_method import AbstractCopyPaste
from .copy_paste_training import FAITHFUL, CopyPasteOptions, SelfTrainingStep
from .graphcl import GraphOptions, GraphTerm, bottleneck_channels
from .presets import FAITHFUL_LA, PLUS
from .tsa_term import FAITHFUL_TSA, TSAOptions


class TransMedSeg(AbstractCopyPaste):
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
        super().__init__(task, options, bottleneck_graph=options.graph_alignment)
        self.graph = GraphTerm(bottleneck_channels(self.core.student, task.two_dimensional), options)

    def added_terms(self, step: SelfTrainingStep) -> dict[str, Tensor]:
        return {"clustering": self.graph(step.output.features["bottleneck"])} if self.options.clustering_weight > 0 else {}

    def diagnostics(self) -> dict[str, float]:
        return {**super().diagnostics(), "negative_affinity_share": float(self.graph.negative_share)}
