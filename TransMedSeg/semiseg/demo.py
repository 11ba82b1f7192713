"""The whole job on an embedded default: a cohort of phantoms (or the user's folder), training with and without unlabeled cases, scores, report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import InputError
from .follow import last_result, run_in_worker
from .protocol import JOB_FILE, ExitCode, Job, write_job

Report = Callable[..., None]


@dataclass(frozen=True)
class Length:
    """How much a demonstration does.

    Attributes:
        minutes: Of each of the two trainings, on a CPU.
        num_labeled, num_unlabeled, num_held_out: Phantoms.
    """

    minutes: float
    num_labeled: int = 4
    num_unlabeled: int = 16
    num_held_out: int = 6


SITE_MIX = {"labeled": {"A": 1.0}, "unlabeled": {"B": 1.0}, "held_out": {"B": 1.0}}
"""Labels from one scanner, everything else from another: where unlabeled volumes are worth most."""

LENGTHS = {"quick": Length(0.8, num_unlabeled=10, num_held_out=4), "demo": Length(3.3)}


def run_demo(out_dir: Path, length: str, data: Path | None, report: Report) -> tuple[ExitCode, dict[str, Any]]:
    """Makes or takes the data, trains TransMedSeg and the supervised baseline, scores both.

    Args:
        out_dir: Gets the cohort (``phantoms``) and one run folder (``run``). A finished run there is replaced; a stopped one continues.
        length: A key of ``LENGTHS``.
        data: The user's own folder; None makes phantoms.
        report: Receives every event.

    Returns:
        How the run ended, and its result.

    Raises:
        InputError: The folder cannot be written, or holds something that is not ours.
    """
    if length not in LENGTHS:
        raise InputError(f"The length of the demonstration is one of {', '.join(LENGTHS)}; found {length!r}.")
    plan = LENGTHS[length]
    run_dir = out_dir / "run"
    if data is None:
        data = _phantoms(out_dir / "phantoms", plan, report)
    job = _job(data, plan)
    if (run_dir / JOB_FILE).exists():
        _take_over(run_dir, job, report)
    if not (run_dir / JOB_FILE).exists():
        write_job(run_dir, job)
    code = run_in_worker(run_dir, report)
    return code, last_result(run_dir) if code == ExitCode.FINISHED else {}


def _phantoms(folder: Path, plan: Length, report: Report) -> Path:
    from .phantom import make_cohort

    if not (folder / "cohort.json").exists():
        count = plan.num_labeled + plan.num_unlabeled + plan.num_held_out
        report("state", message=f"Making {count} left-atrium phantoms in {folder}: labels from one scanner, all others from another.")
        make_cohort(
            folder,
            num_labeled=plan.num_labeled,
            num_unlabeled=plan.num_unlabeled,
            num_held_out=plan.num_held_out,
            seed=0,
            size="half",
            site_mix=SITE_MIX,
            report=report,
        )
    return folder


def _job(data: Path, plan: Length) -> Job:
    from .train import TrainJob

    # The goal plans grid, patch and network for this computer; only its length is ours.
    return Job("train", asdict(TrainJob(labeled=[str(data.resolve())], goal="quick", minutes=plan.minutes, baseline=True)))


def _take_over(run_dir: Path, job: Job, report: Report) -> None:
    """A stopped run of the same data continues; anything else of ours makes room."""
    from .protocol import read_job

    before = read_job(run_dir)
    same = before.options.get("labeled") == job.options["labeled"] and before.options.get("goal") == job.options["goal"]
    if same and not (run_dir / "result.json").exists():
        report("state", message=f"Continuing the run in {run_dir}.")
        return
    report("state", message=f"Replacing the run in {run_dir}: it is finished, or of other data.")
    shutil.rmtree(run_dir)
