"""The CSV files of a study: runs.csv, cases.csv, summary.csv."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from ..data.atomic import write_text
from ..metrics.score import METRICS
from .collect import Results
from .words import job_of

RUNS_FILE, CASES_FILE, SUMMARY_FILE = "runs.csv", "cases.csv", "summary.csv"

_COST = ("iterations", "train_s", "wall_s", "parameters", "trained_parameters", "peak_gpu_memory_gb", "peak_host_memory_gb")
_SUMMARY = ("mean", "sd_seeds", "sd_cases", "smallest", "largest", "num_seeds", "num_cases", "undefined")


def write_sheets(results: Results, out_dir: Path) -> list[Path]:
    """Writes the three files; numbers in full precision, what is not defined as an empty field."""
    sheets = {RUNS_FILE: _runs(results), CASES_FILE: _cases(results), SUMMARY_FILE: _summary(results)}
    for name, rows in sheets.items():
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([[_cell(value) for value in row] for row in rows])
        write_text(out_dir / name, stream.getvalue())
    return [out_dir / name for name in sheets]


def state_of(results: Results, run_id: str) -> str:
    """In a word: done, failed, or not done."""
    if any(one.run.id == run_id for one in results.scored):
        return "done"
    return "failed" if run_id in results.failed else "not done"


def _runs(results: Results) -> list[list[Any]]:
    heading = ["run", "row", "method", "preset", "choices", "data", "labels", "seed", "state", "reason", *_COST, "device", "threads", "dice", "dice_best_on_test"]
    rows = [heading]
    scored = {one.run.id: one for one in results.scored}
    for run in results.runs:
        one = scored.get(run.id)
        result = one.result if one else {}
        options = job_of(results, run)
        dice = list(one.value(results.structures[0], "dice").values()) if one else []
        known = [value for value in dice if not math.isnan(value)]
        rows.append([
            run.id, run.line.name, run.line.method, options.get("preset", ""), json.dumps(run.line.choices), run.data.name, run.labels, run.seed,
            state_of(results, run.id), results.failed.get(run.id, ""), *({**result, "wall_s": results.wall_s(one) if one else None}.get(name) for name in _COST), options.get("device", ""),
            options.get("threads", ""), sum(known) / len(known) if known else None, one.best_on_test if one else None,
        ])  # fmt: skip
    return rows


def _cases(results: Results) -> list[list[Any]]:
    rows: list[list[Any]] = [["run", "row", "data", "labels", "seed", "case", "structure", *METRICS, "note"]]
    for one in results.scored:
        run = one.run
        for row in one.table.rows:
            numbers = [row.values.get(metric) for metric in METRICS]
            rows.append([run.id, run.line.name, run.data.name, run.labels, run.seed, row.case, row.label, *numbers, row.note])
    return rows


def _summary(results: Results) -> list[list[Any]]:
    heading = ["data", "labels", "structure", "metric", "row", *_SUMMARY]
    rows: list[list[Any]] = [
        [*heading, "difference_to_reference", "interval_low", "interval_high", "interval_cases", "interval_patients", "interval_seeds", "seeds_above", "reference", "reference_labels", "seeds_asked"]
    ]
    for condition in results.conditions:
        for structure in results.structures:
            for metric in METRICS:
                for line in results.lines:
                    summary = results.summary(condition, line, structure, metric)
                    if summary is None:
                        continue
                    difference = results.difference(condition, line, structure, metric)
                    interval = [difference.mean, difference.low, difference.high, difference.num_cases, difference.num_patients, difference.num_seeds, difference.num_above] if difference else [None] * 7
                    numbers = [getattr(summary, name) for name in _SUMMARY]
                    where = [condition.data, results.labels_of(condition, line), structure, metric, line.name]
                    rows.append([*where, *numbers, *interval, results.reference_of(line).name, condition.labels, len(results.planned(condition, line))])
    return rows


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else value
