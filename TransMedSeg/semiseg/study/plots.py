"""The pictures of a study's report as PNG bytes: per volume, per structure, differences, labels, options."""

from __future__ import annotations

import io
import math
import os
from typing import Any

import numpy as np

from .collect import ALL, Condition, Results
from .grid import Line
from .statistics import FEWEST_PATIENTS, case_means, paired_differences

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
"""Colors that color-blind people tell apart (Okabe and Ito), and a brown."""

_MARKS = "osD^vPX"
"""One fewer than colors: rows that share a color differ in their mark."""

_FONT = 8

_LEAST_DIFFERENCE = 0.005
"""Of Dice, to both sides of zero: an axis that is narrower would blow up rounding errors to findings."""


def can_draw() -> bool:
    """Whether matplotlib is there: a training machine does without, and its tables are worth no less."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def per_volume(results: Results, condition: Condition, structure: str) -> bytes:
    """Dice of every volume (mean over seeds) in a line for every row, with quartiles; the same volume has the same height within a line."""
    shown = _shown(results, condition)
    figure, axes = _figure(7.6, 0.34 * len(shown) + 1.0)
    values = [_cases(results, condition, line, structure) for line in shown]
    cases = sorted({case for one in values for case in one})
    place = {case: (index + 0.5) / len(cases) - 0.5 for index, case in enumerate(cases)}
    for row, by_case in enumerate(values):
        known = [value for value in by_case.values() if not math.isnan(value)]
        if not known:
            continue
        low, middle, high = np.percentile(known, [25, 50, 75])
        axes.barh(row, high - low, left=low, height=0.62, color="#e8e8e8", zorder=1)
        axes.plot([middle, middle], [row - 0.31, row + 0.31], color="#888888", linewidth=1.4, zorder=2)
        heights = [row + 0.5 * place[case] for case in by_case]
        axes.plot(list(by_case.values()), heights, "o", markersize=3, color=COLORS[0], alpha=0.75, linestyle="none", zorder=3)
        axes.plot([np.mean(known)], [row], "D", markersize=4.5, color=COLORS[1], zorder=4)
    axes.set(yticks=range(len(shown)), yticklabels=[results.title(condition, line) for line in shown], xlabel=f"Dice, {structure}")
    axes.invert_yaxis()
    return _png(figure, axes)


def differences(results: Results, condition: Condition, structure: str) -> bytes | None:
    """The mean paired difference of every row to the reference, with its interval; None when no row has one."""
    found = [(line, results.difference(condition, line, structure, "dice")) for line in results.lines]
    found = [(line, interval) for line, interval in found if interval is not None]
    if not found:
        return None
    figure, axes = _figure(7.6, 0.32 * len(found) + 1.0)
    axes.axvline(0, color="#888888", linewidth=1)
    for row, (_, interval) in enumerate(found):
        is_apart = (interval.low > 0 or interval.high < 0) and interval.num_patients >= FEWEST_PATIENTS
        axes.plot([interval.low, interval.high], [row, row], color=COLORS[0], linewidth=1.6)
        axes.plot([interval.mean], [row], "o", markersize=6, color=COLORS[0], markerfacecolor=COLORS[0] if is_apart else "white")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -_LEAST_DIFFERENCE), max(high, _LEAST_DIFFERENCE))
    label = f"difference in Dice to {results.reference_word}, {structure}"
    names = [_compared(results, condition, line) for line, _ in found]
    axes.set(yticks=range(len(found)), yticklabels=names, xlabel=label, ylim=(len(found) - 0.4, -0.6))
    return _png(figure, axes)


def per_structure(results: Results, condition: Condition) -> bytes | None:
    """Mean Dice of every structure and row, one mark a seed; None with a single structure."""
    names = [name for name in results.structures if name != ALL]
    if len(names) < 2:
        return None
    shown = _shown(results, condition)
    figure, axes = _figure(max(4.5, 1.4 + 0.28 * len(shown) * len(names)), 3.4)
    width = 0.8 / len(shown)
    for row, line in enumerate(shown):
        for place, name in enumerate(names):
            values = results.values(condition, line, name, "dice")
            means = [_nanmean(by_case.values()) for by_case in values.values()]
            x = place - 0.4 + (row + 0.5) * width
            hatch = "///" if row >= len(COLORS) else None  # a second round of the colors
            axes.bar(x, _nanmean(means), width * 0.9, color=COLORS[row % len(COLORS)], alpha=0.35, hatch=hatch, label=results.title(condition, line) if place == 0 else None)
            axes.plot([x] * len(means), means, "o", markersize=3, color=COLORS[row % len(COLORS)])
    axes.set(xticks=range(len(names)), xticklabels=names, ylabel="Dice")
    axes.legend(fontsize=_FONT - 1, bbox_to_anchor=(1.01, 1), loc="upper left")
    return _png(figure, axes)


def over_labels(results: Results, data: str, structure: str) -> bytes | None:
    """Mean Dice over the number of labeled cases; bars are the spread over seeds, lines across are rows with a number of their own. None with one number."""
    counts = [condition for condition in results.conditions if condition.data == data and condition.labels is not None]
    if len(counts) < 2:
        return None
    figure, axes = _figure(6.4, 3.6)
    for place, line in enumerate(results.lines):
        points = [(one.labels, results.summary(one, line, structure, "dice")) for one in counts]
        known = [(x, summary) for x, summary in points if summary is not None]
        if results.is_guest(line) and known:
            name = f"{line.name} ({results.labels_of(counts[0], line)} labels)"
            axes.axhline(known[0][1].mean, color=COLORS[place % len(COLORS)], linestyle="--", linewidth=1.2, label=name)
        else:
            _trend(axes, known, line.name, place)
    axes.set_xscale("log", base=2)
    ticks = [one.labels for one in counts]
    axes.set(xticks=ticks, xticklabels=[str(one) for one in ticks], xlabel="labeled cases", ylabel=f"Dice, {structure}")
    axes.minorticks_off()
    axes.legend(fontsize=_FONT - 1, bbox_to_anchor=(1.01, 1), loc="upper left")
    return _png(figure, axes)


def over_option(results: Results, condition: Condition, structure: str) -> list[tuple[str, bytes]]:
    """(option, PNG) of every row whose grid has one option of numbers: mean Dice over its values, the other rows as lines across."""
    pictures = []
    for row in dict.fromkeys(line.row for line in results.lines):
        lines = [line for line in results.lines if line.row == row and len(line.choices) == 1]
        option = next(iter(lines[0].choices), "") if lines else ""
        numbers = [line.choices[option] for line in lines if isinstance(line.choices[option], (int, float)) and not isinstance(line.choices[option], bool)]
        if len(numbers) < 2 or len(numbers) < len(lines):
            continue
        figure, axes = _figure(6.4, 3.4)
        points = [(line.choices[option], results.summary(condition, line, structure, "dice")) for line in lines]
        _trend(axes, [(x, summary) for x, summary in points if summary is not None], row, 0)
        for place, line in enumerate((one for one in results.lines if one.row != row), start=1):
            summary = results.summary(condition, line, structure, "dice")
            if summary is not None:
                axes.axhline(summary.mean, color=COLORS[place % len(COLORS)], linestyle="--", linewidth=1.2, label=results.title(condition, line))
        axes.set(xlabel=option, ylabel=f"Dice, {structure}")
        axes.legend(fontsize=_FONT - 1, bbox_to_anchor=(1.01, 1), loc="upper left")
        pictures.append((option, _png(figure, axes)))
    return pictures


def case_map(results: Results, condition: Condition, structure: str) -> bytes | None:
    """The difference of every volume to the reference over the seeds that both have, as colors; None without a row to compare."""
    others = [line for line in _shown(results, condition) if not results.is_reference(line)]
    references = {line.name: results.values(condition, results.reference_of(line), structure, "dice") for line in others}
    known = next((values for values in references.values() if values), None)
    if known is None:
        return None
    level = case_means(known)
    cases = sorted(level, key=lambda case: (math.isnan(level[case]), level[case]))
    found = [paired_differences(results.values(condition, line, structure, "dice"), references[line.name]) for line in others]
    grid = np.array([[by_case.get(case, math.nan) for case in cases] for by_case in found])
    if not np.isfinite(grid).any():
        return None
    limit = max(float(np.nanmax(np.abs(grid))), 0.01)
    figure, axes = _figure(max(5.5, 2.6 + 0.22 * len(cases)), 0.3 * len(others) + 1.7)
    axes.set_facecolor("#cccccc")  # what is not defined; white is "no difference"
    image = axes.imshow(grid, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).ax.tick_params(labelsize=_FONT - 1)
    axes.set(yticks=range(len(others)), yticklabels=[_compared(results, condition, line) for line in others], xticks=range(len(cases)))
    axes.set_xticklabels(short_names(cases), rotation=90, fontsize=_FONT - 2)
    return _png(figure, axes, grid=False)


def _trend(axes: Any, points: list[tuple[float, Any]], name: str, place: int) -> None:
    if points:
        bars = [0.0 if math.isnan(summary.sd_seeds) else summary.sd_seeds for _, summary in points]
        style = {"color": COLORS[place % len(COLORS)], "marker": _MARKS[place % len(_MARKS)], "markersize": 4, "linewidth": 1.3, "capsize": 3}
        axes.errorbar([x for x, _ in points], [summary.mean for _, summary in points], bars, label=name, **style)


def _compared(results: Results, condition: Condition, line: Line) -> str:
    """A row's title, and what it is compared with where rows name different ones."""
    title = results.title(condition, line)
    return title if results.reference_word == results.reference.name else f"{title} − {results.reference_of(line).name}"


def short_names(cases: list[str]) -> list[str]:
    """Names of cases that fit below a column: without the letters that all begin with, long ones without their middle."""
    is_long = len(cases) > 1 and max(map(len, cases)) > 14
    common = os.path.commonprefix(cases).rstrip("0123456789") if is_long else ""
    return [case if len(case) <= 14 else f"{case[:6]}…{case[-6:]}" for case in (one[len(common) :] for one in cases)]


def _shown(results: Results, condition: Condition) -> list[Line]:
    return [line for line in results.lines if results.of(condition, line)]


def _cases(results: Results, condition: Condition, line: Line, structure: str) -> dict[str, float]:
    return case_means(results.values(condition, line, structure, "dice"))


def _nanmean(values: Any) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _png(figure: Any, axes: Any, grid: bool = True) -> bytes:
    axes.tick_params(labelsize=_FONT)
    axes.xaxis.label.set_size(_FONT + 1)
    axes.yaxis.label.set_size(_FONT + 1)
    if grid:
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
