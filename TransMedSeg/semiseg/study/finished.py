"""Whether a folder of a study holds what it was made for: files that can be read, with the keys that others rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data.cache import PreparedSet
from ..errors import InputError
from ..metrics.table import Table
from ..phantom.cohort import COHORT_FILE
from ..protocol import RESULT_FILE
from .record import num_starts, read_json

SCORES_FILE = "dice.json"


def has_cohort(folder: Path) -> bool:
    return "phantoms" in (read_json(folder / "cohort" / COHORT_FILE) or {})


def has_cases(folder: Path) -> bool:
    return cases_in(folder / "prepared") is not None


def has_measure(folder: Path) -> bool:
    return {"step_s", "iterations"} <= set(read_json(folder / RESULT_FILE) or {})


def has_training(folder: Path) -> bool:
    """A result, and the scores of the held-out cases where it had some."""
    result = result_of(folder)
    if result is None:
        return False
    cases = result.get("cases")
    num_held_out = cases.get("held_out", 0) if isinstance(cases, dict) else 0
    return not num_held_out or scores_of(folder) is not None


def result_of(folder: Path) -> dict[str, Any] | None:
    """What a training wrote at its end; None when it is not there, damaged, or without steps and seconds."""
    result = read_json(folder / RESULT_FILE)
    return result if result is not None and {"iterations", "train_s"} <= set(result) else None


def is_of_one_piece(folder: Path, result: dict[str, Any]) -> bool:
    """Whether the clock of a training counted the whole of it: it was never interrupted, and took no stage from another."""
    return num_starts(folder) == 1 and not result.get("took_first_stage")


def scores_of(folder: Path) -> Table | None:
    """Scores of a training, case by structure; None when they are not there or damaged."""
    try:
        return Table.from_json(read_json(folder / SCORES_FILE) or {})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def cases_in(prepared_dir: Path) -> PreparedSet | None:
    """Prepared cases; None when they are not there or their list is damaged."""
    try:
        return PreparedSet.load(prepared_dir)
    except (InputError, OSError, AttributeError):
        return None
