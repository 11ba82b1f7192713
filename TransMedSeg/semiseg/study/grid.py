"""From a study to its runs: every row x data set x number of labels x seed, with the job each of them asks for."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from .definition import DataSet, Row, Study, put
from .rehearsal import miniature

OUT_WORD = "$OUT"
"""Stands in jobs for the study's folder, so that it can be moved."""

_NOT_OF_THE_DATA = (
    "method", "preset", "seed", "baseline", "network_options", "method_options", "training", "augment", "minutes", "device", "threads", "prepared",
    "tsa", "tsa_options",
)  # fmt: skip
"""Fields of a training job that do not change what its cases are prepared to."""


@dataclass(frozen=True)
class Line:
    """A row of the tables: one of the study's rows with one choice of its grid.

    Attributes:
        name: In tables.
        row: Name of the study's row.
        choices: What the grid chose.
        job: Fields of ``TrainJob`` in which the lines differ.
    """

    name: str
    row: str
    method: str
    choices: dict[str, Any]
    job: dict[str, Any]
    take: dict[str, Any]
    seeds: tuple[int, ...]
    labels: tuple[int | None, ...]
    reference: str = ""
    note: str = ""


@dataclass(frozen=True)
class Preparation:
    """Cases that several runs share: found, checked and prepared once.

    Attributes:
        id: Name of its folder below ``data``.
        options: Of the verb ``prepare``.
    """

    id: str
    data: DataSet
    options: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        id: Name of its folder below ``runs``.
        options: Of the verb ``train``, apart from what is only known when it starts: device, threads, and a length that a probe settles.
        preparation: Its prepared cases.
        measure: Id of the measurement that settles its length.
        sources: For each option in ``take``: the id of the run that it is measured in.
    """

    id: str
    line: Line
    data: DataSet
    labels: int | None
    seed: int
    options: dict[str, Any]
    preparation: Preparation
    measure: str
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """For people: row, data, labels, seed."""
        count = "all labels" if self.labels is None else f"{self.labels} labels"
        return f"{self.line.name}, {self.data.name}, {count}, seed {self.seed}"


def lines_of(study: Study) -> list[Line]:
    """The rows of the tables, in the order of the study; grids are written out."""
    return [line for row in study.rows for line in _lines(study, row)]


def runs_of(study: Study) -> list[Run]:
    """Every run once. The first seed of all rows comes before the second of any, so that an unfinished study compares what is there."""
    lines = lines_of(study)
    seeds = list(dict.fromkeys(seed for line in lines for seed in line.seeds))
    labels = list(dict.fromkeys(count for line in lines for count in line.labels))
    found = [
        _run(study, data, line, count, seed)
        for seed, data, count, line in itertools.product(seeds, study.data, labels, lines)
        if seed in line.seeds and count in line.labels
    ]
    known = {(run.line.row, run.data.name, run.labels, run.seed): run.id for run in reversed(found)}
    return [_with_sources(run, known) for run in found]


def merged(*groups: dict[str, Any]) -> dict[str, Any]:
    """Nested options, later ones over earlier ones."""
    values: dict[str, Any] = {}
    for group in groups:
        for name, value in deepcopy(group).items():
            put(values, name, value)
    return values


def slug(text: str) -> str:
    """A name fit for folders on every system; a hash keeps long or similar names apart."""
    plain = re.sub(r"[^A-Za-z0-9.=+-]+", "_", text).strip("_.") or "x"
    return plain if plain == text.replace(" ", "_") and len(plain) <= 60 else f"{plain[:48]}-{_digest(text)}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:6]


def _lines(study: Study, row: Row) -> Iterator[Line]:
    grid = {**study.options, **row.grid}
    for values in itertools.product(*grid.values()):
        choices = dict(zip(grid, values))
        words = [f"{name.rpartition('.')[2]}={_word(value)}" for name, value in choices.items()]
        # Groups are merged: a row changes one option of a group and keeps the others.
        job = merged(study.common, row.set, choices, {"method": row.method})
        yield Line(
            " ".join([row.name, *words]), row.name, row.method, choices, job, row.take,
            tuple(study.seeds if row.seeds is None else row.seeds), tuple(study.labels if row.labels is None else row.labels), row.reference, row.note,
        )  # fmt: skip


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value).strip('"')


def _run(study: Study, data: DataSet, line: Line, labels: int | None, seed: int) -> Run:
    places = {"labeled": [f"{OUT_WORD}/data/{slug(data.name)}/cohort"]} if data.phantom else {}
    options = merged(places, line.job, data.job, {"seed": seed, "num_labeled": labels})
    if study.budget.iterations:
        options.setdefault("training", {})["iterations"] = study.budget.iterations
    if study.is_rehearsal:
        options = miniature(options)
    preparation = _preparation(data, labels, options)
    count = "all" if labels is None else str(labels)
    parts = [slug(line.name), *([slug(data.name)] if len(study.data) > 1 else []), f"{count}labels", f"seed{seed}"]
    measure = f"{slug(line.name)}-{slug(_measured_on(study, data))}"
    return Run("-".join(parts), line, data, labels, seed, options, preparation, measure)


def _measured_on(study: Study, data: DataSet) -> str:
    """The first data set whose steps cost the same: phantoms of one size differ in what is in them, not in their grid."""

    def cost(one: DataSet) -> Any:
        return [one.job, {name: one.phantom.get(name) for name in ("size", "full_field_of_view")} if one.phantom else one.name]

    return next(one.name for one in study.data if cost(one) == cost(data))


def _preparation(data: DataSet, labels: int | None, options: dict[str, Any]) -> Preparation:
    wanted = {name: value for name, value in options.items() if name not in _NOT_OF_THE_DATA}
    others = {name: value for name, value in wanted.items() if name not in ("num_labeled", "labeled", "unlabeled", "held_out")}
    count = "all" if labels is None else str(labels)
    return Preparation(f"{slug(data.name)}/{count}labels-{_digest(others)}", data, wanted)


def _with_sources(run: Run, known: dict[tuple[Any, ...], str]) -> Run:
    if not run.line.take:
        return run
    sources = {name: known.get((source["row"], run.data.name, run.labels, run.seed), "") for name, source in run.line.take.items()}
    return Run(**{**run.__dict__, "sources": sources})
