"""MICD's class weights before a structure was seen, and the tasks and networks that it says it cannot do."""

from __future__ import annotations

import pytest
import torch
from training_cases import make_method

from semiseg.errors import InputError
from semiseg.losses.class_weights import DifficultyWeights
from semiseg.methods import load_method
from semiseg.methods.base import Task


def test_a_structure_that_the_first_batches_do_not_hold_keeps_its_weight():
    """Neither there nor found, its Dice is 1. It must not be forgotten before it comes; DHC's code starts as here."""
    weights, labels = DifficultyWeights(3), torch.tensor([[0, 0, 1, 1]])
    for _ in range(30):
        weights.update(torch.tensor([[0, 0, 0, 1]]), labels)
    assert float(weights.weight[2]) > 0.5


def test_class_weights_for_one_structure_are_refused():
    with pytest.raises(InputError, match="give the background the weight 0"):
        make_method("micd", class_weights="dhc")
    assert make_method("micd", num_classes=4, class_weights="dhc").difficulty is not None


def test_a_network_without_decoder_maps_is_refused_rather_than_compared_by_nothing():
    method = load_method("micd")
    with pytest.raises(InputError, match="monai:UNETR shows none"):
        method(Task(2, "monai:UNETR", {}), method.Options())
