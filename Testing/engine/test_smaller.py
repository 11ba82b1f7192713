"""After memory ran out (E206) a run goes on from its state with a smaller batch or patch, and says so."""

from __future__ import annotations

import json
from typing import Any

import builders
import pytest
import torch
from training_cases import ALL_METHODS, CPU, MemoryCases, make_batches, make_method, train_options

from semiseg.errors import InputError
from semiseg.inference.model_file import read_model
from semiseg.protocol import EVENTS_FILE, MODEL_FILE, RESULT_FILE, ExitCode, Job, read_events, read_job, write_job
from semiseg.training.checkpoint import read_state, write_state
from semiseg.training.loop import Fit
from semiseg.training.options import TrainOptions
from semiseg.training.smaller import fixes_for, smaller_settings
from semiseg.worker import run_folder

PATCH, MOST_VOXELS = [16, 32, 32], 4 * 16 * 32 * 32
BEGUN = {"batch_labeled": 4, "batch_unlabeled": 4, "patch_size": [16, 32, 32], "learning_rate": 0.01}


@pytest.fixture(autouse=True)
def leave_this_process_as_it_is(monkeypatch):
    monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)


@pytest.mark.parametrize(
    ("now", "found"),
    [
        ({"batch_labeled": 2}, {"batch_labeled": [4, 2]}),
        ({"patch_size": [16, 16, 32]}, {"patch_size": [[16, 32, 32], [16, 16, 32]]}),
        ({}, {}),
        ({"batch_labeled": 6}, None),
        ({"patch_size": [16, 16, 48]}, None),
        ({"patch_size": [1, 32, 32]}, None),
        ({"batch_labeled": 2, "learning_rate": 0.1}, None),
    ],
)
def test_only_batch_and_patch_may_become_smaller(now, found):
    assert smaller_settings(BEGUN, {**BEGUN, **now}) == found


@pytest.mark.parametrize(
    ("batch", "patch", "share", "found"),
    [
        (4, (80, 112, 112), 0.57, [{"batch_labeled": 2, "batch_unlabeled": 2}, {"patch_size": [64, 80, 80]}]),
        (2, (1, 256, 256), 0.5, [{"patch_size": [1, 176, 176]}]),
        (2, (8, 16, 16), 0.5, []),
    ],
)
def test_every_fix_is_smaller_and_fits_the_networks(batch, patch, share, found):
    fixes = fixes_for(TrainOptions(batch_labeled=batch, batch_unlabeled=batch, patch_size=patch), share)
    assert [fix["training"] for fix in fixes] == found


def test_a_network_of_one_size_is_offered_no_smaller_patch():
    """Such as MONAI's UNETR, whose position embeddings are as many as its patch has tokens."""
    options = TrainOptions(batch_labeled=4, batch_unlabeled=4, patch_size=(96, 96, 96))
    assert [list(fix["training"]) for fix in fixes_for(options, 0.5, has_one_size=True)] == [["batch_labeled", "batch_unlabeled"]]
    assert len(fixes_for(options, 0.5)) == 2


@pytest.mark.parametrize("size", [None, (16, 16, 16)])
def test_the_message_follows_the_network(size, tmp_path):
    """Whichever of the networks of a method has one size."""
    method = make_method("transmedseg")
    method.deployed.fixed_image_size = size
    options = train_options(iterations=2, patch_size=(64, 64, 64), batch_labeled=4)
    error = Fit(method, make_batches(MemoryCases()), options, CPU)._out_of_memory()
    assert "batch 2 instead of 4" in error.hint and ("patch" in error.hint) == (size is None)
    assert any("patch_size" in fix["training"] for fix in error.fixes) == (size is None)


@pytest.mark.parametrize("name", ALL_METHODS)
def test_every_method_continues_with_less(name, tmp_path):
    """Nothing in the state of a method depends on how many samples of which size it was shown."""
    cases, path, events = MemoryCases(), tmp_path / "resume.pt", []
    large, small = (16, 24, 24), (16, 16, 16)

    def fit(patch, count, stop):
        options = train_options(iterations=8, log_every=2, patch_size=patch, batch_labeled=count, batch_unlabeled=count)
        training = {"training": {"batch_labeled": count, "batch_unlabeled": count, "patch_size": list(patch)}}
        asked = iter(range(100))
        return Fit(
            make_method(name), make_batches(cases, patch, counts=(count, count)), options, CPU, state_path=path, identity=training,
            report=lambda kind, **values: events.append((kind, values)), should_stop=lambda: next(asked) >= stop,
        )  # fmt: skip

    assert fit(large, 4, 5).run().iteration == 5
    outcome = fit(small, 2, 100).run()
    assert outcome.is_complete and outcome.iteration == 8
    assert outcome.changes == ({"iteration": 5, "batch_labeled": [4, 2], "batch_unlabeled": [4, 2], "patch_size": [[16, 24, 24], [16, 16, 16]]},)
    said = [values["message"] for kind, values in events if kind == "state"]
    assert said == ["Continues from iteration 5 with batch_labeled 2 instead of 4, batch_unlabeled 2 instead of 4, patch_size 16×16×16 instead of 16×24×24."]


def test_a_state_is_not_continued_with_more(tmp_path):
    path = tmp_path / "resume.pt"
    write_state(path, {"iteration": 3}, {"training": BEGUN})
    assert read_state(path, {"training": {**BEGUN, "batch_labeled": 2}}, CPU)["changes"] == [{"iteration": 3, "batch_labeled": [4, 2]}]
    with pytest.raises(InputError, match="other options"):
        read_state(path, {"training": {**BEGUN, "batch_labeled": 8}}, CPU)


# Through the run folder, as a window does it


@pytest.fixture
def small_gpu(monkeypatch):
    """A device on which a step of more than so many voxels does not fit, and from iteration 3 on not even that."""
    step = Fit._step

    def taking_memory(self, batch, progress):
        voxels = batch.labeled.numel()
        if self.iteration >= 3 and voxels > MOST_VOXELS // 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        step(self, batch, progress)

    monkeypatch.setattr(Fit, "_step", taking_memory)


def job(folder, **changes: Any) -> dict[str, Any]:
    return {
        "labeled": [str(folder / "labeled")],
        "unlabeled": [str(folder / "unlabeled")],
        "method": "transmedseg",
        "device": "cpu",
        "network_options": {"width": 2, "depth": 3},
        "training": {"patch_size": PATCH, "iterations": 6, "log_every": 1, "batch_labeled": 4, "batch_unlabeled": 4},
        **changes,
    }


@pytest.mark.parametrize("which", ["batch_labeled", "patch_size"])
def test_a_run_out_of_memory_goes_on_with_what_its_last_event_offers(which, small_gpu, tmp_path):
    cohort, folder = builders.write_cohort(tmp_path / "data", 2, 2, 1, ending=".nrrd"), tmp_path / "run"
    write_job(folder, Job("train", job(cohort, baseline=True)))
    assert run_folder(folder) == ExitCode.REFUSED
    last = read_events(folder / EVENTS_FILE)[0][-1]
    assert (last["kind"], last["code"]) == ("failed", "E206") and "iteration 3" in last["message"]
    assert "batch 2 instead of 4" in last["hint"]
    fix = next(one for one in last["fixes"] if which in one["training"])
    options = read_job(folder).options
    write_job(folder, Job("train", {**options, "training": {**options["training"], **fix["training"]}}))
    assert run_folder(folder) == ExitCode.FINISHED
    result = json.loads((folder / RESULT_FILE).read_text())
    (change,) = result["smaller_since"]
    assert change["iteration"] == 3, "from the last good state, though none had been saved before"
    assert change[which][1] == fix["training"][which] and result["iterations"] == 6
    assert read_model(folder / MODEL_FILE)[0]["training"]["smaller_since"] == [change]
    assert "smaller_since" not in result["baseline"], "it was begun with the smaller settings"


def test_a_baseline_out_of_memory_goes_on_with_the_settings_of_its_run(small_gpu, tmp_path, monkeypatch):
    """It has a folder and a job of its own, which nobody but the engine writes."""
    cohort, folder = builders.write_cohort(tmp_path / "data", 2, 2, 1, ending=".nrrd"), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("test_smaller.MOST_VOXELS", 10**9)
        stop = {"at": False}

        def listen(kind, **values):
            stop["at"] = stop["at"] or (kind == "stage" and values["name"] == "baseline")
            if stop["at"] and kind == "progress" and values["what"] == "train":
                patch.setattr("test_smaller.MOST_VOXELS", 4 * 16 * 32 * 32)

        write_job(folder, Job("train", job(cohort, baseline=True)))
        assert run_folder(folder, listen) == ExitCode.REFUSED
        fix = read_events(folder / EVENTS_FILE)[0][-1]["fixes"][0]
        options = read_job(folder).options
        write_job(folder, Job("train", {**options, "training": {**options["training"], **fix["training"]}}))
        assert run_folder(folder, listen) == ExitCode.FINISHED
    result = json.loads((folder / RESULT_FILE).read_text())
    assert result["baseline"]["smaller_since"][0]["batch_labeled"] == [4, 2]
