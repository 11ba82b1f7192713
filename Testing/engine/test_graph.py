"""Graph parts: bounded, free of NaN, indifferent to the order of nodes, harmless at the start, trainable."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from semiseg.losses.graph import correlation_clustering_loss, negative_share, nodes, signed_affinity
from semiseg.methods.graphcl import GraphOptions, GraphTerm
from semiseg.networks.graph import ClusterHead, StructureAlignment


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _maps(generator: torch.Generator, channels: int = 12) -> torch.Tensor:
    return torch.randn(2, channels, 3, 4, 5, generator=generator).relu()


def _one_hot(labels: list[int], num_clusters: int) -> torch.Tensor:
    return F.one_hot(torch.tensor([labels]), num_clusters).float()


# ---- affinity and clustering loss ----


def test_affinity_is_the_cosine_minus_one_over_tau(generator):
    features = torch.randn(1, 6, 4, generator=generator)
    affinity = signed_affinity(features, tau=2.0)
    torch.testing.assert_close(affinity[0, 1, 4], F.cosine_similarity(features[0, 1], features[0, 4], 0) - 0.5)
    torch.testing.assert_close(affinity.diagonal(dim1=1, dim2=2), torch.full((1, 6), 0.5))
    torch.testing.assert_close(signed_affinity(features, tau=4.0), affinity + 0.25)


def test_raw_affinity_is_the_published_form(generator):
    features = torch.randn(2, 6, 4, generator=generator)
    product = features @ features.mT
    expected = product - product.reshape(2, -1).amax(1)[:, None, None] / 3
    torch.testing.assert_close(signed_affinity(features, tau=3.0, normalize=False), expected)


def test_features_that_are_all_alike_are_centered_first(generator):
    alike = 5 + 0.1 * torch.randn(1, 30, 8, generator=generator)
    spread = torch.randn(1, 30, 8, generator=generator)
    affinity = signed_affinity(torch.cat([alike, spread]))
    assert (negative_share(affinity) > 0.5).all()
    torch.testing.assert_close(affinity[1:], signed_affinity(spread))
    assert negative_share(signed_affinity(alike, min_negative=0.0)).item() == 0
    term = GraphTerm(alike.shape[-1], GraphOptions())
    term(alike.transpose(1, 2)[..., None, None])
    assert float(term.negative_share) == 0, "what is shown is from before the centering"


def test_loss_of_a_hand_made_graph():
    affinity = torch.tensor([[[9.0, 0.4, -0.3], [0.4, 9.0, -0.2], [-0.3, -0.2, 9.0]]])
    together = correlation_clustering_loss(affinity, _one_hot([0, 0, 0], 2))
    apart = correlation_clustering_loss(affinity, _one_hot([0, 0, 1], 2))
    assert together.item() == pytest.approx(-2 * (0.4 - 0.3 - 0.2) / 6, abs=1e-6)
    assert apart.item() == pytest.approx(-2 * 0.4 / 6)  # the best partition; the diagonal does not count
    clusters = torch.tensor([[[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]]])
    literal = -torch.trace(affinity[0] @ clusters[0] @ clusters[0].T)
    torch.testing.assert_close(correlation_clustering_loss(affinity, clusters, reduction="sum"), literal)


def test_correct_clusters_of_two_groups_are_the_minimum(generator):
    centers = F.normalize(torch.randn(2, 16, generator=generator), dim=1)
    groups = [0] * 10 + [1] * 10
    features = (centers[groups] + 0.05 * torch.randn(20, 16, generator=generator))[None]
    affinity = signed_affinity(features)
    best = correlation_clustering_loss(affinity, _one_hot(groups, 2))
    assert best < correlation_clustering_loss(affinity, _one_hot([0] * 20, 2))
    assert best < correlation_clustering_loss(affinity, _one_hot([i % 2 for i in range(20)], 2))


@pytest.mark.parametrize("kind", ["random", "relu", "equal", "zero", "opposite", "huge"])
def test_loss_is_bounded_and_finite_whatever_the_features(generator, kind):
    features = torch.randn(3, 25, 6, generator=generator)
    features = {
        "random": features,
        "relu": features.relu(),
        "equal": torch.ones_like(features),
        "zero": torch.zeros_like(features),
        "opposite": torch.ones_like(features) * torch.tensor([1.0, -1.0]).repeat(13)[:25, None],
        "huge": features * 1e18,
    }[kind].requires_grad_()
    for draw in range(4):
        clusters = (torch.randn(3, 25, 8, generator=generator) * 4**draw).softmax(2).requires_grad_()
        loss = correlation_clustering_loss(signed_affinity(features), clusters)
        assert -1 <= loss.item() <= 1
        gradients = torch.autograd.grad(loss, (features, clusters))
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_loss_does_not_depend_on_the_order_of_the_nodes(generator):
    features, order = nodes(_maps(generator)), torch.randperm(60, generator=generator)
    head = ClusterHead(12).eval()
    losses = []
    for rows in (features, features[:, order]):
        affinity = signed_affinity(rows)
        losses.append(correlation_clustering_loss(affinity, head(rows, affinity)))
    torch.testing.assert_close(*losses)


def test_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="reduction"):
        correlation_clustering_loss(torch.zeros(1, 2, 2), torch.ones(1, 2, 1), reduction="none")


# ---- cluster head ----


def test_clusters_are_distributions_and_every_parameter_learns(generator):
    head = ClusterHead(12, num_clusters=5)
    features = nodes(_maps(generator)).requires_grad_()
    affinity = signed_affinity(features)
    clusters = head(features, affinity)
    assert clusters.shape == (2, 60, 5)
    torch.testing.assert_close(clusters.sum(2), torch.ones(2, 60))
    correlation_clustering_loss(affinity, clusters).backward()
    assert features.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in head.parameters())


def test_a_node_without_positive_edges_keeps_its_own_features():
    head = ClusterHead(4).eval()
    features = torch.eye(4)[None]
    affinity = torch.full((1, 4, 4), -1.0)
    assert head(features, affinity).isfinite().all()


def test_clustering_finds_two_groups(generator):
    torch.manual_seed(0)
    groups = torch.tensor([0] * 20 + [1] * 20)
    features = (F.one_hot(groups, 6).float() + 0.1 * torch.randn(40, 6, generator=generator))[None]
    head = ClusterHead(6, num_clusters=4, dropout=0.0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    affinity = signed_affinity(features)
    for _ in range(150):
        optimizer.zero_grad()
        correlation_clustering_loss(affinity, head(features, affinity)).backward()
        optimizer.step()
    found = head(features, affinity)[0].argmax(1)
    assert found[:20].unique().numel() == 1 and found[20:].unique().numel() == 1 and found[0] != found[-1]


# ---- structure-aware alignment ----


def test_alignment_is_the_identity_at_the_start_and_gamma_can_learn(generator):
    module, maps = StructureAlignment(12), _maps(generator)
    output = module(maps)
    assert torch.equal(output, maps)
    output.square().sum().backward()
    assert module.gamma.grad.abs() > 0


def test_alignment_equals_the_dense_graph_convolution(generator):
    module, maps = StructureAlignment(12, num_scores=7), _maps(generator)
    module.gamma.data.fill_(0.7)
    rows = nodes(maps)
    scores = F.normalize(F.softplus(module.analyzer(rows)), dim=2)
    graph = scores @ scores.mT + torch.eye(60)
    degree = graph.sum(2)
    graph = graph / (degree[:, :, None] * degree[:, None, :]).sqrt()
    update = F.relu(graph @ rows @ module.convolution.weight.T)
    expected = maps + 0.7 * update.mT.reshape(maps.shape)
    torch.testing.assert_close(module(maps), expected)


def test_alignment_treats_each_sample_alone_and_follows_a_permutation(generator):
    module, maps = StructureAlignment(12), _maps(generator)
    module.gamma.data.fill_(1.0)
    torch.testing.assert_close(module(maps)[1:], module(maps[1:]))
    order = torch.randperm(60, generator=generator)
    moved = maps.flatten(2)[:, :, order].reshape(maps.shape)
    torch.testing.assert_close(module(moved).flatten(2), module(maps).flatten(2)[:, :, order])


@pytest.mark.parametrize("value", [0.0, 1e4, -1e4])
def test_alignment_stays_finite_for_extreme_maps(value):
    module = StructureAlignment(12)
    module.gamma.data.fill_(1.0)
    maps = torch.full((1, 12, 2, 2, 2), value, requires_grad=True)
    output = module(maps)
    output.sum().backward()
    assert output.isfinite().all() and maps.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def test_alignment_works_on_slices_channels_last_and_half_precision(generator):
    module = StructureAlignment(12)
    module.gamma.data.fill_(1.0)
    flat = torch.randn(2, 12, 6, 5, generator=generator)
    expected = module(flat)
    torch.testing.assert_close(module(flat.to(memory_format=torch.channels_last)), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = module(flat.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.1, rtol=0.05)
