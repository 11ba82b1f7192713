"""The study file: what is compared on which data, with which labels, seeds and budget. docs/studies/README.md explains every key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..job_options import options_from
from ..train_job import TrainJob

FORMAT = 1
DATA_WORD = "$DATA"
"""Stands in paths for the folder given on the command line."""

_SET_BY_THE_STUDY = ("seed", "num_labeled", "prepared", "baseline", "minutes", "device", "threads", "best_on_test", "first_stages")
_JOB_FIELDS = tuple(entry.name for entry in fields(TrainJob) if entry.name not in _SET_BY_THE_STUDY)
_LENGTHS = ("training.iterations", "training.minutes")
_GROUPS = ("preprocessing", "network_options", "method_options", "training", "augment")


@dataclass(frozen=True)
class Budget:
    """How long every run trains; exactly one of the two.

    Attributes:
        iterations: Steps of every run.
        seconds: Of training, the same for every row. A probe turns them into steps, once a row.
    """

    iterations: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if (self.iterations > 0) == (self.seconds > 0) or min(self.iterations, self.seconds) < 0:
            raise ValueError("state either iterations or seconds, above 0")


@dataclass(frozen=True)
class DataSet:
    """Where the cases come from.

    Attributes:
        name: In tables and folder names.
        note: One sentence for the report.
        phantom: Options of the verb ``phantom``; the cohort is made in the study's folder.
        job: Fields of ``TrainJob`` that say where the cases are and how they are prepared.
    """

    name: str = "data"
    note: str = ""
    phantom: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A row of the table: a method with its options.

    Attributes:
        name: In the table; the method's name when empty.
        method: A name of ``METHODS``.
        set: Other fields of ``TrainJob``, with dots for groups: ``{"method_options.tsa_weight": 0.4}``.
        grid: The same with a list of values each: one row for every combination.
        take: Options that are measured in another row's run: ``{"method_options.margins": {"row": "G", "scalars": ["a", "b"]}}`` takes the means of
            these curves over that run, of the same data, labels and seed.
        seeds: Instead of the study's.
        labels: Instead of the study's.
        reference: Name of the row of the table that this one is compared with, instead of the study's; its own name for none.
        note: One sentence for the report.
    """

    name: str = ""
    method: str = "transmedseg"
    set: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, Any] = field(default_factory=dict)
    take: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] | None = None
    labels: list[int | None] | None = None
    reference: str = ""
    note: str = ""


@dataclass(frozen=True)
class Study:
    """A whole study.

    Attributes:
        path: The file it was read from.
        title: Of the report.
        question: What the study is to answer.
        data: One or several data sets; every row runs on each.
        rows: One of them is what the others are compared with.
        budget: Of each run.
        labels: Numbers of labeled cases; None takes all.
        seeds: Of everything random.
        options: A grid over all rows, as in ``Row.grid``.
        common: Fields of ``TrainJob`` for every run; dots for groups are allowed.
        limits: Sentences for "What the tables do not show".
        reference: Name of the row of the table that the others are compared with; the first one when empty.
        best_on_test: How often each run scores the held-out cases while training, for a second column that says so; 0 never. Choosing by it is
            not the protocol, and nothing is chosen by it.
        share_first_stage: Rows whose first stage is the same train it once for each seed and number of labels. Their scores do not change by it; the
            seconds of that stage count for each of them. Not with ``best_on_test``.
        is_rehearsal: The study in miniature: sizes that jobs state are replaced by small ones.
    """

    path: Path
    title: str
    question: str
    data: tuple[DataSet, ...]
    rows: tuple[Row, ...]
    budget: Budget
    labels: tuple[int | None, ...] = (None,)
    seeds: tuple[int, ...] = (0,)
    options: dict[str, list[Any]] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    reference: str = ""
    best_on_test: int = 0
    share_first_stage: bool = False
    is_rehearsal: bool = False


_KEYS = {
    "format": int, "title": str, "question": str, "data": (dict, list), "rows": list, "budget": dict, "labels": list, "seeds": list,
    "options": dict, "common": dict, "limits": list, "reference": str, "best_on_test": int,
    "share_first_stage": bool,
}  # fmt: skip


def read_study(path: Path, data_dir: Path | None = None) -> Study:
    """Reads a study file.

    Args:
        path: JSON, see docs/studies/README.md. Relative paths in it start at its folder.
        data_dir: What ``$DATA`` stands for in its paths; None leaves the word where it is.

    Raises:
        InputError: A key or value that does not fit; the message names the key and the file.
    """
    path = Path(path)
    document = _read(path)
    for key, kind in _KEYS.items():
        if key in document and (not isinstance(document[key], kind) or (isinstance(document[key], bool) and kind is not bool)):
            raise wrong(path, key, f"expected {_word(kind)}, found {document[key]!r}")
    unknown = sorted(set(document) - set(_KEYS))
    if unknown:
        raise wrong(path, unknown[0], "there is no such key", f"A study has {', '.join(_KEYS)}.")
    for key in ("title", "data", "rows", "budget"):
        if not document.get(key):
            raise wrong(path, key, "it is missing or empty", "See docs/studies/README.md.")
    if document.get("format", FORMAT) != FORMAT:
        raise wrong(path, "format", f"this version reads {FORMAT}, found {document['format']}")
    study = Study(
        path=path,
        title=document["title"],
        question=document.get("question", ""),
        data=_data_sets(path, document["data"], data_dir),
        rows=tuple(_row(path, place, row) for place, row in enumerate(document["rows"])),
        budget=_built(Budget, document["budget"], path, "budget"),
        labels=_labels(path, "labels", document.get("labels", [None])),
        seeds=_seeds(path, "seeds", document.get("seeds", [0])),
        options=_grid(path, "options", document.get("options", {})),
        common=_job_fields(path, "common", document.get("common", {})),
        limits=_texts(path, "limits", document.get("limits", [])),
        reference=document.get("reference", ""),
        best_on_test=document.get("best_on_test", 0),
        share_first_stage=document.get("share_first_stage", False),
    )
    if study.best_on_test < 0:
        raise wrong(path, "best_on_test", f"expected 0 or more looks, found {study.best_on_test}")
    if study.best_on_test and study.share_first_stage:
        raise wrong(path, "share_first_stage", "best_on_test looks into the first stage of every run", "Leave one of the two out.")
    _check_names(study)
    return study


def wrong(path: Path, key: str, what: str, hint: str = "") -> InputError:
    """The refusal of a key of a study file."""
    return InputError(f"The study's {key} does not fit: {what.rstrip('.')}.", path=path, hint=hint or f"Change {key} in {path.name}.")


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError("There is no study file of this name.", path=path, hint="Examples are in docs/studies.") from error
    except OSError as error:
        raise InputError(f"The study file cannot be read: {error.strerror}.", path=path) from error
    except ValueError as error:
        raise InputError(f"The study file is not JSON: {error}.", path=path, hint="Correct the place that is named.") from error
    if not isinstance(document, dict):
        raise InputError(f"A study file holds one JSON object; found {type(document).__name__}.", path=path)
    return document


def _built(kind: type, values: Any, path: Path, key: str) -> Any:
    if not isinstance(values, dict):
        raise wrong(path, key, f"expected a group of keys, found {values!r}")
    try:
        return options_from(kind, values, key)
    except InputError as error:
        raise wrong(path, key, error.message, error.hint if "has" in error.hint else "") from error


def _row(path: Path, place: int, values: Any) -> Row:
    key = f"rows[{place}]"
    row = _built(Row, values, path, key)
    for name in ("set", "take"):
        _job_fields(path, f"{key}.{name}", getattr(row, name))
    _grid(path, f"{key}.grid", row.grid)
    for name, source in row.take.items():
        if not isinstance(source, dict) or set(source) != {"row", "scalars"} or not isinstance(source["scalars"], list) or not source["scalars"]:
            raise wrong(path, f"{key}.take.{name}", f'expected {{"row": ..., "scalars": [...]}}, found {source!r}')
    if row.seeds is not None:
        _seeds(path, f"{key}.seeds", row.seeds)
    if row.labels is not None:
        _labels(path, f"{key}.labels", row.labels)
    return row if row.name else Row(**{**row.__dict__, "name": row.method})


def _data_sets(path: Path, values: Any, data_dir: Path | None) -> tuple[DataSet, ...]:
    several = values if isinstance(values, list) else [values]
    return tuple(_data_set(path, f"data[{place}]" if isinstance(values, list) else "data", one, data_dir) for place, one in enumerate(several))


def _data_set(path: Path, key: str, values: Any, data_dir: Path | None) -> DataSet:
    if not isinstance(values, dict):
        raise wrong(path, key, f"expected a group of keys, found {values!r}")
    own = {name: values[name] for name in ("name", "note", "phantom") if name in values}
    job = {name: value for name, value in values.items() if name not in own}
    found: DataSet = _built(DataSet, own, path, key)
    places = [name for name in ("labeled", "unlabeled", "held_out") if name in job]
    if bool(found.phantom) == bool(places):
        raise wrong(path, key, "state either phantom, or labeled with unlabeled and held_out")
    for name in places:
        if not isinstance(job[name], list) or not all(isinstance(one, str) for one in job[name]):
            raise wrong(path, f"{key}.{name}", f"expected a list of paths, found {job[name]!r}")
        job[name] = [_path(one, path, data_dir) for one in job[name]]
    return DataSet(found.name, found.note, found.phantom, _job_fields(path, key, job))


def _path(text: str, study: Path, data_dir: Path | None) -> str:
    if text.startswith(DATA_WORD):
        return text if data_dir is None else str(Path(str(Path(data_dir).resolve()) + text[len(DATA_WORD) :]))
    return str((study.resolve().parent / text).resolve())


def _job_fields(path: Path, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested fields of ``TrainJob`` from names with dots; refuses what a study sets itself."""
    if not isinstance(values, Mapping):
        raise wrong(path, key, f"expected a group of options, found {values!r}")
    nested: dict[str, Any] = {}
    for name, value in values.items():
        check_option(path, f"{key}.{name}", name)
        _check_group(path, f"{key}.{name}", name, value)
        put(nested, name, value)
    return nested


def check_option(path: Path, key: str, name: str) -> None:
    """Refuses a name that is no field of a training job, or one that the study decides."""
    first, dot, rest = name.partition(".")
    if first in _SET_BY_THE_STUDY:
        raise wrong(path, key, f"{first} is decided by the study", "Use seeds, labels and budget; threads and devices are flags.")
    if first not in _JOB_FIELDS:
        raise wrong(path, key, f"a training has no option {first!r}", f"It has {', '.join(_JOB_FIELDS)}.")
    if dot and (first not in _GROUPS or "." in rest or not rest):
        raise wrong(path, key, f"{name!r} is not the name of an option", f"Groups of options are {', '.join(_GROUPS)}.")
    if name in _LENGTHS:
        raise wrong(path, key, "the length is decided by the budget")


def _check_group(path: Path, key: str, name: str, value: Any) -> None:
    """The same for a whole group: what a name with dots may not say, an option inside of it may not say either."""
    for option in value if name in _GROUPS and isinstance(value, Mapping) else ():
        check_option(path, f"{key}.{option}", f"{name}.{option}")


def put(values: dict[str, Any], name: str, value: Any) -> None:
    """Sets ``values["group"]["option"]`` for the name ``group.option``; groups are merged."""
    group, dot, option = name.partition(".")
    if dot:
        values.setdefault(group, {})[option] = value
    elif isinstance(value, dict) and isinstance(values.get(name), dict):
        values[name] = {**values[name], **value}
    else:
        values[name] = dict(value) if isinstance(value, dict) else value


def _grid(path: Path, key: str, values: Any) -> dict[str, list[Any]]:
    if not isinstance(values, dict):
        raise wrong(path, key, f"expected a group of options, found {values!r}")
    for name, choices in values.items():
        check_option(path, f"{key}.{name}", name)
        if not isinstance(choices, list) or not choices:
            raise wrong(path, f"{key}.{name}", f"expected a list of values, found {choices!r}")
        for value in choices:
            _check_group(path, f"{key}.{name}", name, value)
    return values


def _labels(path: Path, key: str, values: Any) -> tuple[int | None, ...]:
    fits = isinstance(values, list) and values
    if not fits or not all(one is None or (isinstance(one, int) and not isinstance(one, bool) and one >= 2) for one in values):
        raise wrong(path, key, f"expected numbers of labeled cases from 2 on, or null for all; found {values!r}")
    return tuple(_once(path, key, values))


def _seeds(path: Path, key: str, values: Any) -> tuple[int, ...]:
    fits = isinstance(values, list) and values
    if not fits or not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in values):
        raise wrong(path, key, f"expected a list of integers from 0 on, found {values!r}")
    return tuple(_once(path, key, values))


def _once(path: Path, key: str, values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise wrong(path, key, f"every value may come once; found {values!r}")
    return values


def _texts(path: Path, key: str, values: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(one, str) for one in values):
        raise wrong(path, key, f"expected sentences, found {values!r}")
    return tuple(values)


def _check_names(study: Study) -> None:
    for key, names in (("data", [one.name for one in study.data]), ("rows", [row.name for row in study.rows])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise wrong(study.path, key, f"two of them are named {twice[0]!r}", "Give every one a name of its own.")
    for place, row in enumerate(study.rows):
        for name, source in row.take.items():
            if source["row"] not in [one.name for one in study.rows if one is not row]:
                raise wrong(study.path, f"rows[{place}].take.{name}", f"there is no other row named {source['row']!r}")


def _word(kind: Any) -> str:
    words = {int: "an integer", str: "a text", dict: "a group of keys", list: "a list", bool: "true or false"}
    return " or ".join(words[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
