"""Case by label: the table of a study, its summary, and the three forms it is kept in (CSV, JSON, text)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .score import METRICS, score_masks

SUMMARY = ("mean", "sd", "median", "q1", "q3", "count", "undefined")
"""What :meth:`Table.summary` tells: sd of a sample (n - 1), q1 and q3 the quartiles, undefined the NaNs left out."""

TEXT_COLUMNS = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "hd95_voxels": "95HD vox",
    "asd_voxels": "ASD vox",
    "hd95_mm": "95HD mm",
    "assd_mm": "ASSD mm",
    "volume_ml": "mL",
    "reference_ml": "ref. mL",
}
"""The numbers a terminal has room for, with short titles."""


@dataclass(frozen=True)
class Row:
    """One mask of one case.

    Args:
        case: Case id.
        label: Name of the structure.
        values: By metric; NaN is "not defined".
        note: What a reader must know of this row, such as an empty mask; usually empty.
    """

    case: str
    label: str
    values: dict[str, float]
    note: str = ""


@dataclass
class Table:
    """Rows and what they amount to."""

    rows: list[Row] = field(default_factory=list)

    def add(
        self, case: str, prediction: np.ndarray, reference: np.ndarray, step_mm: Any, labels: dict[int, str], note: str = ""
    ) -> list[Row]:
        """Scores every structure of one case.

        Args:
            case: Case id.
            prediction: Label map.
            reference: Label map of the same shape.
            step_mm: As in :func:`score_masks`.
            labels: Name of each value that counts.
            note: What a reader must know of all these rows.
        """
        added = []
        for value, name in labels.items():
            values, own_note = score_masks(prediction == value, reference == value, step_mm)
            added.append(Row(case, name, values, "; ".join(part for part in (note, own_note) if part)))
        self.rows += added
        return added

    @property
    def labels(self) -> list[str]:
        """Names of the structures in the order they came."""
        return list(dict.fromkeys(row.label for row in self.rows))

    def mean(self, metric: str, label: str | None = None) -> float:
        """Mean over cases; over all structures first where ``label`` is left out, as the papers average classes."""
        if label is not None:
            return self.summary()[label][metric]["mean"]
        return _mean([self.mean(metric, name) for name in self.labels])

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """By label and metric: the numbers named in ``SUMMARY``."""
        return {
            label: {
                metric: _summarize([row.values.get(metric, math.nan) for row in self.rows if row.label == label])
                for metric in METRICS
            }
            for label in self.labels
        }

    def to_csv(self) -> str:
        """One line a row, comma separated, full precision; an undefined number is an empty field."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", "label", *METRICS, "note"])
        for row in self.rows:
            numbers = [row.values.get(metric, math.nan) for metric in METRICS]
            writer.writerow(
                [row.case, row.label, *("" if math.isnan(n) else repr(float(n)) for n in numbers), row.note]
            )
        return stream.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Rows and summary as JSON values; an undefined number is null."""
        return {
            "metrics": dict(METRICS),
            "rows": [
                {"case": row.case, "label": row.label, "values": _nulls(row.values), "note": row.note}
                for row in self.rows
            ],
            "summary": {
                label: {metric: _nulls(numbers) for metric, numbers in metrics.items()}
                for label, metrics in self.summary().items()
            },
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Table:
        """The inverse of :meth:`to_json`; the summary is computed anew."""
        rows = [
            Row(
                row["case"],
                row["label"],
                {metric: math.nan if value is None else float(value) for metric, value in row["values"].items()},
                row.get("note", ""),
            )
            for row in fields["rows"]
        ]
        return cls(rows)

    def to_text(self, columns: Sequence[str] = tuple(TEXT_COLUMNS)) -> str:
        """Two tables for a terminal: the cases, then mean and sd, median and quartiles of each number and structure."""
        cases = [["case", "label", *(TEXT_COLUMNS.get(column, METRICS[column]) for column in columns)]]
        for row in self.rows:
            cases.append([row.case, row.label, *(_number(row.values.get(c, math.nan), c) for c in columns)])
        text = [_aligned(cases, 2)]
        for label, metrics in self.summary().items():
            num_cases = sum(row.label == label for row in self.rows)
            plural = "case" if num_cases == 1 else "cases"
            lines = [[f"{label}, {num_cases} {plural}", "mean ± sd", "median [IQR]"]]
            for column in columns:
                numbers = metrics[column]
                title = METRICS[column] + (f" ({numbers['undefined']} undefined)" if numbers["undefined"] else "")
                lines.append([title, _mean_and_sd(numbers, column), _median_and_quartiles(numbers, column)])
            text += ["", _aligned(lines, 1)]
        notes = [f"{row.case}, {row.label}: {row.note}." for row in self.rows if row.note]
        return "\n".join([*text, *([""] if notes else []), *notes]) + "\n"

    def dumps(self) -> str:
        """:meth:`to_json` as text."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _summarize(values: list[float]) -> dict[str, float]:
    known = np.array([value for value in values if not math.isnan(value)])
    numbers = {"count": len(known), "undefined": len(values) - len(known)}
    if len(known) == 0:
        return {**dict.fromkeys(("mean", "sd", "median", "q1", "q3"), math.nan), **numbers}
    q1, median, q3 = np.percentile(known, [25, 50, 75])
    sd = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    return {"mean": float(known.mean()), "sd": sd, "median": float(median), "q1": float(q1), "q3": float(q3), **numbers}


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _nulls(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}


def _number(value: float, column: str) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if column in ("dice", "jaccard") else f"{value:.2f}"


def _mean_and_sd(numbers: dict[str, float], column: str) -> str:
    return f"{_number(numbers['mean'], column)} ± {_number(numbers['sd'], column)}"


def _median_and_quartiles(numbers: dict[str, float], column: str) -> str:
    return f"{_number(numbers['median'], column)} [{_number(numbers['q1'], column)}–{_number(numbers['q3'], column)}]"


def _aligned(lines: list[list[str]], num_left: int) -> str:
    """Columns of equal width, the first ``num_left`` flush left, the others right, and a rule under the titles."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    out = []
    for line in lines:
        cells = [
            cell.ljust(w) if column < num_left else cell.rjust(w) for column, (cell, w) in enumerate(zip(line, widths))
        ]
        out.append("  ".join(cells).rstrip())
    return "\n".join([out[0], "─" * (sum(widths) + 2 * (len(widths) - 1)), *out[1:]])
