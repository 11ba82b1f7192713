"""Whole unlabeled cases are labeled in rounds: cut like images, the same after a stop, shared by ranks, gone at the end."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_cases import CPU, PATCH, MemoryCases, make_method

from semiseg.data.augment import AugmentOptions
from semiseg.data.batches import CaseStore, TwoStreamBatches
from semiseg.errors import InputError
from semiseg.methods import load_method
from semiseg.training.case_labels import FOLDER, CaseLabels
from semiseg.training.loop import Fit
from semiseg.training.options import TrainOptions

AUGMENT = AugmentOptions((1,), False, 10.0, 0.1, 0.5, 0.1)
OPTIONS = TrainOptions(iterations=8, patch_size=PATCH, batch_labeled=2, batch_unlabeled=2, log_every=2, save_every_s=1e9)


@pytest.fixture(scope="module")
def cases():
    return MemoryCases()


def start(cases, folder, stop_at=None, told=None):
    """A training of 8 steps, 4 of them self-training with two rounds of labels, before steps 4 and 6."""
    method = make_method("bcp", rounds=2, pretrain_share=0.5)
    store = CaseStore(cases, [0, 1, 2, 3], CPU, 10**9)
    batches = TwoStreamBatches(store, [0, 1], [2, 3], PATCH, 2, 2, AUGMENT, seed=7)
    report = (lambda kind, **values: told.append((kind, values))) if told is not None else (lambda kind, **values: None)
    labels = CaseLabels(cases, store, [2, 3], PATCH, folder, report)
    fit = Fit(
        method, batches, OPTIONS, CPU, report=report, state_path=folder / "resume.pt", case_labels=labels,
        should_stop=lambda: stop_at is not None and fit.iteration >= stop_at,
    )  # fmt: skip
    return fit


def weights(fit):
    return torch.cat([p.detach().flatten() for p in fit.method.parameters()])


def test_pseudo_labels_are_cut_like_the_images(cases):
    """A label that repeats the image, thresholded, must equal the thresholded patch wherever a patch copies voxels."""
    store = CaseStore(cases, [0, 2], CPU, 10**9)
    streamed = CaseStore(cases, [0, 2], CPU, 0)
    label = (np.asarray(cases.arrays(2)[0], dtype=np.float32) > 0).astype(np.uint8)
    still = AugmentOptions((0, 1, 2), True, 0.0, 0.0)
    for one in (store, streamed):
        batches = TwoStreamBatches(one, [0], [2], PATCH, 2, 2, still, seed=1)
        assert batches.batch(0).unlabeled_labels is None
        one.set_label(2, label)
        batch = batches.batch(0)
        inside = batch.unlabeled_labels == (batch.unlabeled[:, 0] > 0)
        assert inside.float().mean() > 0.9 and batch.unlabeled_labels.any()


def test_rounds_come_at_their_steps_and_leave_nothing(cases, tmp_path):
    told = []
    fit = start(cases, tmp_path, told=told)
    assert fit.labeling_rounds == [4, 6]
    assert fit.run().is_complete
    shares = [values["step"] for kind, values in told if kind == "scalar" and values["name"] == "pseudo_label_share"]
    assert shares == [4, 6]
    done = [(values["done"], values["total"]) for kind, values in told if kind == "progress" and values["what"] == "labeling cases"]
    assert done == [(1, 2), (2, 2)] * 2
    assert not (tmp_path / FOLDER).exists()


def test_rounds_are_told_as_time_left_but_not_as_slow_steps(cases, tmp_path, monkeypatch):
    """A clock that only this test moves: a step takes 1 s, a round 100 s."""
    now, told = [0.0], []
    monkeypatch.setattr("semiseg.training.clock.time", SimpleNamespace(perf_counter=lambda: now[0]))
    fit = start(cases, tmp_path, told=told)
    batch, label_cases = fit.batches.batch, CaseLabels.__call__

    def takes(seconds, call):
        def later(*values):
            now[0] += seconds
            return call(*values)

        return later

    monkeypatch.setattr(fit.batches, "batch", takes(1, batch))
    monkeypatch.setattr(CaseLabels, "__call__", takes(100, label_cases))
    outcome = fit.run()
    steps = [(values["done"], values["rate_per_s"], values["eta_s"]) for kind, values in told if kind == "progress" and values["what"] == "train"]
    assert steps == [(2, 1.0, 6.0), (4, 1.0, 4.0), (6, 1.0, 102.0), (8, 1.0, 0.0)]
    assert outcome.seconds == 208


@pytest.mark.parametrize("stop_at", (3, 4, 5, 6, 7))
def test_a_resumed_run_has_the_labels_it_had(cases, tmp_path, stop_at):
    whole = start(cases, tmp_path / "whole")
    whole.run()
    assert not start(cases, tmp_path / "parts", stop_at).run().is_complete
    rest = start(cases, tmp_path / "parts")
    assert rest.run().is_complete
    assert torch.equal(weights(rest), weights(whole))


def test_a_stop_ends_a_round(cases, tmp_path):
    """It takes minutes on real data; the state then says that the round is still to come."""
    fit = start(cases, tmp_path)
    asked = []
    fit.should_stop = lambda: fit.iteration == 4 and (asked.append(0) or len(asked) > 2)
    outcome = fit.run()
    assert (outcome.iteration, outcome.is_complete) == (4, False)
    assert not list((tmp_path / FOLDER).glob("*.npz"))
    assert start(cases, tmp_path).run().is_complete


@pytest.mark.parametrize("damage", ("gone", "torn"))
def test_labels_that_are_gone_or_damaged_are_named(cases, tmp_path, damage):
    start(cases, tmp_path, stop_at=5).run()
    path = tmp_path / FOLDER / "4.npz"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="gone|cannot be read") as caught:
        start(cases, tmp_path).run()
    assert "resume.pt" in caught.value.hint


def test_a_new_run_forgets_old_labels(cases, tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "4.npz").write_bytes(b"of another run")
    assert start(cases, tmp_path).run().is_complete


def test_labels_are_the_largest_component_of_the_deployed_networks_maps():
    method = make_method("transmedseg")
    maps = torch.zeros(1, 8, 8, 8)
    maps[0, 1:4, 1:4, 1:4], maps[0, 6, 6, 6] = 0.9, 0.9
    label = method.label_case(maps)
    assert label.sum() == 27 and label.dtype == torch.int64
    votes = torch.zeros(3, 8, 8, 8)
    votes[0], votes[2, 2:5] = 0.5, 0.7
    assert make_method("graphcl", num_classes=3).label_case(votes).unique().tolist() == [0, 2]


def test_options_that_contradict_are_refused():
    options = load_method("bcp").Options
    with pytest.raises(ValueError, match="confidence_weighting needs"):
        options(confidence_weighting=True)
    with pytest.raises(ValueError, match="labels_from must be"):
        options(labels_from="nowhere")
    with pytest.raises(ValueError, match="rounds is 1 or more"):
        options(rounds=0)
    assert options(confidence_weighting=True, labels_from="patches").confidence_weighting


def test_the_faithful_preset_labels_patches():
    """As the authors' code does: with the teacher, in the step."""
    for name in ("bcp", "graphcl", "transmedseg"):
        cls = load_method(name)
        assert cls.Options(**cls.presets["faithful"].method).labels_from == "patches"
