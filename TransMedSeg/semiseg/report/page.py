"""report.html: the Dice table, overlays of the held-out cases, curves, what was done to whom, and the job."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..data.atomic import write_text
from ..data.cache import PreparedCase, PreparedSet
from ..errors import InputError
from ..protocol import EVENTS_FILE, JOB_FILE, MODEL_FILE, RESULT_FILE, read_events
from . import pictures
from .html import figure, page, table
from .tables import score_rows


def write_report(run_dir: Path) -> Path:
    """Writes ``report.html`` into a run folder; it needs no other file and no network.

    Raises:
        InputError: The folder holds no run, or the run has no result yet.
    """
    run_dir = Path(run_dir)
    result_path = run_dir / RESULT_FILE
    if not result_path.exists():
        raise InputError("The run has no result yet.", path=result_path, hint="Run the folder to its end first.")
    result = json.loads(result_path.read_text(encoding="utf-8"))
    events, _ = read_events(run_dir / EVENTS_FILE)
    job = json.loads((run_dir / JOB_FILE).read_text(encoding="utf-8"))
    if job.get("verb") == "study":
        raise InputError("The folder holds a study, which has a report of its own.", path=run_dir, hint="`semiseg study` writes it.")
    prepared = _prepared(run_dir, job)
    parts = [
        f"<h1>{html.escape(str(result.get('method', 'run')))}: {html.escape(_structures(prepared))}</h1>",
        f"<p class=note>{html.escape(_summary(result))} Research use only.</p>",
        "<h2>Scores on the held-out cases</h2>",
        _scores(score_rows(result)),
        (
            "<p class=note>Last checkpoint, on each volume's own grid; nothing was selected on these cases. 95HD and ASD in voxels follow medpy, "
            "as the papers print them; millimeters use each volume's spacing.</p>"
        ),
        _case_table(run_dir),
        _overlays(run_dir, prepared),
        _curves(events),
        _cases(prepared),
        (
            f"<h2>The resolved job</h2><p class=note>Running this <code>{JOB_FILE}</code> again is the recipe to reproduce the model "
            f"<code>{MODEL_FILE}</code>.</p><pre>{html.escape(json.dumps(job, indent=1))}</pre>"
        ),
    ]
    write_text(run_dir / "report.html", page("semiseg report", parts))
    return run_dir / "report.html"


def _prepared(run_dir: Path, job: dict[str, Any]) -> PreparedSet | None:
    folder = Path(job["options"].get("prepared") or run_dir / "prepared")
    return PreparedSet.load(folder) if (folder / "cases.json").exists() else None


def _structures(prepared: PreparedSet | None) -> str:
    return ", ".join(str(label["name"]) for label in prepared.labels) if prepared else "segmentation"


def _summary(result: dict[str, Any]) -> str:
    cases = result.get("cases", {})
    return (
        f"{cases.get('labeled', 0)} labeled and {cases.get('unlabeled', 0)} unlabeled cases, {cases.get('held_out', 0)} held out. "
        f"{result.get('network', '')} with {result.get('parameters', 0):,} parameters, {result.get('iterations', 0):,} iterations in "
        f"{result.get('train_s', 0) / 60:.1f} minutes, seed {result.get('seed', 0)}."
    )


def _scores(rows: list[list[str]]) -> str:
    return table(rows) if len(rows) > 1 else "<p>No case was held out, so there is no score.</p>"


def _case_table(run_dir: Path) -> str:
    path = run_dir / "dice.txt"
    if not path.exists():
        return ""
    return f"<details><summary>Every case</summary><pre>{html.escape(path.read_text(encoding='utf-8'))}</pre></details>"


def _overlays(run_dir: Path, prepared: PreparedSet | None) -> str:
    """Worst, median and best held-out case, each at the slice of largest disagreement and in the middle of the structure."""
    scores = run_dir / "dice.json"
    if prepared is None or not scores.exists():
        return ""
    rows = [row for row in json.loads(scores.read_text(encoding="utf-8"))["rows"] if row["values"].get("dice") is not None]
    if not rows:
        return ""
    rows.sort(key=lambda row: row["values"]["dice"])
    chosen = {"worst": rows[0], "median": rows[len(rows) // 2], "best": rows[-1]}
    by_id = {case.id: case for case in prepared.cases}
    figures = []
    shown: set[str] = set()
    for word, row in chosen.items():
        if row["case"] in shown:  # of two cases the median is the best
            continue
        shown.add(row["case"])
        case = by_id.get(row["case"])
        if case is not None:
            figures += _case_figures(run_dir, case, f"{word}: {row['case']}, Dice {row['values']['dice']:.3f}")
    if not figures:
        return ""
    legend = "<p><span class=found>Orange</span>: the model. <span class=truth>Blue</span>: the reference.</p>"
    return "<h2>Slices of held-out cases</h2>" + legend + "<div class=slices>" + "".join(figures) + "</div>"


def _case_figures(run_dir: Path, case: PreparedCase, title: str) -> list[str]:
    from ..data.files import read_labels, read_volume

    candidates = sorted((run_dir / "segmentations").glob("*.seg.nrrd"))
    path = next((one for one in candidates if one.name == f"{case.id}.seg.nrrd"), None)
    if path is None:
        return []
    try:
        image = read_volume(Path(case.image))
        found, truth = read_labels(path)[0], read_labels(Path(case.label))[0]
    except InputError as error:  # moved since; the scores stand without their pictures
        return [f"<p class=note>{html.escape(title)}: no picture. {html.escape(error.message)}</p>"]
    if found.array.shape != image.array.shape or truth.array.shape != image.array.shape:
        return []
    spacing = image.geometry.spacing_mm
    wrong = ((found.array > 0) != (truth.array > 0)).sum((1, 2))
    occupied = np.flatnonzero((truth.array > 0).any((1, 2)))
    places = {"largest disagreement": int(wrong.argmax()), "middle": int(occupied[len(occupied) // 2]) if len(occupied) else 0}
    figures = []
    for word, place in places.items():
        png = pictures.overlay(image.array[place].astype(np.float32), found.array[place], truth.array[place], spacing[1] / spacing[2])
        figures.append(figure(png, f"{title}; slice {place} ({word})"))
    return figures


def _curves(events: list[dict[str, Any]]) -> str:
    found = pictures.curves(events)
    if not found:
        return ""
    return "<h2>Curves</h2><div class=curves>" + "".join(figure(png, "") for _, png in found) + "</div>"


def _cases(prepared: PreparedSet | None) -> str:
    if prepared is None:
        return ""
    rows = [["case", "use", "why not"]]
    rows += [[case.id, case.role if case.is_used else "refused", f"{case.code} {case.reason}".strip()] for case in prepared.cases]
    notes = "".join(f"<li>{html.escape(message)}</li>" for message in prepared.messages)
    return f"<h2>Cases</h2><ul>{notes}</ul><details><summary>{len(rows) - 1} cases</summary>{table(rows)}</details>"
