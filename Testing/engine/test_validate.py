"""Validation during training: the Dice of the deployed network, as the model will be used, and a picture of the worst slice."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import builders
import numpy as np
import pytest
import torch
from tiny_model import OPTIONS, thresholding_weights
from training_cases import make_method

from semiseg.data.files import read_labels, read_volume
from semiseg.inference.postprocess import keep_largest_component
from semiseg.networks import build_network
from semiseg.training.preview import AGREEMENT, ONLY_FOUND, ONLY_TRUTH, compared
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
        way_back = SimpleNamespace(prepared=builders.geometry(label.shape, (2.0, 1.0, 0.5), (10.0, -5.0, 20.0)))
        self.cases = [SimpleNamespace(id=f"case_{index}", spacing_mm=(2.0, 1.0, 0.5), way_back=way_back) for index in range(2)]

    def indices(self, role):
        return [0, 1] if role == "validation" else []

    def arrays(self, index):
        return self._cases[index]


def method_of(thresholds=(0.5,)):
    network = build_network("vnet", 1, len(thresholds) + 1, OPTIONS)
    network.load_state_dict(thresholding_weights(thresholds))
    return SimpleNamespace(deployed=network.train(), student_network=None)


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


def test_the_worst_case_is_written_for_a_viewer(events, tmp_path):
    """Image and comparison on one grid, and the place to look at, in millimeters."""
    cases = Cases()
    Validation(cases, (8, 16, 16), events, tmp_path)(method_of(), 40)
    (preview,) = events.of("preview")
    image, (comparison, _) = read_volume(Path(preview["image"])), read_labels(Path(preview["labels"]))
    geometry = cases.cases[1].way_back.prepared
    assert image.geometry.same_grid_as(geometry) and comparison.geometry.same_grid_as(geometry)
    np.testing.assert_array_equal(image.array, cases.arrays(1)[0])
    truth = cases.arrays(1)[1]
    expected = np.where(truth > 0, AGREEMENT, 0)
    expected[6] = ONLY_FOUND * cases.arrays(0)[1][6]
    np.testing.assert_array_equal(comparison.array, expected)
    np.testing.assert_allclose(geometry.index_of(np.array(preview["position_mm"])), (6, 9.5, 11), atol=1e-2)


def test_a_wrong_structure_is_not_found():
    assert compared(np.array([0, 1, 1, 0, 2]), np.array([0, 1, 0, 1, 1])).tolist() == [0, AGREEMENT, ONLY_FOUND, ONLY_TRUTH, ONLY_TRUTH]


def test_without_matplotlib_there_is_a_score_and_no_picture(events, tmp_path, monkeypatch):
    """The training machine may lack it."""
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    Validation(Cases(), (8, 16, 16), events, tmp_path)(method_of(), 40)
    (preview,) = events.of("preview")
    assert len(events.of("scalar")) == 1 and preview["path"] == "" and Path(preview["labels"]).exists()
    assert not (tmp_path / "preview.png").exists()


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
    Validation(cases, (1, 20, 24), events)(SimpleNamespace(deployed=network, student_network=None), 1)
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


def test_a_student_that_is_not_deployed_has_a_curve_of_its_own(events):
    """A teacher that stops following its student is seen in the two curves."""
    method = method_of((0.5,))
    method.student_network = method_of((1e6,)).deployed  # finds nothing
    validation = Validation(Cases(), (8, 16, 16), events)
    validation(method, 7)
    found = {score["name"]: score["value"] for score in events.of("scalar")}
    assert set(found) == {"validation_dice", "validation_dice_student"}
    assert found["validation_dice_student"] == 0 < found["validation_dice"]
    assert validation.best == (found["validation_dice"], 7), "what is kept is what is deployed"
    assert method.student_network.training


def test_methods_show_the_student_beside_the_average():
    for name in ("supervised", "mean_teacher", "ua_mt", "bcp", "graphcl", "transmedseg"):
        method = make_method(name)
        assert method.student_network is not None and method.student_network is not method.deployed
    assert make_method("bcp", "faithful").student_network is None, "the authors deploy the student"
