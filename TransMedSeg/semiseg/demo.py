"""The whole job on an embedded default: a cohort of phantoms (or the user's folder), training with and without unlabeled cases, scores, report."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import InputError
from .follow import last_result, run_in_worker
from .protocol import JOB_FILE, RESULT_FILE, ExitCode, Job, read_job, write_job

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
        out_dir: Gets the cohort (``phantoms``) and one run folder (``run``). A stopped run there continues, a finished one on
            phantoms is replaced, and any other is put aside as ``run-before-1``, ``-2``, ...
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
        _take_over(run_dir, job, out_dir / "phantoms", report)
    if not (run_dir / JOB_FILE).exists():
        write_job(run_dir, job)
    code = run_in_worker(run_dir, report)
    return code, last_result(run_dir) if code == ExitCode.FINISHED else {}


def _phantoms(folder: Path, plan: Length, report: Report) -> Path:
    from .phantom import make_cohort
    from .phantom.cohort import COHORT_FILE

    counts = {"num_labeled": plan.num_labeled, "num_unlabeled": plan.num_unlabeled, "num_held_out": plan.num_held_out}
    asked = {"seed": 0, "size": "half", "site_mix": SITE_MIX}
    if _recipe(folder / COHORT_FILE) != {**asked, **{name.removeprefix("num_"): count for name, count in counts.items()}}:
        report("state", message=f"Making {sum(counts.values())} left-atrium phantoms in {folder}: labels from one scanner, all others from another.")
        make_cohort(folder, **counts, **asked, report=report)
    return folder


def _recipe(path: Path) -> dict[str, Any]:
    """What a cohort was made from, as far as a demonstration decides it; empty where there is none."""
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))["recipe"]
    except (OSError, ValueError, KeyError):
        return {}
    return {name: value for name, value in recipe.items() if name != "full_field_of_view"}


def _job(data: Path, plan: Length) -> Job:
    from .train import TrainJob

    # The goal plans grid, patch and network for this computer; only its length is ours.
    return Job("train", asdict(TrainJob(labeled=[str(data.resolve())], goal="quick", minutes=plan.minutes, baseline=True)))


def _take_over(run_dir: Path, job: Job, phantoms: Path, report: Report) -> None:
    """A stopped run of the same data continues. A finished one on phantoms can be made again and is replaced; any other is put aside."""
    before = read_job(run_dir)
    same = before.options.get("labeled") == job.options["labeled"] and before.options.get("minutes") == job.options["minutes"]
    is_finished = (run_dir / RESULT_FILE).exists()
    if same and not is_finished:
        report("state", message=f"Continuing the run in {run_dir}.")
    elif is_finished and before.options.get("labeled") == [str(phantoms.resolve())]:
        report("state", message=f"Replacing the finished run in {run_dir}.")
        shutil.rmtree(run_dir)
    else:
        names = (run_dir.with_name(f"run-before-{number}") for number in itertools.count(1))
        aside = next(name for name in names if not name.exists())
        run_dir.rename(aside)
        report("state", message=f"The run in {run_dir}, of other data or another length, was put aside: it is in {aside} now.")
