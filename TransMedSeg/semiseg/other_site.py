"""Unlabeled volumes of another scanner or site: training then also shows contrasts that no labeled volume has.

Where the unlabeled volumes look different, the labels alone teach little of them, and pseudo-labels are poor. Random contrasts (GIN,
``data/random_network.py``) win most of it back; where all volumes are of one site they cost Dice (docs/benchmarks.md, "Contrasts that no labeled
volume has").
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .data.augment import AugmentOptions
from .data.cache import PreparedSet
from .job_options import options_from
from .methods import load_method
from .train_job import Resolved, TrainJob, as_json

_SHARE = 0.75


def is_other_site(prepared: PreparedSet) -> bool:
    """Whether at least three quarters of the used unlabeled volumes look different from the labeled ones (E805)."""
    unlabeled = [prepared.cases[index] for index in prepared.indices("unlabeled")]
    return bool(unlabeled) and sum(case.code == "E805" for case in unlabeled) >= _SHARE * len(unlabeled)


def for_site(resolved: Resolved, stated: TrainJob, prepared: PreparedSet) -> Resolved:
    """A training with the preset's options for unlabeled volumes of another site, where they apply.

    Args:
        resolved: With every default.
        stated: What was asked for: its options stay. A job that was begun states them all.
        prepared: The cases.

    Returns:
        The job as it is (the same object) or with those options.
    """
    changes = _changes(stated)
    if not changes or not is_other_site(prepared):
        return resolved
    augment = options_from(AugmentOptions, {**resolved.job.augment, **changes}, "the augmentation")
    return replace(resolved, augment=augment, job=replace(resolved.job, augment=as_json(augment)))


def words_for_other_site(stated: TrainJob) -> str:
    """What was changed, for the user."""
    words = ", ".join(f"{name} {value:g}" for name, value in _changes(stated).items())
    return f"The unlabeled volumes look different from the labeled ones, so that images are also shown with contrasts that no labeled volume has ({words})."


def _changes(stated: TrainJob) -> dict[str, Any]:
    preset = load_method(stated.method).presets[stated.preset]
    return {name: value for name, value in preset.other_site.items() if name not in stated.augment}
