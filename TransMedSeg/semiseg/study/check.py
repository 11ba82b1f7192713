"""Looks at a whole study before anything starts: every option of every row, and whether there are enough labeled cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.cases import find_cases
from ..errors import InputError
from ..job_options import options_from
from ..jobs import PhantomJob
from ..methods import METHODS
from ..phantom.cohort import SITE_MIX, check_recipe
from ..train_job import TrainJob, resolve
from .definition import DATA_WORD, DataSet, Study, wrong
from .grid import lines_of, runs_of

_ANY_PATCH = (16, 16, 16)
_NOTHING_TO_COMPARE = "no case is held out, so there is nothing to compare"


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
        sentences += _check_data(study, f"data[{place}] ({data.name})" if len(study.data) > 1 else "data", data, needs_data)
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
        job = _check_phantom(study, f"{key}.phantom", data.phantom)
        _enough(study, key, counts, job.num_labeled)
        if job.num_held_out < 1:
            raise wrong(study.path, f"{key}.phantom.num_held_out", f"{_NOTHING_TO_COMPARE}; found {job.num_held_out}", "Ask for 1 or more.")
        return []
    unplaced = [path for name in ("labeled", "unlabeled", "held_out") for path in data.job.get(name, []) if path.startswith(DATA_WORD)]
    if unplaced:
        if needs_data:
            raise wrong(study.path, key, f"{unplaced[0]!r} needs the folder of the data", "Name it with --data DIR.")
        return [f"{data.name}: the cases were not looked at; name their folder with --data DIR."]
    try:
        found = find_cases(*([Path(path) for path in data.job.get(name, [])] for name in ("labeled", "unlabeled", "held_out")), max(counts, default=None))
    except InputError as error:
        where = f" ({error.path})" if error.path is not None else ""
        raise wrong(study.path, key, f"{error.message.rstrip('.')}{where}", error.hint) from error
    _enough(study, key, counts, len(found.labeled))
    if not found.held_out:
        raise wrong(study.path, key, _NOTHING_TO_COMPARE, "Name cases with masks under held_out.")
    return []


def _check_phantom(study: Study, key: str, options: dict[str, Any]) -> PhantomJob:
    """What the verb refuses when it starts, which is after hours where other cohorts come first."""
    if "out_dir" in options:
        raise wrong(study.path, f"{key}.out_dir", "the cohort lies in the study's folder")
    try:
        job = options_from(PhantomJob, options, "the verb phantom")
        counts = {"labeled": job.num_labeled, "unlabeled": job.num_unlabeled, "held_out": job.num_held_out}
        check_recipe(counts, {**SITE_MIX, **job.site_mix}, job.size, job.appendage)
    except InputError as error:
        raise wrong(study.path, key, error.message, error.hint) from error
    return job


def _enough(study: Study, key: str, counts: list[int], num_labeled: int) -> None:
    if counts and counts[-1] > num_labeled:
        raise wrong(
            study.path, "labels", f"{counts[-1]} labeled cases are asked for, and {key} has {num_labeled}", "Ask for fewer, or add labeled cases."
        )  # fmt: skip
