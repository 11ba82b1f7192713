"""What lies in a study's folder and its runs' when a study starts: another's job, damaged files, what was begun in vain."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from study_bed import stand_in, starts, wish, write_study

from semiseg.cli import main
from semiseg.errors import InputError
from semiseg.protocol import ExitCode, Job, read_events, read_job, write_job
from semiseg.report import write_report

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for the worker")
FIRST, SECOND = "supervised-2labels-seed0", "bcp-2labels-seed0"


@pytest.fixture(autouse=True)
def bed(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch)
    monkeypatch.setattr("semiseg.study.schedule._SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr("semiseg.study.schedule._SECONDS_BETWEEN_REPORTS", 0.0)


def small(folder: Path, **changes) -> Path:
    return write_study(folder, **{"labels": [2], "seeds": [0], **changes})


def study(path: Path, out_dir: Path, *flags: str) -> int:
    return main(["study", str(path), str(out_dir), "--device", "cpu", *flags])


@pytest.fixture
def done(tmp_path) -> tuple[Path, Path]:
    """A finished study of two runs."""
    path, out_dir = small(tmp_path), tmp_path / "out"
    assert study(path, out_dir) == 0
    return path, out_dir


# Damaged files of a run


DAMAGE = [("result.json", '{"method": '), ("result.json", "[]"), ("result.json", "{}"), ("dice.json", '{"rows": ['), ("dice.json", "{}"), ("dice.json", '{"rows": [{}]}'), ("asked.json", "{}"), ("dice.json", None)]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), DAMAGE, ids=[f"{name}-{text}" for name, text in DAMAGE])
def test_a_run_with_a_damaged_file_is_done_again_and_the_others_are_left_alone(name, text, done, capsys):
    path, out_dir = done
    file = out_dir / "runs" / SECOND / name
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    capsys.readouterr()
    assert study(path, out_dir, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(SECOND in line and "interrupted" in line for line in lines) and any(FIRST in line and "done" in line for line in lines)
    assert study(path, out_dir) == 0
    assert starts(out_dir) == {FIRST: 1, SECOND: 2} and "2 of 2 runs are done" in capsys.readouterr().out
    assert study(path, out_dir) == 0 and starts(out_dir) == {FIRST: 1, SECOND: 2}


def test_a_broken_job_of_an_unfinished_run_fails_that_run_alone(done, capsys):
    path, out_dir = done
    folder = out_dir / "runs" / SECOND
    (folder / "result.json").unlink()
    (folder / "job.json").write_text("{")
    assert study(path, out_dir) == ExitCode.REFUSED
    shown = capsys.readouterr()
    assert "1 of 2 runs are done, 1 failed" in shown.out and "is not a job" in shown.err and "E502" not in shown.err


@pytest.mark.parametrize("text", ["{", "[]", None])
def test_damaged_prepared_cases_are_prepared_anew(text, done):
    path, out_dir = done
    (cases,) = out_dir.glob("data/**/cases.json")
    whole = cases.read_text()
    if text is None:
        cases.unlink()
    else:
        cases.write_text(text)
    assert study(path, out_dir, "--dry-run") == 0
    assert study(path, out_dir) == 0
    assert cases.read_text() == whole and starts(out_dir) == {FIRST: 1, SECOND: 1}


def test_a_defect_is_told_in_the_log_as_well(tmp_path, monkeypatch, capsys):
    def break_down(*_):
        raise RuntimeError("a defect of ours")

    monkeypatch.setattr("semiseg.study.conduct._settle_changes", break_down)
    assert study(small(tmp_path), tmp_path / "out") == ExitCode.CRASHED
    assert "log.txt has the details" in capsys.readouterr().err
    assert "in break_down" in (tmp_path / "out" / "log.txt").read_text()


# The folder of a study


def test_a_study_writes_over_nobodys_job(tmp_path, capsys):
    path, run_dir = small(tmp_path), tmp_path / "run"
    write_job(run_dir, Job("train", {"method": "bcp"}))
    before = (run_dir / "job.json").read_text()
    assert study(path, run_dir) == 2
    assert "holds a job of the verb train" in (text := capsys.readouterr().err) and "Choose another folder" in text
    assert (run_dir / "job.json").read_text() == before and len(list(run_dir.iterdir())) == 1
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "study.json").write_text(path.read_text())
    assert study(mine / "study.json", mine) == 2
    assert "holds no study: study.json" in capsys.readouterr().err and json.loads((mine / "study.json").read_text())["title"] == "A study"
    assert study(path, mine, "--dry-run") == 0
    assert "The start will refuse: " in capsys.readouterr().out


def test_a_refused_study_leaves_no_folder(tmp_path):
    assert study(small(tmp_path, labels=[99]), tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


def test_what_a_shell_or_a_cluster_writes_is_in_nobodys_way(tmp_path):
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    for name in ("log.txt", "slurm-17.out", ".nfs01"):
        (out_dir / name).write_text("hello")
    assert study(small(tmp_path), out_dir) == 0


def test_a_second_command_leaves_the_job_of_the_first_alone(done, capsys):
    path, out_dir = done
    before = (out_dir / "job.json").read_text()
    (out_dir / "run.lock").write_text(json.dumps({"pid": os.getppid(), "host": os.uname().nodename, "device": "", "engine": "", "version": ""}))
    assert study(path, out_dir, "--jobs", "2") == 2
    assert "E809" in capsys.readouterr().err and (out_dir / "job.json").read_text() == before


def test_the_verb_report_writes_a_studys_own_report(done, capsys):
    path, out_dir = done
    (out_dir / "report.html").unlink()
    assert main(["report", str(out_dir)]) == 0
    assert "2 of 2 runs are done" in (page := (out_dir / "report.html").read_text())
    with pytest.raises(InputError, match="report of its own"):
        write_report(out_dir)
    path.unlink()
    capsys.readouterr()
    assert main(["report", str(out_dir)]) == 2
    assert "semiseg study FILE OUT" in capsys.readouterr().err and (out_dir / "report.html").read_text() == page


# What failed


def test_nothing_of_an_earlier_start_stands_for_one_that_failed(done, capsys):
    _, out_dir = done
    for folder in (out_dir / "runs").iterdir():
        (folder / "result.json").unlink()
    wish(out_dir, **{FIRST: "fail", SECOND: "fail"})
    assert study(small(out_dir.parent), out_dir) == 2
    assert "All runs of the study failed" in capsys.readouterr().err
    assert json.loads((out_dir / "result.json").read_text())["done"] == 0
    page = (out_dir / "report.html").read_text()
    assert "0 of 2 runs are done" in page and "/there/case.nrrd" in page


def test_a_measurement_that_fails_is_told(tmp_path, capsys):
    path, out_dir = small(tmp_path, budget={"seconds": 60}), tmp_path / "out"
    wish(out_dir, **{"supervised-phantoms": "fail", "bcp-phantoms": "fail"})
    assert study(path, out_dir, "--measure") == 2
    assert "2 parts of it failed: timing/supervised-phantoms, timing/bcp-phantoms" in capsys.readouterr().out


def test_what_rests_on_a_failed_cohort_does_not_start(tmp_path, capsys):
    path, out_dir = small(tmp_path, budget={"seconds": 60}), tmp_path / "out"
    wish(out_dir, phantoms="fail")
    assert study(path, out_dir) == 2
    shown = capsys.readouterr().err
    assert shown.count("failed:") == 1 and "All runs of the study failed" in shown, "what was to rest on it did not even start"
    assert not list(out_dir.glob("data/phantoms/*labels*")) and not (out_dir / "timing").exists() and not (out_dir / "runs").exists()


def test_a_mistake_is_corrected_without_a_word_where_nothing_was_made(tmp_path, capsys):
    path, out_dir = small(tmp_path, rows=[{"method": "bcp"}]), tmp_path / "out"
    wish(out_dir, **{SECOND: "fail"})
    assert study(path, out_dir) == 2
    wish(out_dir)
    corrected = small(tmp_path, rows=[{"method": "bcp", "set": {"training.learning_rate": 0.5}}])
    assert study(corrected, out_dir, "--dry-run") == 0
    assert "refuse" not in capsys.readouterr().out
    assert study(corrected, out_dir) == 0
    assert read_job(out_dir / "runs" / SECOND).options["training"]["learning_rate"] == 0.5 and starts(out_dir) == {SECOND: 1}


def test_a_saved_state_is_something_that_was_made(tmp_path):
    path, out_dir = small(tmp_path, rows=[{"method": "bcp"}]), tmp_path / "out"
    wish(out_dir, **{SECOND: "fail"})
    assert study(path, out_dir) == 2
    (out_dir / "runs" / SECOND / "resume.pt").touch()
    assert study(small(tmp_path, rows=[{"method": "bcp", "set": {"training.learning_rate": 0.5}}]), out_dir) == 2
    assert starts(out_dir) == {SECOND: 1}


def test_a_dry_run_says_that_the_start_will_refuse(done, capsys):
    _, out_dir = done
    changed = small(out_dir.parent, rows=[{"method": "supervised"}, {"method": "bcp", "set": {"training.learning_rate": 0.5}}])
    capsys.readouterr()
    assert study(changed, out_dir, "--dry-run") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("The start will refuse: The study or its data have changed") and "learning_rate" in last and last.endswith("(--redo-changed)")
    assert study(changed, out_dir, "--dry-run", "--redo-changed") == 0
    assert "refuse" not in capsys.readouterr().out


def test_every_start_of_a_run_is_told(done):
    _, out_dir = done
    told = [event["message"] for event in read_events(out_dir / "events.jsonl")[0] if event["kind"] == "state"]
    assert "starts: bcp, phantoms, 2 labels, seed 0" in told
