"""What readers of layouts share: lists of names, and the way from ordered cases to roles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import InputError
from ..case_list import Case, CaseList, Layout, Refusal


def names_in(path: Path) -> list[str]:
    """The lines of a list file, without the empty ones.

    Raises:
        InputError: It is empty or not text (E311).
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The list {path.name} cannot be read: {error}.", code="E311", path=path) from error
    names = [line for line in lines if line]
    if not names:
        raise InputError(
            f"The list {path.name} is empty; one name a line was expected.",
            code="E311",
            path=path,
            hint="Copy it again from the data set.",
        )
    return names


def missing_part(layout: str, found: str, folder: Path) -> InputError:
    """The error of half a folder."""
    hint = "Copy or unpack the data set again."
    return InputError(f"This looks like {layout}, but {found}.", code="E311", path=folder, hint=hint)


def not_there(case_id: str, path: Path, role: str, source: str) -> Refusal:
    return Refusal(case_id, path, role, f"{source} names it, but it is not there.", "E311")


def without_masks(cases: Iterable[Case]) -> tuple[Case, ...]:
    return tuple(replace(case, label=None) for case in cases)


def first_labeled(
    layout: Layout,
    train: Sequence[Case],
    held_out: Sequence[Case],
    count: int | None,
    notes: Sequence[str],
    refused: Sequence[Refusal] = (),
    loose: Sequence[Case] = (),
) -> CaseList:
    """The first ``count`` training cases keep their masks, the others and ``loose`` ones are unlabeled.

    Args:
        train: In published order, or by name.
        count: None keeps every mask.
        loose: Images that have no masks.
    """
    count = len(train) if count is None else min(count, len(train))
    notes = list(notes)
    if count < len(train):
        notes.append(
            f"The first {count} of {len(train)} training cases are labeled; the masks of the others are left aside."
        )
    labeled, rest = tuple(train[:count]), without_masks(train[count:])
    return CaseList(labeled, (*rest, *loose), tuple(held_out), tuple(notes), tuple(refused), layout)


def hold_out_last_fifth(cases: Sequence[Case]) -> tuple[list[Case], list[Case], str]:
    """(training cases, held-out cases, note): the last fifth of the patients in their order, at least one of three."""
    patients = list(dict.fromkeys(case.patient for case in cases))
    count = max(1, len(patients) // 5) if len(patients) >= 3 else 0
    last = set(patients[len(patients) - count :]) if count else set()
    train = [case for case in cases if case.patient not in last]
    note = f"No test masks are in the folder: the last {count} of {len(patients)} labeled patients are held out."
    return train, [case for case in cases if case.patient in last], note
