"""The report of a study: one HTML file that needs no other, and the CSV files beside it."""

from __future__ import annotations

import html
import json
import math
from pathlib import Path

from ..data.atomic import write_text
from ..metrics.score import PREDICTION_EMPTY
from ..report.html import figure, page, table
from . import plots, words
from .collect import ALL, Condition, Results, collect
from .definition import Study
from .grid import Line
from .sheets import CASES_FILE, RUNS_FILE, SUMMARY_FILE, state_of, write_sheets
from .statistics import FEWEST_PATIENTS, Interval, Summary
from .tasks import Place

REPORT_FILE = "report.html"

_REHEARSED = "<p class=warn><b>This is a rehearsal: a few steps of tiny networks on small patches. Its numbers mean nothing.</b></p>"

_METRICS = (
    ("jaccard", "Jaccard", "{:.3f}"),
    ("hd95_voxels", "95HD (voxel)", "{:.1f}"),
    ("asd_voxels", "ASD (voxel)", "{:.2f}"),
    ("hd95_mm", "95HD (mm)", "{:.1f}"),
    ("assd_mm", "ASSD (mm)", "{:.2f}"),
)
_STYLE = """
body{max-width:76rem}.wide{overflow-x:auto}.wide td{white-space:nowrap}.wide table{font-size:.85rem}.wide td,.wide th{padding:.25rem .4rem}.wide th{vertical-align:bottom}.scores td:nth-child(8){white-space:normal;min-width:11rem}.text td{white-space:normal}td{vertical-align:top}td:nth-child(2),th:nth-child(2){text-align:right}
.text td,.text th{text-align:left}.runs td:first-child{white-space:nowrap}.plots img{max-width:100%;height:auto}.plots figcaption{max-width:40rem}.warn{color:#b00020}
"""


def write_study_report(study: Study, place: Place, failed: dict[str, str] | None = None) -> Path:
    """Writes ``report.html``, ``runs.csv``, ``cases.csv`` and ``summary.csv`` into the study's folder; an unfinished study gets what is there."""
    results = collect(study, place, failed)
    write_sheets(results, place.out_dir)
    path = place.out_dir / REPORT_FILE
    write_text(path, page(study.title, _parts(results), _STYLE))
    return path


def _parts(results: Results) -> list[str]:
    study = results.study
    parts = [
        f"<h1>{html.escape(study.title)}</h1>",
        _REHEARSED if study.is_rehearsal else "",
        f"<p>{html.escape(study.question)}</p>" if study.question else "",
        f"<p class=note>{_state(results)} Research use only.</p>",
    ]
    for condition in results.conditions:
        parts += _condition(results, condition)
    parts += _across(results)
    parts += [
        _costs(results),
        _rows(results),
        _list("The protocol in words", words.protocol(results)),
        _list("What the tables do not show", words.limits(results)),
        _runs(results),
        (
            f"<h2>The study</h2><p class=note>Numbers in full precision: {RUNS_FILE}, {CASES_FILE}, {SUMMARY_FILE}. Each run is an ordinary run folder below "
            f"<code>runs</code> with its resolved <code>job.json</code>.</p><details><summary>Definition</summary><pre>{html.escape(_definition(study))}</pre></details>"
        ),
    ]
    return parts


def _state(results: Results) -> str:
    states = [state_of(results, run.id) for run in results.runs]
    words_ = [f"{states.count('done')} of {len(states)} runs are done"]
    if states.count("failed"):
        words_.append(f"<span class=warn>{states.count('failed')} failed</span>")
    if states.count("not done"):
        partial = "<b class=warn>This study is not finished: every number may still change.</b> "
    elif states.count("failed"):
        partial = "<b class=warn>Some runs failed: their rows rest on fewer runs than were asked for, or on none.</b> "
    else:
        partial = ""
    return partial + ", ".join(words_) + "."


def _condition(results: Results, condition: Condition) -> list[str]:
    parts = [f"<h2>{html.escape(condition.title)}</h2>"]
    structures = results.structures
    for place, structure in enumerate(structures):
        heading = f"<h3>{html.escape(structure)}</h3>" if len(structures) > 1 else ""
        body = heading + f"<div class='wide scores'>{table(_score_rows(results, condition, structure))}</div>" + (_below(results, condition) if place == 0 else "")
        parts.append(body if place == 0 else f"<details><summary>{html.escape(structure)}</summary>{body}</details>")
    if plots.can_draw():
        parts.append("<div class=plots>" + "".join(_pictures(results, condition)) + "</div>")
    else:
        parts.append("<p class=note>No pictures: matplotlib is not installed here. The same command adds them where it is.</p>")
    return parts


def _score_rows(results: Results, condition: Condition, structure: str) -> list[list[str]]:
    selected = words.has_selected(results) and structure == results.structures[0]
    empty = {line.name: _empty(results, condition, line, structure) for line in results.lines}
    has_empty = any(count for count, _ in empty.values())
    heading = ["row", "seeds", "cases", "Dice", "± seeds", "± cases", "worst", f"Δ Dice to {results.reference_word} [95 % CI]", "seeds above", *(title for _, title, _ in _METRICS)]
    rows = [heading + ["found nothing"] * has_empty + ["best on test: not the protocol"] * selected]
    for line in results.lines:
        if not results.planned(condition, line):
            continue
        labels = f" ({_labels(results.labels_of(condition, line))})" if results.is_guest(line) else ""
        row = [line.name + labels, _seeds_done(results, condition, line)]
        summary = results.summary(condition, line, structure, "dice")
        if summary is None:
            rows.append(row + ["–"] * (len(rows[0]) - len(row)))
            continue
        row += [str(summary.num_cases), *(_number(value, "{:.3f}") for value in _dice(summary))]
        row += _compared(results, condition, line, structure)
        for metric, _, form in _METRICS:
            other = results.summary(condition, line, structure, metric)
            row.append(_number(other.mean, form) if other else "–")
        row += [f"{empty[line.name][0]} of {empty[line.name][1]}"] * has_empty
        rows.append(row + ([_selected(results, condition, line)] if selected else []))
    return rows


def _seeds_done(results: Results, condition: Condition, line: Line) -> str:
    planned, done = results.planned(condition, line), len(results.of(condition, line))
    num_failed = sum(state_of(results, run.id) == "failed" for run in planned)
    return (str(done) if done == len(planned) else f"{done} of {len(planned)}") + (f", {num_failed} failed" if num_failed else "")


def _labels(count: int | None) -> str:
    return "all labels" if count is None else f"{count} labels"


def _empty(results: Results, condition: Condition, line: Line, structure: str) -> tuple[int, int]:
    """How many masks of a row are empty where the reference is not, and of how many."""
    rows = [row for one in results.of(condition, line) for row in one.table.rows if structure in (ALL, row.label)]
    return sum(PREDICTION_EMPTY in row.note for row in rows), len(rows)


def _below(results: Results, condition: Condition) -> str:
    """What a reader of this table must know before comparing its rows."""
    sentences = []
    if results.is_uneven(condition):
        sentences.append(
            f"The rows rest on different numbers of seeds: their means are no ranking. Δ takes only the seeds that a row shares with {results.reference_word}."
        )
    for name, line in {results.reference_of(line).name: results.reference_of(line) for line in results.lines}.items():
        if not results.of(condition, line):
            sentences.append(f"The reference {name} has no finished run here, so no row can be compared with it.")
    num_patients = results.num_patients(condition)
    if 2 <= num_patients < FEWEST_PATIENTS and any(results.of(condition, line) for line in results.lines if not results.is_reference(line)):
        sentences.append(f"Intervals of {num_patients} patients are too narrow to tell a difference from none.")
    return f"<p class=warn>{html.escape(' '.join(sentences))}</p>" if sentences else ""


def _dice(summary: Summary) -> list[float]:
    return [summary.mean, summary.sd_seeds, summary.sd_cases, summary.smallest]


def _compared(results: Results, condition: Condition, line: Line, structure: str) -> list[str]:
    """The difference to the reference, and in how many of several seeds the row lies above it."""
    reference = results.reference_of(line)
    if results.is_reference(line):
        return ["reference", "–"]
    interval = results.difference(condition, line, structure, "dice")
    if interval is None:
        return ["–", "–"]
    most = max(len(results.of(condition, one)) for one in (line, reference))
    to = "" if results.reference_word == reference.name else f" to {reference.name}"
    above = f"{interval.num_above} of {interval.num_seeds}" if interval.num_seeds > 1 else "–"
    return [_interval(interval) + to + (f", {_seeds(interval.num_seeds)}" if interval.num_seeds < most else ""), above]


def _interval(interval: Interval) -> str:
    return f"{_signed(interval.mean)} [{_signed(interval.low)}, {_signed(interval.high)}]"


def _signed(value: float) -> str:
    text = f"{value:+.3f}".replace("-", "−")
    return "0.000" if text[1:] == "0.000" else text


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def _selected(results: Results, condition: Condition, line: Line) -> str:
    """Mean over the runs that recorded it."""
    runs = results.of(condition, line)
    found = [one.best_on_test for one in runs if one.best_on_test is not None]
    part = f" ({len(found)} of {len(runs)} runs)" if len(found) < len(runs) else ""
    return _number(_mean(found), "{:.3f}") + part if found else "–"


def _pictures(results: Results, condition: Condition) -> list[str]:
    structure = results.structures[0]
    where = condition.title
    found = [
        (plots.per_volume(results, condition, structure), f"{where}: every held-out volume, averaged over seeds. Gray: quartiles and median. Diamond: mean."),
        (plots.differences(results, condition, structure), f"{where}: mean paired difference to {results.reference_word}, equal seeds only, with its 95 % interval over patients. Filled: the interval excludes zero, for these trainings, and is of {FEWEST_PATIENTS} patients or more; other seeds are not in it."),
        (plots.case_map(results, condition, structure), f"{where}: difference to {results.reference_word} for every volume, the hardest volume on the left. Blue: better. Gray: not defined."),
        (plots.per_structure(results, condition), f"{where}: every structure; a dot is a seed."),
    ]
    found += [(png, f"{where}: Dice over {option}; bars are the spread over seeds.") for option, png in plots.over_option(results, condition, structure)]
    return [figure(png, caption) for png, caption in found if png is not None]


def _across(results: Results) -> list[str]:
    figures = []
    for data in results.study.data:
        png = plots.over_labels(results, data.name, results.structures[0]) if results.scored and plots.can_draw() else None
        if png is not None:
            figures.append(figure(png, f"{data.name}: Dice over the number of labeled cases; bars are the spread over seeds, dashed lines rows with a number of labels of their own."))
    return ["<h2>Number of labeled cases</h2><div class=plots>", *figures, "</div>"] if figures else []


def _costs(results: Results) -> str:
    if not results.scored:
        return ""
    heading = ["row", "runs", "steps", "ms a step", f"of {results.reference.name}", "training (min)", "with looks and saving (min)", "parameters", "trained", "main memory (GB)"]
    has_gpu = any(one.result.get("peak_gpu_memory_gb") for one in results.scored)
    rows = [heading + (["GPU memory (GB)"] if has_gpu else [])]
    reference_ms = _step_ms([one.result for one in results.scored if one.run.line.name == results.reference.name])
    for line in results.lines:
        found = [one.result for one in results.scored if one.run.line.name == line.name]
        if not found:
            continue
        step_ms = _step_ms(found)
        gpu, host = _mean([one.get("peak_gpu_memory_gb", 0) for one in found]), _mean([one.get("peak_host_memory_gb", 0) for one in found])
        whole = [seconds for one in results.scored if one.run.line.name == line.name and (seconds := results.wall_s(one)) is not None]
        rows.append([
            line.name, str(len(found)), f"{_mean([one.get('iterations', 0) for one in found]):,.0f}", f"{step_ms:,.0f}", f"{step_ms / reference_ms:.2f} ×" if reference_ms else "–",
            f"{_mean([one['train_s'] for one in found]) / 60:.1f}", f"{_mean(whole) / 60:.1f}" if whole else "–",
            f"{found[0].get('parameters', 0):,}", f"{found[0].get('trained_parameters', 0):,}", f"{host:.2f}" if host else "–",
            *([f"{gpu:.2f}" if gpu else "–"] if has_gpu else []),
        ])  # fmt: skip
    note = (
        "Means over runs. Training: steps alone; a budget of seconds is kept as well as this column says. With looks and saving: of runs that were never interrupted and trained all of their steps themselves. Parameters: of the network that is deployed; trained: of everything that has a gradient. Memory: the most a run held at once by the end of its "
        "training, code and data included. Runs side by side slow each other."
    )
    return f"<h2>Cost</h2><div class=wide>{table(rows)}</div><p class=note>{note}</p>"


def _step_ms(found: list[dict]) -> float:
    return _mean([1000 * one["train_s"] / one["iterations"] for one in found if one.get("iterations")])


def _rows(results: Results) -> str:
    has_notes = any(line.note for line in results.lines)
    common = set(_flat("", results.study.common))
    rows = [["row", "method", "options beside the common ones", *(["note"] if has_notes else [])]]
    for line in results.lines:
        options = ", ".join(one for one in _flat("", {name: value for name, value in line.job.items() if name != "method"}) if one not in common)
        taken = "; ".join(f"{name}: mean of {', '.join(source['scalars'])} in {source['row']}" for name, source in line.take.items())
        rows.append([line.name, line.method, "; ".join(filter(None, [options, taken])) or "–", *([line.note] if has_notes else [])])
    if all(row[2] == "–" for row in rows[1:]):
        rows = [[*row[:2], *row[3:]] for row in rows]
    return f"<h2>Rows</h2><div class='wide text'>{table(rows)}</div>"


def _flat(prefix: str, values: dict) -> list[str]:
    found = []
    for name, value in values.items():
        found += _flat(f"{prefix}{name}.", value) if isinstance(value, dict) else [f"{prefix}{name} = {json.dumps(value)}"]
    return found


def _runs(results: Results) -> str:
    rows = [["run", "state", "reason"]]
    rows += [[run.id, state_of(results, run.id), results.failed.get(run.id, "")] for run in results.runs]
    opened = " open" if results.failed else ""
    return f"<h2>Runs</h2><details{opened}><summary>{len(results.runs)} runs</summary><div class='text runs'>{table(rows)}</div></details>"


def _list(title: str, sentences: list[str]) -> str:
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{html.escape(one)}</li>' for one in sentences)}</ul>"


def _definition(study: Study) -> str:
    return study.path.read_text(encoding="utf-8")


def _number(value: float, form: str) -> str:
    return "–" if value is None or math.isnan(value) else form.format(value)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
