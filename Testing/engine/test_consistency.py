"""Distances between predictions, their ramp-up and the gate on uncertain voxels."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from semiseg.losses.consistency import (
    confidence,
    entropy,
    entropy_gate,
    gaussian_rampup,
    mean_square,
    symmetric_kl,
    weighted_mean,
)

DISTANCES = (mean_square, symmetric_kl)


def _logits(seed: int, num_classes: int = 3) -> torch.Tensor:
    return torch.randn(2, num_classes, 3, 4, 5, generator=torch.Generator().manual_seed(seed))


def test_rampup_starts_near_zero_and_ends_at_one():
    assert gaussian_rampup(0) == pytest.approx(math.exp(-5))
    assert gaussian_rampup(0.5) == pytest.approx(math.exp(-1.25))
    assert gaussian_rampup(1) == 1.0 == gaussian_rampup(1.7)
    assert gaussian_rampup(-1) == gaussian_rampup(0)


@pytest.mark.parametrize("distance", DISTANCES)
def test_distance_is_zero_between_equals_and_positive_otherwise(distance):
    assert distance(_logits(0), _logits(0) + 7).item() == pytest.approx(0, abs=1e-7)  # softmax ignores a constant
    assert distance(_logits(0), _logits(1)) > 0.01


def test_distances_match_hand_made_numbers():
    a = torch.tensor([[0.8, 0.2]]).log()[..., None]
    b = torch.tensor([[0.5, 0.5]]).log()[..., None]
    assert mean_square(a, b).item() == pytest.approx(0.09)
    one, two = (
        0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2),
        0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5),
    )
    assert symmetric_kl(a, b).item() == pytest.approx((one + two) / 2, rel=1e-6)


def test_kl_agrees_with_torch_and_is_symmetric():
    a, b = _logits(2), _logits(3)
    log_p, log_q = a.log_softmax(1), b.log_softmax(1)
    forth, back = (F.kl_div(*pair, log_target=True, reduction="none").sum(1).mean() for pair in ((log_p, log_q), (log_q, log_p)))
    torch.testing.assert_close(symmetric_kl(a, b), (forth + back) / 2)
    torch.testing.assert_close(symmetric_kl(a, b), symmetric_kl(b, a))


@pytest.mark.parametrize("distance", DISTANCES)
def test_mask_leaves_voxels_out_and_an_empty_mask_gives_zero(distance):
    a, b = _logits(4), _logits(5)
    mask = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(6)) < 0.4
    rows = [x.movedim(1, -1)[mask] for x in (a, b)]
    torch.testing.assert_close(distance(a, b, mask), distance(*rows))
    assert distance(a, b, torch.zeros_like(mask)).item() == 0.0


@pytest.mark.parametrize("distance", DISTANCES)
def test_certain_and_half_precision_predictions_give_finite_losses_and_gradients(distance):
    a = torch.tensor([[500.0, -500.0, 0.0]]).bfloat16()[..., None].requires_grad_()
    b = torch.tensor([[-500.0, 500.0, 0.0]]).bfloat16()[..., None].requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = distance(a, b)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert a.grad.isfinite().all() and b.grad.isfinite().all()


def test_entropy_of_certain_and_undecided_voxels():
    probabilities = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])[..., None]
    torch.testing.assert_close(entropy(probabilities), torch.tensor([[0.0], [math.log(3)]]))
    torch.testing.assert_close(
        confidence(probabilities.log().clamp(min=-1e4)), torch.tensor([[1.0], [0.0]]), atol=1e-6, rtol=0
    )


def test_entropy_gate_opens_with_progress():
    p = 0.235  # entropy 0.545 nats: 0.786 of log 2
    voxel = torch.tensor([[p, 1 - p]])[..., None]
    assert not entropy_gate(voxel, 0.0).item() and entropy_gate(voxel, 1.0).item()
    even = torch.tensor([[0.5, 0.5]])[..., None]
    assert not entropy_gate(even, 0.9).item()


def test_weighted_mean_accepts_weights_that_need_broadcasting():
    values = torch.arange(6.0).reshape(2, 3)
    assert weighted_mean(values, torch.tensor([[1.0], [0.0]])).item() == 1.0
