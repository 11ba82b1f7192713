"""Unlabeled volumes of another site (E805): training shows contrasts that no labeled volume has, unless the job says otherwise."""

from __future__ import annotations

from pathlib import Path

import builders
import pytest

from semiseg.data.augment import AugmentOptions
from semiseg.methods import METHODS, load_method
from semiseg.protocol import EVENTS_FILE, STOP_FILE, ExitCode, Job, read_events, read_job, write_job
from semiseg.worker import run_folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return builders.write_cohort(tmp_path_factory.mktemp("data"), 2, 4, 0, ending=".nrrd")


@pytest.fixture(autouse=True)
def leave_this_process_as_it_is(monkeypatch):
    monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)


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


def trained(cohort: Path, folder: Path, method: str = "transmedseg", **changes) -> float:
    """Trains, and gives the share of patches that pass a random network."""
    write_job(folder, Job("train", {**job(cohort), "method": method, **changes}))
    assert run_folder(folder) == ExitCode.FINISHED
    return read_job(folder).options["augment"]["gin"]


def said(folder: Path) -> list[str]:
    return [event["message"] for event in read_events(folder / EVENTS_FILE)[0] if "look different from" in event.get("message", "")]


@pytest.mark.parametrize("method", ["transmedseg", "supervised", "mean_teacher"])
def test_every_method_sees_contrasts_that_no_labeled_volume_has(method, cohort, tmp_path, monkeypatch):
    """Those as well that do not train on the unlabeled volumes, so that a comparison of methods is one of methods."""
    look_different(monkeypatch, 3)
    assert trained(cohort, tmp_path / "other", method) == 0.7
    assert said(tmp_path / "other")[-1].endswith("so that images are also shown with contrasts that no labeled volume has (gin 0.7).")
    look_different(monkeypatch, 2)
    assert trained(cohort, tmp_path / "mixed", method) == 0 and not said(tmp_path / "mixed"), "a mixture of sites"


def test_the_random_networks_are_trained_with(cohort, tmp_path, monkeypatch):
    import semiseg.data.augment

    seen, contrast = [], semiseg.data.augment.random_contrast
    monkeypatch.setattr("semiseg.data.augment.random_contrast", lambda x, seed: seen.append(seed) or contrast(x, seed))
    look_different(monkeypatch, 2)
    trained(cohort, tmp_path / "mixed")
    assert not seen
    look_different(monkeypatch, 4)
    trained(cohort, tmp_path / "other")
    assert len(set(seen)) > 10


@pytest.mark.parametrize("length", [{"iterations": 10}, {"minutes": 0.001}], ids=["steps", "minutes"])
def test_a_short_training_sees_them_as_well(length, cohort, tmp_path, monkeypatch):
    """A computer that is busy when a training begins plans few steps, and finds more later."""
    look_different(monkeypatch, 4)
    assert trained(cohort, tmp_path / "short", training={"patch_size": [8, 16, 16], "log_every": 1, **length}) == 0.7


@pytest.mark.parametrize(("count", "gin"), [(4, 0.7), (0, 0.0)], ids=["another site", "one site"])
def test_a_step_is_measured_with_the_contrasts_that_it_will_be_trained_with(count, gin, cohort, tmp_path, monkeypatch):
    """Studies and the window's goals turn minutes into steps by this measurement."""
    import semiseg.measure

    measured, make = [], semiseg.measure.make_batches

    def noted(resolved, *arguments):
        measured.append(resolved.augment.gin)
        return make(resolved, *arguments)

    monkeypatch.setattr("semiseg.measure.make_batches", noted)
    monkeypatch.setattr("semiseg.measure.prepare_cpu", lambda: None)
    look_different(monkeypatch, count)
    write_job(tmp_path / "run", Job("measure", job(cohort)))
    assert run_folder(tmp_path / "run") == ExitCode.FINISHED and measured[-1] == gin


@pytest.mark.parametrize("stated", [0.0, 0.5])
def test_what_the_job_states_stays(stated, cohort, tmp_path, monkeypatch):
    look_different(monkeypatch, 4)
    assert trained(cohort, tmp_path / "run", augment={"gin": stated}) == stated and not said(tmp_path / "run")


def test_a_run_that_was_begun_keeps_its_options(cohort, tmp_path, monkeypatch):
    look_different(monkeypatch, 0)
    folder = tmp_path / "run"
    (folder / "x").mkdir(parents=True)
    assert trained(cohort, folder) == 0
    (folder / "result.json").unlink()
    look_different(monkeypatch, 4)
    assert run_folder(folder) == ExitCode.FINISHED and not (folder / STOP_FILE).exists()
    assert read_job(folder).options["augment"]["gin"] == 0 and not said(folder)


def test_the_authors_presets_do_as_the_authors_did():
    for name in METHODS:
        presets = load_method(name).presets
        assert not presets["faithful"].other_site
        AugmentOptions(**{**presets["plus"].augment, **presets["plus"].other_site})
