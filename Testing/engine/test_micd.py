"""MICD: hidden blocks, agreeing features, class weights, and whole steps."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_batches import at, tiny_batch, tiny_task, train_steps

from semiseg.losses.class_weights import (
    DifficultyWeights,
    RarityWeights,
    rarity_weights,
    weighted_dice_and_cross_entropy,
)
from semiseg.losses.consistency import gaussian_rampup, symmetric_kl
from semiseg.losses.cross_pseudo import cross_feature_loss, cross_pseudo_loss, weighted_cross_entropy
from semiseg.losses.masking import block_mask
from semiseg.methods.base import Task
from semiseg.methods.micd import MICD
from semiseg.methods.supervised import Supervised
from semiseg.methods.teacher import Teacher
from semiseg.networks import build_network
from semiseg.networks.resvnet import ResVNet
from semiseg.networks.vnet import VNet


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _mask(shape: tuple[int, ...], ratio: float, block: int, seed: int = 0) -> torch.Tensor:
    return block_mask(torch.zeros(2, 1, *shape), ratio, block, _generator(seed))


# ---- hidden blocks ----


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_hidden_share_is_exact_where_blocks_fit(ratio):
    mask = _mask((16, 32, 24), ratio, 8)
    assert mask.shape == (2, 1, 16, 32, 24) and set(mask.unique().tolist()) <= {0.0, 1.0}
    assert (1 - mask.mean((1, 2, 3, 4))).tolist() == [ratio, ratio]


@pytest.mark.parametrize(("shape", "block"), [((16, 16, 16), 4), ((20, 12), 4)])
def test_mask_is_constant_on_blocks(shape, block):
    mask = _mask(shape, 0.5, block)
    for axis in range(2, mask.ndim):
        first = mask.index_select(axis, torch.arange(0, mask.shape[axis], block))
        torch.testing.assert_close(first.repeat_interleave(block, dim=axis), mask)


def test_blocks_are_cut_at_the_far_faces():
    torch.testing.assert_close(_mask((10, 7, 5), 0.5, 4), _mask((12, 8, 8), 0.5, 4)[..., :10, :7, :5])


def test_no_block_and_every_block():
    assert (_mask((8, 8), 0.0, 4) == 1).all()
    assert (_mask((8, 8), 1.0, 4) == 0).all()


def test_mask_follows_its_generator_and_differs_between_samples():
    torch.testing.assert_close(_mask((16, 16, 16), 0.5, 2, seed=3), _mask((16, 16, 16), 0.5, 2, seed=3))
    mask = _mask((16, 16, 16), 0.5, 2, seed=3)
    assert (mask != _mask((16, 16, 16), 0.5, 2, seed=4)).any()
    assert (mask[0] != mask[1]).any()


def test_every_block_is_hidden_about_as_often_as_any_other():
    hidden = sum(1 - _mask((8, 8), 0.5, 2, seed)[0, 0, ::2, ::2] for seed in range(400)) / 400
    assert (hidden - 0.5).abs().max() < 5 * 0.5 / 20  # five standard errors


@pytest.mark.parametrize(("ratio", "block"), [(1.5, 4), (-0.1, 4), (0.5, 0)])
def test_impossible_masks_are_refused(ratio, block):
    with pytest.raises(ValueError, match="ratio must be"):
        _mask((8, 8), ratio, block)


# ---- agreeing features ----


def _features(seed: int, levels: int = 4) -> list[torch.Tensor]:
    return [torch.randn(2, 16 // 2**k, 2**k, 2**k, generator=_generator(10 * seed + k)) for k in range(levels)]


def test_feature_loss_is_positive_symmetric_and_blind_to_a_constant_across_channels():
    first, second = _features(0), _features(1)
    loss = cross_feature_loss(first, second)
    assert loss > 0
    torch.testing.assert_close(loss, cross_feature_loss(second, first))
    shifted = [f + torch.randn(2, 1, *f.shape[2:], generator=_generator()) for f in first]
    assert cross_feature_loss(first, shifted).item() == pytest.approx(0, abs=1e-6)


def test_finer_levels_weigh_more():
    first, second = _features(0), _features(1)
    for k in range(4):
        only = [a if index == k else b for index, (a, b) in enumerate(zip(first, second))]
        expected = 0.2 * (k + 1) * symmetric_kl(first[k], second[k])
        torch.testing.assert_close(cross_feature_loss(only, second), expected)


def test_feature_loss_near_agreement_is_half_the_variance():
    """KL of p and p tilted by e u is e^2 / 2 times the variance of u under p."""
    a, u = torch.randn(1, 6, 8, dtype=torch.float64, generator=_generator()), torch.randn(1, 6, 8, dtype=torch.float64)
    p = a.softmax(1)
    variance = ((p * u.square()).sum(1) - (p * u).sum(1).square()).mean()
    found = symmetric_kl(10 * a, 10 * a)  # exactly equal
    assert found.item() == 0
    epsilon = 0.02  # the loss computes in fp32
    ratio = symmetric_kl(a, a + epsilon * u) / (epsilon**2 / 2 * variance)
    assert ratio.item() == pytest.approx(1, abs=0.01)


def test_feature_loss_agrees_with_drawing_channels():
    a, b = torch.randn(1, 5, 1, generator=_generator(1)), torch.randn(1, 5, 1, generator=_generator(2))
    log_p, log_q = a.log_softmax(1).flatten(), b.log_softmax(1).flatten()
    drawn_p = torch.multinomial(log_p.exp(), 400_000, replacement=True, generator=_generator(3))
    drawn_q = torch.multinomial(log_q.exp(), 400_000, replacement=True, generator=_generator(4))
    estimate = 0.5 * ((log_p - log_q)[drawn_p].mean() + (log_q - log_p)[drawn_q].mean())
    assert symmetric_kl(a, b).item() == pytest.approx(estimate.item(), abs=1e-2)


# ---- class weights ----


def test_rarity_ignores_the_size_of_the_patch_and_reaches_from_0_to_the_number_of_classes():
    counts = torch.tensor([1000.0, 100.0, 10.0, 50.0])
    weights = rarity_weights(counts)
    torch.testing.assert_close(rarity_weights(64 * counts), weights)
    assert weights[0] == 0 and weights[2] == 4
    assert weights[1].item() == pytest.approx(2)  # halfway on a logarithmic scale


def test_rarity_of_equal_absent_and_two_classes():
    assert rarity_weights(torch.full((3,), 7.0)).tolist() == [1, 1, 1]
    assert rarity_weights(torch.tensor([100.0, 0.0, 10.0])).isfinite().all()
    assert rarity_weights(torch.zeros(3)).tolist() == [1, 1, 1]
    assert rarity_weights(torch.tensor([900.0, 100.0])).tolist() == [0, 2]  # why it is off for two classes


def test_rarity_starts_from_the_labels_and_follows_the_pseudo_labels():
    labels = torch.tensor([[0] * 100 + [1] * 10 + [2]])
    pseudo = torch.tensor([[0] * 100 + [1] + [2] * 10])
    weights = RarityWeights(3)
    weights.update(pseudo, labels)
    torch.testing.assert_close(
        weights.weight, 0.99 * torch.tensor([0.0, 1.5, 3.0]) + 0.01 * torch.tensor([0.0, 3.0, 1.5])
    )
    for _ in range(900):
        weights.update(pseudo, labels)
    torch.testing.assert_close(weights.weight, torch.tensor([0.0, 3.0, 1.5]), atol=1e-3, rtol=0)


def test_difficulty_grows_for_the_class_that_is_not_found():
    labels = torch.tensor([[0] * 50 + [1] * 30 + [2] * 20])
    found = labels.clone()
    found[labels == 2] = 0
    weights = DifficultyWeights(3)
    assert weights.weight.tolist() == [3, 3, 3]
    for _ in range(20):
        weights.update(found, labels)
    assert weights.weight.isfinite().all()
    assert weights.weight[2] == 3 and weights.weight[1] < weights.weight[0] < 3


def test_difficulty_by_hand():
    weights = DifficultyWeights(2, momentum=0.5)
    labels, found = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 0, 0, 1]])
    weights.update(found, labels)
    dice = [4 / 5, 2 / 3]
    learned = [0.5 * d * math.log(d / 1e-8) for d in dice]
    raw = [(0.5 + 0.5 * (1 - d)) * (1e-8 / (gain + 1e-8)) ** 0.2 for d, gain in zip(dice, learned)]
    torch.testing.assert_close(weights.weight, torch.tensor([2 * r / max(raw) for r in raw]), rtol=1e-4, atol=0)


def test_weighted_supervision_with_equal_weights_is_cross_entropy_minus_dice():
    logits, labels = (
        torch.randn(2, 3, 4, 4, generator=_generator()),
        torch.randint(3, (2, 4, 4), generator=_generator()),
    )
    p = logits.softmax(1)
    dice = torch.stack(
        [(2 * (p[:, c] * (labels == c)).sum() + 1) / (p[:, c].sum() + (labels == c).sum() + 1) for c in (1, 2)]
    )
    expected = F.cross_entropy(logits, labels) - dice.mean()
    torch.testing.assert_close(weighted_dice_and_cross_entropy(logits, labels, torch.ones(3)), expected)


# ---- networks ----


def test_residual_vnet_has_the_published_size_and_the_vnets_maps():
    network = build_network("resvnet", 1, 2)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(17.92e6, rel=1e-3)
    options = {"width": 2, "depth": 4}
    image = torch.zeros(1, 1, 16, 8, 24)
    for stem in ({}, {"coarse_stem": True}):
        ours, theirs = (build_network(name, 1, 2, {**options, **stem})(image) for name in ("resvnet", "vnet"))
        assert {k: v.shape for k, v in ours.features.items()} == {k: v.shape for k, v in theirs.features.items()}


def test_second_network_is_another_kind_for_two_classes_alone():
    two, four = MICD(tiny_task(2), MICD.Options()), MICD(tiny_task(4), MICD.Options())
    assert type(two.students.first) is VNet and type(two.students.second) is ResVNet
    assert type(four.students.second) is VNet
    assert two.difficulty is None and four.difficulty is not None
    first, second = four.students.first, four.students.second
    assert any((a != b).any() for a, b in zip(first.parameters(), second.parameters()))


# ---- whole steps ----


def _without_unlabeled_terms(task: Task) -> MICD:
    torch.manual_seed(0)
    return MICD(task, MICD.Options(weight=0.0))


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_with_weight_0_the_first_student_is_supervised_bit_for_bit(norm):
    method = _without_unlabeled_terms(tiny_task(norm=norm))
    torch.manual_seed(0)
    alone = Supervised(tiny_task(norm=norm), Supervised.Options(average_decay=0.0))
    train_steps(method, 3)
    train_steps(alone, 3)
    differences = [
        (a - b).abs().max().item() for a, b in zip(method.students.first.parameters(), alone.student.parameters())
    ]
    assert max(differences) == 0.0


def test_both_students_learn_and_no_teacher_does():
    method = MICD(tiny_task(), MICD.Options())
    losses = method(tiny_batch(), at())
    torch.testing.assert_close(losses["total"], sum(value for name, value in losses.items() if name != "total"))
    (losses["total"] - losses["supervised_first"] - losses["supervised_second"]).backward()
    for student in (method.students.first, method.students.second):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())
        assert sum(p.grad.abs().sum() for p in student.parameters()) > 0
    assert all(p.grad is None for p in method.teachers.parameters())


def test_both_students_see_the_same_blocks_and_teachers_the_whole_image():
    method = MICD(tiny_task(), MICD.Options())
    seen: dict[str, list[torch.Tensor]] = {}
    parts = {
        "first": method.students.first, "second": method.students.second,
        "teacher": method.teachers.network.first,
    }  # fmt: skip
    for name, network in parts.items():
        network.register_forward_pre_hook(lambda _, inputs, name=name: seen.setdefault(name, []).append(inputs[0]))
    batch = tiny_batch()
    method(batch, at())
    hidden = [next(x for x in seen[name] if len(x) == 4) for name in ("first", "second")]
    torch.testing.assert_close(hidden[0], hidden[1], rtol=0, atol=0)
    whole = torch.cat([batch.labeled, batch.unlabeled])
    assert ((hidden[0] == 0) | (hidden[0] == whole)).all()
    assert (hidden[0] == 0).flatten(1).float().mean(1).tolist() == [0.5] * 4
    torch.testing.assert_close(seen["teacher"][0], whole, rtol=0, atol=0)


def test_discrepancy_with_itself_as_teacher_is_the_mean_log_of_the_best_class():
    method = MICD(tiny_task(), MICD.Options(mask_ratio=0.0))
    batch = tiny_batch()
    images = torch.cat([batch.labeled, batch.unlabeled])
    logits = [network(images).logits for network in (method.students.first, method.students.second)]
    expected = sum(-x.log_softmax(1).amax(1).mean() for x in logits)
    found = method(batch, at(fraction=1.0))["discrepancy"] / 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_terms_are_those_of_the_equations():
    method = MICD(tiny_task(), MICD.Options(mask_ratio=0.0, feature_levels=1, discrepancy_labeled=False))
    batch = tiny_batch()
    images = torch.cat([batch.labeled, batch.unlabeled])
    first, second = method.students.first(images), method.students.second(images)
    losses = method(batch, at(fraction=0.3))
    weight = 0.1 * gaussian_rampup(0.3)
    torch.testing.assert_close(losses["cross"], weight * cross_pseudo_loss(first.logits, second.logits))
    coarsest = symmetric_kl(first.features["decoder_1"], second.features["decoder_1"])
    torch.testing.assert_close(losses["feature"], weight * 0.2 * coarsest, rtol=1e-4, atol=1e-6)
    own = weighted_cross_entropy(first.logits[2:], first.logits[2:].argmax(1)) + weighted_cross_entropy(
        second.logits[2:], second.logits[2:].argmax(1)
    )
    torch.testing.assert_close(losses["discrepancy"], weight * own, rtol=1e-4, atol=1e-6)


def test_weight_rises_to_its_end_and_stays():
    method = MICD(tiny_task(), MICD.Options(ramp_share=0.5, mask_ratio=0.0))
    batch = tiny_batch()
    values = [method(batch, at(fraction=fraction))["cross"].item() for fraction in (0.0, 0.25, 0.5, 0.9)]
    assert values[0] < values[1] < values[2] == pytest.approx(values[3])
    assert values[0] / values[2] == pytest.approx(math.exp(-5), rel=1e-3)


def test_labels_of_clean_images_are_an_option():
    method = MICD(tiny_task(), MICD.Options(cross_labels="clean"))
    batch = tiny_batch()
    seen = []
    method.students.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    losses = method(batch, at())
    assert torch.isfinite(losses["cross"])
    assert any(torch.equal(x, torch.cat([batch.labeled, batch.unlabeled])) for x in seen)


def test_disagreement_is_the_share_of_unlabeled_voxels_with_two_labels():
    """Near 0 early on, the second network is none: the number to watch."""
    method = MICD(tiny_task(), MICD.Options(mask_ratio=0.0))
    with torch.no_grad():
        method.students.first.head.weight.zero_()
        method.students.first.head.bias.copy_(torch.tensor([1.0, 0.0]))  # sees background everywhere
    batch = tiny_batch()
    method(batch, at())
    expected = (method.students.second(batch.unlabeled).logits.argmax(1) == 1).float().mean().item()
    assert 0 < expected < 1
    assert method.diagnostics()["disagreement"] == pytest.approx(expected, abs=1e-4)


def test_teachers_follow_both_students():
    """With a fixed student, the distance shrinks by the decay at each step."""
    student = torch.nn.Linear(1, 1)
    teacher = Teacher(student, decay=0.9)
    with torch.no_grad():
        start = student.weight.clone()
        student.weight.add_(1.0)
    expected = 1.0
    for step in range(30):
        teacher.update(student, step)
        expected *= min(0.9, (step + 1) / (step + 10))
    distance = (student.weight - teacher.network.weight).item()
    assert distance == pytest.approx(expected, abs=1e-6) and (student.weight - start).item() == pytest.approx(1.0)
    method = MICD(tiny_task(), MICD.Options())
    before = {name: value.clone() for name, value in method.teachers.named_parameters()}
    train_steps(method, 1)
    moved = {name for name, value in method.teachers.named_parameters() if (value != before[name]).any()}
    assert any("first" in name for name in moved) and any("second" in name for name in moved)


@pytest.mark.parametrize("preset", list(MICD.presets))
def test_presets_learn_four_classes_of_planes(preset):
    values = MICD.presets[preset]
    task = Task(4, "unet2d", {"width": 4, "depth": 3, **values.network}, two_dimensional=True)
    method = MICD(task, MICD.Options(**values.method))
    history = train_steps(method, 12, shape=(32, 32), num_classes=4)
    assert all(math.isfinite(value) for losses in history for value in losses.values())
    name, options = method.deployed_network
    again = build_network(name, 1, 4, options)
    again.load_state_dict(method.deployed.state_dict())
    assert history[-1]["supervised_first"] < history[0]["supervised_first"]


def test_deployed_network_is_one_student_or_the_pair():
    binary = MICD(tiny_task(), MICD.Options())
    assert binary.deployed is binary.teachers.network.first and binary.deployed_network is None
    student = MICD(tiny_task(), MICD.Options(deploy_average=False))
    assert student.deployed is student.students.first
    pair = MICD(tiny_task(coarse_stem=True), MICD.Options(deploy="both")).eval()
    name, options = pair.deployed_network
    again = build_network(name, 1, 2, options).eval()
    again.load_state_dict(pair.deployed.state_dict())
    images = tiny_batch().labeled
    with torch.no_grad():
        found, mean = again(images).logits, (again.first(images).logits + again.second(images).logits) / 2
    torch.testing.assert_close(found, mean)


def test_wrong_options_are_refused():
    for wrong in ({"cross_labels": "both"}, {"class_weights": "yes"}, {"mask_block": 0}, {"ramp_share": 0.0}):
        with pytest.raises(ValueError, match="must be|mask_ratio"):
            MICD.Options(**wrong)
