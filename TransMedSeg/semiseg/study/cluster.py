"""A study on a cluster: submitit starts jobs that share the grid through its folder. An optional extra; imported only when asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..protocol import STOP_FILE
from . import record
from .conduct import Plan, StudyJob, make_plan, work
from .estimate import Estimate
from .schedule import Outcome, Task
from .slots import make_slots
from .tasks import run_tasks

Report = Callable[..., None]

_SECONDS_BETWEEN_LOOKS = 5.0
LOG_FOLDER = "cluster"


class Share:
    """What one job of the cluster does: it takes runs that nobody has, one after another (one a GPU), until none is left.

    A job that the cluster interrupts is submitted again by submitit and goes on; its run continues from its last saved state.
    """

    def __init__(self, job: dict[str, Any], out_dir: str, since: float) -> None:
        self.job, self.out_dir, self.since = job, out_dir, since

    def __call__(self) -> dict[str, Any]:
        job = StudyJob(**self.job)
        plan, _ = make_plan(job, Path(self.out_dir))
        every_gpu = make_slots(job.device, 1, job.threads)
        if every_gpu[0].device.startswith("cuda"):
            import torch

            every_gpu = make_slots(job.device, torch.cuda.device_count(), job.threads)
        outcome = work(plan, every_gpu, lambda kind, **values: None, self.since, job.measure)
        return {"done": sorted(outcome.done), "failed": outcome.failed, "stopped": outcome.stopped}

    def checkpoint(self) -> Any:
        """Called by submitit when the cluster takes the job's time away."""
        return _submitit().helpers.DelayedSubmission(self)


def run_on_cluster(job: StudyJob, plan: Plan, report: Report, since: float) -> Outcome:
    """Submits ``job.jobs`` jobs and waits for them; a stop file or Ctrl+C stops them all.

    Args:
        job: Its ``cluster`` holds parameters of ``submitit.AutoExecutor``, such as ``{"timeout_min": 240, "slurm_partition": "gpu", "gpus_per_node": 1}``.
        plan: Of the study.
        report: Takes events.
        since: When the study was started.

    Raises:
        InputError: submitit is missing, or refuses a parameter.
    """
    submitit, out_dir = _submitit(), plan.place.out_dir
    executor = submitit.AutoExecutor(folder=str(out_dir / LOG_FOLDER))
    try:
        executor.update_parameters(**(job.cluster or {}))
    except (NameError, TypeError, ValueError, AssertionError) as error:
        raise InputError(f"submitit refuses the parameters {job.cluster}: {error}.", hint="See submitit's documentation; SLURM's own begin with slurm_.") from error
    inner = {**asdict(job), "cluster": None, "device": plan.place.device, "study": str(Path(job.study).resolve())}
    handles = [executor.submit(Share(inner, str(out_dir.resolve()), since)) for _ in range(job.jobs)]
    report("state", message=f"{len(handles)} jobs submitted: {', '.join(str(handle.job_id) for handle in handles)}. Logs: {out_dir / LOG_FOLDER}.")
    return _follow(plan, handles, report)


def _follow(plan: Plan, handles: list[Any], report: Report) -> Outcome:
    tasks = run_tasks(plan.study, plan.place)
    outcome = Outcome()
    while True:
        try:
            outcome.done = {task.id for task in tasks if task.status == record.DONE}
            report("progress", what="study", done=len(outcome.done), total=len(tasks), eta_s=_eta_s(plan, tasks, outcome, len(handles)))
            if not outcome.stopped and (plan.place.out_dir / STOP_FILE).exists():
                outcome.stopped = True
                report("state", message="Stopping: jobs that run save and end; jobs that wait are cancelled.")
                _cancel_waiting(handles)
            if all(handle.done() for handle in handles):
                break
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        except KeyboardInterrupt:
            (plan.place.out_dir / STOP_FILE).touch()
    return _gathered(outcome, handles, report)


def _eta_s(plan: Plan, tasks: list[Task], outcome: Outcome, jobs: int) -> float | None:
    """What is left, spread over the jobs as if none waited in the cluster's queue. Runs say themselves how far they are.

    A run that nothing is known of counts as the mean of the others. None where nothing is known of any.
    """
    estimate = Estimate(plan.study, plan.place, plan.runs)
    left = [(estimate.seconds(task.id), _left_share(task)) for task in tasks if task.id not in outcome.done and task.status != record.FAILED]
    known = [seconds for seconds, _ in left if seconds is not None]
    if left and not known:
        return None
    return round(sum((sum(known) / len(known) if seconds is None else seconds) * share for seconds, share in left) / jobs, 1)


def _left_share(task: Task) -> float:
    event = record.last_event(task.folder)
    is_training = event is not None and event["kind"] == "progress" and event.get("what") == "train" and event.get("total")
    return max(0.0, 1 - float(event["done"]) / float(event["total"])) if event is not None and is_training else 1.0


def _cancel_waiting(handles: list[Any]) -> None:
    for handle in handles:
        if handle.state in ("PENDING", "UNKNOWN"):
            handle.cancel()


def _gathered(outcome: Outcome, handles: list[Any], report: Report) -> Outcome:
    for handle in handles:
        error = handle.exception()
        if error is not None:
            if not outcome.stopped:
                report("warning", code="", message=f"The cluster's job {handle.job_id} failed: {error}", hint="Its log says more.")
            continue
        found = handle.result()
        outcome.failed.update({run_id: reason for run_id, reason in found["failed"].items() if run_id not in outcome.done})
        outcome.stopped = outcome.stopped or found["stopped"]
    return outcome


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise InputError("A study on a cluster needs the package submitit, which is not installed.", hint="pip install 'semiseg[cluster]' or submitit.") from error
    return submitit
