"""MICD with four classes: whose predictions move which class weights, and in which terms of a step they count."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from tiny_batches import at, tiny_batch, tiny_task

from semiseg.losses.class_weights import DifficultyWeights, weighted_dice_and_cross_entropy
from semiseg.losses.consistency import gaussian_rampup
from semiseg.losses.cross_pseudo import weighted_cross_entropy
from semiseg.methods.micd import MICD

RAMP = 0.1 * gaussian_rampup(0.3)


@pytest.fixture
def step() -> SimpleNamespace:
    """A step with what both students said in it, and the class weights that follow from that."""
    torch.manual_seed(0)
    method, batch = MICD(tiny_task(4, width=8), MICD.Options()), tiny_batch(num_classes=4)
    method.rarity.momentum = 0.0  # so that this step's pseudo-labels decide alone
    _tell_all_classes(method)
    seen: dict[str, list[torch.Tensor]] = {"first": [], "second": []}
    for name, said in seen.items():
        getattr(method.students, name).register_forward_hook(lambda _, __, output, said=said: said.append(output.logits))
    difficulty, rarity, other_rarity = (copy.deepcopy(part) for part in (method.difficulty, method.rarity, method.rarity))
    losses = method(batch, at(fraction=0.3))
    clean, masked = zip(seen["first"], seen["second"], strict=True)
    difficulty.update(clean[0].argmax(1), batch.labels)
    rarity.update(masked[1][2:].argmax(1), batch.labels)
    other_rarity.update(masked[0][2:].argmax(1), batch.labels)
    with torch.no_grad():
        images = torch.cat([batch.labeled, batch.unlabeled])
        taught = [network(images).logits.argmax(1) for network in (method.teachers.network.first, method.teachers.network.second)]
    weights = difficulty.weight, rarity.weight
    assert all(len(labels.unique()) == 4 for labels in (*taught, *(logits.argmax(1) for logits in masked)))
    assert (weights[0] - weights[1]).abs().max() > 0.5 < (weights[1] - other_rarity.weight).abs().max()
    return SimpleNamespace(method=method, labels=batch.labels, losses=losses, clean=clean, masked=masked, taught=taught, weights=weights)


def _tell_all_classes(method: MICD) -> None:
    """Classifiers that know every class, each in its own way: a fresh one calls nearly all voxels alike, and of one class no weight shows."""
    pairs = (method.students, method.teachers.network)
    with torch.no_grad():
        for head in [network.head for pair in pairs for network in (pair.first, pair.second)]:
            head.weight.normal_()
            head.bias.zero_()


def test_difficulty_is_of_the_first_student_and_rarity_of_the_seconds_pseudo_labels(step):
    torch.testing.assert_close(step.method.difficulty.weight, step.weights[0])
    torch.testing.assert_close(step.method.rarity.weight, step.weights[1])


def test_each_student_learns_with_its_own_class_weights(step):
    """Supervised, from the other student and from its teacher: the first by difficulty, the second by rarity."""
    for name, logits, weight in zip(("supervised_first", "supervised_second"), step.clean, step.weights, strict=True):
        torch.testing.assert_close(step.losses[name], weighted_dice_and_cross_entropy(logits, step.labels, weight))
    exchanged = [logits.argmax(1) for logits in reversed(step.masked)]
    for name, labels in (("cross", exchanged), ("discrepancy", step.taught)):
        parts = [weighted_cross_entropy(*given) for given in zip(step.masked, labels, step.weights, strict=True)]
        torch.testing.assert_close(step.losses[name], RAMP * (parts[0] + parts[1]))


def test_what_is_unlearned_counts_against_what_is_learned():
    """The second update is better for the background and worse for the structure, which so becomes the heavier one."""
    weights = DifficultyWeights(2, momentum=0.5)
    labels = torch.tensor([[0, 0, 0, 0, 1, 1]])
    weights.update(torch.tensor([[0, 0, 1, 1, 1, 1]]), labels)  # Dice 2/3 of both
    weights.update(torch.tensor([[0, 0, 0, 1, 0, 1]]), labels)  # 3/4 and 1/2
    at_first = 0.5 * 2 / 3 * math.log(2 / 3 / 1e-8)
    learned = [0.5 * at_first + 0.5 * (3 / 4 - 2 / 3) * math.log(9 / 8), 0.5 * at_first]
    unlearned = [0.0, 0.5 * (1 / 2 - 2 / 3) * math.log(3 / 4)]
    torch.testing.assert_close(weights.learned, torch.tensor(learned))
    torch.testing.assert_close(weights.unlearned, torch.tensor(unlearned))
    slowness = [((bad + 1e-8) / (good + 1e-8)) ** 0.2 for bad, good in zip(unlearned, learned, strict=True)]
    raw = weights.undiced * torch.tensor(slowness)
    torch.testing.assert_close(weights.weight, 2 * raw / raw[1], rtol=1e-4, atol=0)


def test_difficulty_and_rarity_forget_as_in_the_released_code():
    method = MICD(tiny_task(4), MICD.Options())
    assert (method.difficulty.momentum, method.rarity.momentum) == (0.98, 0.99)
