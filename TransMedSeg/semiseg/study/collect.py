"""Everything the runs of a study have written, as one set of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ..metrics.table import Table
from . import record
from .definition import Study
from .finished import cases_in, is_of_one_piece, result_of, scores_of
from .grid import Line, Run, lines_of, runs_of
from .statistics import Interval, Summary, paired_interval, summarize
from .tasks import Place, asked_of

ALL = "all structures"
"""The mean over structures, taken for every case first."""


@dataclass(frozen=True)
class Condition:
    """What the rows of one table have in common."""

    data: str
    labels: int | None

    @property
    def title(self) -> str:
        return f"{self.data}, {'all labels' if self.labels is None else f'{self.labels} labels'}"


@dataclass(frozen=True)
class Scored:
    """A run that is done.

    Attributes:
        result: Its ``result.json``.
        table: Its scores, case by structure.
        patients: Whose each case is.
    """

    run: Run
    result: dict[str, Any]
    table: Table
    patients: Mapping[str, str] = field(default_factory=dict)

    @property
    def best_on_test(self) -> float | None:
        """The highest Dice of its looks at the held-out cases, the last checkpoint included; None when it did not look. Not the protocol."""
        found = self.result.get("best_on_test")
        return found["dice"] if isinstance(found, dict) else None

    def value(self, structure: str, metric: str) -> dict[str, float]:
        """A metric by case."""
        rows = self.table.rows
        if structure != ALL:
            return {row.case: row.values.get(metric, math.nan) for row in rows if row.label == structure}
        by_case: dict[str, list[float]] = {}
        for row in rows:
            value = row.values.get(metric, math.nan)
            by_case.setdefault(row.case, []).extend([] if math.isnan(value) else [value])
        return {case: sum(values) / len(values) if values else math.nan for case, values in by_case.items()}


@dataclass
class Results:
    """The whole study.

    Attributes:
        study, place: What and where.
        runs: All, done or not.
        scored: Those that are done and have scores.
        failed: Reason by run id.
    """

    study: Study
    place: Place
    runs: list[Run]
    scored: list[Scored] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[Line]:
        return lines_of(self.study)

    @property
    def conditions(self) -> list[Condition]:
        """In the order of the study; only those with a scored run."""
        counts = list(dict.fromkeys(run.labels for run in self.runs if not self.is_guest(run.line)))
        found = [Condition(data.name, labels) for data in self.study.data for labels in counts]
        return [one for one in found if any(self.of(one, line) for line in self.lines)]

    def is_guest(self, line: Line) -> bool:
        """Whether a row has one number of labels of its own, such as a ceiling with every label: it stands in every table of its data."""
        has_hosts = any(count in self.study.labels for one in self.lines for count in one.labels)
        return has_hosts and len(line.labels) == 1 and line.labels[0] not in self.study.labels

    def labels_of(self, condition: Condition, line: Line) -> int | None:
        """With how many labels a row of a table was trained."""
        return line.labels[0] if self.is_guest(line) else condition.labels

    @property
    def structures(self) -> list[str]:
        """Names as scored; ``ALL`` comes first where there are several."""
        names = list(dict.fromkeys(row.label for one in self.scored for row in one.table.rows))
        return [ALL, *names] if len(names) > 1 else names

    def of(self, condition: Condition, line: Line) -> list[Scored]:
        """The runs of one row of one table that are done, by seed."""
        found = {run.id for run in self.planned(condition, line)}
        return [one for one in self.scored if one.run.id in found]

    def planned(self, condition: Condition, line: Line) -> list[Run]:
        """The runs that a row of a table has when the study is done; none where the row is not part of the table."""
        labels = self.labels_of(condition, line)
        return [run for run in self.runs if run.line.name == line.name and run.data.name == condition.data and run.labels == labels]

    def is_uneven(self, condition: Condition) -> bool:
        """Whether the rows of a table rest on different numbers of seeds; those without any have no number to mistake."""
        return len({count for line in self.lines if (count := len(self.of(condition, line)))}) > 1

    def title(self, condition: Condition, line: Line) -> str:
        """A row's name, with what sets it apart from the others of its table: labels of its own, and fewer seeds than others have."""
        labels, seeds = self.labels_of(condition, line), len(self.of(condition, line))
        apart = [f"{'all' if labels is None else labels} labels"] if self.is_guest(line) else []
        apart += [f"{seeds} seed{'s' * (seeds != 1)}"] if self.is_uneven(condition) else []
        return f"{line.name} ({', '.join(apart)})" if apart else line.name

    def values(self, condition: Condition, line: Line, structure: str, metric: str) -> dict[int, dict[str, float]]:
        """A metric by seed and case."""
        return {one.run.seed: one.value(structure, metric) for one in self.of(condition, line)}

    def summary(self, condition: Condition, line: Line, structure: str, metric: str) -> Summary | None:
        """None when no run of the row is done."""
        values = self.values(condition, line, structure, metric)
        return summarize(values) if values else None

    @property
    def reference(self) -> Line:
        """The row that the others are compared with, unless they name another."""
        lines = self.lines
        return next((line for line in lines if line.name == self.study.reference), lines[0])

    def reference_of(self, line: Line) -> Line:
        """What a row is compared with; the row itself where it is compared with nothing."""
        return next((one for one in self.lines if one.name == line.reference), self.reference)

    def is_reference(self, line: Line) -> bool:
        """Whether a row is compared with nothing."""
        return self.reference_of(line).name == line.name

    @property
    def reference_word(self) -> str:
        """Name of the one row that all are compared with; else a word for whichever each names."""
        return "its reference" if len({self.reference_of(line).name for line in self.lines}) > 1 else self.reference.name

    def difference(self, condition: Condition, line: Line, structure: str, metric: str) -> Interval | None:
        """Against the reference, over the seeds that both have; None for that row itself, and where the two share none."""
        values, other = (self.values(condition, one, structure, metric) for one in (line, self.reference_of(line)))
        return None if self.is_reference(line) or not values or not other else paired_interval(values, other, self.patients(condition))

    def num_patients(self, condition: Condition) -> int:
        """Of the scored cases of a table; a case that nobody knows the patient of is one of its own."""
        cases = {case for line in self.lines for one in self.of(condition, line) for case in one.value(self.structures[0], "dice")}
        patients = self.patients(condition)
        return len({patients[case] for case in cases if case in patients}) + sum(case not in patients for case in cases)

    def wall_s(self, one: Scored) -> float | None:
        """Seconds of a run with its looks and saving; None where its clock did not count the whole of it."""
        return float(one.result.get("wall_s", 0.0)) if is_of_one_piece(self.place.run_dir(one.run), one.result) else None

    def patients(self, condition: Condition) -> dict[str, str]:
        """Whose each scored case of a table is."""
        return {case: patient for line in self.lines for one in self.of(condition, line) for case, patient in one.patients.items()}


def collect(study: Study, place: Place, failed: dict[str, str] | None = None) -> Results:
    """Reads what is there; a run that is not done is missing, not zero. Runs that were made for another version of the study do not count."""
    results = Results(study, place, runs_of(study), failed=dict(failed or {}))
    patients = cache(_patients)
    for run in results.runs:
        folder = place.run_dir(run)
        result, scores = result_of(folder), scores_of(folder)
        asked = record.read_asked(folder)
        if result is not None and scores is not None and asked is not None and not record.changes(asked, asked_of(study, place, run)):
            results.scored.append(Scored(run, result, scores, patients(place.prepared_dir(run.preparation))))
        elif run.id not in results.failed and (failure := record.last_failure(folder)) is not None:
            results.failed[run.id] = record.reason_of(failure)
    return results


def _patients(prepared_dir: Path) -> dict[str, str]:
    """Patient of each held-out case; nobody where the prepared cases are gone."""
    prepared = cases_in(prepared_dir)
    return {} if prepared is None else {prepared.cases[index].id: prepared.cases[index].patient for index in prepared.indices("held_out")}
