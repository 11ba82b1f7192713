"""What a reader must know beside the numbers: the protocol in words, and what the tables do not show."""

from __future__ import annotations

from .. import __version__
from . import record
from .collect import Results
from .statistics import RESAMPLES
from .tasks import measured


def protocol(results: Results) -> list[str]:
    """Sentences: data, labels, budget, checkpoint, scoring, comparison, computer."""
    return [
        *(_data(results)),
        _runs(results),
        _budget(results),
        "The score is that of the last checkpoint. No checkpoint, threshold or option was chosen on the held-out cases.",
        *(_best_on_test(results) if has_selected(results) else []),
        (
            "Every held-out volume is segmented whole and scored on its own grid. Millimeters use each volume's spacing; voxels follow medpy, as the papers print "
            "them. An empty mask against a filled one scores Dice 0 and the diagonal of the image as distance."
        ),
        (
            "Mean: over the held-out cases, each averaged over seeds. ± seeds: standard deviation of the seeds' means. ± cases: standard deviation over cases, each "
            "averaged over seeds. Both with n - 1."
        ),
        (
            f"Difference: paired by case against the row {results.reference.name}, in the unit of the metric (Dice from 0 to 1). In brackets its 95 % percentile "
            f"interval over {RESAMPLES:,} seeded bootstrap resamples. The unit that is drawn is the case, averaged over the seeds that both rows have."
        ),
        _computer(results),
    ]


def limits(results: Results) -> list[str]:
    """Sentences: what nobody may conclude."""
    found = []
    missing = len(results.runs) - len(results.scored)
    if missing:
        found.append(f"{missing} of {len(results.runs)} runs are missing (failed or not done yet); rows rest on what is there.")
    seeds = [len(results.of(condition, line)) for condition in results.conditions for line in results.lines if results.of(condition, line)]
    if seeds and min(seeds) == 1:
        found.append("Rows with one seed have no spread over seeds: another seed may change their order.")
    if len(set(seeds)) > 1:
        found.append("Rows have different numbers of seeds, so their means rest on different trainings. The difference to the reference takes only seeds that both rows have.")
    if seeds and max(seeds) > 1:
        found.append(f"{max(seeds)} seeds give a coarse idea of the spread between trainings, no more.")
    cases = {len(one.value(results.structures[0], "dice")) for one in results.scored}
    if cases:
        found.append(
            f"The intervals speak of the {max(cases)} held-out cases: cases like these. They hold neither the spread over seeds, nor other choices of labeled cases, "
            "nor other scanners."
        )
    others = len(results.lines) - 1
    if others > 1:
        found.append(
            f"{others} rows are compared with {results.reference.name} without correction: among many rows some interval leaves zero aside by chance "
            f"(one in twenty where nothing differs)."
        )
    found.append(_fairness(results))
    found.append("Options were not tuned for these data: a method that needs another learning rate or weight than its default is not shown at its best.")
    if any(data.phantom for data in results.study.data):
        found.append("Phantoms are computed, not scanned. An order of methods on phantoms need not hold on patients.")
    return [*found, *results.study.limits]


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
        counts = [one.result.get("cases", {}) for one in results.scored if one.run.data.name == data.name]
        numbers = ""
        if counts:
            labeled = sorted({one.get("labeled", 0) for one in counts})
            first = counts[0]
            numbers = f": {' or '.join(map(str, labeled))} labeled, {first.get('unlabeled', 0)} unlabeled with {first.get('labeled', 0)} labeled, {first.get('held_out', 0)} held out"
        kind = "Phantoms" if data.phantom else "Cases"
        sentences.append(f"{kind} of \u201c{data.name}\u201d{numbers}. {data.note}".strip())
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
    for run in results.runs:
        found = measured(results.place, run).get("iterations")
        settled.setdefault(run.line.name, set()).update({found} if found else set())
    steps = ", ".join(f"{name} {' or '.join(f'{count:,}' for count in sorted(counts))}" for name, counts in settled.items() if counts)
    return (
        f"Budget: {budget.seconds:g} s of training, the same for every row. A probe of a few steps, run alone, turned them into steps once a row (and once a data "
        f"set where these differ in size); every seed and number of labels takes these: {steps or 'not measured yet'}."
    )


def _fairness(results: Results) -> str:
    if results.study.budget.iterations:
        return "Equal steps are not equal time: a row whose step costs more has had more computing. The table of costs says how much."
    return (
        "Equal seconds hold for the computer on which steps were measured and for its load at that moment; on another one the rows would get other numbers of steps. "
        "A short budget favors methods that learn fast."
    )


def _computer(results: Results) -> str:
    jobs = [(record.read_json(results.place.run_dir(one.run) / "job.json") or {}).get("options", {}) for one in results.scored]
    places = sorted({f"{job.get('device', '?')} with {job.get('threads', '?')} CPU thread{'s' * (job.get('threads') != 1)}" for job in jobs})
    versions = {str((record.read_json(results.place.run_dir(one.run) / record.ASKED_FILE) or {}).get("semiseg", "?")) for one in results.scored}
    return f"Computed on {' and '.join(places) or 'nothing yet'}; semiseg {', '.join(sorted(versions)) or __version__}."
