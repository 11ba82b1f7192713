"""Runs a study in its folder: data, preparation, probes, trainings, report. The same command continues it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.atomic import write_json
from ..distributed import World, choose_device, wait_for_all
from ..errors import InputError
from ..job_options import options_from
from ..protocol import RESULT_FILE, RESUME_FILE, read_job
from . import record
from .changed_data import begun_in_vain, changed_tasks, in_words
from .check import check_study
from .collect import collect
from .definition import Study, read_study
from .estimate import Estimate
from .folder import STUDY_FILE
from .grid import Run, runs_of
from .rehearsal import rehearsal
from .schedule import Outcome, Schedule, Task
from .slots import Slot, make_slots
from .tasks import Place, cohort_tasks, preparation_tasks, run_tasks, timing_tasks

Report = Callable[..., None]


@dataclass(frozen=True)
class StudyJob:
    """Options of the verb ``study``.

    Attributes:
        study: The study file.
        data: Folder that ``$DATA`` stands for; empty when the study names its own.
        device: "auto" (all GPUs when there are some), "cpu", "cuda" (all) or "cuda:N".
        jobs: Runs side by side; on a cluster the number of jobs that share the grid.
        threads: CPU threads of each run; 0 divides the processors.
        measure: Only prepare the data and measure how long a step of each row takes.
        quick: Rehearse: the same rows in miniature, within minutes, to see that they run. The numbers mean nothing.
        redo_changed: Runs that a changed study asks otherwise are put aside and made anew, instead of refused.
        cluster: Parameters for submitit's executor; None runs here.
    """

    study: str = ""
    data: str = ""
    device: str = "auto"
    jobs: int = 1
    threads: int = 0
    measure: bool = False
    quick: bool = False
    redo_changed: bool = False
    cluster: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.jobs < 1 or self.threads < 0:
            raise ValueError(f"jobs must be at least 1 and threads at least 0; found {self.jobs} and {self.threads}")


@dataclass(frozen=True)
class Plan:
    """A study that has been looked at, and its runs."""

    study: Study
    place: Place
    runs: list[Run] = field(default_factory=list)


def make_plan(job: StudyJob, out_dir: Path, world: World = World(), needs_data: bool = True) -> tuple[Plan, list[str]]:
    """Reads and checks a study.

    Returns:
        The plan, and sentences about what could not be checked.

    Raises:
        InputError: The study does not fit; the message names the key and the file.
    """
    if job.data and not Path(job.data).exists():
        raise InputError("The folder that was named with --data does not exist.", path=job.data, hint="Name the folder of the data.")
    study = read_study(Path(job.study), Path(job.data) if job.data else None)
    study = rehearsal(study) if job.quick else study
    sentences = check_study(study, needs_data)
    device = "cpu" if job.device == "cpu" else choose_device(job.device, world).type
    if job.cluster is not None and job.device == "auto":
        device = "cuda" if float(job.cluster.get("gpus_per_node", 0)) > 0 else "cpu"  # of the nodes, not of this computer
    return Plan(study, Place(out_dir, device), runs_of(study)), sentences


def report_again(out_dir: Path) -> Path:
    """Writes the report of a study's folder from what lies there, without starting anything.

    Raises:
        InputError: The study file is gone, or does not fit.
    """
    from .report import write_study_report

    try:
        plan, _ = make_plan(options_from(StudyJob, read_job(out_dir).options, "the verb study"), out_dir, needs_data=False)
    except InputError as error:
        hint = "`semiseg study FILE OUT` writes the report of a study."
        raise InputError(error.message, code=error.code, path=error.path, hint=f"{error.hint} {hint}".strip()) from error
    failed = (record.read_json(out_dir / RESULT_FILE) or {}).get("failed")
    return write_study_report(plan.study, plan.place, failed if isinstance(failed, dict) else None)


def run_study(job: StudyJob, out_dir: Path, report: Report, world: World = World()) -> dict[str, Any]:
    """Brings a study to its end, or to a stop.

    Inside ``torchrun`` every rank works on runs of its own (no run is spread over ranks): with more runs than ranks nothing is faster, and a run on one
    GPU can be repeated on one GPU.

    Returns:
        ``{"runs", "done", "failed", "report"}``; ``{"stopped_at": number of runs done, "message"}`` after a stop.

    Raises:
        InputError: The study, its data, or a folder in which another study lies; or every single run has failed.
    """
    since = time.time()
    plan, _ = make_plan(job, out_dir, world)
    if world.is_main:
        _settle_changes(plan, job.redo_changed, report)
        write_json(out_dir / STUDY_FILE, {"study": record.read_json(Path(job.study)), "file": Path(job.study).name, "data": job.data, "device": plan.place.device})
    wait_for_all()  # no rank starts before changed runs are out of the way
    with _terminated_like_interrupted():
        if job.cluster is not None:
            from .cluster import run_on_cluster

            outcome = run_on_cluster(job, plan, report, since)
        else:
            outcome = work(plan, make_slots(job.device, job.jobs, job.threads, world), report, since, job.measure, world.size)
    return _conclude(plan, outcome, report, world, job.measure)


def work(plan: Plan, slots: list[Slot], report: Report, since: float, only_measure: bool = False, processes: int = 1) -> Outcome:
    """Everything but the report. Several processes may work on one folder; they share the tasks. How many there are decides the time that is left."""
    study, place = plan.study, plan.place
    estimate = Estimate(study, place, plan.runs)
    shown = _Shown(plan, estimate, report)

    def carry_out(tasks: list[Task], places: list[Slot]) -> Outcome:
        known = any(task.verb == "train" for task in tasks)
        schedule = Schedule(tasks, places, place.out_dir, report, since, lambda task: estimate.seconds(task.id) if known else None, shown, processes)
        return schedule.run()

    failed: dict[str, str] = {}
    measures = timing_tasks(study, place) if study.budget.seconds or only_measure else []
    stages = [
        ("Phantoms", cohort_tasks(study, place), slots),
        ("Preparing the cases", preparation_tasks(study, place), slots),
        ("Measuring a step of each row, one after another", measures, slots[:1]),  # neighbors would slow each other
    ]
    for name, tasks, places in stages:
        todo, lost = _that_can_run([task for task in tasks if task.status != record.DONE], failed)
        failed.update(lost)
        if not todo:
            continue
        report("state", message=f"{name}: {len(todo)} to do.")
        outcome = carry_out(todo, places)
        failed.update(outcome.failed)
        if outcome.stopped:
            return outcome
    if only_measure:
        return Outcome(failed=failed)
    tasks, lost = _that_can_run(run_tasks(study, place), failed)
    if tasks:
        report("state", message=_in_words(plan, tasks, slots))
    outcome = carry_out(tasks, slots)
    outcome.failed.update(lost)
    return outcome


def _that_can_run(tasks: list[Task], failed: dict[str, str]) -> tuple[list[Task], dict[str, str]]:
    """Those that rest on nothing that failed in an earlier stage, and the reasons of the others."""
    lost = {task.id: next(failed[one] for one in task.rests_on if one in failed) for task in tasks if set(task.rests_on) & set(failed)}
    return [task for task in tasks if task.id not in lost], lost


def _in_words(plan: Plan, tasks: list[Task], slots: list[Slot]) -> str:
    states = [task.status for task in tasks]
    words = [f"{states.count(state)} {word}" for state, word in ((record.DONE, "done before"), (record.INTERRUPTED, "to continue"), (record.FAILED, "to try again"), (record.NEW, "new")) if states.count(state)]  # fmt: skip
    devices = ", ".join(dict.fromkeys(slot.device for slot in slots))
    return f"{len(plan.runs)} runs: {', '.join(words)}. {len(slots)} at a time on {devices}, {slots[0].threads} thread{'s' * (slots[0].threads > 1)} each."


class _Shown:
    """Says of every run that ends what came of it."""

    def __init__(self, plan: Plan, estimate: Estimate, report: Report) -> None:
        self._plan, self._estimate, self._report, self._runs = plan, estimate, report, {run.id: run for run in plan.runs}

    def __call__(self, task: Task, seconds: float) -> None:
        self._estimate.learn(task.id, seconds)
        if task.verb == "measure":
            found = record.read_json(task.folder / RESULT_FILE) or {}
            self._report("state", message=f"{task.title}: {1000 * found.get('step_s', 0):.0f} ms, {found.get('iterations', 0):,} steps a run.")
        elif task.id in self._runs:
            result = record.read_json(task.folder / RESULT_FILE) or {}
            scores = [metrics["dice"]["mean"] for metrics in result.get("scores", {}).values() if metrics["dice"]["mean"] is not None]
            dice = f"Dice {sum(scores) / len(scores):.3f}" if scores else "no score"
            self._report("state", message=f"{task.title}: {dice} after {seconds / 60:.1f} minutes.")


def _settle_changes(plan: Plan, redo: bool, report: Report) -> None:
    """Refuses a study that has changed since its runs were made, and says what; or puts those runs aside. Folders in which nothing was made make room."""
    changed = changed_tasks(plan.study, plan.place)
    if changed and not redo:
        raise InputError(
            in_words(changed),
            path=plan.place.out_dir,
            hint="Undo the change, choose another folder, or make them anew with --redo-changed (the old ones are put aside, not deleted).",
        )
    for task, what in changed:
        if not task.folder.exists():
            continue  # it lay in the folder of phantoms that were put aside before it
        target = record.put_aside(task.folder, plan.place.out_dir / "replaced")
        report("state", message=f"{task.title} has changed ({', '.join(what[:3])}); the old one is in {target}.")
    for task in begun_in_vain(plan.study, plan.place):
        if task.folder.exists():
            record.put_aside(task.folder, plan.place.out_dir / "replaced")


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """A SIGTERM (``torchrun`` and clusters send it) ends a study as cleanly as Ctrl+C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _conclude(plan: Plan, outcome: Outcome, report: Report, world: World, only_measure: bool) -> dict[str, Any]:
    """Writes the report and the result, also of a study that was stopped or failed: those of an earlier start must not stand for it."""
    place = plan.place
    done = len(collect(plan.study, place).scored)
    result: dict[str, Any] = {"runs": len(plan.runs), "done": done, "failed": outcome.failed}
    if not world.is_main:
        return result
    if done or not only_measure:
        from .report import write_study_report

        result["report"] = str(write_study_report(plan.study, place, outcome.failed))
        report("saved", path=result["report"], what="report")
    if outcome.stopped:
        (place.out_dir / RESULT_FILE).unlink(missing_ok=True)
        return {"stopped_at": done, "message": _stopped_in_words(plan, done)}
    write_json(place.out_dir / RESULT_FILE, result)
    if not done and outcome.failed and not only_measure:
        run_id, reason = next(iter(outcome.failed.items()))
        raise InputError(f"All runs of the study failed. {run_id}: {reason}", path=result["report"])
    return result


def _stopped_in_words(plan: Plan, done: int) -> str:
    saved = sum(task.status == record.INTERRUPTED and (task.folder / RESUME_FILE).exists() for task in run_tasks(plan.study, plan.place))
    midway = f", {saved} saved midway" if saved else ""
    return f"Stopped: {done} of {len(plan.runs)} runs done{midway}. The same command continues."
