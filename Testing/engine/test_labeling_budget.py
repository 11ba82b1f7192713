"""Where labels of whole cases would take most of a budget of minutes, the teacher labels patches, unless the job says otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import builders
import pytest

from semiseg.labeling_budget import words_for_patches
from semiseg.protocol import EVENTS_FILE, RESULT_FILE, ExitCode, Job, read_events, read_job, write_job
from semiseg.training import probe
from semiseg.worker import run_folder

DEAR = 3600.0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return builders.write_cohort(tmp_path_factory.mktemp("data"), 2, 2, 0, ending=".nrrd")


@pytest.fixture(autouse=True)
def labeling_is_dear(monkeypatch):
    """So many seconds for two rounds; steps are timed as they are."""
    monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)
    monkeypatch.setattr("semiseg.measure.prepare_cpu", lambda: None)
    timed = probe._labeling_seconds
    monkeypatch.setattr(probe, "_labeling_seconds", lambda method, *others: DEAR if timed(method, *others) > 0 else 0.0)


def job(cohort: Path, **changes) -> dict:
    return builders.tiny_train_job(cohort, changes.pop("training", {"minutes": 0.001}), **{"method": "transmedseg", **changes})


def ended(folder: Path, verb: str, options: dict) -> list[dict]:
    write_job(folder, Job(verb, options))
    assert run_folder(folder) == ExitCode.FINISHED
    return read_events(folder / EVENTS_FILE)[0]


@pytest.mark.parametrize("method", ["bcp", "graphcl", "transmedseg"])
def test_the_teacher_labels_patches_where_whole_cases_take_too_long(method, cohort, tmp_path):
    events = ended(tmp_path, "train", job(cohort, method=method))
    assert read_job(tmp_path).options["method_options"]["labels_from"] == "patches"
    assert words_for_patches(DEAR, 0.001) in [event.get("message") for event in events]
    assert not [event for event in events if event.get("what") == "labeling cases"]


def test_the_words_say_how_long_it_would_take():
    """Also where labeling takes longer than the training, or less than a minute."""
    assert "would take 10.5 minutes, more than half of the 5 minutes" in words_for_patches(630, 5)
    assert "would take 0.4 minutes, more than half of the 0.6 minutes" in words_for_patches(25, 0.6)


def test_labels_that_fit_are_of_whole_cases(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_labeling_seconds", lambda *_: 0.5 * 60 * 0.001)
    events = ended(tmp_path, "train", job(cohort))
    assert read_job(tmp_path).options["method_options"]["labels_from"] == "cases"
    assert [event for event in events if event.get("what") == "labeling cases"]


@pytest.mark.parametrize("changes", [{"method_options": {"labels_from": "cases"}}, {"method_options": {"rounds": 1}}, {"training": {"iterations": 10}}])
def test_what_the_job_states_stays(changes, cohort, tmp_path):
    """Its labels, or its number of steps, which no labeling shortens."""
    ended(tmp_path, "train", job(cohort, **changes))
    assert read_job(tmp_path).options["method_options"]["labels_from"] == "cases"


def test_every_goal_is_measured_as_it_would_be_trained(cohort, tmp_path):
    ended(tmp_path, "measure", job(cohort, training={}, goal="quick"))
    result = json.loads((tmp_path / RESULT_FILE).read_text())
    assert result["method_options"] == {"labels_from": "patches"} and result["labeling_s"] == 0.0
    goals = result["goals"]
    assert [goals[goal]["train_s"] for goal in ("quick", "normal")] == pytest.approx([1.5 * 60, 12 * 60], rel=0.1)


def test_a_goal_that_has_the_time_labels_whole_cases(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.DEAR", 600.0)
    ended(tmp_path, "measure", job(cohort, training={}, goal="best"))
    result = json.loads((tmp_path / RESULT_FILE).read_text())
    assert "method_options" not in result and result["labeling_s"] == 600.0
    steps = {goal: length["iterations"] for goal, length in result["goals"].items()}
    assert steps["best"] == int(3000 / result["step_s"]) and steps["normal"] > 0.3 * steps["best"] * 720 / 3000, "without labeling"
