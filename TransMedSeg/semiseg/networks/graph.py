"""The two graph parts of GraphCL on the coarsest feature map.

Neither paper says what the nodes are. Here they are the positions of one sample, so that a prediction does not depend
on what else is in the batch and a sliding window of batch 1 sees the same module as training.

Axes: B batch, n nodes (positions), A features, K clusters, X space.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StructureAlignment(nn.Module):
    """Adds to each position what positions of similar structure hold (GraphCL after GCAN, Ma et al., CVPR 2019).

    A small analyzer scores every position; similar scores are edges of a dense graph; one graph convolution runs over
    it: x + gamma * ReLU(D^-1/2 (S S' + 1) D^-1/2 X W). Scores are positive, so degrees are and the square root is
    finite. Gamma starts at 0: a pretrained network is untouched at first.

    Args:
        num_features: Channels of the map.
        num_scores: Scores of a position (the paper does not say; ours).
    """

    def __init__(self, num_features: int, num_scores: int = 64) -> None:
        super().__init__()
        self.analyzer = nn.Linear(num_features, num_scores)
        self.convolution = nn.Linear(num_features, num_features, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, features_BAX: Tensor) -> Tensor:
        """(batch, channel, *space) to the same."""
        with torch.autocast(features_BAX.device.type, enabled=False):
            nodes_BnA = features_BAX.flatten(2).transpose(1, 2).float()
            scores_BnS = F.normalize(F.softplus(self.analyzer(nodes_BnA)), dim=2)
            # (S S' + 1) v as two thin products: positions x scores instead of positions x positions.
            degree_Bn1 = scores_BnS @ scores_BnS.sum(1)[:, :, None] + 1
            weighted_BnA = self.convolution(nodes_BnA) * degree_Bn1.rsqrt()
            mixed_BnA = scores_BnS @ (scores_BnS.transpose(1, 2) @ weighted_BnA) + weighted_BnA
            update_BnA = F.relu(mixed_BnA * degree_Bn1.rsqrt())
        update_BAX = update_BnA.transpose(1, 2).reshape(features_BAX.shape).to(features_BAX.dtype)
        return features_BAX + self.gamma.to(features_BAX.dtype) * update_BAX


class ClusterHead(nn.Module):
    """Soft clusters of the nodes of a signed graph (DeepCut, ICCV 2023): graph convolution, two layers, softmax.

    Messages pass along positive edges only; the loss looks at the signed ones.

    Args:
        num_features: Features of a node.
        num_clusters: An upper limit; unused clusters stay empty.
        num_hidden: Width of the graph convolution.
        dropout: In the perceptron, training only.
    """

    def __init__(self, num_features: int, num_clusters: int = 8, num_hidden: int = 64, dropout: float = 0.25) -> None:
        super().__init__()
        self.convolution = nn.Linear(num_features, num_hidden)
        self.perceptron = nn.Sequential(
            nn.Linear(num_hidden, num_hidden // 2),
            nn.ELU(),
            nn.Dropout(dropout),
            nn.Linear(num_hidden // 2, num_clusters),
        )

    def forward(self, nodes_BnA: Tensor, affinity_Bnn: Tensor) -> Tensor:
        """(batch, node, feature) and (batch, node, node) signed affinities to (batch, node, cluster), rows sum to 1."""
        with torch.autocast(nodes_BnA.device.type, enabled=False):
            edges_Bnn = affinity_Bnn.float().clamp(min=0)
            edges_Bnn = edges_Bnn / edges_Bnn.sum(2, keepdim=True).clamp(min=1e-6)
            hidden_BnH = self.convolution(F.normalize(nodes_BnA.float(), dim=2, eps=1e-4))
            return self.perceptron(F.elu(edges_Bnn @ hidden_BnH + hidden_BnH)).softmax(2)
