"""Keeps a budget of minutes where labeling whole unlabeled cases would not: the teacher then labels the patch of each step.

Volumes of many planes are dear to label: on ACDC two rounds took ten minutes on one thread (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .job_options import options_from
from .methods import load_method
from .train_job import Resolved, TrainJob, as_json
from .training.probe import MOST_LABELING, Pace


def pace_within(seconds: float, resolved: Resolved, stated: TrainJob, measure: Callable[[Resolved], Pace]) -> tuple[Resolved, Pace]:
    """The job as it fits into a budget of seconds, and its pace.

    Args:
        seconds: Of training.
        resolved: With every default.
        stated: What was asked for: its options stay.
        measure: Times steps and labeling.

    Returns:
        The job as it is (the same object), or one without labels of whole cases where these would take more than half of the time.
    """
    pace = measure(resolved)
    if pace.labeling_s <= MOST_LABELING * seconds:
        return resolved, pace
    method = load_method(stated.method)
    changes = method.labels_of_patches
    if not changes or set(method.whole_case_options) & set(stated.method_options):
        return resolved, pace
    options = options_from(type(resolved.method_options), {**resolved.job.method_options, **changes}, f"the method {stated.method}")
    changed = replace(resolved, method_options=options, job=replace(resolved.job, method_options=as_json(options)))
    return changed, measure(changed)


def words_for_patches(labeling_s: float, minutes: float) -> str:
    """What was changed, for the user."""
    return (
        f"Labeling every unlabeled volume whole would take {labeling_s / 60:.1f} minutes, more than half of the {minutes:.3g} minutes of training, so the "
        "teacher labels the patches of each step instead (labels_from patches)."
    )
