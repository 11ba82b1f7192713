"""The TSA plug-in: fixtures worked out by hand, Monte Carlo, limiting cases, statistics, and what it must never
allocate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from semiseg.losses import class_moments, tsa
from semiseg.losses.class_moments import merge_moments
from semiseg.losses.tsa import (
    ClassMoments,
    head_weight,
    pair_table,
    pair_terms,
    tsa_diagnostics,
    tsa_loss,
    tsa_loss_exact,
)

EXACT = {"shrinkage": 0.0, "floor": 0.0}


def _float64(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def two_classes() -> dict[str, torch.Tensor]:
    """One feature; class 1 of the unlabeled set lies one unit lower than in the labeled set."""
    return {
        "weight_CA": _float64([[0.0], [1.0]]),
        "mean_source_CA": _float64([[0.0], [0.0]]),
        "mean_target_CA": _float64([[0.0], [-1.0]]),
        "covariance_target_CAA": torch.ones(2, 1, 1, dtype=torch.float64),
        "alpha": 0.5,
    }


@pytest.fixture
def three_classes() -> dict[str, torch.Tensor]:
    source = _float64([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]])
    return {
        "weight_CA": _float64([[1, 0], [0, 1], [-1, 0.5]]),
        "mean_source_CA": source,
        "mean_target_CA": source + _float64([[0.2, -0.1], [-0.3, 0.4], [0, 0.5]]),
        "covariance_target_CAA": _float64([[[1, 0.5], [0.5, 2]], [[0.5, -0.2], [-0.2, 0.4]], [[0.3, 0], [0, 0.3]]]),
        "alpha": 0.4,
    }


FEATURES = _float64([[1, 2], [0.5, 0.25], [0, 1]])
BIAS = _float64([0, 0.1, -0.2])
LABELS = torch.tensor([0, 1, 2])


def _literal_loss(features, logits, labels, weight, shift, covariance, alpha):
    """Mean cross-entropy with the table entry worked out for every voxel anew, as the published codes do."""
    difference = weight[None, :, :] - weight[labels][:, None, :]
    quadratic = torch.einsum("nca,nab,ncb->nc", difference, covariance[labels], difference)
    augmented = logits + alpha * torch.einsum("nca,na->nc", difference, shift[labels]) + alpha / 2 * quadratic
    return F.cross_entropy(augmented, labels)


# ---- the table and the loss ----


def test_two_class_fixture_has_the_table_and_loss_worked_out_by_hand(two_classes):  # T1
    table = pair_table(**two_classes, **EXACT)
    torch.testing.assert_close(table, _float64([[0, 0.25], [0.75, 0]]))
    logits = _float64([[0.0, 2.0]])
    bound = tsa_loss(logits, torch.tensor([1]), table)
    assert bound.item() == pytest.approx(0.25192908, abs=5e-9)
    exact = tsa_loss_exact(logits, torch.tensor([1]), *pair_terms(**two_classes, **EXACT))
    assert exact.item() == pytest.approx(0.23893838, abs=1e-6)
    assert exact < bound


def test_three_class_fixture_has_the_table_and_loss_worked_out_by_hand(three_classes):  # T2
    table = pair_table(**three_classes, **EXACT)
    torch.testing.assert_close(table, _float64([[0, 0.28, 0.52], [-0.02, 0, 0.12], [0.155, 0.175, 0]]))
    logits = FEATURES @ three_classes["weight_CA"].T + BIAS
    each = [tsa_loss(logits[i : i + 1], LABELS[i : i + 1], table).item() for i in range(3)]
    assert each == pytest.approx([1.701382, 0.950080, 1.507669], abs=1e-6)
    assert tsa_loss(logits, LABELS, table).item() == pytest.approx(1.386377, abs=1e-6)
    assert F.cross_entropy(logits, LABELS).item() == pytest.approx(1.259026, abs=1e-6)


def test_monte_carlo_expectation_lies_below_the_bound(three_classes):  # T2, T3
    generator = torch.Generator().manual_seed(5)
    draws, alpha, weight = 400_000, three_classes["alpha"], three_classes["weight_CA"]
    table = pair_table(**three_classes, **EXACT)
    shift = three_classes["mean_target_CA"] - three_classes["mean_source_CA"]
    recorded = (1.4625, 0.9089, 1.4505)
    for y in range(3):
        root = torch.linalg.cholesky(alpha * three_classes["covariance_target_CAA"][y])
        noise = torch.randn(draws, 2, dtype=torch.float64, generator=generator) @ root.T + alpha * shift[y]
        logits = (FEATURES[y] + noise) @ weight.T + BIAS
        mean = F.cross_entropy(logits, LABELS[y].expand(draws)).item()
        assert mean == pytest.approx(recorded[y], abs=4e-3)
        assert mean < tsa_loss((FEATURES[y : y + 1] @ weight.T + BIAS), LABELS[y : y + 1], table).item()
        moments = (noise @ (weight - weight[y]).T).exp().mean(0)  # moment generating function of the Gaussian
        torch.testing.assert_close(moments / table[y].exp(), torch.ones(3, dtype=torch.float64), rtol=0.02, atol=0)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_table_form_equals_the_literal_per_voxel_form(num_classes):  # T4
    generator = torch.Generator().manual_seed(num_classes)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    features, weight, shift = normal(50, 7), normal(num_classes, 7), normal(num_classes, 7)
    covariance = normal(num_classes, 7, 7)
    covariance = covariance @ covariance.transpose(1, 2) / 7
    labels = torch.randint(num_classes, (50,), generator=generator)
    logits = features @ weight.T
    table = pair_table(weight, torch.zeros_like(shift), shift, covariance, 0.3, clamp=1e9, **EXACT)
    expected = _literal_loss(features, logits, labels, weight, shift, covariance, 0.3)
    assert abs(tsa_loss(logits, labels, table) - expected).item() < 1e-13


def test_gradient_of_the_table_matches_the_fixture_and_finite_differences(three_classes):  # T6
    weight = three_classes["weight_CA"].requires_grad_()
    pair_table(**three_classes, **EXACT)[0, 1].backward()
    assert weight.grad[1, 0].item() == pytest.approx(-0.12, abs=1e-12)
    torch.testing.assert_close(weight.grad[1], -weight.grad[0])
    others = {name: value for name, value in three_classes.items() if name != "weight_CA"}
    assert torch.autograd.gradcheck(lambda w: pair_table(w, **others), (weight,))


def test_gradients_reach_weight_and_logits_but_never_the_statistics(three_classes):
    for name in ("weight_CA", "mean_source_CA", "mean_target_CA", "covariance_target_CAA"):
        three_classes[name] = three_classes[name].clone().requires_grad_()
    logits = (FEATURES @ three_classes["weight_CA"].detach().T).requires_grad_()
    tsa_loss(logits, LABELS, pair_table(**three_classes)).backward()
    assert three_classes["weight_CA"].grad.abs().sum() > 0 and logits.grad.abs().sum() > 0
    for name in ("mean_source_CA", "mean_target_CA", "covariance_target_CAA"):
        assert three_classes[name].grad is None


@pytest.mark.parametrize("num_classes", [2, 3])
def test_loss_gradient_passes_gradcheck(num_classes):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, num_classes, 3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    table = torch.randn(num_classes, num_classes, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.randint(num_classes, (2, 3, 4), generator=generator)
    valid = torch.rand(2, 3, 4, generator=generator) < 0.7
    assert torch.autograd.gradcheck(lambda z, t: tsa_loss(z, labels, t, valid), (logits, table))
    if num_classes == 2:
        variance = torch.rand(2, 2, dtype=torch.float64, generator=generator).add(0.1).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda z, t, v: tsa_loss_exact(z, labels, t, v, valid), (logits, table, variance)
        )


def test_alpha_zero_is_plain_cross_entropy_bit_for_bit(three_classes):  # T7
    table = pair_table(**{**three_classes, "alpha": 0.0})
    assert (table == 0).all()
    logits = FEATURES @ three_classes["weight_CA"].T + BIAS
    assert torch.equal(tsa_loss(logits, LABELS, table), F.cross_entropy(logits, LABELS, reduction="none").mean())
    two = torch.randn(1000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = (two[:, 0] > 0.3).long()
    zero = torch.zeros(2, 2, dtype=torch.float64)
    assert abs(tsa_loss(two, labels, zero) - F.cross_entropy(two, labels)).item() < 1e-15


def test_no_shift_and_no_covariance_is_plain_cross_entropy(three_classes):  # T7
    three_classes["mean_target_CA"] = three_classes["mean_source_CA"]
    three_classes["covariance_target_CAA"] = torch.zeros(3, 2, 2, dtype=torch.float64)
    assert (pair_table(**three_classes, floor=0.0) == 0).all()


def test_diagonal_and_rows_of_unseen_classes_are_zero(three_classes):  # T7
    seen = torch.tensor([True, False, True])
    table = pair_table(**three_classes, seen=seen)
    assert (table.diagonal() == 0).all() and (table[1] == 0).all()
    torch.testing.assert_close(table[0], pair_table(**three_classes)[0])
    assert (table[0, 1:] != 0).all() and (table[2, :2] != 0).all()


def test_a_shift_towards_another_class_makes_its_entry_larger(three_classes):  # T8
    before = pair_table(**three_classes)
    weight = three_classes["weight_CA"]
    three_classes["mean_target_CA"] = three_classes["mean_target_CA"].clone()
    three_classes["mean_target_CA"][0] += 0.5 * (weight[1] - weight[0])
    after = pair_table(**three_classes)
    logits = FEATURES @ weight.T
    assert after[0, 1] > before[0, 1]
    assert tsa_loss(logits[:1], LABELS[:1], after) > tsa_loss(logits[:1], LABELS[:1], before)


@pytest.mark.parametrize(
    ("spread", "exact", "nodes", "bound"),
    [(0.3, 0.3221, 0.3221, 0.3256), (1, 0.4069, 0.4069, 0.4741), (2, 0.6425, 0.6426, 1.3133), (4, 1.295, 1.293, 7.001)],
)
def test_looseness_of_the_bound_is_as_tabulated(spread, exact, nodes, bound):
    logits, labels = _float64([[0.0, 1.0]]), torch.tensor([1])  # the other logit is one below the label's
    mean, variance = torch.zeros(2, 2, dtype=torch.float64), torch.full((2, 2), spread**2, dtype=torch.float64)
    digits = 5e-4 if spread == 4 else 5.1e-5
    assert tsa_loss_exact(logits, labels, mean, variance).item() == pytest.approx(nodes, abs=digits)
    assert tsa_loss(logits, labels, mean + variance / 2).item() == pytest.approx(bound, abs=digits)
    x = np.linspace(-12, 12, 200_001)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    assert (density * np.logaddexp(0, -1 + spread * x)).sum() * (x[1] - x[0]) == pytest.approx(exact, abs=digits)


def test_quadrature_constants_are_those_of_nine_nodes():
    roots, weights = np.polynomial.hermite_e.hermegauss(9)
    np.testing.assert_allclose(tsa._HERMITE_ROOTS, roots[4:], atol=1e-12)
    np.testing.assert_allclose(tsa._HERMITE_WEIGHTS, weights[4:] / weights.sum(), rtol=1e-10)


def test_entries_are_clamped_and_their_gradient_stops(two_classes):
    two_classes["weight_CA"] = _float64([[0.0], [30.0]]).requires_grad_()
    table = pair_table(**two_classes)
    assert table[0, 1].item() == 5.0 and table[0, 0].item() == 0.0
    table[0, 1].backward()
    assert (two_classes["weight_CA"].grad == 0).all()


def test_shrinkage_one_keeps_the_diagonal_alone(three_classes):
    diagonal = torch.diag_embed(three_classes["covariance_target_CAA"].diagonal(dim1=1, dim2=2))
    expected = pair_table(**{**three_classes, "covariance_target_CAA": diagonal}, **EXACT)
    torch.testing.assert_close(pair_table(**three_classes, shrinkage=1.0, floor=0.0), expected)


def test_covariances_are_shrunk_by_a_tenth_and_have_a_floor(three_classes):
    """Features after a rectifier are often dead: without the floor their covariance would be singular."""
    covariance = three_classes["covariance_target_CAA"]
    expected = 0.9 * covariance + torch.diag_embed(0.1 * covariance.diagonal(dim1=1, dim2=2) + 1e-5)
    found = pair_table(**three_classes)
    torch.testing.assert_close(found, pair_table(**{**three_classes, "covariance_target_CAA": expected}, **EXACT), rtol=1e-12, atol=1e-12)
    assert not torch.equal(found, pair_table(**three_classes, **EXACT))


@pytest.mark.parametrize("num_classes", [2, 4])
def test_dense_maps_and_flat_lists_give_the_same_loss(num_classes):
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, num_classes, 3, 4, 5, dtype=torch.float64, generator=generator)
    labels = torch.randint(num_classes, (2, 3, 4, 5), generator=generator, dtype=torch.uint8)
    table = torch.randn(num_classes, num_classes, dtype=torch.float64, generator=generator)
    valid = torch.rand(2, 3, 4, 5, generator=generator) < 0.5
    flat = logits.movedim(1, -1).reshape(-1, num_classes)
    kept = valid.flatten()
    expected = tsa_loss(flat[kept], labels.flatten()[kept], table)
    torch.testing.assert_close(tsa_loss(logits, labels, table, valid), expected)
    unnamed = torch.where(valid, labels, 255)  # what lies outside the mask may be anything
    torch.testing.assert_close(tsa_loss(logits, unnamed, table, valid), expected)
    assert tsa_loss(logits, labels, table, torch.zeros_like(valid)).item() == 0.0


def test_loss_stays_finite_and_in_fp32_for_half_precision_and_huge_logits():
    logits = torch.tensor([[400.0, -400.0], [-400.0, 400.0]], dtype=torch.bfloat16, requires_grad=True)
    table = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = tsa_loss(logits, torch.tensor([1, 1]), table)
        assert (
            pair_table(torch.randn(2, 3), *torch.zeros(2, 2, 3), torch.eye(3).expand(2, 3, 3), 0.3).dtype
            == torch.float32
        )
    loss.backward()
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(401.0) and logits.grad.isfinite().all()


def test_exact_loss_refuses_three_classes():
    with pytest.raises(ValueError, match="two classes"):
        tsa_loss_exact(torch.zeros(1, 3), torch.tensor([0]), torch.zeros(3, 3), torch.zeros(3, 3))


# ---- the classifier's weight ----


def test_head_weight_sums_the_taps_of_a_kernel_and_keeps_the_gradient():
    conv = nn.Conv2d(5, 3, 3)
    torch.testing.assert_close(head_weight(conv), conv.weight.sum((2, 3)))
    head_weight(conv).sum().backward()
    assert (conv.weight.grad == 1).all()
    assert head_weight(nn.Conv3d(5, 3, 1)).shape == (3, 5)
    linear = nn.Linear(5, 3)
    assert head_weight(linear) is linear.weight


def test_head_weight_refuses_what_is_no_classifier():
    for layer in (nn.ReLU(), nn.Conv2d(4, 4, 1, groups=2), nn.ConvTranspose2d(4, 4, 1), nn.BatchNorm2d(4)):
        with pytest.raises(ValueError, match="classifier"):
            head_weight(layer)


# ---- the statistics ----


def test_merge_matches_the_fixture_for_pooled_and_running_moments():  # T5
    first, second = _float64([[0, 0], [2, 0]]), _float64([[4, 2], [4, 4], [7, 3]])
    moments = [(x.mean(0)[None], torch.cov(x.T, correction=0)[None]) for x in (first, second)]
    mean, covariance = merge_moments(*moments[0], *moments[1], _float64([3 / 5]))
    torch.testing.assert_close(mean, _float64([[3.4, 1.8]]))
    torch.testing.assert_close(covariance, _float64([[[5.44, 2.88], [2.88, 2.56]]]))
    mean, covariance = merge_moments(*moments[0], *moments[1], _float64([0.1]))
    torch.testing.assert_close(mean, _float64([[1.4, 0.3]]))
    torch.testing.assert_close(covariance, _float64([[[2.54, 1.08], [1.08, 0.876667]]]), atol=1e-6, rtol=0)


def test_first_updates_are_a_plain_average_then_the_momentum_rules():
    moments = ClassMoments(2, 1, momentum=0.75, min_count=1)
    steps = [1.0, 3.0, 8.0, 4.0, 24.0]
    expected = [1.0, 2.0, 4.0, 4.0, 9.0]  # weights 1, 1/2, 1/3, 1/4, 1/4
    for value, mean in zip(steps, expected, strict=True):
        moments.update(torch.full((6, 1), value), torch.ones(6, dtype=torch.int64))
        assert moments.mean[1, 0].item() == pytest.approx(mean, rel=1e-6)
    assert moments.num_updates.tolist() == [0, 5] and moments.seen.tolist() == [False, True]


def test_covariances_stay_symmetric_without_negative_eigenvalues():
    generator = torch.Generator().manual_seed(12)
    moments, root = ClassMoments(2, 6, momentum=0.7), torch.randn(6, 6, generator=generator)
    for step in range(30):
        features = 10 * step + torch.randn(500, 6, generator=generator) @ root
        features[:, 2] = 0.0  # a dead channel
        moments.update(features, torch.randint(2, (500,), generator=generator))
    assert torch.equal(moments.covariance, moments.covariance.transpose(1, 2))
    largest = moments.covariance.abs().max().item()
    assert torch.linalg.eigvalsh(moments.covariance.double()).min().item() > -1e-6 * largest


def test_moments_of_one_update_are_those_of_the_valid_voxels():
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, 4, 5, 6, 7, generator=generator)
    labels = torch.randint(-1, 4, (2, 5, 6, 7), generator=generator)  # -1 and 3 are no classes
    valid = torch.rand(2, 5, 6, 7, generator=generator) < 0.6
    moments = ClassMoments(3, 4, min_count=1)
    moments.update(features, labels, valid)
    rows = features.movedim(1, -1).reshape(-1, 4)
    for c in range(3):
        chosen = rows[(valid & (labels == c)).flatten()]
        torch.testing.assert_close(moments.mean[c], chosen.mean(0))
        torch.testing.assert_close(moments.covariance[c], torch.cov(chosen.T, correction=0))
        assert moments.voxel_count[c] == len(chosen)
    flat = ClassMoments(3, 4, min_count=1)
    flat.update(rows, labels.flatten(), valid.flatten())
    torch.testing.assert_close(flat.covariance, moments.covariance)


def test_variance_survives_a_large_mean_in_single_precision():  # T9
    features = 30 + 0.1 * torch.randn(40_000, 1, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(40_000, dtype=torch.int64)
    moments = ClassMoments(2, 1, max_voxels=40_000)
    moments.update(features, labels)
    assert moments.covariance[0, 0, 0].item() == pytest.approx(features.double().var(correction=0).item(), rel=1e-4)
    values = features.numpy().ravel()  # the estimator it must not be: mean square minus squared mean
    naive = np.cumsum(values * values)[-1] / np.float32(40_000) - (np.cumsum(values)[-1] / np.float32(40_000)) ** 2
    assert abs(naive - 0.01) > 0.002  # wrong by a fifth or more


def test_a_sample_of_a_large_class_keeps_its_moments_and_moves_on():
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(200_000, 3, generator=generator) * torch.tensor([1.0, 2.0, 0.5]) + 4
    labels = (torch.rand(200_000, generator=generator) < 0.05).long()
    moments = ClassMoments(2, 3, max_voxels=1024)
    states = []
    for _ in range(20):
        moments.update(features, labels)
        states.append(moments.mean.clone())
    torch.testing.assert_close(moments.mean, torch.full((2, 3), 4.0), atol=0.06, rtol=0)
    torch.testing.assert_close(moments.covariance[1].diagonal(), torch.tensor([1.0, 4.0, 0.25]), rtol=0.06, atol=0)
    assert not torch.equal(states[0], states[1])


@pytest.mark.parametrize(("num_voxels", "share"), [(40, 1.0), (5_000, 0.5), (300_001, 0.3), (300_001, 0.0005)])
def test_sampled_voxels_belong_to_their_class_and_are_distinct(num_voxels, share):
    labels = (torch.rand(num_voxels, generator=torch.Generator().manual_seed(6)) < share).long()
    stride = class_moments._candidate_stride(num_voxels, 256)
    for call in (0, 1, 12_345):
        index, taken, count = class_moments._sample_each_class(labels, None, 2, 256, torch.tensor(call), stride)
        for c in range(2):
            chosen = index[c][taken[c]]
            assert (labels[chosen] == c).all() and chosen.unique().numel() == chosen.numel()
            assert chosen.numel() == min(256, int(count[c]), num_voxels)
            if num_voxels > 1000 and chosen.numel() > 100:  # from everywhere, not from one corner
                assert chosen.min() < 0.05 * num_voxels and chosen.max() > 0.95 * num_voxels


def test_a_class_with_few_voxels_or_a_diverged_step_is_skipped():
    moments = ClassMoments(2, 2, min_count=64)
    labels = torch.cat([torch.zeros(64), torch.ones(63)]).long()
    moments.update(torch.randn(127, 2, generator=torch.Generator().manual_seed(0)), labels)
    assert moments.num_updates.tolist() == [1, 0] and (moments.covariance[1] == 0).all()
    before = {name: value.clone() for name, value in moments.state_dict().items()}
    moments.update(torch.full((127, 2), float("nan")), labels)
    assert torch.equal(moments.mean, before["mean"]) and torch.equal(moments.covariance, before["covariance"])
    assert moments.num_updates.tolist() == [1, 0] and moments.num_calls == 2


@pytest.mark.parametrize(("num_rare", "is_taken"), [(600, True), (40, False)])
def test_a_rare_class_of_a_large_batch_counts_by_its_voxels_and_not_by_those_that_are_looked_at(num_rare, is_taken):
    """Of 100,000 voxels every 49th is looked at, so about 12 of 600."""
    labels = torch.zeros(100_000, dtype=torch.int64)
    labels[:: 100_000 // num_rare] = 1
    features = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0))
    moments = ClassMoments(2, 2, min_count=64, max_voxels=64)
    for _ in range(10):
        moments.update(features, labels)
        if is_taken:
            assert 0.4 * num_rare < float(moments.voxel_count[1]) < 2 * num_rare
    assert moments.num_updates.tolist() == [10, 10 if is_taken else 0]


def test_state_saves_and_loads_and_the_next_update_is_the_same():
    generator = torch.Generator().manual_seed(7)
    features, labels = torch.randn(9_000, 3, generator=generator), torch.randint(2, (9_000,), generator=generator)
    first, second = ClassMoments(2, 3, max_voxels=100), ClassMoments(2, 3, max_voxels=100)
    first.update(features, labels)
    second.load_state_dict(first.state_dict())
    first.update(features * 2, labels)
    second.update(features * 2, labels)
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))
    assert sum(1 for _ in first.parameters()) == 0


def test_statistics_stay_in_fp32_under_autocast_and_for_half_precision_features():
    moments = ClassMoments(2, 3)
    features = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        moments.update(features, torch.zeros(500, dtype=torch.uint8))
    expected = torch.cov(features.float().T, correction=0)
    torch.testing.assert_close(moments.covariance[0], expected, rtol=1e-5, atol=1e-6)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="at least 2 classes"):
        ClassMoments(1, 4)


def _gloo_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        features, labels = torch.load(f"{folder}/data.pt", weights_only=True)
        moments = ClassMoments(2, 3, min_count=8)
        for step in range(3):
            part = slice(0, 100) if rank == 0 else slice(100, None)  # ranks of unequal size
            moments.update((features[step] * (step + 1))[part], labels[step][part])
        torch.save(moments.state_dict(), f"{folder}/rank{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


def test_two_ranks_hold_the_moments_of_one_process(tmp_path):
    generator = torch.Generator().manual_seed(8)
    features = 20 + torch.randn(3, 300, 3, generator=generator)
    labels = torch.randint(2, (3, 300), generator=generator)
    torch.save((features, labels), tmp_path / "data.pt")
    torch.multiprocessing.spawn(_gloo_rank, (str(tmp_path),), nprocs=2)
    alone = ClassMoments(2, 3, min_count=8)
    for step in range(3):
        alone.update(features[step] * (step + 1), labels[step])
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for name, value in alone.state_dict().items():
        assert torch.equal(ranks[0][name], ranks[1][name])
        torch.testing.assert_close(ranks[0][name], value, rtol=1e-5, atol=1e-5)


# ---- what it must not do ----


class _Recorder(TorchDispatchMode):
    """Notes the largest new tensor of any operation and every operation that would make a CPU wait for a GPU."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")

    def __init__(self, *inputs: torch.Tensor) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in inputs}
        self.largest, self.waiting = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor) and value.untyped_storage().data_ptr() not in self.known:
                self.largest = max(self.largest, value.numel())
        if any(name in str(function) for name in self.WAITING):
            self.waiting.append(str(function))
        return result


@pytest.mark.parametrize("num_classes", [2, 14])
def test_nothing_of_size_voxels_by_classes_by_features_and_no_wait_for_the_device(num_classes):
    batch, features, side = 2, 16, 32
    generator = torch.Generator().manual_seed(9)
    map_BAX = torch.randn(batch, features, side, side, side, generator=generator)
    labels = torch.randint(num_classes, (batch, side, side, side), generator=generator)
    valid = torch.rand(labels.shape, generator=generator) < 0.8
    conv = nn.Conv3d(features, num_classes, 1)
    logits = conv(map_BAX).detach().requires_grad_()
    source, target = ClassMoments(num_classes, features), ClassMoments(num_classes, features)
    with _Recorder(map_BAX, labels, logits) as recorder:
        source.update(map_BAX, labels)
        target.update(map_BAX, labels, valid)
        table = pair_table(
            head_weight(conv), source.mean, target.mean, target.covariance, 0.25, seen=source.seen & target.seen
        )
        loss = tsa_loss(logits, labels, table, valid)
        if num_classes == 2:
            loss = loss + tsa_loss_exact(logits, labels, table, table.abs(), valid)
        torch.autograd.grad(loss, [logits, conv.weight])
    num_voxels = labels.numel()
    assert recorder.largest <= num_voxels * num_classes
    assert recorder.largest < num_voxels * num_classes * features
    assert recorder.waiting == []


def test_diagnostics_say_what_the_moments_and_the_table_say():
    generator = torch.Generator().manual_seed(10)
    features = torch.randn(4_000, 3, generator=generator) * torch.tensor([1.0, 2.0, 0.01])
    labels = torch.randint(2, (4_000,), generator=generator)
    source, target = ClassMoments(2, 3), ClassMoments(2, 3)
    source.update(features, labels)
    target.update(features + torch.tensor([3.0, 4.0, 0.0]), labels)
    weight = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.2, 0.3]])
    report = tsa_diagnostics(weight, source, target, 0.25)
    torch.testing.assert_close(report["shift_norm"], torch.tensor([5.0, 5.0]))
    torch.testing.assert_close(report["source_trace"], report["target_trace"])
    assert (report["condition_number"] > 3e4).all() and (report["condition_number"] < 6e4).all()
    assert report["clamp_count"] == 0
    torch.testing.assert_close(report["table"], report["mean_part"] + report["quadratic_part"])
    assert tsa_diagnostics(weight * 100, source, target, 0.25)["clamp_count"] == 2
    assert report["source_voxels"].sum() == 4_000
    untouched = tsa_diagnostics(weight, ClassMoments(2, 3), target, 0.25)
    assert (untouched["table"] == 0).all() and untouched["clamp_count"] == 0


@pytest.mark.parametrize("alpha", [0.05, 0.25])
def test_bound_lies_above_the_exact_expectation(alpha):
    generator = torch.Generator().manual_seed(11)
    weight, shift = torch.randn(2, 4, generator=generator), torch.randn(2, 4, generator=generator)
    root = torch.randn(2, 4, 4, generator=generator)
    inputs = (weight, torch.zeros(2, 4), shift, root @ root.transpose(1, 2), alpha)
    logits, labels = torch.randn(500, 2, generator=generator), torch.randint(2, (500,), generator=generator)
    mean, variance = pair_terms(*inputs)
    exact, bound = tsa_loss_exact(logits, labels, mean, variance), tsa_loss(logits, labels, mean + variance / 2)
    shifted = tsa_loss(logits, labels, mean)
    assert shifted < exact < bound  # Jensen from below and from above
