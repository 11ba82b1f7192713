"""Unlabeled volumes of another site (E805): more of the training is spent on them, unless the job says otherwise."""

from __future__ import annotations

from pathlib import Path

import builders
import pytest

from semiseg.methods import METHODS, load_method
from semiseg.protocol import EVENTS_FILE, STOP_FILE, ExitCode, Job, read_events, read_job, write_job
from semiseg.worker import run_folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return builders.write_cohort(tmp_path_factory.mktemp("data"), 2, 4, 0, ending=".nrrd")


@pytest.fixture(autouse=True)
def leave_this_process_as_it_is(monkeypatch):
    monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)
    monkeypatch.setattr("semiseg.other_site.SETTLED_ITERATIONS", 10)


def look_different(monkeypatch, count):
    """So many of the four unlabeled volumes."""
    monkeypatch.setattr("semiseg.prepare.differences", lambda unlabeled, labeled: ["It looks different."] * count + [""] * (len(unlabeled) - count))


def job(cohort: Path) -> dict:
    return {
        "labeled": [str(cohort / "labeled")],
        "unlabeled": [str(cohort / "unlabeled")],
        "method": "transmedseg",
        "device": "cpu",
        "network_options": {"width": 2, "depth": 3},
        "training": {"patch_size": [8, 16, 16], "iterations": 10, "log_every": 1},
    }


def trained(cohort: Path, folder: Path, method: str = "transmedseg", **changes) -> dict:
    write_job(folder, Job("train", {**job(cohort), "method": method, **changes}))
    assert run_folder(folder) == ExitCode.FINISHED
    return read_job(folder).options["method_options"]


def said(folder: Path) -> list[str]:
    return [event["message"] for event in read_events(folder / EVENTS_FILE)[0] if "look different from" in event.get("message", "")]


def stages(folder: Path) -> list[str]:
    """The stage of every step, as it was reported."""
    return [event["stage"] for event in read_events(folder / EVENTS_FILE)[0] if event["kind"] == "progress" and event.get("stage")]


def test_self_training_begins_earlier_and_labels_more_often(cohort, tmp_path, monkeypatch):
    look_different(monkeypatch, 3)
    found = trained(cohort, tmp_path / "other")
    assert (found["pretrain_share"], found["rounds"]) == (0.3, 6)
    assert said(tmp_path / "other")[-1].endswith("so that more of the training is spent on them (pretrain_share 0.3, rounds 6).")
    look_different(monkeypatch, 2)
    usual = trained(cohort, tmp_path / "same")
    assert (usual["pretrain_share"], usual["rounds"]) == (0.8, 2) and not said(tmp_path / "same"), "a mixture of sites"
    early, late = (stages(tmp_path / name).index("self_train") for name in ("other", "same"))
    assert early < late


@pytest.mark.parametrize("length", [{"iterations": 10}, {"minutes": 0.001}], ids=["steps", "minutes"])
def test_a_training_too_short_to_settle_is_trained_as_always(length, cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("semiseg.other_site.SETTLED_ITERATIONS", 10_000)
    look_different(monkeypatch, 4)
    found = trained(cohort, tmp_path / "short", training={"patch_size": [8, 16, 16], "log_every": 1, **length})
    assert (found["pretrain_share"], found["rounds"]) == (0.8, 2) and not said(tmp_path / "short")


@pytest.mark.parametrize(("settled", "share"), [(10, 0.3), (10_000, 0.8)], ids=["long enough", "too short"])
def test_a_step_is_measured_with_the_options_that_it_will_be_trained_with(settled, share, cohort, tmp_path, monkeypatch):
    """Studies and the window's goals turn minutes into steps by this measurement."""
    import semiseg.measure

    shares, probe = [], semiseg.measure.measure_pace

    def noted(make, *arguments):
        shares.append(make().core.options.pretrain_share)
        return probe(make, *arguments)

    monkeypatch.setattr("semiseg.measure.measure_pace", noted)
    monkeypatch.setattr("semiseg.measure.prepare_cpu", lambda: None)
    monkeypatch.setattr("semiseg.other_site.SETTLED_ITERATIONS", settled)
    look_different(monkeypatch, 4)
    write_job(tmp_path / "run", Job("measure", job(cohort)))
    assert run_folder(tmp_path / "run") == ExitCode.FINISHED and shares[-1] == share


def test_what_the_job_states_stays(cohort, tmp_path, monkeypatch):
    look_different(monkeypatch, 4)
    found = trained(cohort, tmp_path / "half", method_options={"rounds": 3})
    assert (found["pretrain_share"], found["rounds"]) == (0.3, 3)
    assert said(tmp_path / "half")[-1].endswith("(pretrain_share 0.3).")
    found = trained(cohort, tmp_path / "all", method_options={"rounds": 3, "pretrain_share": 0.6})
    assert (found["pretrain_share"], found["rounds"]) == (0.6, 3) and not said(tmp_path / "all")


def test_a_run_that_was_begun_keeps_its_options(cohort, tmp_path, monkeypatch):
    look_different(monkeypatch, 0)
    folder = tmp_path / "run"
    (folder / "x").mkdir(parents=True)
    before = trained(cohort, folder)
    (folder / "result.json").unlink()
    look_different(monkeypatch, 4)
    assert run_folder(folder) == ExitCode.FINISHED and not (folder / STOP_FILE).exists()
    assert read_job(folder).options["method_options"] == before and not said(folder)


@pytest.mark.parametrize("method", ["supervised", "mean_teacher"])
def test_methods_without_such_options_are_trained_as_always(method, cohort, tmp_path, monkeypatch):
    look_different(monkeypatch, 4)
    trained(cohort, tmp_path / "run", method)
    assert not said(tmp_path / "run")


def test_the_authors_presets_do_as_the_authors_did():
    for name in METHODS:
        presets = load_method(name).presets
        assert not presets["faithful"].other_site
        load_method(name).Options(**{**presets["plus"].method, **presets["plus"].other_site})
