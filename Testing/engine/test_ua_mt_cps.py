"""UA-MT, CPS and what they share: the gate, cross pseudo-supervision, pairs of networks, starting weights."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_batches import at, tiny_batch, tiny_task, train_steps

from semiseg.errors import InputError
from semiseg.losses.consistency import gaussian_rampup
from semiseg.losses.cross_pseudo import cross_pseudo_loss, weighted_cross_entropy
from semiseg.losses.segmentation import dice_and_cross_entropy
from semiseg.methods.base import Task
from semiseg.methods.cps import CPS
from semiseg.methods.mean_teacher import MeanTeacher
from semiseg.methods.ua_mt import UAMeanTeacher
from semiseg.networks import build_network
from semiseg.networks.initialization import initialize
from semiseg.networks.two_networks import TwoNetworks, average_logits


@pytest.fixture(autouse=True)
def _repeatable():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def _logits(seed: int, num_classes: int = 3) -> torch.Tensor:
    return torch.randn(2, num_classes, 3, 4, 5, generator=torch.Generator().manual_seed(seed))


# ---- cross pseudo-supervision ----


def test_gradient_of_cross_supervision_is_that_of_fixed_labels():
    first, second = _logits(0).requires_grad_(), _logits(1).requires_grad_()
    cross_pseudo_loss(first, second).backward()
    other = first.detach().clone().requires_grad_()
    F.cross_entropy(other, second.detach().argmax(1)).backward()
    torch.testing.assert_close(first.grad, other.grad)


def test_cross_supervision_does_not_care_who_is_first():
    torch.testing.assert_close(cross_pseudo_loss(_logits(0), _logits(1)), cross_pseudo_loss(_logits(1), _logits(0)))


@pytest.mark.parametrize("num_classes", [2, 5])
def test_cross_supervision_of_uniform_and_of_certain_predictions(num_classes):
    uniform = torch.zeros(1, num_classes, 4, 4)
    assert cross_pseudo_loss(uniform, uniform).item() == pytest.approx(2 * math.log(num_classes), rel=1e-6)
    certain = 50 * F.one_hot(torch.arange(16).view(1, 4, 4) % num_classes, num_classes).movedim(-1, 1).float()
    assert cross_pseudo_loss(certain, certain).item() < 1e-6


def test_cross_supervision_of_identical_networks_is_the_mean_log_of_their_best_class():
    logits = _logits(3)
    expected = -2 * logits.log_softmax(1).amax(1).mean()
    torch.testing.assert_close(cross_pseudo_loss(logits, logits), expected)


def test_class_weights_scale_away_and_constant_ones_are_none():
    logits, labels, weight = _logits(0), _logits(1).argmax(1), torch.tensor([0.5, 1.0, 3.0])
    plain = weighted_cross_entropy(logits, labels)
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, torch.full((3,), 7.0)), plain)
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, weight), F.cross_entropy(logits, labels, weight))
    torch.testing.assert_close(
        weighted_cross_entropy(logits, labels, 100 * weight), weighted_cross_entropy(logits, labels, weight)
    )


def test_labels_whose_weights_are_all_zero_cost_nothing():
    logits = _logits(0).requires_grad_()
    loss = weighted_cross_entropy(logits, torch.zeros(2, 3, 4, 5, dtype=torch.int64), torch.tensor([0.0, 1.0, 2.0]))
    loss.backward()
    assert loss.item() == 0 and torch.count_nonzero(logits.grad) == 0  # PyTorch's own weighted mean is NaN here


# ---- pairs ----


def test_average_of_probabilities_comes_back_from_softmax():
    first, second = _logits(0), 40 * _logits(1)
    mean = (first.softmax(1) + second.softmax(1)) / 2
    torch.testing.assert_close(average_logits(first, second).softmax(1), mean)
    torch.testing.assert_close(average_logits(first, second, "logits"), (first + second) / 2)


@pytest.mark.parametrize("two_dimensional", [False, True])
def test_a_pair_is_built_again_from_its_name_and_options(two_dimensional):
    task = tiny_task(two_dimensional=two_dimensional)
    method = CPS(task, CPS.Options(deploy="both")).eval()
    name, options = method.deployed_network
    again = build_network(name, 1, 2, options).eval()
    again.load_state_dict(method.deployed.state_dict())
    images = tiny_batch(shape=(16,) * (2 if two_dimensional else 3)).labeled
    with torch.no_grad():
        expected = method.deployed(images).logits
        torch.testing.assert_close(again(images).logits, expected)
        mean = (again.first(images).logits.softmax(1) + again.second(images).logits.softmax(1)) / 2
    torch.testing.assert_close(expected.softmax(1), mean)
    assert again.spatial_dims == images.ndim - 2 and again.downscale == 4


def test_starting_weights_follow_their_rule():
    torch.manual_seed(0)
    wide = torch.nn.Sequential(torch.nn.Conv3d(16, 64, 3), torch.nn.InstanceNorm3d(64))
    fan_in, fan_out = 16 * 27, 64 * 27
    before = wide[0].bias.clone()
    assert initialize(wide, "kaiming")[0].weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)
    assert initialize(wide, "xavier")[0].weight.std().item() == pytest.approx((2 / (fan_in + fan_out)) ** 0.5, rel=0.02)
    torch.testing.assert_close(wide[0].bias, before)
    with pytest.raises(ValueError, match="kaiming"):
        initialize(wide, "he")


# ---- CPS ----


def test_cps_adds_weighted_cross_supervision_on_unlabeled_images_to_two_supervised_losses():
    method = CPS(tiny_task(), CPS.Options(perturb=False))
    batch = tiny_batch()
    losses = method(batch, at(fraction=0.5))
    first, second = method.students.first, method.students.second
    expected = (
        0.1 * gaussian_rampup(0.5) * cross_pseudo_loss(first(batch.unlabeled).logits, second(batch.unlabeled).logits)
    )
    torch.testing.assert_close(losses["cross"], expected)
    torch.testing.assert_close(
        losses["supervised_second"], dice_and_cross_entropy(second(batch.labeled).logits, batch.labels)
    )
    torch.testing.assert_close(losses["total"], sum(value for name, value in losses.items() if name != "total"))


def test_cps_of_the_paper_supervises_the_labeled_images_too():
    method = CPS(tiny_task(), CPS.Options(perturb=False, labeled_too=True))
    batch = tiny_batch()
    images = torch.cat([batch.labeled, batch.unlabeled])
    whole = cross_pseudo_loss(method.students.first(images).logits, method.students.second(images).logits)
    torch.testing.assert_close(method(batch, at(fraction=1.0))["cross"], 0.1 * whole)


def test_networks_of_cps_start_apart_and_both_learn():
    method = CPS(tiny_task(), CPS.Options(**CPS.presets["faithful"].method))
    first, second = method.students.first, method.students.second
    assert any((a != b).any() for a, b in zip(first.parameters(), second.parameters()))
    method(tiny_batch(), at())["total"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters() if p.ndim > 1)
    assert 0 < method.diagnostics()["disagreement"] <= 1
    assert method.deployed is first and method.deployed_network is None


def test_deployed_average_of_cps_follows_without_gradient():
    method = CPS(tiny_task(), CPS.Options())
    assert not any(p.requires_grad for p in method.deployed.parameters())
    before = [p.clone() for p in method.deployed.parameters()]
    train_steps(method, 1)
    assert any((a != b).any() for a, b in zip(before, method.deployed.parameters()))


# ---- UA-MT ----


def test_ua_mt_with_every_voxel_certain_is_mean_teacher():
    plain = {"perturb": False, "noise": 0.0, "teacher_training_mode": False}
    torch.manual_seed(1)
    uncertain_about_nothing = UAMeanTeacher(tiny_task(), UAMeanTeacher.Options(**plain))
    torch.manual_seed(1)
    teacher = MeanTeacher(tiny_task(), MeanTeacher.Options(**plain))
    teacher.load_state_dict(uncertain_about_nothing.state_dict(), strict=False)
    with torch.no_grad():
        for network in (uncertain_about_nothing.teacher.network, teacher.teacher.network):
            network.head.bias.copy_(torch.tensor([0.0, 20.0]))  # a teacher that has no doubts
    batch, progress = tiny_batch(), at(fraction=0.9)
    losses = uncertain_about_nothing(batch, progress)
    assert uncertain_about_nothing.diagnostics()["certain_share"] == 1
    torch.testing.assert_close(losses["consistency"], teacher(batch, progress)["consistency"])


def test_ua_mt_learns_from_certain_voxels_alone():
    method = UAMeanTeacher(tiny_task(), UAMeanTeacher.Options(perturb=False))
    with torch.no_grad():
        method.teacher.network.head.weight.zero_()
        method.teacher.network.head.bias.zero_()  # every voxel is as uncertain as can be
    losses = method(tiny_batch(), at(fraction=0.5))
    assert losses["consistency"].item() == 0 and method.diagnostics()["certain_share"] == 0


def test_ua_mt_teacher_keeps_its_dropout_and_averages_its_passes():
    method = UAMeanTeacher(tiny_task(dropout=0.5), UAMeanTeacher.Options(noise=0.0))
    method.eval()  # the student; the teacher has its own mind
    images = tiny_batch().unlabeled
    first, second = method.teacher(images).logits, method.teacher(images).logits
    assert (first != second).any()
    passes = []
    method.teacher.forward = lambda x: passes.append(x) or type(method.teacher).forward(method.teacher, x)
    method(tiny_batch(), at())
    assert len(passes) == 1 + 8


def test_ua_mt_noise_is_clipped_and_replayable():
    method = UAMeanTeacher(tiny_task(), UAMeanTeacher.Options())
    images = torch.zeros(2, 1, 16, 16, 16)
    noise = method._noisy(images, torch.Generator().manual_seed(3))
    assert noise.abs().max().item() == pytest.approx(0.2) and noise.std().item() == pytest.approx(0.096, abs=0.004)
    torch.testing.assert_close(
        method(tiny_batch(4), at())["total"], method(tiny_batch(4), at())["total"], rtol=0, atol=0
    )


@pytest.mark.parametrize("kind", [UAMeanTeacher, CPS])
@pytest.mark.parametrize("preset", ["plus", "faithful"])
def test_presets_fit_and_learn_four_classes_of_planes(kind, preset):
    values = kind.presets[preset]
    task = Task(4, "unet2d", {"width": 4, "depth": 3, **values.network}, two_dimensional=True)
    method = kind(task, kind.Options(**values.method))
    history = train_steps(method, 12, learning_rate=0.1, shape=(32, 32), num_classes=4)
    assert all(math.isfinite(value) for losses in history for value in losses.values())
    assert history[-1]["total"] < history[0]["total"]


@pytest.mark.parametrize("kind", [UAMeanTeacher, CPS])
def test_without_unlabeled_images_the_labels_remain(kind):
    batch = tiny_batch()
    alone = type(batch)(batch.labeled_stream, None, 0)
    losses = kind(tiny_task(), kind.Options())(alone, at())
    assert torch.isfinite(losses["total"]) and not {"consistency", "cross"} & set(losses)


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="num_passes"):
        UAMeanTeacher.Options(num_passes=0)
    with pytest.raises(ValueError, match="deploy"):
        CPS.Options(deploy="third")
    with pytest.raises(InputError, match="average"):
        build_network("two_networks3d", 1, 2, {"average": "mode"})


def test_a_pair_shows_the_first_networks_features():
    first, second = (build_network("vnet", 1, 2, {"width": 2, "depth": 3}) for _ in range(2))
    pair = TwoNetworks(first, second).eval()
    images = tiny_batch().labeled
    with torch.no_grad():
        torch.testing.assert_close(pair(images).features["head_input"], first(images).features["head_input"])
    assert pair.head is first.head
