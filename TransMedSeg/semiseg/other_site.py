"""Unlabeled volumes of another scanner or site: self-training then begins earlier and labels them more often.

Where all volumes are of one site, the labels alone go on teaching, and pseudo-labels come late. Where the unlabeled ones look different, the labels
alone teach little of them; what the network finds there gets better from round to round (docs/benchmarks.md, "Labels of one site, test at another").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .data.cache import PreparedSet
from .job_options import options_from
from .methods import load_method
from .train_job import Resolved, TrainJob, as_json

_SHARE = 0.75


def is_other_site(prepared: PreparedSet) -> bool:
    """Whether at least three quarters of the used unlabeled volumes look different from the labeled ones (E805)."""
    unlabeled = [prepared.cases[index] for index in prepared.indices("unlabeled")]
    return bool(unlabeled) and sum(case.code == "E805" for case in unlabeled) >= _SHARE * len(unlabeled)


def for_other_site(resolved: Resolved, stated: TrainJob, prepared: PreparedSet, report: Callable[..., None]) -> Resolved:
    """The job as it is, or with the preset's options for unlabeled volumes of another site.

    Args:
        resolved: With every default.
        stated: What was asked for: its options stay. A job that was begun states them all.
        prepared: The cases.
        report: Takes a ``state`` event that says what was changed.
    """
    method = load_method(stated.method)
    changes = {name: value for name, value in method.presets[stated.preset].other_site.items() if name not in stated.method_options}
    if not changes or not is_other_site(prepared):
        return resolved
    options = options_from(method.Options, {**resolved.job.method_options, **changes}, f"the method {stated.method}")
    words = ", ".join(f"{name} {value:g}" for name, value in changes.items())
    report("state", message=f"The unlabeled volumes look different from the labeled ones, so that more of the training is spent on them ({words}).")
    return replace(resolved, method_options=options, job=replace(resolved.job, method_options=as_json(options)))
