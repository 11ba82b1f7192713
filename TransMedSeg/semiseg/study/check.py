"""Looks at a whole study before anything starts: every option of every row, and whether there are enough labeled cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.cases import find_cases
from ..errors import InputError
from ..job_options import options_from
from ..methods import METHODS
from ..train_job import TrainJob, resolve
from .definition import DATA_WORD, DataSet, Study, wrong
from .grid import lines_of, runs_of

_ANY_PATCH = (16, 16, 16)
_DEFAULT_PHANTOMS = {"num_labeled": 4, "num_held_out": 6}


def check_study(study: Study, needs_data: bool = True) -> list[str]:
    """Refuses what cannot run.

    Args:
        study: As read.
        needs_data: Refuse paths whose folder was not given, rather than say so.

    Returns:
        Sentences about what could not be checked.

    Raises:
        InputError: Unknown methods and options, values that do not fit, too few cases; the message names the key and the file.
    """
    _check_rows(study)
    _check_sources(study)
    sentences = []
    for place, data in enumerate(study.data):
        sentences += _check_data(study, f"data[{place}] ({data.name})", data, needs_data)
    return sentences


def _check_rows(study: Study) -> None:
    names = [row.name for row in study.rows]
    for place, row in enumerate(study.rows):
        if row.method not in METHODS:
            raise wrong(study.path, f"rows[{place}].method", f"there is no method {row.method!r}", f"Choose one of {', '.join(METHODS)}.")
    lines = lines_of(study)
    twice = sorted({line.name for line in lines if [one.name for one in lines].count(line.name) > 1})
    if twice:
        raise wrong(study.path, "rows", f"two rows of the table would be named {twice[0]!r}", "Rename one of them.")
    stated = [("reference", study.reference), *((f"rows[{place}].reference", row.reference) for place, row in enumerate(study.rows))]
    for key, name in stated:
        if name and name not in [line.name for line in lines]:
            known = ", ".join(line.name for line in lines)
            raise wrong(study.path, key, f"no row of the table is named {name!r}", f"Name one of {known}.")
    for run in {(one.line.name, one.data.name): one for one in runs_of(study)}.values():
        try:
            _check_options(run.options)
        except InputError as error:
            raise wrong(study.path, f"rows[{names.index(run.line.row)}] ({run.line.name})", error.message, error.hint) from error


def _check_options(options: dict[str, Any]) -> None:
    """What the engine itself refuses, before data are read: without sources and with a stated patch it looks at no case."""
    job = options_from(TrainJob, options, "the training")
    resolve(replace(job, labeled=[], unlabeled=[], held_out=[], training={"patch_size": _ANY_PATCH, **job.training}), torch.device("cpu"))


def _check_sources(study: Study) -> None:
    runs = runs_of(study)
    ids = {run.id: run for run in runs}
    for run in runs:
        for name, source in run.sources.items():
            key = f"rows ({run.line.name}).take.{name}"
            if source not in ids:
                raise wrong(study.path, key, f"the row {run.line.take[name]['row']!r} has no run with the same data, labels and seed")
            if ids[source].sources:
                raise wrong(study.path, key, "it is taken from a row that takes options itself")


def _check_data(study: Study, key: str, data: DataSet, needs_data: bool) -> list[str]:
    counts = sorted({run.labels for run in runs_of(study) if run.data is data and run.labels is not None})
    if data.phantom:
        there = {name: data.phantom.get(name, count) for name, count in _DEFAULT_PHANTOMS.items()}
        _check_phantom(study, key, data.phantom)
        _enough(study, key, counts, there["num_labeled"], there["num_held_out"])
        return []
    unplaced = [path for name in ("labeled", "unlabeled", "held_out") for path in data.job.get(name, []) if path.startswith(DATA_WORD)]
    if unplaced:
        if needs_data:
            raise wrong(study.path, key, f"{unplaced[0]!r} needs the folder of the data", "Name it with --data DIR.")
        return [f"{data.name}: the cases were not looked at; name their folder with --data DIR."]
    try:
        found = find_cases(*([Path(path) for path in data.job.get(name, [])] for name in ("labeled", "unlabeled", "held_out")), max(counts, default=None))
    except InputError as error:
        raise wrong(study.path, key, str(error), error.hint) from error
    _enough(study, key, counts, len(found.labeled), len(found.held_out))
    return []


def _check_phantom(study: Study, key: str, options: dict[str, Any]) -> None:
    from ..jobs import PhantomJob

    if "out_dir" in options:
        raise wrong(study.path, f"{key}.phantom.out_dir", "the cohort lies in the study's folder")
    try:
        options_from(PhantomJob, options, "the verb phantom")
    except InputError as error:
        raise wrong(study.path, f"{key}.phantom", error.message, error.hint) from error


def _enough(study: Study, key: str, counts: list[int], num_labeled: int, num_held_out: int) -> None:
    if counts and counts[-1] > num_labeled:
        raise wrong(
            study.path, "labels", f"{counts[-1]} labeled cases are asked for, and {key} has {num_labeled}", "Ask for fewer, or add labeled cases."
        )  # fmt: skip
    if num_held_out < 1:
        raise wrong(study.path, key, "no case is held out, so there is nothing to compare", "Name cases with masks under held_out.")
