"""What a reader must know beside the numbers: the protocol in words, and what the tables do not show."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from .. import __version__
from ..methods import METHODS, load_method
from . import record
from .collect import Results
from .grid import Run
from .statistics import RESAMPLES, coverage
from .tasks import measured

_FEW_PATIENTS = 30
"""Above, a percentile interval of a mean holds what it promises to within two percent."""

_TOLERANCE = 0.1
"""Share of the budget by which a run may miss it before the report says so."""


def protocol(results: Results) -> list[str]:
    """Sentences: data, labels, budget, checkpoint, scoring, comparison, computer."""
    return [
        *(_data(results)),
        _runs(results),
        _budget(results),
        *_training(results),
        *(_shared(results) if results.study.share_first_stage else []),
        "The score is that of the last checkpoint. No checkpoint, threshold or option was chosen on the held-out cases.",
        *(_best_on_test(results) if has_selected(results) else []),
        (
            "Every held-out volume is segmented whole, by overlapping windows of the training's patch that count alike, without mirroring; where there is a single "
            "structure its largest piece is kept. It is scored on its own grid, structure by structure. Millimeters use each volume's spacing; voxels follow medpy, as the papers print "
            "them. An empty mask against a filled one scores Dice 0 and the diagonal of the image as distance."
        ),
        (
            "Mean: over the held-out cases, each averaged over seeds. ± seeds: standard deviation of the seeds' means. ± cases: standard deviation over cases, each "
            "averaged over seeds. Both with n - 1."
        ),
        (
            f"Difference (Δ): paired by case and seed against the row {results.reference_word}, over the seeds that both rows have, in the unit of the metric (Dice "
            f"from 0 to 1). In brackets its 95 % percentile interval over {RESAMPLES:,} seeded bootstrap resamples. The unit that is drawn is the patient, with all "
            "of the patient's cases, each averaged over these seeds. \u201cSeeds above\u201d: in how many of them the row's own mean lies above the reference's. Where that is "
            "not nearly all or nearly none, another choice of seeds may turn the difference round, however far its interval is from zero."
        ),
        _computer(results),
    ]


def limits(results: Results) -> list[str]:
    """Sentences: what nobody may conclude."""
    found = []
    missing = len(results.runs) - len(results.scored)
    if missing:
        num_failed = sum(run.id in results.failed for run in results.runs)
        kinds = [f"{count} {word}" for count, word in ((num_failed, "failed"), (missing - num_failed, "not done yet")) if count]
        found.append(f"{missing} of {len(results.runs)} runs are missing ({', '.join(kinds)}); rows rest on what is there. {_unfinished(results)}".strip())
    seeds = [len(results.of(condition, line)) for condition in results.conditions for line in results.lines if results.planned(condition, line)]
    seeds = [count for count in seeds if count]
    if seeds and min(seeds) == 1:
        found.append("Rows with one seed have no spread over seeds: another seed may change their order.")
    if len(set(seeds)) > 1:
        found.append("Rows have different numbers of seeds, so their means rest on different trainings. The difference to the reference takes only seeds that both rows have.")
    if seeds and max(seeds) > 1:
        found.append(f"{max(seeds)} seeds give a coarse idea of the spread between trainings, no more.")
    cases = {len(one.value(results.structures[0], "dice")) for one in results.scored}
    if cases:
        patients = max(results.num_patients(condition) for condition in results.conditions)
        of = f" of {patients} patients" if patients < max(cases) else ""
        found.append(
            f"The intervals speak of the {max(cases)} held-out cases{of}: cases like these. They hold neither the spread over seeds, nor other choices of labeled cases, "
            "nor other scanners."
        )
        if 2 <= patients <= _FEW_PATIENTS:
            found.append(
                f"With {patients} patients such intervals are too narrow: where differences are distributed normally, one of 95 % holds the true mean in "
                f"{100 * coverage(patients):.0f} % of studies."
            )
    others = sum(not results.is_reference(line) for line in results.lines)
    if others > 1:
        found.append(
            f"{others} rows are compared with {results.reference_word} without correction: among many rows some interval excludes zero by chance "
            f"(one in twenty where nothing differs)."
        )
    found.append(_fairness(results))
    found += _unequal_time(results)
    found.append("Options were not tuned for these data: a method that needs another learning rate or weight than its default is not shown at its best.")
    if any(data.phantom for data in results.study.data):
        found.append("Phantoms are computed, not scanned. An order of methods on phantoms need not hold on patients.")
    return [*found, *results.study.limits]


def _unfinished(results: Results) -> str:
    """Which rows have how many of their runs, by name."""
    planned, done = Counter(run.line.name for run in results.runs), Counter(one.run.line.name for one in results.scored)
    behind = [f"{name} {done[name]} of {count}" for name, count in planned.items() if done[name] < count]
    return f"Done so far: {'; '.join(behind)}. All other rows are complete." if len(behind) < len(planned) else f"Done so far: {'; '.join(behind)}."


def has_selected(results: Results) -> bool:
    """Whether runs recorded their best score on the held-out cases."""
    return any(one.best_on_test is not None for one in results.scored)


def _best_on_test(results: Results) -> list[str]:
    looks = {len(one.result["best_on_test"].get("looks", ())) for one in results.scored if one.best_on_test is not None}
    return [
        (
            f"\u201cBest on test\u201d is what many papers print: the highest of the {' or '.join(map(str, sorted(looks)))} scores that each run got on the held-out cases while "
            "it trained, the last checkpoint among them, averaged over runs. It is selected on the test cases and therefore too high. It is not the protocol: no row, "
            "checkpoint or number beside that column was chosen by it."
        ),
    ]


def _data(results: Results) -> list[str]:
    sentences = []
    for data in results.study.data:
        counts = {one.run.labels: one.result.get("cases", {}) for one in results.scored if one.run.data.name == data.name}
        numbers = [
            f"with {'all' if labels is None else labels} labels: " + ", ".join(f"{of.get(role, 0)} {role.replace('_', ' ')}" for role in ("labeled", "unlabeled", "held_out"))
            for labels, of in counts.items()
        ]
        kind = "Phantoms" if data.phantom else "Cases"
        sentences.append(f"{kind} of \u201c{data.name}\u201d{', ' if numbers else ''}{'; '.join(numbers)}. {data.note}".strip())
    return sentences


def _runs(results: Results) -> str:
    study = results.study
    labels = ", ".join("all" if count is None else str(count) for count in study.labels)
    return (
        f"{len(results.lines)} rows on {len(study.data)} data set{'s' * (len(study.data) > 1)}, labeled cases: {labels}, seeds: {', '.join(map(str, study.seeds))} "
        f"(rows may state their own). {len(results.scored)} of {len(results.runs)} runs are done. With fewer labels the first cases keep theirs, and the others are used without."
    )


def _budget(results: Results) -> str:
    budget = results.study.budget
    if budget.iterations:
        return f"Budget: {budget.iterations:,} steps a run, whatever a step costs."
    settled: dict[str, set[int]] = {}
    changed: dict[str, dict] = {}
    for run in results.runs:
        probe = measured(results.place, run)
        found = probe.get("iterations")
        settled.setdefault(run.line.name, set()).update({found} if found else set())
        changed.setdefault(run.line.name, {}).update(probe.get("method_options", {}))
    steps = ", ".join(f"{name} {' or '.join(f'{count:,}' for count in sorted(counts))}" for name, counts in settled.items() if counts)
    return (
        f"Budget: {budget.seconds:g} s of training, the same for every row. A probe of a few steps, run alone, turned them into steps once a row (and once a data "
        f"set where these differ in size); every seed and number of labels takes these: {steps or 'not measured yet'}."
        + "".join(
            f" Labeling whole cases would have taken {name} more than half of the time, so it has {', '.join(f'{key} {value}' for key, value in options.items())}."
            for name, options in changed.items()
            if options
        )
    )


def _training(results: Results) -> list[str]:
    """Network, patches, optimizer and preset as the jobs have them after every default was filled in."""
    jobs = [options for one in results.scored if (options := job_of(results, one.run))]
    if not jobs:
        return []
    options = {name: [job.get(name) or {} for job in jobs] for name in ("network_options", "training", "augment", "preprocessing")}
    parts = [
        f"Network {_values([job.get('network') for job in jobs])}, width {_values([one.get('width') for one in options['network_options']])}",
        f"normalization {_values([one.get('norm') for one in options['network_options']])}",
        f"grid {_values([_grid(one.get('spacing_mm')) for one in options['preprocessing']])}",
        f"intensities {_values([one.get('intensity') for one in options['preprocessing']])}",
        f"patches {_values([_sides(one.get('patch_size')) for one in options['training']])} (slice × row × column)",
        f"{_values([one.get('batch_labeled') for one in options['training']])} labeled patches a step{_unlabeled(jobs)}",
        f"{_values([one.get('optimizer') for one in options['training']])} with learning rate {_values([one.get('learning_rate') for one in options['training']])}",
        f"schedule {_values([one.get('schedule') for one in options['training']])}",
        f"preset {_values([job.get('preset') for job in jobs])}",
    ]
    augment = [", ".join(f"{name} {json.dumps(value)}" for name, value in one.items()) for one in options["augment"]]
    shown = "Augmentation differs between rows." if len(set(augment)) > 1 else f"Augmentation of every row: {augment[0] or 'the default'}."
    return [f"{'; '.join(parts)}. {shown} Where several values are named, rows differ; each run's job.json has its own."]


def _unlabeled(jobs: list[dict[str, Any]]) -> str:
    """How many unlabeled patches there are in a step, of the methods that look at any."""
    looking = [job for job in jobs if job.get("method") in METHODS and load_method(job["method"]).needs_unlabeled]
    found = _values([(job.get("training") or {}).get("batch_unlabeled") for job in looking])
    return f", and {found} unlabeled ones{' in the rows that use them' if len(looking) < len(jobs) else ''}" if looking else ""


def _shared(results: Results) -> list[str]:
    took = sum(bool(one.result.get("took_first_stage")) for one in results.scored)
    return [
        (
            "First stages that are the same to the last bit (same seed, cases, network and options of that stage) were trained once: "
            f"{took} of {len(results.scored)} runs took theirs from another. The seconds of that stage are counted for each of them, as if it had trained it."
        )
    ]


def job_of(results: Results, run: Run) -> dict[str, Any]:
    """Options of a run's job, with every default filled in once it has begun; empty where there is none."""
    options = (record.read_json(results.place.run_dir(run) / "job.json") or {}).get("options")
    return options if isinstance(options, dict) else {}


def _values(values: list[Any]) -> str:
    """The different ones, most frequent first; what a job does not state is left to the engine."""
    found = [str(value) for value, _ in Counter("of its own default" if value is None else value for value in values).most_common()]
    return " or ".join(found)


def _grid(spacing_mm: list[float] | None) -> str:
    return "of the volumes" if not spacing_mm else " × ".join(f"{side:g}" for side in spacing_mm) + " mm"


def _sides(patch: list[int] | None) -> str | None:
    return None if not patch else " × ".join(map(str, patch))


def _unequal_time(results: Results) -> list[str]:
    """Whether the seconds that were asked for are those that the runs took."""
    budget = results.study.budget.seconds
    taken = [float(one.result.get("train_s", 0.0)) for one in results.scored]
    if not budget or not taken or max(abs(one - budget) for one in taken) <= _TOLERANCE * budget:
        return []
    return [
        (
            f"The budget was not kept: {budget:g} s were asked for, and the runs took {min(taken):,.0f} to {max(taken):,.0f} s: their steps took another time than "
            "when they were measured. Rows have the steps that the probe promised in equal seconds; the seconds that were spent are not equal."
        ),
    ]


def _fairness(results: Results) -> str:
    if results.study.budget.iterations:
        return "Equal steps are not equal time: a row whose step costs more has had more computing. The table of costs says how much."
    return (
        "Equal seconds hold for the computer on which steps were measured and for its load at that moment; on another one the rows would get other numbers of steps. "
        "A short budget favors methods that learn fast."
    )


def _computer(results: Results) -> str:
    jobs = [job_of(results, one.run) for one in results.scored]
    places = sorted({f"{job.get('device', '?')} with {job.get('threads', '?')} CPU thread{'s' * (job.get('threads') != 1)}" for job in jobs})
    asked = [record.read_json(results.place.run_dir(one.run) / record.ASKED_FILE) or {} for one in results.scored]
    versions = {str(one.get("semiseg", "?")) for one in asked}
    beside = sorted({one["side_by_side"] for one in asked if isinstance(one.get("side_by_side"), int)})
    many = f", {' or '.join(map(str, beside))} at a time" if beside else ""
    return f"Computed on {' and '.join(places) or 'nothing yet'}{many}; semiseg {', '.join(sorted(versions)) or __version__}."
