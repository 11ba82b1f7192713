"""The scores of a run as text, the baseline beside the method."""

from __future__ import annotations

from typing import Any

COLUMNS = (
    ("dice", "Dice", "{:.3f}"),
    ("jaccard", "Jaccard", "{:.3f}"),
    ("hd95_voxels", "95HD (voxel)", "{:.2f}"),
    ("asd_voxels", "ASD (voxel)", "{:.2f}"),
    ("hd95_mm", "95HD (mm)", "{:.2f}"),
    ("assd_mm", "ASSD (mm)", "{:.2f}"),
)
"""Key of a metric, heading, format."""


def score_rows(result: dict[str, Any]) -> list[list[str]]:
    """Heading and one row a structure and run: structure, method, cases, mean and spread of every metric."""
    heading = ["structure", "method", "cases", *(title for _, title, _ in COLUMNS)]
    rows = [heading]
    runs = [(result.get("method", ""), result)]
    if "baseline" in result:
        runs.append(("supervised, same budget", result["baseline"]))
    structures = list(result.get("scores", {}))
    for structure in structures:
        for name, run in runs:
            metrics = run.get("scores", {}).get(structure, {})
            count = metrics.get("dice", {}).get("count", run.get("scored", 0))
            rows.append([structure, name, f"{count:g}", *(_cell(metrics.get(key), form) for key, _, form in COLUMNS)])
    return rows


def _cell(metric: dict[str, float] | None, form: str) -> str:
    if not metric or metric.get("mean") is None:
        return "–"
    text = form.format(metric["mean"])
    return text + (" ± " + form.format(metric["sd"]) if metric.get("sd") is not None else "")


def score_table(result: dict[str, Any]) -> str:
    """The rows as aligned text; a sentence when nothing was held out."""
    rows = score_rows(result)
    if len(rows) == 1:
        return "No case was held out, so there is no score. Name some with --held-out to get one."
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
