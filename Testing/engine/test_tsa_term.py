"""The TSA term by itself: what its options make of hand-made statistics and logits, and which voxels its statistics see."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from training_cases import MemoryCases, last_stage, make_batches, make_method

from semiseg.methods.base import Progress
from semiseg.methods.tsa_term import TSAOptions, TSATerm
from semiseg.networks.output import NetworkOutput

GAP = 2.0
"""Logit of the structure minus that of the background, in every voxel below."""

CORRELATED = torch.tensor([[[1.0, 0.8], [0.8, 1.0]], [[0.5, -0.4], [-0.4, 2.0]]])
SHIFT = torch.tensor([[0.3, -0.2], [0.5, 0.1]])
WEIGHT = torch.tensor([[0.0, 0.0], [1.0, 0.5]])

NO_GRAPH = {"graph_alignment": False, "clustering_weight": 0.0}


def softplus(x):
    return math.log1p(math.exp(x))


def loss_of(label, head=None, term=None, **options):
    """The term's loss where every voxel has this label and the logits differ by ``GAP``."""
    term = term or TSATerm(2, 2, TSAOptions(**options))
    logits = torch.tensor([0.0, GAP]).view(1, 2, 1, 1, 1).expand(1, 2, 2, 2, 2)
    labels = torch.full((1, 2, 2, 2), label)
    between_updates = Progress("self_train", 0.5, 0.5, 1)  # the statistics stay as they were made
    return float(term(head, logits, None, labels, torch.ones_like(labels, dtype=torch.bool), None, between_updates).detach())


@pytest.mark.parametrize(("label", "expected"), [(0, softplus(GAP + 0.25)), (1, 0.25192908)])
def test_margins_enter_as_stated(label, expected):
    """The first belongs to voxels of the background, the second to those of the structure: the fixture's table, without statistics."""
    assert loss_of(label, form="margin", margins=(0.25, 0.75), tsa_weight=1.0) == pytest.approx(expected, rel=1e-6)
    assert loss_of(label, form="margin", margins=(0.25, 0.75), tsa_weight=0.4) == pytest.approx(0.4 * expected, rel=1e-6)


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("covariance", ["full", "diagonal", "none"])
@pytest.mark.parametrize("label", [0, 1])
def test_covariance_and_shift_enter_as_the_options_say(label, covariance, shift):
    term = TSATerm(2, 2, TSAOptions(tsa_weight=1.0, alpha=0.6, warmup=0.0, covariance=covariance, shift=shift))
    for moments in (term.source, term.target):
        moments.num_updates.fill_(1)
        moments.mean.fill_(2.0)
    term.target.mean.add_(SHIFT)
    term.target.covariance.copy_(CORRELATED)
    term.source.covariance.copy_(100 * CORRELATED)  # the labeled voxels' own takes no part
    head = nn.Conv3d(2, 2, 1)
    with torch.no_grad():
        head.weight.copy_(WEIGHT.view(2, 2, 1, 1, 1))
    full, diagonal = CORRELATED[label], CORRELATED[label].diagonal().diag()
    used = {"full": 0.9 * full + 0.1 * diagonal, "diagonal": diagonal, "none": 0 * full}[covariance] + 1e-5 * torch.eye(2)
    towards = WEIGHT[1 - label] - WEIGHT[label]
    alpha = 0.5 * 0.6  # halfway
    entry = alpha * float(towards @ SHIFT[label]) * shift + alpha / 2 * float(towards @ used @ towards)
    gap = GAP if label == 0 else -GAP
    assert loss_of(label, head, term) == pytest.approx(softplus(gap + entry), rel=1e-5)


@pytest.mark.parametrize("mixing", [0.0, 1.0], ids=["whole", "mixed"])
@pytest.mark.parametrize("statistics", ["same_net", "teacher"])
def test_both_sources_of_the_unlabeled_statistics_see_unlabeled_voxels_only(statistics, mixing):
    """And of those only the ones whose label the component filter left alone."""
    batch = make_batches(MemoryCases(), counts=(4, 4)).batch(0)
    method = make_method("transmedseg", statistics=statistics, mixing=mixing, labels_from="patches", **NO_GRAPH).train()
    source, target, taken = [], [], []
    method.tsa.source.update = lambda *given: source.append(given)
    method.tsa.target.update = lambda *given: target.append(given)
    method.core.teacher.forward = with_speckles(method.core.teacher.network)
    self_train = method.core.self_train
    method.core.self_train = lambda batch: taken.append(self_train(batch)) or taken[-1]
    method(batch, last_stage(method, iteration=0))
    step, (features, labels, valid) = taken[0], target[0]
    output, expected_labels, expected, unlabeled = {
        "same_net": (step.output, step.labels, step.is_pseudo, ~step.is_truth),
        "teacher": (step.teacher, step.pseudo, step.untouched, torch.ones_like(step.untouched)),
    }[statistics]
    assert features is output.features["head_input"] and torch.equal(labels, expected_labels) and torch.equal(valid, expected)
    assert (valid <= unlabeled).all() and 0 < valid.sum() < unlabeled.sum(), "the filter took some away"
    count = step.num_with_truth
    features, labels, valid = source[0]
    assert torch.equal(features, step.output.features["head_input"][:count]) and torch.equal(labels, step.labels[:count])
    assert torch.equal(valid, step.is_truth[:count]) and not step.is_truth[count:].any()


def with_speckles(network):
    """A teacher that scatters foreground, so that the component filter has work to do; the features are its own."""

    def forward(images):
        noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            return NetworkOutput(torch.cat([torch.zeros_like(noise), 20 * (noise - 0.95)], dim=1), network(images).features)

    return forward
