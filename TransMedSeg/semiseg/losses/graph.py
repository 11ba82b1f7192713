"""Correlation clustering of a volume's deep features (GraphCL; the loss of DeepCut, Aflalo et al., ICCV 2023).

The nodes are the positions of one sample's coarsest feature map. Pairs with a positive affinity want to share a
cluster, pairs with a negative one do not. The published form is a sum over raw inner products; a normalized mean is
bounded, so that its weight means the same for every network and patch.

Axes: B batch, n nodes, A features, K clusters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nodes(features_BAX: Tensor) -> Tensor:
    """(batch, channel, *space) feature map to (batch, node, channel) in fp32."""
    return features_BAX.flatten(2).transpose(1, 2).float()


def signed_affinity(
    nodes_BnA: Tensor, tau: float = 2.0, *, normalize: bool = True, min_negative: float = 0.05
) -> Tensor:
    """Signed affinities (batch, node, node): similarity minus 1/tau of its maximum.

    Args:
        nodes_BnA: Features of the nodes.
        tau: Larger keeps more pairs positive; GraphCL finds 2 best of 2 to 12.
        normalize: Cosine similarities, whose maximum is 1. False: raw inner products, as published; unbounded.
        min_negative: With cosines, a sample with a smaller share of negative pairs is centered first. Without negative
            pairs one single cluster is optimal, and ReLU features are all alike in that sense.
    """
    with torch.autocast(nodes_BnA.device.type, enabled=False):
        nodes_BnA = nodes_BnA.float()
        if not normalize:
            raw_Bnn = nodes_BnA @ nodes_BnA.transpose(1, 2)
            return raw_Bnn - raw_Bnn.amax((1, 2), keepdim=True) / tau
        plain_Bnn = _cosines(nodes_BnA) - 1 / tau
        centered_Bnn = _cosines(nodes_BnA - nodes_BnA.mean(1, keepdim=True)) - 1 / tau
        enough_B11 = negative_share(plain_Bnn)[:, None, None] >= min_negative
        return torch.where(enough_B11, plain_Bnn, centered_Bnn)


def _cosines(nodes_BnA: Tensor) -> Tensor:
    unit_BnA = F.normalize(nodes_BnA, dim=2, eps=1e-4)
    return unit_BnA @ unit_BnA.transpose(1, 2)


def negative_share(affinity_Bnn: Tensor) -> Tensor:
    """(batch,) share of pairs i != j whose affinity is negative. Below 0.05 clustering has little to say."""
    num_nodes = affinity_Bnn.shape[1]
    negative_Bnn = (affinity_Bnn < 0).float()
    pairs = negative_Bnn.sum((1, 2)) - negative_Bnn.diagonal(dim1=1, dim2=2).sum(1)
    return pairs / max(num_nodes * (num_nodes - 1), 1)


def correlation_clustering_loss(affinity_Bnn: Tensor, clusters_BnK: Tensor, *, reduction: str = "mean") -> Tensor:
    """Minus the affinity of nodes in the same cluster.

    Args:
        affinity_Bnn: From ``signed_affinity``.
        clusters_BnK: Soft assignment, rows sum to 1.
        reduction: ``"mean"`` over pairs i != j and samples: with cosines within [-1, 1], since their matrix and S S'
            have no negative eigenvalues. ``"sum"``: -trace(W S S'), mean over samples, as published; grows with the
            square of n.

    Raises:
        ValueError: The reduction is neither.
    """
    with torch.autocast(affinity_Bnn.device.type, enabled=False):
        clusters_BnK = clusters_BnK.float()
        agreement_Bnn = affinity_Bnn.float() * (clusters_BnK @ clusters_BnK.transpose(1, 2))
        total_B = agreement_Bnn.sum((1, 2))
        if reduction == "sum":
            return -total_B.mean()
        if reduction == "mean":
            num_nodes = affinity_Bnn.shape[1]
            off_diagonal_B = total_B - agreement_Bnn.diagonal(dim1=1, dim2=2).sum(1)
            return -off_diagonal_B.mean() / max(num_nodes * (num_nodes - 1), 1)
    raise ValueError(f"reduction must be 'mean' or 'sum'; got {reduction!r}")
