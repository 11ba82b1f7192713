"""Every way a run can end: its exit code, its last event, and what is left in the folder."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import builders
import numpy as np
import pytest
import torch
from test_mask_choice import coarse
from tiny_model import write_tiny_model

from semiseg import follow, worker
from semiseg.data.files import read_volume, write_volume
from semiseg.errors import InputError
from semiseg.follow import last_result, run_in_worker
from semiseg.inference.model_file import network_of, read_model, write_model
from semiseg.job_options import options_from
from semiseg.protocol import (
    EVENTS_FILE,
    LOCK_FILE,
    MODEL_FILE,
    RESULT_FILE,
    STOP_FILE,
    ExitCode,
    Job,
    ask_to_stop,
    read_events,
    read_job,
    write_job,
)
from semiseg.training.probe import Pace
from semiseg.worker import run_folder


@pytest.fixture(autouse=True)
def leave_this_process_as_it_is(monkeypatch):
    monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)
    monkeypatch.setattr("semiseg.measure.prepare_cpu", lambda: None)
    monkeypatch.setattr("semiseg.training.cpu.prepare_cpu", lambda: None)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return builders.write_cohort(tmp_path_factory.mktemp("data"), 2, 2, 1, ending=".nrrd")


def options(cohort: Path, **changes: Any) -> dict[str, Any]:
    """A training of seconds."""
    values = {
        "labeled": [str(cohort / "labeled")],
        "unlabeled": [str(cohort / "unlabeled")],
        "method": "bcp",
        "device": "cpu",
        "network_options": {"width": 2, "depth": 3},
        "training": {"patch_size": [8, 16, 16], "iterations": 6, "log_every": 1},
    }
    return {**values, **changes}


def run(folder: Path, verb: str, values: dict[str, Any], also: Any = None) -> ExitCode:
    write_job(folder, Job(verb, values))
    return run_folder(folder, also)


def last_event(folder: Path) -> dict[str, Any]:
    return read_events(folder / EVENTS_FILE)[0][-1]


# A job that cannot be run


@pytest.mark.parametrize("content", [None, "", "{", '{"verb": "fly", "options": {}, "protocol": 1}', '{"verb": "train", "protocol": 7}'])
def test_without_a_usable_job_nothing_starts(content, tmp_path, events):
    if content is not None:
        (tmp_path / "job.json").write_text(content)
    before = sorted(tmp_path.iterdir())
    assert run_folder(tmp_path, events) == ExitCode.REFUSED == 2
    (failed,) = events.of("failed")
    assert failed["hint"] and "job" in failed["message"]
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_is_not_there_is_refused(tmp_path, events):
    assert run_folder(tmp_path / "nowhere", events) == ExitCode.REFUSED
    assert "does not exist" in events.of("failed")[0]["message"] and not (tmp_path / "nowhere").exists()


BAD_OPTIONS = {
    "iteratons": {"iteratons": 5},
    "seed": {"seed": "one"},
    "labeled": {"labeled": "/data"},
    "baseline": {"baseline": "yes"},
    "method": {"method": "bpc"},
    "network": {"network": "vnett"},
    "goal": {"goal": "fast"},
    "preset": {"preset": "loyal"},
    "device": {"device": "tpu"},
    "learning": {"training": {"learning": 1}},
    "iterations": {"training": {"iterations": "many"}},
    "optimizer": {"training": {"optimizer": "adam", "patch_size": [8, 16, 16]}},
    "patch_size": {"training": {"patch_size": [8, 16]}},
    "decya": {"method_options": {"decya": 0.9}},
    "pseudo_weight": {"method_options": {"pseudo_weight": "half"}},
    "widht": {"network_options": {"widht": 2}},
    "rotation": {"augment": {"rotation": 10}},
    "flip_axes": {"augment": {"flip_axes": [5]}},
    "intensity": {"preprocessing": {"intensity": "sepia"}},
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_an_option_that_does_not_fit_is_named(name, tmp_path, cohort, events):
    """Exit code 2, a hint, nothing lost: the job is still as it was written."""
    job = options(cohort)
    for key, value in BAD_OPTIONS[name].items():
        job[key] = {**job[key], **value} if isinstance(job.get(key), dict) else value
    assert run(tmp_path, "train", job, events) == ExitCode.REFUSED
    failed = last_event(tmp_path)
    assert failed["kind"] == "failed" and name in failed["message"], failed
    assert failed["hint"] or "'zscore'" in failed["message"], "a hint, or the choices themselves"
    assert read_job(tmp_path).options == job
    assert not (tmp_path / MODEL_FILE).exists() and not (tmp_path / LOCK_FILE).exists()


@pytest.mark.parametrize(("network", "patch"), [("vnet", [10, 16, 16]), ("vnet", [1, 16, 16]), ("unet2d", [8, 16, 16])])
def test_a_patch_that_does_not_fit_the_network_is_refused(network, patch, tmp_path, cohort):
    job = options(cohort, network=network)
    job["training"]["patch_size"] = patch
    assert run(tmp_path, "train", job) == ExitCode.REFUSED
    assert "patch" in last_event(tmp_path)["message"] and last_event(tmp_path)["hint"]


def test_a_batch_that_has_no_pairs_is_refused(tmp_path, cohort):
    job = options(cohort)
    job["training"]["batch_labeled"] = 3
    assert run(tmp_path, "train", job) == ExitCode.REFUSED
    assert "multiple of 2" in last_event(tmp_path)["hint"]


def test_a_verb_without_folder_says_so(tmp_path):
    assert run(tmp_path, "study", {}) == ExitCode.REFUSED


# Data that cannot be used


def _spoil(image: Path, mask: Path, how: str) -> None:
    volume, label = builders.make_case(1)
    if how == "mask on another grid":
        builders.write_labels(mask, builders.Volume(label.array[:-2], builders.oblique((8, 20, 30))), [builders.LEFT_ATRIUM])
    elif how == "empty image":
        builders.write_volume(image, volume.with_array(np.zeros_like(volume.array)))
    elif how == "image without numbers":
        builders.write_volume(image, volume.with_array(np.full_like(volume.array, np.nan)))
    elif how == "truncated file":
        image.write_bytes(image.read_bytes()[:-2000])
    elif how == "value nobody named":
        builders.write_labels(mask, label.with_array(label.array * 3), [builders.Segment(3, "aorta")])
    elif how == "missing mask":
        mask.unlink()


@pytest.mark.parametrize(
    "how", ["mask on another grid", "empty image", "image without numbers", "truncated file", "value nobody named", "missing mask"]
)
def test_with_one_usable_label_left_training_is_refused_and_says_why(how, tmp_path, events):
    data = builders.write_cohort(tmp_path / "data", 2, 0, 0, ending=".nrrd")
    _spoil(data / "labeled" / "labeled_00.nrrd", data / "labeled" / "labeled_00_seg.nii.gz", how)
    folder = tmp_path / "run"
    job = options(data)
    job["unlabeled"] = []
    assert run(folder, "train", job, events) == ExitCode.REFUSED
    failed = last_event(folder)
    assert failed["code"] == "E801" and "2 labeled" in failed["message"]
    refused = [case for case in events.of("case") if case["status"] == "refused" and case["id"] == "labeled_00"]
    assert how == "missing mask" or (len(refused) == 1 and refused[0]["reason"]), events.of("case")


def test_without_any_labels_training_is_refused(tmp_path):
    job = {"device": "cpu", "method": "supervised"}
    assert run(tmp_path, "train", job) == ExitCode.REFUSED
    assert last_event(tmp_path)["code"] == "E801"


def test_a_model_that_is_not_ours_is_refused(tmp_path, cohort):
    (tmp_path / "model.pt").write_bytes(b"\x80\x04cos\nsystem\n")
    job = {"model": str(tmp_path / "model.pt"), "inputs": [str(cohort / "unlabeled")], "device": "cpu"}
    assert run(tmp_path / "run", "predict", job) == ExitCode.REFUSED
    assert last_event(tmp_path / "run")["code"] == "E403"


def test_a_model_with_another_number_of_classes_is_refused(tmp_path, cohort):
    """Than it names; masks that are there stay."""
    (out := tmp_path / "out").mkdir()
    (out / "earlier.seg.nrrd").write_bytes(b"drawn by hand")
    card, weights = read_model(write_tiny_model(tmp_path / "good.pt"))
    card["network"]["num_classes"] = 3
    write_model(tmp_path / "model.pt", card, weights)
    job = {"model": str(tmp_path / "model.pt"), "inputs": [str(cohort / "unlabeled")], "out_dir": str(out), "device": "cpu"}
    assert run(tmp_path / "run", "predict", job) == ExitCode.REFUSED
    assert last_event(tmp_path / "run")["code"] == "E403" and "3 classes for 1 named" in last_event(tmp_path / "run")["message"]
    assert [path.name for path in out.iterdir()] == ["earlier.seg.nrrd"]


def test_a_structure_that_no_mask_shows_is_refused(tmp_path, cohort):
    job = options(cohort, labels=[{"value": 1, "name": "left atrium"}, {"value": 2, "name": "appendage"}])
    assert run(tmp_path, "train", job) == ExitCode.REFUSED
    failed = last_event(tmp_path)
    assert failed["code"] == "E704" and "appendage" in failed["message"] and failed["hint"]
    assert read_job(tmp_path).options == job and not (tmp_path / MODEL_FILE).exists() and not (tmp_path / LOCK_FILE).exists()


# The folder


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path, events):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        write_job(tmp_path, Job("train", {}))
        lock = json.dumps({"pid": other.pid, "host": socket.gethostname()})
        (tmp_path / LOCK_FILE).write_text(lock)
        (tmp_path / EVENTS_FILE).write_text('{"kind": "started"}\n')
        assert run_folder(tmp_path, events) == ExitCode.REFUSED
        (failed,) = events.of("failed")
        assert failed["code"] == "E809" and str(other.pid) in failed["message"]
        assert (tmp_path / LOCK_FILE).read_text() == lock
        assert (tmp_path / EVENTS_FILE).read_text() == '{"kind": "started"}\n', "the other worker's events are its own"
        with pytest.raises(InputError) as raised:
            run_in_worker(tmp_path, events)
        assert raised.value.code == "E809"
    finally:
        other.kill()
        other.wait()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="nothing is unwritable for the administrator")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, events):
    write_job(tmp_path, Job("train", {}))
    tmp_path.chmod(0o500)
    try:
        assert run_folder(tmp_path, events) == ExitCode.REFUSED
    finally:
        tmp_path.chmod(0o700)
    assert events.of("failed")[0]["code"] == "E809"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
@pytest.mark.parametrize("name", [EVENTS_FILE, LOCK_FILE])
def test_a_folder_that_the_system_refuses_is_e809(number, name, tmp_path, events, monkeypatch):
    write_job(tmp_path, Job("train", {}))

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(tmp_path / name))

    monkeypatch.setattr(worker, "EventWriter" if name == EVENTS_FILE else "HeldLock", refuse)
    assert run_folder(tmp_path, events) == ExitCode.REFUSED
    assert events.of("failed")[0]["code"] == "E809"


# Stop and go on


def stop_at(folder: Path, iteration: int, what: str = "train"):
    """A reader of the events that asks to stop once training is so far."""
    state = {"baseline": False}

    def listen(kind: str, **values: Any) -> None:
        if kind == "stage" and values["name"] == "baseline":
            state["baseline"] = True
        counts = state["baseline"] if what == "baseline" else True
        if counts and kind == "progress" and values["what"] == "train" and values["done"] == iteration:
            ask_to_stop(folder)

    return listen


def test_a_stopped_run_continues_to_the_same_model(tmp_path, cohort):
    """Also with batch normalization and dropout, through the files."""
    job = options(cohort, held_out=[str(cohort / "heldout")], network_options={"width": 2, "depth": 3, "norm": "batch", "dropout": 0.5})
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert run(straight, "train", job) == ExitCode.FINISHED == 0
    assert run(broken, "train", job, stop_at(broken, 3)) == ExitCode.STOPPED == 3
    assert last_event(broken) == {**last_event(broken), "kind": "stopped", "step": 3}
    assert not (broken / RESULT_FILE).exists() and not (broken / LOCK_FILE).exists() and (broken / STOP_FILE).exists()
    assert run_folder(broken) == ExitCode.FINISHED, "a stop ends one run, not the next"
    weights, other = (read_model(folder / MODEL_FILE)[1] for folder in (straight, broken))
    assert all(torch.equal(weights[key], other[key]) for key in weights)
    assert json.loads((straight / RESULT_FILE).read_text())["scores"] == json.loads((broken / RESULT_FILE).read_text())["scores"]
    kinds = [event["kind"] for event in read_events(broken / EVENTS_FILE)[0]]
    assert kinds.count("started") == 2 and kinds.count("finished") == 1


def test_a_stopped_run_leaves_a_usable_model(tmp_path, cohort):
    """Nothing was validated: the weights of the last step."""
    job = options(cohort)
    assert run(tmp_path, "train", job, stop_at(tmp_path, 3)) == ExitCode.STOPPED
    card, weights = read_model(tmp_path / MODEL_FILE)
    assert card["training"]["stopped"] == "stopped at iteration 3 of 6"
    assert (card["training"]["iterations"], card["training"]["checkpoint"]) == (3, "last")
    assert card["training"]["method"] == "bcp" and card["training"]["cases"]["labeled"] == 2
    network_of(card, weights, tmp_path / MODEL_FILE)
    (saved,) = [event for event in read_events(tmp_path / EVENTS_FILE)[0] if event["kind"] == "saved" and event["what"] == "model"]
    assert (saved["step"], saved["dice"]) == (3, None)
    assert run_folder(tmp_path) == ExitCode.FINISHED
    assert "stopped" not in read_model(tmp_path / MODEL_FILE)[0]["training"], "the finished model takes its place"


def test_a_stop_before_the_first_step_leaves_no_model(tmp_path, cohort):
    def listen(kind, **values):
        if kind == "case":  # before training: the stop file of the start is gone
            ask_to_stop(tmp_path)

    assert run(tmp_path, "train", options(cohort), listen) == ExitCode.STOPPED
    assert last_event(tmp_path)["step"] == 0 and not (tmp_path / MODEL_FILE).exists()


def test_a_stop_keeps_the_best_validation_also_over_a_resume(tmp_path, cohort, monkeypatch):
    scores = {1: 0.2, 2: 0.6, 3: 0.5, 4: 0.55, 5: 0.4}
    seen = {}

    def validate(self, method, iteration):
        seen[iteration] = {key: value.clone() for key, value in method.deployed.state_dict().items()}
        if scores[iteration] > self.best[0]:
            self.best = (scores[iteration], iteration)

    monkeypatch.setattr("semiseg.training.validate.Validation.__call__", validate)
    monkeypatch.setattr("semiseg.training.validate.Validation.is_possible", True)
    job = options(cohort)
    job["training"]["validate_every"] = 1
    write_job(tmp_path, Job("train", job))
    for stop in (3, 5):
        assert run_folder(tmp_path, stop_at(tmp_path, stop)) == ExitCode.STOPPED
        card, weights = read_model(tmp_path / MODEL_FILE)
        assert all(torch.equal(weights[key], seen[2][key]) for key in weights), "the weights of the best validation, not the last ones"
        facts = card["training"]
        assert (facts["iterations"], facts["validation_dice"], facts["checkpoint"]) == (2, 0.6, "best validation so far, Dice 0.600")
        assert facts["stopped"] == f"stopped at iteration {stop} of 6"


def test_a_stop_during_the_baseline_is_obeyed_and_continued(tmp_path, cohort):
    job = options(cohort, baseline=True)
    job["training"]["iterations"] = 2
    assert run(tmp_path, "train", job, stop_at(tmp_path, 5, "baseline")) == ExitCode.STOPPED
    assert last_event(tmp_path)["step"] == 5 and (tmp_path / MODEL_FILE).exists() and not (tmp_path / "baseline" / MODEL_FILE).exists()
    assert run_folder(tmp_path) == ExitCode.FINISHED
    result = json.loads((tmp_path / RESULT_FILE).read_text())
    assert result["method"] == "bcp" and result["baseline"]["method"] == "supervised"
    assert last_result(tmp_path) == result


def test_a_stop_while_the_held_out_cases_are_segmented_is_obeyed(tmp_path, cohort):
    job = options(cohort, held_out=[str(cohort / "heldout")])

    def listen(kind, **values):
        if kind == "saved" and values["what"] == "model":
            ask_to_stop(tmp_path)

    assert run(tmp_path, "train", job, listen) == ExitCode.STOPPED
    assert last_event(tmp_path)["step"] == 6 and not (tmp_path / RESULT_FILE).exists()
    assert run_folder(tmp_path) == ExitCode.FINISHED
    assert last_result(tmp_path)["scored"] == 1


def test_a_stopped_prediction_goes_on_with_what_is_left(tmp_path, cohort):
    model = write_tiny_model(tmp_path / "model.pt")
    folder = tmp_path / "run"
    job = {"model": str(model), "inputs": [str(cohort / "unlabeled"), str(cohort / "heldout")], "device": "cpu"}
    done = []

    def listen(kind, **values):
        if kind == "case" and values["status"] == "done":
            done.append(values["id"])
            ask_to_stop(folder)

    assert run(folder, "predict", job, listen) == ExitCode.STOPPED
    assert len(done) == 1 == last_event(folder)["step"]
    assert run_folder(folder) == ExitCode.FINISHED
    statuses = [case["status"] for case in last_result(folder)["cases"]]
    assert sorted(statuses) == ["done", "done", "skipped"]


def test_the_resolved_job_is_the_recipe(tmp_path, cohort):
    """Every number is filled in, and running that job elsewhere gives the same model."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(first, "train", options(cohort)) == ExitCode.FINISHED
    resolved = read_job(first).options
    assert resolved["training"]["learning_rate"] and resolved["augment"]["rotation_deg"] and "pseudo_weight" in resolved["method_options"]
    assert run(second, "train", resolved) == ExitCode.FINISHED
    weights, other = (read_model(folder / MODEL_FILE)[1] for folder in (first, second))
    assert all(torch.equal(weights[key], other[key]) for key in weights)
    assert read_job(second).options == resolved


def test_other_options_do_not_continue_a_run(tmp_path, cohort):
    assert run(tmp_path, "train", options(cohort), stop_at(tmp_path, 2)) == ExitCode.STOPPED
    state = (tmp_path / "resume.pt").read_bytes()
    job = read_job(tmp_path).options
    assert run(tmp_path, "train", {**job, "seed": 1}) == ExitCode.REFUSED
    assert "seed: 0 before, 1 now" in last_event(tmp_path)["message"]
    assert (tmp_path / "resume.pt").read_bytes() == state


def test_measuring_tells_what_every_goal_takes_and_trains_nothing(tmp_path, cohort):
    job = options(cohort)
    del job["training"]
    assert run(tmp_path, "measure", job) == ExitCode.FINISHED
    result = last_result(tmp_path)
    assert not (tmp_path / MODEL_FILE).exists() and not (tmp_path / "resume.pt").exists()
    assert list(result["goals"]) == ["quick", "normal", "best"] and result["step_s"] > 0
    pace = Pace(result["step_s"], result["labeling_s"])
    assert pace.labeling_s > 0
    for goal, minutes in (("quick", 1.5), ("normal", 12), ("best", 60)):
        length = result["goals"][goal]
        assert length["iterations"] == pace.iterations(60 * minutes)
        assert length["train_s"] == pytest.approx(60 * minutes, rel=0.1)
    assert 0 < result["memory_gb"] < 64 and 0 < result["disk_gb"] < 1 and result["disk_free_gb"] > 0


def test_a_labeled_case_is_left_out_and_scored(tmp_path):
    """From the prepared cases of another run, which stay as they are."""
    data = builders.write_cohort(tmp_path / "data", 3, 1, 1, ending=".nrrd")
    whole, fold = tmp_path / "whole", tmp_path / "fold"
    assert run(whole, "prepare", options(data)) == ExitCode.FINISHED
    job = options(data, prepared=str(whole / "prepared"), leave_out="labeled_01", method="supervised")
    job["training"]["iterations"] = 2
    assert run(fold, "train", job) == ExitCode.FINISHED
    result = last_result(fold)
    assert result["cases"] == {"labeled": 2, "unlabeled": 1, "validation": 0, "held_out": 1} and result["scored"] == 1
    assert (fold / "dice.csv").read_text().splitlines()[1].startswith("labeled_01,")
    assert last_result(whole)["cases"]["labeled"] == 3 and not (fold / "prepared").exists()


def test_a_case_whose_mask_was_resampled_is_scored_when_it_is_left_out(tmp_path):
    """On the grid of its image; its row says so. In between, too, where looks were asked for."""
    data = builders.write_cohort(tmp_path / "data", 3, 1, 0, ending=".nrrd")
    path = data / "labeled" / "labeled_01_seg.nii.gz"
    write_volume(path, coarse(read_volume(path)))
    whole, fold = tmp_path / "whole", tmp_path / "fold"
    job = options(data, resample_masks=[str(data / "labeled" / "labeled_01.nrrd")], method="supervised", best_on_test=2)
    assert run(whole, "prepare", job) == ExitCode.FINISHED
    job["training"]["iterations"] = 2
    assert run(fold, "train", {**job, "prepared": str(whole / "prepared"), "leave_out": "labeled_01"}) == ExitCode.FINISHED
    result = last_result(fold)
    assert result["scored"] == 1 and result["refused"] == [] and list(result["best_on_test"]["looks"]) == ["1", "2"]
    row = (fold / "dice.csv").read_text().splitlines()[1]
    assert row.startswith("labeled_01,") and "to which the mask was resampled" in row


@pytest.mark.parametrize(("name", "code", "words"), [("unlabeled_00", "", "no labeled case 'unlabeled_00'"), ("labeled_00", "E801", "fewer than 2 labeled")])
def test_what_cannot_be_left_out_is_refused(name, code, words, tmp_path, cohort):
    assert run(tmp_path, "train", options(cohort, leave_out=name)) == ExitCode.REFUSED
    assert last_event(tmp_path)["code"] == code and words in last_event(tmp_path)["message"]


def test_looking_at_the_data_trains_nothing(tmp_path, cohort):
    assert run(tmp_path, "prepare", options(cohort)) == ExitCode.FINISHED
    result = json.loads((tmp_path / RESULT_FILE).read_text())
    assert result["cases"] == {"labeled": 2, "unlabeled": 2, "validation": 0, "held_out": 0} and result["refused"] == []
    assert not (tmp_path / MODEL_FILE).exists()


# Crash and full disk


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), FileNotFoundError(2, "No such file", "/gone"), RuntimeError("shapes")])
def test_a_defect_of_ours_leaves_a_traceback_and_a_last_event(error, tmp_path, cohort, monkeypatch, capfd):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr("semiseg.train_parts.prepare", broken)
    assert run(tmp_path, "train", options(cohort)) == ExitCode.CRASHED == 1
    failed = last_event(tmp_path)
    assert failed["kind"] == "failed" and failed["code"] == "E502" and type(error).__name__ in failed["message"]
    assert "Traceback" in (log := capfd.readouterr().err) and "in broken" in log, "log.txt is where this goes"
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_full_disk_pauses_and_the_run_continues(tmp_path, cohort, monkeypatch):
    def full(*_, **__):
        raise InputError("The disk is full: resume.pt could not be written.", code="E807")

    monkeypatch.setattr("semiseg.training.loop.write_state", full)
    assert run(tmp_path, "train", options(cohort)) == ExitCode.STOPPED
    paused = last_event(tmp_path)
    assert paused["kind"] == "paused" and paused["code"] == "E807" and "run it again" in paused["hint"]
    monkeypatch.undo()
    monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)
    assert run_folder(tmp_path) == ExitCode.FINISHED


def test_a_disk_too_full_for_events_pauses_as_well(tmp_path, cohort, monkeypatch, capfd, events):
    """The events are the first thing that a full disk refuses; the log and the exit code remain."""

    class Full(worker.EventWriter):
        def __call__(self, kind, **values):
            if kind in ("scalar", "paused"):
                raise OSError(errno.ENOSPC, "No space left on device")
            super().__call__(kind, **values)

    monkeypatch.setattr(worker, "EventWriter", Full)
    assert run(tmp_path, "train", options(cohort), events) == ExitCode.STOPPED
    assert events.of("paused")[0]["code"] == "E807" and "could not be written" in capfd.readouterr().err
    assert not (tmp_path / LOCK_FILE).exists()


# A process of its own


def fake_worker(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "worker.sh"
    program.write_text(f"#!/bin/sh\ncd {folder}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(follow.sys, "executable", str(program))


def test_a_worker_process_refuses_aloud(tmp_path, events):
    """No event can be written into a folder without a job; the terminal must say something all the same."""
    (tmp_path / "job.json").write_text("{")
    assert run_in_worker(tmp_path, events) == ExitCode.REFUSED
    (failed,) = events.of("failed")
    assert "log.txt" in failed["hint"] and "There is no usable job" in (tmp_path / "log.txt").read_text()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_killed_worker_is_explained(tmp_path, events, monkeypatch):
    fake_worker(tmp_path, monkeypatch, "kill -9 $$")
    assert run_in_worker(tmp_path, events) == ExitCode.CRASHED
    (failed,) = events.of("failed")
    assert failed["code"] == "E503" and "memory" in failed["message"] and failed["hint"]


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_an_interrupt_asks_the_worker_to_stop(tmp_path, monkeypatch):
    script = """echo '{"kind": "state", "message": "working"}' >> events.jsonl
    while [ ! -e stop ]; do sleep 0.05; done
    echo '{"kind": "stopped", "step": 7}' >> events.jsonl
    exit 3"""
    fake_worker(tmp_path, monkeypatch, script)
    heard = []

    def impatient(kind, **values):
        heard.append(kind)
        if kind == "state" and values["message"] == "working":
            raise KeyboardInterrupt

    assert run_in_worker(tmp_path, impatient) == ExitCode.STOPPED
    assert heard == ["state", "state", "stopped"]


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_only_new_events_are_told(tmp_path, events, monkeypatch):
    (tmp_path / EVENTS_FILE).write_text('{"kind": "failed", "message": "long ago"}\n')
    fake_worker(tmp_path, monkeypatch, """echo '{"kind": "finished", "time": 1, "result": {"dice": 0.9}}' >> events.jsonl""")
    assert run_in_worker(tmp_path, events) == ExitCode.FINISHED
    assert events == [("finished", {"result": {"dice": 0.9}})]
    assert last_result(tmp_path) == {"dice": 0.9}


def test_a_folder_without_result_has_none(tmp_path):
    assert last_result(tmp_path) == {}


# Options from JSON


@dataclass(frozen=True)
class Every:
    """One field of each kind."""

    whole: int = 1
    real: float = 1.0
    text: str = ""
    flag: bool = False
    maybe: int | None = None
    either: int | str = 1
    names: list[str] = field(default_factory=list)
    sides: tuple[int, int, int] = (1, 1, 1)
    axes: tuple[int, ...] = ()
    group: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.whole < 0:
            raise ValueError("whole must not be negative")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"whole": 3, "real": 2, "text": "a", "flag": True, "maybe": None, "either": "x"},
        {"maybe": 3, "either": 4, "names": ["a"], "sides": [1, 2, 3], "axes": [], "group": {"a": 1}},
        {"axes": [1, 2], "sides": (4, 5, 6)},
    ],
)
def test_values_that_fit_are_taken(values):
    made = options_from(Every, values, "the test")
    assert all(getattr(made, key) == value for key, value in values.items())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"whole": 1.5}, "expected an integer, found 1.5"),
        ({"whole": True}, "expected an integer"),
        ({"whole": None}, "expected an integer, found None"),
        ({"real": "1"}, "expected a number"),
        ({"flag": 1}, "expected true or false"),
        ({"maybe": "x"}, "expected an integer or nothing"),
        ({"either": [1]}, "expected an integer or a text"),
        ({"names": [1]}, "expected a list"),
        ({"sides": [1, 2]}, "expected a list"),
        ({"sides": [1, 2, "3"]}, "expected a list"),
        ({"group": [1]}, "expected a group"),
        ({"whole": -1}, "must not be negative"),
        ({"other": 1}, "The test has no option other"),
    ],
)
def test_values_that_do_not_fit_are_explained(values, words):
    with pytest.raises(InputError) as raised:
        options_from(Every, values, "the test")
    assert words in raised.value.message and raised.value.hint
