"""The four kinds of work of a study as tasks: cohorts of phantoms, prepared cases, measured steps, trainings."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.cache import PreparedSet
from ..errors import InputError
from ..phantom.cohort import COHORT_FILE
from ..protocol import RESULT_FILE
from . import record
from .definition import Study
from .finished import has_cases, has_cohort, has_measure, has_training
from .grid import OUT_WORD, Preparation, Run, runs_of, slug
from .schedule import Task

RUNS, DATA, TIMING, FIRST_STAGES = "runs", "data", "timing", "first_stages"
"""Folders of a study."""


@dataclass(frozen=True)
class Place:
    """Where and on what a study works.

    Attributes:
        out_dir: Its folder.
        device: "cpu" or "cuda": a plan depends on it, so a study does not change it.
    """

    out_dir: Path
    device: str

    def run_dir(self, run: Run) -> Path:
        return self.out_dir / RUNS / run.id

    def prepared_dir(self, preparation: Preparation) -> Path:
        return self.out_dir / DATA / preparation.id / "prepared"

    def put(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options with this folder in place of ``$OUT``."""
        values = deepcopy(options)
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = [
                    one.replace(OUT_WORD, str(self.out_dir.resolve()), 1) if isinstance(one, str) and one.startswith(OUT_WORD) else one for one in value
                ]
        return values


def cohort_tasks(study: Study, place: Place) -> list[Task]:
    """The cohorts of phantoms."""
    tasks = []
    for data in study.data:
        if data.phantom:
            folder = place.out_dir / DATA / slug(data.name)
            options = {**data.phantom, "out_dir": str((folder / "cohort").resolve())}
            asked = {"phantom": data.phantom}
            tasks.append(Task(f"cohort/{data.name}", f"Phantoms of {data.name}", folder, asked, "phantom", lambda o=options: o, has_cohort, f"cohort/{COHORT_FILE}"))
    return tasks


def preparation_tasks(study: Study, place: Place) -> list[Task]:
    """The prepared cases, once for all runs that share them."""
    found = {run.preparation.id: run for run in reversed(runs_of(study))}
    tasks = []
    for run in reversed(found.values()):
        preparation, count = run.preparation, "all" if run.labels is None else run.labels
        tasks.append(
            Task(
                f"prepared/{preparation.id}", f"Cases of {run.data.name}, {count} labels", place.out_dir / DATA / preparation.id,
                {"options": preparation.options, "device": place.device, "phantom": run.data.phantom}, "prepare",
                lambda o=preparation.options: place.put(o), has_cases, "prepared/cases.json", rests_on=_data_of(run),
            )
        )  # fmt: skip
    return tasks


def timing_tasks(study: Study, place: Place) -> list[Task]:
    """One measurement a row and data set; the largest number of labels stands for all."""
    found: dict[str, Run] = {}
    for run in runs_of(study):
        known = found.get(run.measure)
        if known is None or (known.labels is not None and (run.labels is None or run.labels > known.labels)):
            found[run.measure] = run
    return [_timing_task(study, place, run) for run in found.values()]


def _timing_task(study: Study, place: Place, run: Run) -> Task:
    options = {name: value for name, value in run.options.items() if name not in ("num_labeled", "seed")}
    asked = {"options": options, "budget": budget_of(study), "device": place.device}

    def make() -> dict[str, Any]:
        values = _prepared_options(place, run, options)
        if study.budget.seconds:
            values.setdefault("training", {})["minutes"] = study.budget.seconds / 60
        return values

    return Task(f"timing/{run.measure}", f"Time of a step of {run.line.name}, {run.data.name}", place.out_dir / TIMING / run.measure, asked, "measure", make, has_measure, rests_on=(*_data_of(run), f"prepared/{run.preparation.id}"))


def run_tasks(study: Study, place: Place) -> list[Task]:
    """The trainings."""
    return [run_task(study, place, run) for run in runs_of(study)]


def run_task(study: Study, place: Place, run: Run) -> Task:
    """A training as a task."""
    return Task(
        run.id, run.title, place.run_dir(run), asked_of(study, place, run), "train", _options(study, place, run), has_training,
        needs=tuple(set(run.sources.values())), rests_on=(*_data_of(run), f"prepared/{run.preparation.id}", f"timing/{run.measure}"),
    )  # fmt: skip


def _data_of(run: Run) -> tuple[str, ...]:
    return (f"cohort/{run.data.name}",)


def asked_of(study: Study, place: Place, run: Run) -> dict[str, Any]:
    """What changes a run: when it differs from what was asked before, the study has changed."""
    asked = {"options": run.options, "budget": budget_of(study), "device": place.device, "phantom": run.data.phantom}
    return {**asked, "take": run.line.take} if run.line.take else asked


def budget_of(study: Study) -> dict[str, float]:
    return {"seconds": study.budget.seconds} if study.budget.seconds else {"iterations": study.budget.iterations}


def _options(study: Study, place: Place, run: Run) -> Callable[[], dict[str, Any]]:
    def make() -> dict[str, Any]:
        values = _prepared_options(place, run, run.options)
        if study.budget.seconds:
            found = measured(place, run)
            values.setdefault("training", {})["iterations"] = found["iterations"]
            if "method_options" in found:
                values["method_options"] = {**values.get("method_options", {}), **found["method_options"]}
        if study.best_on_test:  # not part of what is asked: looking changes no training
            values["best_on_test"] = study.best_on_test
        if study.share_first_stage:  # nor is this: it changes no training either
            values["first_stages"] = str((place.out_dir / FIRST_STAGES).resolve())
        for name, source in run.sources.items():
            group, _, option = name.partition(".")
            scalars = run.line.take[name]["scalars"]
            found = record.mean_scalars(place.out_dir / RUNS / source, scalars)
            if found is None:
                raise InputError(f"{source} recorded no {', '.join(scalars)}, from which {name} is taken.", hint="See its events.jsonl for what it recorded.")
            values.setdefault(group, {})[option] = found if len(found) > 1 else found[0]
        return values

    return make


def _prepared_options(place: Place, run: Run, options: dict[str, Any]) -> dict[str, Any]:
    """Options with the shared preparation, and what was done to the cases there."""
    folder = place.prepared_dir(run.preparation)
    prepared = PreparedSet.load(folder)
    found = {"preprocessing": prepared.preprocessing.to_json(), "labels": [dict(label) for label in prepared.labels]}
    return place.put({**options, **found, "prepared": str(folder.resolve())})


def measured(place: Place, run: Run) -> dict[str, Any]:
    """What the probe found for a run's row; empty when it has not been measured."""
    return record.read_json(place.out_dir / TIMING / run.measure / RESULT_FILE) or {}
