"""Validation during training: the Dice of the deployed network, as the model will be used, and a picture of the worst slice."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_model import OPTIONS, thresholding_weights

from semiseg.inference.postprocess import keep_largest_component
from semiseg.networks import build_network
from semiseg.training.validate import Validation


class Cases:
    """Two validation cases on black: a box, and a brighter box inside it where there are three classes."""

    def __init__(self, num_classes=2):
        self.num_classes = num_classes
        image = np.zeros((12, 20, 24), np.float16)
        image[3:9, 4:16, 5:18] = 1
        image[5:7, 7:12, 8:14] = num_classes - 1
        label = np.minimum(image, num_classes - 1).astype(np.uint8)
        wrong = label.copy()
        wrong[6] = 0
        self._cases = [(image, label), (image, wrong)]
        self.cases = [SimpleNamespace(id=f"case_{index}", spacing_mm=(2.0, 1.0, 0.5)) for index in range(2)]

    def indices(self, role):
        return [0, 1] if role == "validation" else []

    def arrays(self, index):
        return self._cases[index]


def method_of(thresholds=(0.5,)):
    network = build_network("vnet", 1, len(thresholds) + 1, OPTIONS)
    network.load_state_dict(thresholding_weights(thresholds))
    return SimpleNamespace(deployed=network.train())


def test_the_mean_dice_over_cases_is_reported(events, tmp_path):
    cases = Cases()
    validation = Validation(cases, (8, 16, 16), events, tmp_path)
    assert validation.is_possible
    method = method_of()
    validation(method, 40)
    (score,) = events.of("scalar")
    label, wrong = cases.arrays(0)[1], cases.arrays(1)[1]
    expected = (1 + 2 * wrong.sum() / (label.sum() + wrong.sum())) / 2
    assert score == {"name": "validation_dice", "value": pytest.approx(expected), "step": 40}
    assert method.deployed.training, "the network is handed back as it was"
    assert validation.best == (pytest.approx(expected), 40)


def test_the_worst_slice_is_drawn(events, tmp_path):
    Validation(Cases(), (8, 16, 16), events, tmp_path)(method_of(), 40)
    (preview,) = events.of("preview")
    assert (preview["case"], preview["slice"], preview["step"]) == ("case_1", 6, 40) and preview["dice"] < 1
    assert (tmp_path / "preview.png").read_bytes()[1:4] == b"PNG"


def test_without_matplotlib_there_is_a_score_and_no_picture(events, tmp_path, monkeypatch):
    """The training machine may lack it."""
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    Validation(Cases(), (8, 16, 16), events, tmp_path)(method_of(), 40)
    assert len(events.of("scalar")) == 1 and not events.of("preview") and list(tmp_path.iterdir()) == []


def test_small_pieces_do_not_count_as_the_model_would_drop_them(events):
    cases = Cases()
    cases.arrays(0)[0][0, 0, :3] = cases.arrays(1)[0][11, 19, :3] = 1
    Validation(cases, (8, 16, 16), events)(method_of(), 1)
    clean = type(events)()
    Validation(Cases(), (8, 16, 16), clean)(method_of(), 1)
    assert events.scalars("validation_dice") == clean.scalars("validation_dice")


def test_three_classes_are_averaged(events):
    Validation(Cases(3), (8, 16, 16), events)(method_of((0.5, 1.5)), 1)
    assert 0.8 < events.scalars("validation_dice")[0] < 1


def test_slices_are_validated_with_a_network_of_planes(events):
    """With a window as large as a slice: every slice by itself, then the largest piece of the volume."""
    cases = Cases()
    network = build_network("unet2d", 1, 2, OPTIONS)
    Validation(cases, (1, 20, 24), events)(SimpleNamespace(deployed=network), 1)
    scores = []
    for index in range(2):
        image, truth = cases.arrays(index)
        with torch.no_grad():
            logits = network.eval()(torch.from_numpy(image.astype(np.float32))[:, None]).logits
        found = keep_largest_component((logits[:, 1] > logits[:, 0]).numpy().astype(np.uint8))
        scores.append(2 * (found * truth).sum() / (int(found.sum()) + int(truth.sum())))
    assert events.scalars("validation_dice") == [pytest.approx(np.mean(scores), abs=1e-6)]


def test_the_best_is_remembered(events):
    validation = Validation(Cases(), (8, 16, 16), events)
    validation(method_of(), 10)
    validation(method_of((5.0,)), 20)
    assert validation.best[1] == 10 and events.scalars("validation_dice")[1] == 0


def test_without_validation_cases_there_is_nothing_to_do(events):
    class Nobody(Cases):
        def indices(self, role):
            return []

    assert not Validation(Nobody(), (8, 16, 16), events).is_possible


def test_the_validation_leaves_training_as_it_was(events):
    """No gradient, no change of weights, no use of the random generator."""
    method = method_of()
    before = {key: value.clone() for key, value in method.deployed.state_dict().items()}
    state = torch.get_rng_state()
    Validation(Cases(), (8, 16, 16), events)(method, 1)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in method.deployed.state_dict().items())
    assert all(parameter.grad is None for parameter in method.deployed.parameters())
