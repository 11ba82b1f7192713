"""GraphCL: copy-paste training with a structure-aware graph on the bottleneck and a correlation clustering loss.

    loss = loss_in + loss_out + 0.01 loss_clustering

GraphCL, ICML 2025 (graph-based clustering for semi-supervised medical image segmentation); the alignment follows GCAN (Ma et al., CVPR 2019), the
loss DeepCut (Aflalo et al., ICCV 2023). The paper's code is not public; the readings taken where the paper is silent are in docs/decisions.md:
nodes are the positions of one sample's bottleneck, the alignment is added with a scale that starts at 0, the loss is a bounded mean over pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..losses.graph import correlation_clustering_loss, negative_share, nodes, signed_affinity
from ..networks.graph import ClusterHead
from .base import Preset, Task
from .copy_paste_method import AbstractCopyPaste
from .copy_paste_training import FAITHFUL, CopyPasteOptions, SelfTrainingStep
from .presets import FAITHFUL_LA, PLUS
from .tsa_term import FAITHFUL_TSA, PluggedTSAOptions


@dataclass(frozen=True)
class GraphOptions:
    """Options of the graph parts.

    Attributes:
        graph_alignment: Structure-aware alignment on the bottleneck, also at inference. GraphCL: yes, at this level.
        clustering_weight: Of the clustering loss, kappa. GraphCL: 0.01, best of 0, 0.005, 0.01, 0.05 and 0.1.
        tau: Larger keeps more pairs of nodes positive. GraphCL: 2, best of 2 to 12.
        num_clusters: Upper limit of clusters (the paper does not say; ours).
    """

    graph_alignment: bool = True
    clustering_weight: float = 0.01
    tau: float = 2.0
    num_clusters: int = 8


class GraphTerm(nn.Module):
    """The clustering loss of a bottleneck map. A part of a method.

    Args:
        num_features: Channels of the bottleneck.
        options: See ``GraphOptions``.
    """

    def __init__(self, num_features: int, options: GraphOptions) -> None:
        super().__init__()
        self.options = options
        self.clusters = ClusterHead(num_features, options.num_clusters)
        self.register_buffer("negative_share", torch.zeros(()))

    def forward(self, bottleneck: Tensor) -> Tensor:
        """Weighted loss of a (batch, channel, *space) map."""
        points = nodes(bottleneck)
        affinity = signed_affinity(points, self.options.tau)
        with torch.no_grad():  # before a sample with too few of them is centered
            self.negative_share.copy_(negative_share(signed_affinity(points, self.options.tau, min_negative=0.0)).mean())
        return self.options.clustering_weight * correlation_clustering_loss(affinity, self.clusters(points, affinity))


def bottleneck_channels(network: nn.Module, two_dimensional: bool) -> int:
    """Channels of a network's coarsest map, found by asking it."""
    if hasattr(network, "bottleneck_channels"):
        return network.bottleneck_channels
    side = network.downscale * 2
    probe = torch.zeros(1, 1, *[side] * (2 if two_dimensional else 3))
    was_training = network.training
    with torch.no_grad():
        channels = network.eval()(probe).features["bottleneck"].shape[1]
    network.train(was_training)
    return channels


class GraphCL(AbstractCopyPaste):
    """BCP with graph alignment and clustering."""

    @dataclass(frozen=True)
    class Options(PluggedTSAOptions, GraphOptions, CopyPasteOptions):
        """All options of copy-paste, graph and TSA (with which it is ``transmedseg``); each is explained where it is defined."""

    presets = {
        "plus": PLUS,
        "faithful": Preset({**FAITHFUL, **FAITHFUL_TSA}, FAITHFUL_LA.training, FAITHFUL_LA.network, FAITHFUL_LA.augment),
    }

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__(task, options, bottleneck_graph=options.graph_alignment)
        self.graph = GraphTerm(bottleneck_channels(self.core.student, task.two_dimensional), options)

    def added_terms(self, step: SelfTrainingStep) -> dict[str, Tensor]:
        return {"clustering": self.graph(step.output.features["bottleneck"])}

    def diagnostics(self) -> dict[str, float]:
        return {**super().diagnostics(), "negative_affinity_share": float(self.graph.negative_share)}
