"""What a study would do: its runs, what became of them so far, and how long each will take."""

from __future__ import annotations

from ..errors import InputError
from ..progress import duration
from . import record
from .changed_data import changed_tasks, in_words
from .conduct import Plan
from .estimate import Estimate
from .folder import check_folder
from .tasks import run_tasks


def listing(plan: Plan, slots: int) -> str:
    """A line for every run, and the sum.

    Args:
        plan: Of the study.
        slots: Runs side by side.
    """
    estimate = Estimate(plan.study, plan.place, plan.runs)
    lines, known, unknown = [], 0.0, 0
    width = max(len(run.id) for run in plan.runs)
    for run, task in zip(plan.runs, run_tasks(plan.study, plan.place), strict=True):
        state, seconds = task.status, estimate.seconds(run.id)
        if state == record.DONE:
            text = "-"
        elif seconds is None:
            text, unknown = "?", unknown + 1
        else:
            text, known = duration(seconds), known + seconds
        lines.append(f"{run.id:<{width}}  {state:<11}  {text}")
    total = f"{duration(known / slots)} of training" if known or not unknown else "unknown"
    if unknown:
        total += f", and {unknown} runs of unknown length: --measure prepares the data and measures a step of every row"
    words = f"{len(plan.runs)} runs, {slots} at a time: {total}. Preparing and scoring come on top."
    return "\n".join([*lines, "", words])


def refusal(plan: Plan, redo_changed: bool) -> str:
    """Why a start would refuse this folder, in words; empty when it would not."""
    try:
        check_folder(plan.place.out_dir)
    except InputError as error:
        return str(error)
    changed = [] if redo_changed else changed_tasks(plan.study, plan.place)
    return f"{in_words(changed)} (--redo-changed)" if changed else ""
