"""A study at work, with a stand-in for the worker process: what starts, what is skipped, what happens when something ends badly."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from study_bed import PYTHON, stand_in, starts, wish, write_study

from semiseg.cli import main
from semiseg.distributed import World
from semiseg.errors import InputError
from semiseg.protocol import ExitCode, Job, read_events, read_job, write_job
from semiseg.study.conduct import StudyJob, make_plan, run_study
from semiseg.study.record import changes, mean_scalars
from semiseg.study.schedule import Schedule, Task, _Running
from semiseg.study.slots import make_slots
from semiseg.worker import run_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for the worker")


@pytest.fixture(autouse=True)
def bed(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch)
    monkeypatch.setattr("semiseg.study.schedule._SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr("semiseg.study.schedule._SECONDS_BETWEEN_REPORTS", 0.0)


def study(path: Path, out_dir: Path, *flags: str) -> int:
    return main(["study", str(path), str(out_dir), "--device", "cpu", *flags])


def test_every_run_is_made_once_and_never_again(tmp_path, capsys):
    path, out_dir = write_study(tmp_path), tmp_path / "out"
    assert study(path, out_dir) == 0
    first = starts(out_dir)
    assert len(first) == 8 and set(first.values()) == {1}
    assert "8 of 8 runs are done" in capsys.readouterr().out and (out_dir / "report.html").exists()
    job = read_job(out_dir / "runs" / "bcp-4labels-seed1")
    assert job.verb == "train" and job.options["seed"] == 1 and job.options["num_labeled"] == 4 and job.options["device"] == "cpu"
    assert job.options["training"]["iterations"] == 30 and (Path(job.options["prepared"]) / "cases.json").exists()
    assert study(path, out_dir) == 0
    assert starts(out_dir) == first, "what is done is skipped"
    assert len(list((out_dir / "data" / "phantoms").glob("*labels-*/starts.txt"))) == 2
    assert not list((out_dir / "claims").iterdir())


def test_a_study_may_grow(tmp_path):
    out_dir = tmp_path / "out"
    study(write_study(tmp_path), out_dir)
    assert study(write_study(tmp_path, seeds=[0, 1, 2], rows=[{"method": "supervised"}, {"method": "bcp"}, {"method": "mean_teacher"}]), out_dir) == 0
    found = starts(out_dir)
    assert len(found) == 18 and set(found.values()) == {1}


def test_a_changed_study_is_refused_and_explained(tmp_path, capsys):
    out_dir = tmp_path / "out"
    study(write_study(tmp_path), out_dir)
    changed = write_study(tmp_path, rows=[{"method": "supervised"}, {"method": "bcp", "set": {"training.learning_rate": 0.5}}])
    before = starts(out_dir)
    assert study(changed, out_dir) == 2
    text = capsys.readouterr().err
    assert "4 of its folders" in text and "options.training.learning_rate: nothing → 0.5" in text and "--redo-changed" in text
    assert starts(out_dir) == before
    assert study(changed, out_dir, "--redo-changed") == 0
    assert read_job(out_dir / "runs" / "bcp-2labels-seed0").options["training"]["learning_rate"] == 0.5
    kept = sorted(path.name for path in (out_dir / "replaced").iterdir())
    assert len(kept) == 4 and "bcp-2labels-seed0.1" in kept, "the old runs are put aside, not deleted"
    assert (out_dir / "replaced" / "bcp-2labels-seed0.1" / "result.json").exists()


def test_changed_phantoms_are_made_anew_with_all_that_rests_on_them(tmp_path, capsys):
    out_dir = tmp_path / "out"
    assert study(write_study(tmp_path), out_dir) == 0
    changed = write_study(tmp_path, data={"name": "phantoms", "phantom": {"num_labeled": 4, "num_held_out": 5, "seed": 1}})
    assert study(changed, out_dir) == 2
    assert study(changed, out_dir, "--redo-changed") == 0
    assert "8 of 8 runs are done" in capsys.readouterr().out and set(starts(out_dir).values()) == {1}


def test_looks_at_the_held_out_cases_are_asked_of_runs_but_change_none(tmp_path, capsys):
    path, out_dir = write_study(tmp_path), tmp_path / "out"
    assert study(path, out_dir) == 0
    first = starts(out_dir)
    assert study(write_study(tmp_path, best_on_test=5, seeds=[0, 1, 2]), out_dir) == 0, "a study that looks is not a changed one"
    assert {name: count for name, count in starts(out_dir).items() if name in first} == first
    assert read_job(out_dir / "runs" / "bcp-2labels-seed2").options["best_on_test"] == 5
    assert not read_job(out_dir / "runs" / "bcp-2labels-seed1").options.get("best_on_test")


def test_changes_are_told_leaf_by_leaf():
    before = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert changes(before, {"a": {"b": 2, "c": (1, 2)}, "e": None}) == ["a.b: 1 → 2", "d: 1 → nothing", "e: nothing → null"]
    assert changes(before, json.loads(json.dumps(before))) == []


def test_a_failed_run_is_shown_and_does_not_stop_the_grid(tmp_path, capsys):
    path, out_dir = write_study(tmp_path), tmp_path / "out"
    wish(out_dir, **{"supervised-2labels-seed0": "fail", "bcp-4labels-seed0": "die"})
    assert study(path, out_dir) == ExitCode.REFUSED, "a script must not take it for a whole table"
    shown = capsys.readouterr()
    assert "E206" in shown.err and "needs more memory" in shown.err and "memory ran out" in shown.err
    assert f"6 of 8 runs are done, 2 failed: see {out_dir / 'report.html'}" in shown.out and "(/there/case.nrrd)" in shown.err
    failed = json.loads((out_dir / "result.json").read_text())["failed"]
    assert set(failed) == {"supervised-2labels-seed0", "bcp-4labels-seed0"}
    page = (out_dir / "report.html").read_text()
    assert "2 failed" in page and "Training needs more memory." in page and "2 of 8 runs are missing" in page
    wish(out_dir)
    assert study(path, out_dir) == 0, "what failed is tried again at the next start"
    assert starts(out_dir)["supervised-2labels-seed0"] == 2 and starts(out_dir)["bcp-2labels-seed0"] == 1


def test_when_all_runs_fail_the_study_is_refused(tmp_path, capsys):
    path, out_dir = write_study(tmp_path, rows=[{"method": "bcp"}], labels=[2], seeds=[0]), tmp_path / "out"
    wish(out_dir, **{"bcp-2labels-seed0": "fail"})
    assert study(path, out_dir) == 2
    assert "All runs of the study failed" in capsys.readouterr().err


def until(condition, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_stop_file_ends_the_study_and_the_next_start_continues(tmp_path, capsys):
    path, out_dir = write_study(tmp_path), tmp_path / "out"
    wish(out_dir, **{"bcp-2labels-seed0": "wait"})

    def stop() -> None:
        try:
            until((out_dir / "runs" / "bcp-2labels-seed0" / "waiting").exists)
        finally:
            (out_dir / "stop").touch()  # also when it took too long: the study has to end

    thread = threading.Thread(target=stop)
    thread.start()
    assert study(path, out_dir) == ExitCode.STOPPED
    thread.join()
    events = read_events(out_dir / "events.jsonl")[0]
    assert events[-1]["kind"] == "stopped" and events[-1]["step"] == 1
    assert "Stopped: 1 of 8 runs done. The same command continues." in capsys.readouterr().err
    assert starts(out_dir) == {"supervised-2labels-seed0": 1, "bcp-2labels-seed0": 1} and (out_dir / "report.html").exists()
    job = out_dir / "runs" / "bcp-2labels-seed0" / "job.json"
    document = json.loads(job.read_text())
    document["options"]["training"]["filled_in"] = True  # as the worker does
    job.write_text(json.dumps(document))
    wish(out_dir)
    assert study(path, out_dir) == 0
    assert starts(out_dir) == {name: 2 if name == "bcp-2labels-seed0" else 1 for name in starts(out_dir)} and len(starts(out_dir)) == 8
    assert json.loads(job.read_text())["options"]["training"]["filled_in"], "a run that was begun keeps its resolved job"


def test_an_interrupt_asks_the_runs_to_stop(tmp_path, monkeypatch):
    path, out_dir = write_study(tmp_path), tmp_path / "out"
    wish(out_dir, **{"supervised-2labels-seed0": "wait"})
    from semiseg.study import schedule

    look, pressed = schedule.Schedule._look_at_running, []

    def impatient(self) -> None:
        look(self)
        if (out_dir / "runs" / "supervised-2labels-seed0" / "waiting").exists() and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt

    monkeypatch.setattr(schedule.Schedule, "_look_at_running", impatient)
    assert study(path, out_dir) == ExitCode.STOPPED
    assert pressed and read_events(out_dir / "runs" / "supervised-2labels-seed0" / "events.jsonl")[0][-1]["kind"] == "stopped"


def test_a_killed_study_is_continued(tmp_path, engine_environment):
    """The process of the study is gone without a word; its locks belong to nobody."""
    path, out_dir = write_study(tmp_path), tmp_path / "out"
    wish(out_dir, **{"bcp-2labels-seed0": "wait"})
    code = f"import sys; from semiseg import follow; from semiseg.cli import main; follow.sys.executable = {str(tmp_path / 'worker.sh')!r}; main(sys.argv[1:])"
    command = [PYTHON, "-c", code, "study", str(path), str(out_dir), "--device", "cpu"]
    victim = subprocess.Popen(command, env=engine_environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    waiting = out_dir / "runs" / "bcp-2labels-seed0"
    try:
        until((waiting / "waiting").exists, 240)
    finally:
        victim.kill()
        victim.wait()
    (waiting / "stop").touch()  # its worker lives on until it is told
    until(lambda: read_events(waiting / "events.jsonl")[0][-1]["kind"] == "stopped")
    wish(out_dir)
    assert study(path, out_dir) == 0
    assert starts(out_dir) == {name: 2 if name == "bcp-2labels-seed0" else 1 for name in starts(out_dir)} and len(starts(out_dir)) == 8


def test_a_run_that_lives_elsewhere_is_left_alone(tmp_path):
    """Another process of the same study holds the run; its result counts here too."""
    path, out_dir = write_study(tmp_path, labels=[2], seeds=[0]), tmp_path / "out"
    other = tmp_path / "other"
    assert study(path, other) == 0
    run_dir, claim = out_dir / "runs" / "bcp-2labels-seed0", out_dir / "claims" / "bcp-2labels-seed0"
    claim.mkdir(parents=True)
    write_job(out_dir, Job("study"))
    (claim / "run.lock").write_text(json.dumps({"pid": os.getppid(), "host": os.uname().nodename, "device": "", "engine": "", "version": ""}))
    os.utime(claim / "run.lock", (time.time() + 3600,) * 2)  # nobody renews it

    def finish_elsewhere() -> None:
        until((out_dir / "runs" / "supervised-2labels-seed0" / "result.json").exists)
        time.sleep(0.2)
        shutil.copytree(other / "runs" / "bcp-2labels-seed0", run_dir, ignore=shutil.ignore_patterns("starts.txt", "asked.json", "result.json"))
        for name in ("asked.json", "result.json"):
            shutil.copy(other / "runs" / "bcp-2labels-seed0" / name, run_dir)

    thread = threading.Thread(target=finish_elsewhere)
    thread.start()
    assert study(path, out_dir) == 0
    thread.join()
    assert starts(out_dir) == {"supervised-2labels-seed0": 1}
    assert json.loads((out_dir / "result.json").read_text())["done"] == 2


def test_runs_side_by_side(tmp_path):
    path, out_dir = write_study(tmp_path, seeds=[0]), tmp_path / "out"
    names = ["supervised-2labels-seed0", "bcp-2labels-seed0"]
    wish(out_dir, **dict.fromkeys(names, "wait"))

    def stop() -> None:
        try:
            until(lambda: all((out_dir / "runs" / name / "waiting").exists() for name in names))
        finally:
            (out_dir / "stop").touch()

    thread = threading.Thread(target=stop)
    thread.start()
    assert study(path, out_dir, "--jobs", "2", "--threads", "3") == ExitCode.STOPPED
    thread.join()
    assert {read_job(out_dir / "runs" / name).options["threads"] for name in names} == {3}
    assert sorted(starts(out_dir)) == sorted(names)


def test_the_same_seconds_become_steps_once_a_row(tmp_path, capsys):
    path, out_dir = write_study(tmp_path, budget={"seconds": 60}), tmp_path / "out"
    assert study(path, out_dir, "--dry-run") == 0
    assert "60 s" in capsys.readouterr().out and not out_dir.exists()
    assert study(path, out_dir, "--measure") == 0
    assert "8 runs" in capsys.readouterr().out and not (out_dir / "runs").exists()
    assert study(path, out_dir) == 0
    steps = {path.name: read_job(path).options["training"]["iterations"] for path in (out_dir / "runs").iterdir()}
    assert {name.partition("-")[0]: count for name, count in steps.items()} == {"supervised": 600, "bcp": 300}
    assert len(steps) == 8 and set(steps.values()) == {600, 300}, "every seed and number of labels of a row has the same length"
    assert len(list((out_dir / "timing").glob("*/starts.txt"))) == 2
    assert all(len(one.read_text()) == 1 for one in (out_dir / "timing").glob("*/starts.txt"))


def test_a_row_whose_labels_take_too_long_trains_as_it_was_measured(tmp_path, capsys):
    """The probe says which options keep to the seconds; the report says it too."""
    rows = [{"method": "supervised"}, {"method": "bcp", "set": {"augment.gin": 0.0, "method_options.rounds": 3}}]
    path, out_dir = write_study(tmp_path, rows=rows, seeds=[0], labels=[4], budget={"seconds": 60}), tmp_path / "out"
    assert study(path, out_dir) == 0
    assert read_job(out_dir / "runs" / "bcp-4labels-seed0").options["method_options"] == {"rounds": 3, "labels_from": "patches"}
    assert "method_options" not in read_job(out_dir / "runs" / "supervised-4labels-seed0").options
    assert "Labeling whole cases would have taken bcp more than half of the time, so it has labels_from patches." in (out_dir / "report.html").read_text()
    before = starts(out_dir)
    assert study(path, out_dir) == 0 and starts(out_dir) == before, "it is not taken for a changed study"


def test_an_option_may_be_measured_in_another_run(tmp_path):
    take = {"method_options.margins": {"row": "G", "scalars": ["tsa_table_0_1", "tsa_table_1_0"]}}
    rows = [{"name": "I", "method": "transmedseg", "set": {"method_options.form": "margin"}, "take": take}, {"name": "G", "method": "transmedseg"}]
    path, out_dir = write_study(tmp_path, rows=rows, labels=[2], seeds=[0]), tmp_path / "out"
    assert study(path, out_dir) == 0
    assert read_job(out_dir / "runs" / "I-2labels-seed0").options["method_options"] == {"form": "margin", "margins": [0.5, 0.1]}
    assert mean_scalars(out_dir / "runs" / "G-2labels-seed0", ["tsa_table_0_1", "no_such_curve"]) is None
    shutil.rmtree(out_dir)
    wish(out_dir, **{"G-2labels-seed0": "fail"})
    assert study(path, out_dir) == 2
    assert "which failed" in (out_dir / "events.jsonl").read_text()


def test_progress_counts_the_grid_and_knows_what_is_left(tmp_path):
    path, out_dir = write_study(tmp_path, budget={"seconds": 60}), tmp_path / "out"
    study(path, out_dir)
    found = [event for event in read_events(out_dir / "events.jsonl")[0] if event["kind"] == "progress" and event["total"] == 8]
    assert found[-1]["done"] == 8 and [one["done"] for one in found] == sorted(one["done"] for one in found)
    assert max(one["eta_s"] for one in found if one["eta_s"] is not None) <= 8 * 60 * 1.2


def schedule_of(tmp_path, remaining) -> Schedule:
    """Two tasks that wait and one that runs."""
    slot = make_slots("cpu", 1, 1)
    tasks = [Task(name, name, tmp_path, {}, "train", dict, lambda folder: False) for name in ("runs", "known", "unknown")]
    schedule = Schedule(tasks[1:], slot, tmp_path, lambda kind, **values: None, 0.0, lambda task: remaining.get(task.id))
    schedule._running.append(_Running(tasks[0], 0, None, None, tmp_path, time.monotonic()))
    return schedule


def test_the_progress_of_a_run_never_goes_back(tmp_path):
    """Scoring and looks at the held-out cases count from zero again."""
    schedule = schedule_of(tmp_path, {})
    (running,) = schedule._running
    for what, done, fraction in (("train", 6, 0.6), ("scoring", 1, 0.6), ("train", 5, 0.6), ("segmenting", 10, 0.6), ("train", 9, 0.9)):
        schedule._hear(running, "progress", {"what": what, "done": done, "total": 10, "eta_s": 7.0})
        assert running.fraction == fraction and running.eta_s == (7.0 if what == "train" else None)


def test_a_row_that_nobody_knows_counts_as_the_mean_of_the_others(tmp_path):
    assert schedule_of(tmp_path, {})._eta_s() is None
    assert schedule_of(tmp_path, {"runs": 10.0, "known": 20.0})._eta_s() == pytest.approx(10 + 20 + 15, abs=0.5)


def test_what_is_left_is_shared_by_all_ranks(tmp_path, events):
    path, out_dir = write_study(tmp_path, budget={"seconds": 60}, seeds=[0]), tmp_path / "out"
    run_study(StudyJob(str(path), device="cpu"), out_dir, events, World(0, 2, 0))
    left = [values["eta_s"] for kind, values in events if kind == "progress" and values["total"] == 4 and values["eta_s"] is not None]
    assert 100 < max(left) <= 4 * 60 / 2 + 1, "four runs of 60 s on two ranks"


def test_ranks_share_the_runs(tmp_path, events, engine_environment):
    """Rank 1 is a process of its own; rank 0, here, waits for it before its first run."""
    path, out_dir = write_study(tmp_path), tmp_path / "out"
    code = (
        "import sys; from pathlib import Path; from semiseg import follow; from semiseg.distributed import World; from semiseg.study import StudyJob, run_study\n"
        f"follow.sys.executable = {str(tmp_path / 'worker.sh')!r}; out_dir = Path({str(out_dir)!r})\n"
        f"run_study(StudyJob({str(path)!r}, device='cpu'), out_dir, lambda kind, **values: None, World(1, 2, 1))"
    )
    other = subprocess.Popen([PYTHON, "-c", code], env=engine_environment)
    try:
        until(lambda: len(starts(out_dir)) > 0, 240)
        result = run_study(StudyJob(str(path), device="cpu"), out_dir, events, World(0, 2, 0))
        assert other.wait(240) == 0
    finally:
        other.kill()
        other.wait()
    assert set(starts(out_dir).values()) == {1} and len(starts(out_dir)) == 8
    assert result["done"] == 8 and (out_dir / "report.html").exists()


def test_torchrun_on_a_study_ends_well(tmp_path, engine_environment):
    """``torchrun -m semiseg study``: rank 0 tells what came of it, and no other rank ends it before its report is written."""
    path, out_dir = write_study(tmp_path), tmp_path / "out"
    program = tmp_path / "program.py"
    program.write_text(
        "import sys; from semiseg import follow; from semiseg.cli import main\n"
        f"follow.sys.executable = {str(tmp_path / 'worker.sh')!r}; sys.exit(main(sys.argv[1:]))"
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [PYTHON, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port), str(program)]
    environment = {key: value for key, value in engine_environment.items() if key != "PYTHONWARNINGS"}  # torchrun warns by itself
    done = subprocess.run([*command, "study", str(path), str(out_dir), "--device", "cpu"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("8 of 8 runs are done") == 1 and (out_dir / "report.html").exists() and set(starts(out_dir).values()) == {1}


def test_a_claim_whose_folder_another_rank_is_giving_back_is_tried_again(tmp_path, events, monkeypatch):
    from semiseg.study import schedule

    path, out_dir, enter, lost = write_study(tmp_path), tmp_path / "out", schedule.HeldLock.__enter__, []

    def enter_late(lock):
        if not lost:
            lost.append(lock._run_dir)
            lock._run_dir.rmdir()
        return enter(lock)

    monkeypatch.setattr(schedule.HeldLock, "__enter__", enter_late)
    assert run_study(StudyJob(str(path), device="cpu"), out_dir, events, World(0, 1, 0))["done"] == 8
    assert len(lost) == 1 and lost[0].parent.name == "claims"


def test_slots_take_the_gpus_in_turn(monkeypatch):
    import torch

    monkeypatch.setattr("semiseg.study.slots.usable_processors", lambda: 8)
    assert [(slot.device, slot.threads) for slot in make_slots("cpu", 2, 0)] == [("cpu", 4)] * 2
    assert [slot.threads for slot in make_slots("cpu", 16, 0)] == [1] * 16 and make_slots("cpu", 1, 5)[0].threads == 5
    assert [(slot.device, slot.threads) for slot in make_slots("cpu", 1, 0, World(1, 4, 1))] == [("cpu", 2)]
    monkeypatch.setattr("semiseg.study.slots.choose_device", lambda device, world: torch.device("cuda", world.local_rank if world.size > 1 else int(device[5:] or 0)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [slot.device for slot in make_slots("cuda", 4, 0)] == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    assert [slot.device for slot in make_slots("cuda:1", 2, 0)] == ["cuda:1", "cuda:1"]
    assert [slot.device for slot in make_slots("cuda", 1, 0, World(2, 3, 2))] == ["cuda:2"]


def test_a_study_without_its_data_is_refused_before_anything(tmp_path):
    path = write_study(tmp_path, data={"labeled": ["$DATA"]})
    with pytest.raises(InputError, match="--data"):
        make_plan(StudyJob(str(path), device="cpu"), tmp_path / "out")
    assert study(path, tmp_path / "out") == 2
    with pytest.raises(InputError, match="jobs must be at least 1"):
        from semiseg.job_options import options_from

        options_from(StudyJob, {"jobs": 0}, "the verb study")


def test_a_second_study_in_the_same_folder_waits_for_nothing(tmp_path):
    path, out_dir = write_study(tmp_path), tmp_path / "out"
    out_dir.mkdir()
    (out_dir / "job.json").write_text(json.dumps({"protocol": 1, "verb": "study", "options": {"study": str(path), "device": "cpu"}}))
    (out_dir / "run.lock").write_text(json.dumps({"pid": os.getppid(), "host": os.uname().nodename, "device": "", "engine": "", "version": ""}))
    assert run_folder(out_dir) == ExitCode.REFUSED and not (out_dir / "runs").exists()
