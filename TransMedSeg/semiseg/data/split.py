"""Which case trains with its mask, which without, which validates and which is held out. Always by patient."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from ..errors import InputError
from .atomic import write_json


class HasPatient(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def patient(self) -> str: ...


@dataclass(frozen=True)
class Split:
    """Case ids of each part, in their published or alphabetical order; ``dropped`` says why a case is in none."""

    labeled: tuple[str, ...]
    unlabeled: tuple[str, ...]
    validation: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    dropped: dict[str, str] | None = None
    seed: int = 0

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Split:
        try:
            fields = json.loads(Path(path).read_text(encoding="utf-8"))
            for part in ("labeled", "unlabeled", "validation", "held_out"):
                fields[part] = tuple(fields[part])
            return cls(**fields)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"The saved split cannot be read: {error}.",
                code="E311",
                path=path,
                hint="Delete it and prepare the cases again.",
            ) from error


def split_cases(
    labeled: Sequence[HasPatient],
    unlabeled: Sequence[HasPatient],
    held_out: Sequence[HasPatient] = (),
    *,
    num_validation: int = 0,
    seed: int = 0,
) -> Split:
    """Keeps every patient in one part, then moves some labeled patients to validation.

    A patient that also trains with masks leaves the hold-out; an unlabeled case of a held-out or validation patient
    leaves the training. Validation patients are drawn by hash, so a case added later does not reshuffle the others.

    Args:
        num_validation: Patients taken out of the labeled part.
        seed: Another seed draws other validation patients.

    Raises:
        InputError: Fewer than two labeled patients would remain for training (E801).
    """
    dropped: dict[str, str] = {}
    labeled_patients = {case.patient for case in labeled}
    _check_that_two_remain(len(labeled_patients), num_validation)
    reason = "Patient {} also has a labeled case, so this one left the hold-out."
    kept_held_out = _of_others(held_out, labeled_patients, reason, dropped)
    validation_patients = set(_drawn(labeled_patients, seed)[:num_validation])
    unseen = {case.patient for case in kept_held_out} | validation_patients
    reason = "Patient {} is held out or validates, so this unlabeled case left the training."
    kept_unlabeled = _of_others(unlabeled, unseen, reason, dropped)
    return Split(
        labeled=tuple(case.id for case in labeled if case.patient not in validation_patients),
        unlabeled=tuple(case.id for case in kept_unlabeled),
        validation=tuple(case.id for case in labeled if case.patient in validation_patients),
        held_out=tuple(case.id for case in kept_held_out),
        dropped=dropped,
        seed=seed,
    )


def _check_that_two_remain(num_labeled: int, num_validation: int) -> None:
    if num_validation and num_labeled - num_validation < 2:
        raise InputError(
            f"{num_validation} of {num_labeled} labeled patients were asked for validation; "
            "at least 2 must remain for training.",
            code="E801",
            hint="Add labeled volumes or ask for fewer validation patients.",
        )


def _of_others(
    cases: Sequence[HasPatient], patients: set[str], reason: str, dropped: dict[str, str]
) -> list[HasPatient]:
    """The cases of other patients; why the rest is dropped is noted in ``dropped``."""
    dropped.update({case.id: reason.format(case.patient) for case in cases if case.patient in patients})
    return [case for case in cases if case.patient not in patients]


def _drawn(patients: set[str], seed: int) -> list[str]:
    return sorted(patients, key=lambda patient: hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest())
