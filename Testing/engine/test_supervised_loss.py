"""The supervised loss of every method: half cross-entropy, half Dice of the structures (UA-MT)."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from semiseg.losses.segmentation import cross_entropy_map, dice_and_cross_entropy, foreground_dice


def test_loss_of_four_voxels_worked_out_by_hand():
    foreground = torch.tensor([[0.9, 0.8, 0.3, 0.1]])
    logits = torch.stack([1 - foreground, foreground], dim=1).log()
    labels = torch.tensor([[1, 1, 1, 0]])
    cross_entropy = -(math.log(0.9) + math.log(0.8) + math.log(0.3) + math.log(0.9)) / 4
    dice = 2 * (0.9 + 0.8 + 0.3) / (0.9 + 0.8 + 0.3 + 0.1 + 3)
    assert dice_and_cross_entropy(logits, labels).item() == pytest.approx((cross_entropy + 1 - dice) / 2, abs=1e-5)


def test_dice_is_of_each_sample_and_structure_without_the_background():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    labels = torch.randint(3, (2, 4, 5), generator=generator)
    p, y = logits.softmax(1), F.one_hot(labels, 3).movedim(-1, 1)
    each = 2 * (p * y).sum((2, 3)) / (p + y).sum((2, 3))
    assert foreground_dice(logits, labels).item() == pytest.approx(1 - each[:, 1:].mean().item(), abs=1e-4)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_cross_entropy_is_pytorchs_for_logits_of_any_size(num_classes):
    generator = torch.Generator().manual_seed(1)
    logits = 60 * torch.randn(2, num_classes, 3, 4, 5, generator=generator)
    labels = torch.randint(num_classes, (2, 3, 4, 5), generator=generator)
    expected = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(cross_entropy_map(logits, labels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_sums_over_many_voxels_survive_half_precision(kind):
    """One sample of 46^3 voxels, nearly all of them foreground: more than the 65,504 that fp16 can hold."""
    labels = torch.ones(1, 46, 46, 46, dtype=torch.int64)
    labels[0, 0] = 0
    logits = torch.stack([-2.0 * labels, 2.0 * labels], dim=1)
    expected = dice_and_cross_entropy(logits, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = dice_and_cross_entropy(logits.to(kind), labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
