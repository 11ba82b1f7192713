"""A study in seconds: a stand-in for the engine's worker process that writes what a run leaves behind, with scores that are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from semiseg import follow
from semiseg.data.cache import FORMAT
from semiseg.data.preprocess import Preprocessing
from semiseg.protocol import ExitCode
from semiseg.worker import run_folder

PYTHON = sys.executable
"""The real one; ``stand_in`` puts another in its place."""

CASES = ("a", "b", "c", "d", "e")
DIFFICULTY = {"a": 0.0, "b": 0.02, "c": 0.05, "d": 0.1, "e": 0.2}
GAIN = {"supervised": 0.0, "mean_teacher": 0.01, "bcp": 0.03, "graphcl": 0.0, "transmedseg": 0.02}

_WORKER = r"""
import json, os, sys, time
from pathlib import Path

folder = Path(sys.argv[4])  # -m semiseg run DIR --quiet
job = json.loads((folder / "job.json").read_text())
options, verb = job["options"], job["verb"]
(folder / "stop").unlink(missing_ok=True)
counter = folder / "starts.txt"
counter.write_text(counter.read_text() + "x" if counter.exists() else "x")


def tell(kind, **values):
    with open(folder / "events.jsonl", "a") as stream:
        stream.write(json.dumps({"kind": kind, "time": time.time(), **values}) + "\n")


def write(name, value):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value))


tell("started")
wishes = next((parent / "wishes.json" for parent in folder.parents if (parent / "wishes.json").exists()), None)
wish = json.loads(wishes.read_text()).get(folder.name, "") if wishes else ""
if wish == "fail":
    tell("failed", code="E206", message="Training needs more memory.", hint="Take less.", path="/there/case.nrrd")
    sys.exit(2)
if verb == "phantom":
    write("cohort/cohort.json", {"phantoms": {}})
elif verb == "prepare":
    write("prepared/cases.json", PREPARED)
    write("result.json", {})
elif verb == "measure":
    step_s = {"supervised": 0.1}.get(options["method"], 0.2)
    patches = {"method_options": {"labels_from": "patches"}} if options["method"] == "bcp" and options.get("augment") else {}
    write("result.json", {"step_s": step_s, "iterations": round(60 * options["training"].get("minutes", 0) / step_s), **patches})
else:
    method = options["method"]
    if wish == "die":
        os.kill(os.getpid(), 9)
    if wish == "wait":
        (folder / "waiting").touch()
        while not (folder / "stop").exists():
            time.sleep(0.02)
        tell("stopped", step=5)
        sys.exit(3)
    tell("scalar", name="tsa_table_0_1", value=0.25, step=1)
    tell("scalar", name="tsa_table_0_1", value=0.75, step=2)
    tell("scalar", name="tsa_table_1_0", value=0.1, step=2)
    iterations = options["training"]["iterations"]
    rows = []
    for case, hard in DIFFICULTY.items():
        for place, label in enumerate(("left atrium", "left atrial appendage")):
            dice = 0.8 + GAIN[method] - hard - 0.3 * place + 0.01 * options["seed"] + 0.002 * (options["num_labeled"] or 0)
            values = dict.fromkeys(METRICS, 1.5)
            rows.append({"case": case, "label": label, "values": {**values, "dice": dice, "jaccard": dice - 0.1}, "note": ""})
    write("dice.json", {"rows": rows})
    summary = {label: {"dice": {"mean": 0.7}} for label in ("left atrium", "left atrial appendage")}
    result = {"method": method, "iterations": iterations, "train_s": 0.1 * iterations, "wall_s": 0.1 * iterations + 5, "parameters": 1000,
              "trained_parameters": 2000, "peak_gpu_memory_gb": 0.0, "peak_host_memory_gb": 1.5, "seed": options["seed"],
              "cases": {"labeled": options["num_labeled"], "unlabeled": 8, "held_out": 5}, "scores": summary}
    if wish == "selected":
        result["best_on_test"] = {"dice": 0.95, "iteration": 7}
    write("result.json", result)
tell("finished", result={})
"""


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker started from now on is the stand-in. ``wishes.json`` beside a study's folder says what a run shall do: fail, die, wait, selected."""
    from semiseg.metrics.score import METRICS

    prepared = {"format": FORMAT, "preprocessing": Preprocessing().to_json(), "labels": [{"value": 1, "name": "left atrium"}], "messages": [], "cases": []}
    program = folder / "worker.py"
    facts = f"PREPARED = {prepared!r}\nDIFFICULTY = {DIFFICULTY!r}\nGAIN = {GAIN!r}\nMETRICS = {tuple(METRICS)!r}\n"
    program.write_text(facts + _WORKER)
    shell = folder / "worker.sh"
    # No site packages: a start takes a hundredth of a second.
    shell.write_text(f'#!/bin/sh\nexec "{PYTHON}" -S -E "{program}" "$@"\n')
    shell.chmod(0o755)
    monkeypatch.setattr(follow.sys, "executable", str(shell))


def write_study(folder: Path, **changes: Any) -> Path:
    """A study file of two rows, two numbers of labels and two seeds on phantoms; ``changes`` replace its keys, None removes one."""
    document: dict[str, Any] = {
        "title": "A study",
        "question": "Which one?",
        "data": {"name": "phantoms", "phantom": {"num_labeled": 4, "num_held_out": 5}},
        "rows": [{"method": "supervised"}, {"method": "bcp"}],
        "labels": [2, 4],
        "seeds": [0, 1],
        "budget": {"iterations": 30},
    }
    document = {name: value for name, value in {**document, **changes}.items() if value is not None}
    path = folder / "study.json"
    path.write_text(json.dumps(document))
    return path


def wish(out_dir: Path, **runs: str) -> None:
    """What runs shall do, by the name of their folder; nothing else is wished any more."""
    (out_dir.parent / "wishes.json").write_text(json.dumps(runs))


def starts(out_dir: Path) -> dict[str, int]:
    """How often each run was started."""
    return {path.parent.name: len(path.read_text()) for path in sorted((out_dir / "runs").glob("*/starts.txt"))}


class WorkerHere:
    """A worker that does its run in this very process, when it is started: the engine's own work without the start of a process."""

    def __init__(self, run_dir: Path) -> None:
        self._told: list[tuple[str, dict[str, Any]]] = []
        self._code = run_folder(run_dir, lambda kind, **values: self._told.append((kind, values)))

    def is_running(self) -> bool:
        return False

    def news(self, report: Any) -> None:
        for kind, values in self._told:
            report(kind, **values)
        self._told.clear()

    def ending(self, report: Any) -> ExitCode:
        return self._code


def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of a study are worked on in this process, one after another."""
    monkeypatch.setattr("semiseg.study.schedule.Worker", WorkerHere)
    monkeypatch.setattr("semiseg.study.schedule._SECONDS_BETWEEN_LOOKS", 0.0)
