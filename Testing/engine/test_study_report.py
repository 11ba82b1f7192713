"""What a study says about its runs: statistics against known cases, tables, pictures, words, files; and the way over a cluster."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import subprocess
import sys
import types
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from study_bed import CASES, DIFFICULTY, stand_in, starts, wish, write_study

from semiseg.cli import main
from semiseg.data.cache import PreparedCase
from semiseg.metrics.score import PREDICTION_EMPTY
from semiseg.protocol import Job, read_events, write_job
from semiseg.study import plots
from semiseg.study.cluster import _eta_s
from semiseg.study.conduct import StudyJob, make_plan
from semiseg.study.estimate import Estimate
from semiseg.study.plots import short_names
from semiseg.study.record import num_starts
from semiseg.study.report import _signed, write_study_report
from semiseg.study.schedule import Outcome
from semiseg.study.statistics import case_means, coverage, paired_differences, paired_interval, summarize
from semiseg.study.tasks import run_tasks

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for the worker")

# Statistics


def test_spread_over_seeds_and_over_cases():
    values = {0: {"a": 0.8, "b": 0.6}, 1: {"a": 0.9, "b": 0.7}, 2: {"a": 1.0, "b": math.nan}}
    assert case_means(values) == pytest.approx({"a": 0.9, "b": 0.65})
    found = summarize(values)
    assert found.mean == pytest.approx(0.775) and (found.smallest, found.largest) == pytest.approx((0.65, 0.9))
    assert found.sd_cases == pytest.approx(np.std([0.9, 0.65], ddof=1)) and found.sd_seeds == pytest.approx(np.std([0.7, 0.8, 1.0], ddof=1))
    assert (found.num_seeds, found.num_cases, found.undefined) == (3, 2, 1)
    assert math.isnan(summarize({0: {"a": 0.5}}).sd_seeds) and math.isnan(summarize({0: {"a": math.nan}}).mean)


def test_the_bootstrap_agrees_with_the_normal_interval():
    """For many cases the percentile interval of a mean is mean ± 1.96 standard errors."""
    rng = np.random.default_rng(1)
    first = {f"{place}": float(value) for place, value in enumerate(rng.normal(0.8, 0.1, 400))}
    gains = rng.normal(0.02, 0.05, 400)
    row = {case: value + gain for (case, value), gain in zip(first.items(), gains)}
    found = paired_interval({0: row}, {0: first})
    error = gains.std(ddof=1) / math.sqrt(400)
    assert found.mean == pytest.approx(gains.mean()) and found.num_cases == found.num_patients == 400
    assert found.low == pytest.approx(gains.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(gains.mean() + 1.96 * error, abs=0.1 * error)


def test_the_bootstrap_is_exact_on_two_cases():
    """Of two cases the resampled means are d1, (d1 + d2) / 2, d2 with 1/4, 1/2, 1/4: both ends are the cases themselves."""
    found = paired_interval({0: {"a": 0.9, "b": 0.7}}, {0: {"a": 0.8, "b": 0.8}})
    assert (found.low, found.mean, found.high) == pytest.approx((-0.1, 0.0, 0.1))
    assert found == paired_interval({0: {"a": 0.9, "b": 0.7}}, {0: {"a": 0.8, "b": 0.8}}), "seeded"
    assert paired_interval({0: {"a": 0.9}}, {0: {"a": 0.8}}) is None


def test_the_bootstrap_draws_patients():
    """Two cases of one patient that differ alike say no more than one; of two patients the resampled means are theirs and the middle."""
    gains = {"a": 0.03, "b": -0.01, "c": 0.05}
    one = paired_interval({0: gains}, {0: dict.fromkeys(gains, 0.0)})
    twice = {f"{case}{phase}": gain for case, gain in gains.items() for phase in ("ED", "ES")}
    both = paired_interval({0: twice}, {0: dict.fromkeys(twice, 0.0)}, {case: case[0] for case in twice})
    assert (both.mean, both.low, both.high) == pytest.approx((one.mean, one.low, one.high)) and (both.num_cases, both.num_patients) == (6, 3)
    apart = paired_interval({0: twice}, {0: dict.fromkeys(twice, 0.0)})
    assert apart.high - apart.low < both.high - both.low and apart.num_patients == 6, "who forgets the patients promises more"
    uneven = paired_interval({0: {"a": 0.1, "b": 0.1, "c": -0.2}}, {0: dict.fromkeys("abc", 0.0)}, {"a": "p", "b": "p", "c": "q"})
    assert (uneven.low, uneven.mean, uneven.high) == pytest.approx((-0.2, 0.0, 0.1)), "a mean over cases"
    assert paired_interval({0: gains}, {0: dict.fromkeys(gains, 0.0)}, dict.fromkeys(gains, "p")) is None, "one patient has no interval"
    named = paired_interval({0: gains}, {0: dict.fromkeys(gains, 0.0)}, {"a": "b"})
    assert named.num_patients == 3, "a patient called like another case is not that case"


def test_seeds_above_the_reference_are_counted():
    """One lucky seed of three keeps the interval from zero."""
    first = {seed: {"a": 0.5, "b": 0.6} for seed in range(3)}
    row = {0: {"a": 0.7, "b": 0.8}, 1: {"a": 0.49, "b": 0.59}, 2: {"a": 0.5, "b": 0.6}}
    found = paired_interval(row, first)
    assert found.low > 0 and (found.num_above, found.num_seeds) == (1, 3)


def test_the_bootstrap_is_paired():
    """A constant gain on cases of very different difficulty has no spread at all."""
    first = {case: 0.9 - hard for case, hard in DIFFICULTY.items()}
    found = paired_interval({0: {case: value + 0.03 for case, value in first.items()}}, {0: first})
    assert (found.low, found.mean, found.high) == pytest.approx((0.03, 0.03, 0.03))


def test_differences_take_the_seeds_that_both_rows_have():
    first = {0: {"a": 0.5, "b": math.nan}, 1: {"a": 0.9, "b": 0.1}}
    assert paired_differences({0: {"a": 0.6, "b": 0.3}}, first) == pytest.approx({"a": 0.1})
    assert paired_differences({1: {"a": 0.6, "b": 0.3}}, first) == pytest.approx({"a": -0.3, "b": 0.2})
    assert paired_differences({7: {"a": 0.6, "b": 0.3}}, first) == {} and paired_interval({7: {"a": 0.6, "b": 0.3}}, first) is None, "another training is no pair"
    uneven = paired_differences({0: {"a": math.nan}, 1: {"a": 0.6}}, {0: {"a": 0.5}, 1: {"a": 0.5}, 2: {"a": 0.1}})
    assert uneven == pytest.approx({"a": 0.1}), "a case that is not defined in a seed leaves that seed out of both rows"


def test_what_the_intervals_of_few_cases_hold():
    rng = np.random.default_rng(3)
    for count in (5, 10, 30):
        samples = rng.normal(0.0, 1.0, (1500, count))
        means = samples[:, rng.integers(0, count, (400, count))].mean(2)
        low, high = np.percentile(means, [2.5, 97.5], axis=1)
        assert coverage(count) == pytest.approx(((low <= 0) & (high >= 0)).mean(), abs=0.025)
    assert coverage(10) < 0.91 and 0.93 < coverage(30) < 0.95


# The report


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished study: two structures, two numbers of labels, two seeds, one failed run, a grid of weights."""
    folder = tmp_path_factory.mktemp("study")
    rows = [
        {"method": "supervised", "note": "The <reference> & more."}, {"method": "bcp"}, {"method": "mean_teacher", "seeds": [0]},
        {"name": "beta", "method": "transmedseg", "grid": {"method_options.tsa_weight": [0.1, 0.4, 1.0]}, "seeds": [0]},
    ]  # fmt: skip
    path, out_dir = write_study(folder, rows=rows, limits=["A limit of its own."]), folder / "out"
    with pytest.MonkeyPatch.context() as patch:
        stand_in(folder, patch)
        patch.setattr("semiseg.study.schedule._SECONDS_BETWEEN_LOOKS", 0.01)
        wish(out_dir, **{"bcp-4labels-seed1": "fail"})
        assert main(["study", str(path), str(out_dir), "--device", "cpu"]) == 2, "a run failed"
    return path, out_dir


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_summary_holds_what_the_runs_hold(done):
    _, out_dir = done
    rows = {(row["labels"], row["structure"], row["row"]): row for row in read(out_dir / "summary.csv") if row["metric"] == "dice"}
    mean = 0.8 - np.mean(list(DIFFICULTY.values()))
    first = rows["2", "left atrium", "supervised"]
    assert float(first["mean"]) == pytest.approx(mean + 0.005 + 0.004) and first["difference_to_reference"] == ""
    assert float(first["sd_seeds"]) == pytest.approx(np.std([0, 0.01], ddof=1))
    assert float(first["sd_cases"]) == pytest.approx(np.std(list(DIFFICULTY.values()), ddof=1))
    both = rows["2", "all structures", "supervised"]
    assert float(both["mean"]) == pytest.approx(float(first["mean"]) - 0.15)
    bcp = rows["2", "left atrium", "bcp"]
    assert float(bcp["difference_to_reference"]) == pytest.approx(0.03) == pytest.approx(float(bcp["interval_low"]))
    teacher = rows["2", "left atrium", "mean_teacher"]
    assert float(teacher["difference_to_reference"]) == pytest.approx(0.01), "paired over the common seed, although the first row has one more"
    assert (teacher["interval_cases"], teacher["interval_seeds"], teacher["sd_seeds"]) == ("5", "1", "")


def test_every_case_and_every_run_has_a_line(done):
    _, out_dir = done
    cases = read(out_dir / "cases.csv")
    assert len(cases) == 15 * len(CASES) * 2, "15 of 16 runs, five cases, two structures"
    (one,) = [row for row in cases if (row["run"], row["case"], row["structure"]) == ("bcp-2labels-seed1", "e", "left atrium")]
    assert float(one["dice"]) == pytest.approx(0.8 + 0.03 - 0.2 + 0.01 + 0.004)
    runs = {row["run"]: row for row in read(out_dir / "runs.csv")}
    assert runs["bcp-4labels-seed1"]["state"] == "failed" and "memory" in runs["bcp-4labels-seed1"]["reason"]
    assert runs["bcp-2labels-seed1"]["state"] == "done" and runs["bcp-2labels-seed1"]["trained_parameters"] == "2000"
    assert json.loads(runs["beta_tsa_weight=0.4-2labels-seed0"]["choices"]) == {"method_options.tsa_weight": 0.4}


def test_the_page_needs_nothing_else_and_says_what_it_must(done):
    _, out_dir = done
    page = (out_dir / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["']?(?!data:)[^"'> ]+""", page) and "://" not in page and "@import" not in page
    assert "The &lt;reference&gt; &amp; more." in page and "<reference>" not in page
    for words in (
        "phantoms, 2 labels", "phantoms, 4 labels", "reference", "+0.030 [+0.030, +0.030]", "last checkpoint", "10,000 seeded bootstrap resamples", "unit that is drawn is the patient",
        "Budget: 30 steps a run", "What the tables do not show", "A limit of its own.", "1 of 16 runs are missing", "Rows with one seed", "without correction",
        "Phantoms are computed, not scanned", "trained", "main memory", "Number of labeled cases", "left atrial appendage", "different numbers of seeds",
    ):  # fmt: skip
        assert words in page, words
    assert page.count("data:image/png;base64,") == 2 * (4 + 1) + 1, "per volume, differences, map, structures and weights for both tables; labels once"
    assert "best on test" not in page


def test_names_below_the_map_of_cases_tell_them_apart():
    assert short_names(["patient002_frame01", "patient002_frame02", "patient019_frame01"]) == ["002_frame01", "002_frame02", "019_frame01"]
    assert short_names(["heldout001", "heldout002"]) == ["heldout001", "heldout002"], "short enough"
    assert short_names(["06SR5RBREL16DQ6M8LWS", "0RZDK210BSMWAA6467LU"]) == ["06SR5R…6M8LWS", "0RZDK2…6467LU"]
    assert short_names(["the_only_case_of_all"]) == ["the_on…of_all"] and short_names([]) == []


def test_without_matplotlib_the_tables_are_there_and_the_page_says_so(done, monkeypatch):
    path, out_dir = done
    before = (out_dir / "report.html").read_text()
    plan, _ = make_plan(StudyJob(str(path), device="cpu"), out_dir)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = write_study_report(plan.study, plan.place).read_text()
    assert "matplotlib is not installed" in page and "data:image" not in page
    assert page.count("<table") == before.count("<table") and "+0.030 [+0.030, +0.030]" in page
    (out_dir / "report.html").write_text(before)


def test_best_on_test_is_a_labeled_second_column_of_runs_that_recorded_it(done, tmp_path):
    path, out_dir = done
    plan, _ = make_plan(StudyJob(str(path), device="cpu"), out_dir)
    result = out_dir / "runs" / "bcp-2labels-seed0" / "result.json"
    before = result.read_text()
    result.write_text(json.dumps({**json.loads(before), "best_on_test": {"dice": 0.987, "iteration": 3}}))
    try:
        page = write_study_report(plan.study, plan.place).read_text()
    finally:
        result.write_text(before)
        write_study_report(plan.study, plan.place)
    assert "best on test: not the protocol" in page and "0.987 (1 of 2 runs)" in page and "It is not the protocol" in page


def test_any_row_can_be_what_the_others_are_compared_with(done):
    path, out_dir = done
    document = {**json.loads(path.read_text()), "reference": "bcp"}
    other = path.with_name("other.json")
    other.write_text(json.dumps(document))
    plan, _ = make_plan(StudyJob(str(other), device="cpu"), out_dir)
    try:
        page = write_study_report(plan.study, plan.place).read_text()
        rows = {(row["labels"], row["structure"], row["row"]): row for row in read(out_dir / "summary.csv") if row["metric"] == "dice"}
    finally:
        plan, _ = make_plan(StudyJob(str(path), device="cpu"), out_dir)
        write_study_report(plan.study, plan.place)
    assert "Δ Dice to bcp" in page and "against the row bcp" in page and "Δ Dice to supervised" not in page
    assert float(rows["2", "left atrium", "supervised"]["difference_to_reference"]) == pytest.approx(-0.03)
    assert rows["2", "left atrium", "bcp"]["difference_to_reference"] == ""


def cells(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of the first table below a heading, by their first cell."""
    table = page[page.index(f">{heading}</h") :].partition("</table>")[0]
    rows = [re.findall(r"<t[dh]>(.*?)</t[dh]>", row) for row in table.split("<tr>")[1:]]
    return {row[0]: row[1:] for row in rows}


@pytest.fixture
def report_of(done):
    """Writes the report of the finished study anew, and once more when its folders are as they were."""
    path, out_dir = done
    plan, _ = make_plan(StudyJob(str(path), device="cpu"), out_dir)
    yield lambda: write_study_report(plan.study, plan.place).read_text(encoding="utf-8")
    write_study_report(plan.study, plan.place)


def test_rows_say_how_many_of_their_seeds_are_done(done, report_of, monkeypatch):
    _, out_dir = done
    page = report_of()
    assert "not finished" not in page and "Some runs failed: their rows rest on fewer runs" in page
    assert "1 of 16 runs are missing (1 failed)" in page and "Done so far: bcp 3 of 4. All other rows are complete." in page
    first, second = cells(page, "phantoms, 2 labels"), cells(page, "phantoms, 4 labels")
    assert (first["bcp"][0], second["bcp"][0], second["supervised"][0], second["mean_teacher"][0]) == ("2", "1 of 2, 1 failed", "2", "1")
    assert first["bcp"][6] == "+0.030 [+0.030, +0.030]" and second["bcp"][6] == "+0.030 [+0.030, +0.030], 1 seed"
    assert (first["row"][7], first["bcp"][7], second["bcp"][7], first["supervised"][7]) == ("seeds above", "2 of 2", "–", "–")
    assert page.count("their means are no ranking") == 2, "below the first structure of both tables"
    hidden = {name: out_dir / "runs" / name for name in ("bcp-2labels-seed0", "bcp-2labels-seed1", "supervised-4labels-seed0", "supervised-4labels-seed1")}
    for name, folder in hidden.items():
        folder.rename(out_dir / name)
    try:
        page = report_of()
    finally:
        for name, folder in hidden.items():
            (out_dir / name).rename(folder)
    assert "This study is not finished" in page and "5 of 16 runs are missing (1 failed, 4 not done yet)" in page
    assert cells(page, "phantoms, 2 labels")["bcp"] == ["0 of 2", *["–"] * 12], "a row without a run is missing in plain sight"
    assert cells(page, "phantoms, 4 labels")["bcp"][6] == "–" and "supervised has no finished run here" in page


def test_no_difference_is_not_written_as_a_loss():
    assert [_signed(value) for value in (-0.0002, 0.0004, 0.0, -0.0006, 0.03)] == ["0.000", "0.000", "0.000", "−0.001", "+0.030"]


def test_intervals_of_few_patients_are_not_drawn_as_findings(done, report_of, monkeypatch):
    """Five held-out cases: the table says so, no dot is filled, and the axis does not blow up a small difference."""
    drawn, png = [], plots._png

    def watch(figure, axes, *args, **values):
        if "difference" in axes.get_xlabel():
            drawn.append((axes.get_xlim(), {line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"}))
        return png(figure, axes, *args, **values)

    monkeypatch.setattr(plots, "_png", watch)
    monkeypatch.setattr(plots, "_LEAST_DIFFERENCE", 0.5)
    page = report_of()
    assert page.count("Intervals of 5 patients are too narrow to tell a difference from none.") == 2, "below both tables"
    assert len(drawn) == 2 and all(ends == pytest.approx((-0.5, 0.5)) and fills == {"white"} for ends, fills in drawn)


def test_cases_are_counted_for_each_number_of_labels_and_patches_for_those_that_use_them(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch)
    monkeypatch.setattr("semiseg.study.schedule._SECONDS_BETWEEN_LOOKS", 0.01)
    path, out_dir = write_study(tmp_path, seeds=[0], common={"training": {"batch_labeled": 2, "batch_unlabeled": 3}}), tmp_path / "out"
    assert main(["study", str(path), str(out_dir), "--device", "cpu", "--jobs", "2"]) == 0
    page = (out_dir / "report.html").read_text(encoding="utf-8")
    assert "with 2 labels: 2 labeled, 8 unlabeled, 5 held out; with 4 labels: 4 labeled, 8 unlabeled, 5 held out." in page
    assert "2 labeled patches a step, and 3 unlabeled ones in the rows that use them" in page and "2 at a time; semiseg" in page


def test_masks_in_which_nothing_was_found_are_counted(done, report_of):
    _, out_dir = done
    assert "found nothing" not in report_of()
    path = out_dir / "runs" / "bcp-2labels-seed0" / "dice.json"
    before = path.read_text()
    document = json.loads(before)
    document["rows"][0]["note"] = PREDICTION_EMPTY
    path.write_text(json.dumps(document))
    try:
        found = cells(report_of(), "phantoms, 2 labels")
    finally:
        path.write_text(before)
    assert (found["row"][-1], found["bcp"][-1], found["supervised"][-1]) == ("found nothing", "1 of 20", "0 of 20")


def test_cases_of_one_patient_are_drawn_together(done, report_of):
    _, out_dir = done
    page = report_of()
    assert "The unit that is drawn is the patient" in page and "of the 5 held-out cases: cases like these" in page
    lists = list(out_dir.glob("data/**/prepared/cases.json"))
    before = [path.read_text() for path in lists]
    for path, text in zip(lists, before, strict=True):
        cases = [asdict(PreparedCase(case, "first" if case in "ab" else case, "held_out", case)) for case in CASES]
        path.write_text(json.dumps({**json.loads(text), "cases": cases}))
    try:
        page = report_of()
        assert "of the 5 held-out cases of 4 patients: cases like these" in page and "With 4 patients such intervals are too narrow" in page
        intervals = {(row["interval_cases"], row["interval_patients"]) for row in read(out_dir / "summary.csv")}
        assert ("5", "4") in intervals and ("5", "5") not in intervals
    finally:
        for path, text in zip(lists, before, strict=True):
            path.write_text(text)


def test_the_time_of_an_interrupted_run_is_not_told_as_a_whole(done, report_of):
    _, out_dir = done
    events = [out_dir / "runs" / f"mean_teacher-{count}labels-seed0" / "events.jsonl" for count in (2, 4)]
    assert [num_starts(path.parent) for path in events] == [1, 1] and cells(report_of(), "Cost")["mean_teacher"][5] == "0.1"
    before = [path.read_text() for path in events]
    for path, text in zip(events, before):
        path.write_text(text + text)
    try:
        assert cells(report_of(), "Cost")["mean_teacher"][5] == "–" and cells(report_of(), "Cost")["bcp"][5] == "0.1"
        seconds = {row["run"]: row["wall_s"] for row in read(out_dir / "runs.csv")}
        assert seconds["mean_teacher-2labels-seed0"] == "" and seconds["bcp-2labels-seed0"] == "8.0"
        plan, _ = make_plan(StudyJob(str(done[0]), device="cpu"), out_dir)
        estimate = Estimate(plan.study, plan.place, plan.runs)
        assert estimate.seconds("mean_teacher-2labels-seed0") is None and estimate.seconds("bcp-2labels-seed0") == pytest.approx(3.0), "nor learned from"
    finally:
        for path, text in zip(events, before):
            path.write_text(text)


def test_the_time_of_a_run_that_took_its_first_stage_is_not_told_as_a_whole(done, report_of):
    """Its clock saw the last stage alone, and would be shorter than its training."""
    _, out_dir = done
    results = [out_dir / "runs" / f"mean_teacher-{count}labels-seed0" / "result.json" for count in (2, 4)]
    before = [path.read_text() for path in results]
    try:
        for path, text in zip(results, before):
            path.write_text(json.dumps({**json.loads(text), "took_first_stage": True}))
        found = cells(report_of(), "Cost")
        assert found["mean_teacher"][5] == "–" and found["mean_teacher"][4] != "–" and found["bcp"][5] == "0.1"
    finally:
        for path, text in zip(results, before):
            path.write_text(text)


def test_what_is_common_is_not_said_of_each_row(tmp_path, monkeypatch):
    """Of a group that a row changes in part, the part."""
    stand_in(tmp_path, monkeypatch)
    monkeypatch.setattr("semiseg.study.schedule._SECONDS_BETWEEN_LOOKS", 0.01)
    rows = [{"method": "bcp"}, {"method": "graphcl", "set": {"method_options.rounds": 3, "method_options.mixing": 0.25}}, {"method": "transmedseg", "set": {"method_options.mixing": 0.5}}]
    common = {"method_options": {"mixing": 0.25}, "training": {"patch_size": [16, 16, 32]}}
    path, out_dir = write_study(tmp_path, rows=rows, labels=[2], seeds=[0], budget={"iterations": 20}, common=common), tmp_path / "out"
    assert main(["study", str(path), str(out_dir), "--device", "cpu"]) == 0
    found = cells((out_dir / "report.html").read_text(encoding="utf-8"), "Rows")
    assert [found[name][1] for name in ("bcp", "graphcl", "transmedseg")] == ["–", "method_options.rounds = 3", "method_options.mixing = 0.5"]


def test_a_ceiling_stands_in_the_table_of_the_others(tmp_path, monkeypatch):
    """A row with a number of labels of its own is compared with the reference of each table, and says its number; the protocol names what the jobs say."""
    stand_in(tmp_path, monkeypatch)
    monkeypatch.setattr("semiseg.study.schedule._SECONDS_BETWEEN_LOOKS", 0.01)
    rows = [{"method": "supervised"}, {"method": "bcp"}, {"method": "supervised", "name": "ceiling", "labels": [4]}]
    common = {"network": "vnet", "network_options": {"width": 8}, "training": {"patch_size": [48, 64, 32], "optimizer": "sgd"}}
    path, out_dir = write_study(tmp_path, rows=rows, labels=[2], seeds=[0], budget={"seconds": 60}, common=common), tmp_path / "out"
    assert main(["study", str(path), str(out_dir), "--device", "cpu"]) == 0
    page = (out_dir / "report.html").read_text(encoding="utf-8")
    found = cells(page, "phantoms, 2 labels")
    assert found["ceiling (4 labels)"][6] == "+0.004 [+0.004, +0.004]" and "phantoms, 4 labels" not in page and "Number of labeled cases" not in page
    summary = {row["row"]: row for row in read(out_dir / "summary.csv") if (row["metric"], row["structure"]) == ("dice", "left atrium")}
    assert (summary["ceiling"]["labels"], summary["ceiling"]["reference_labels"], summary["bcp"]["labels"], summary["bcp"]["seeds_asked"]) == ("4", "2", "2", "1")
    assert "not finished" not in page and "With 5 patients such intervals are too narrow" in page
    assert "The budget was not kept: 60 s were asked for, and the runs took 30 to 60 s" in page, "the stand-in says 0.1 s a step, its probe 0.2 s"
    for words in ("Network vnet, width 8", "grid of the volumes", "patches 48 × 64 × 32", "sgd", "largest piece", "overlapping windows"):
        assert words in page, words


def test_a_row_may_be_compared_with_a_row_of_its_own(done):
    """Pairs of a host with and without a term: each against its own host."""
    path, out_dir = done
    document = json.loads(path.read_text())
    document["rows"][1]["reference"] = "bcp"
    document["rows"][3]["reference"] = "bcp"
    other = path.with_name("pairs.json")
    other.write_text(json.dumps(document))
    plan, _ = make_plan(StudyJob(str(other), device="cpu"), out_dir)
    try:
        page = write_study_report(plan.study, plan.place).read_text(encoding="utf-8")
        summary = {row["row"]: row for row in read(out_dir / "summary.csv") if (row["metric"], row["labels"], row["structure"]) == ("dice", "2", "left atrium")}
    finally:
        plan, _ = make_plan(StudyJob(str(path), device="cpu"), out_dir)
        write_study_report(plan.study, plan.place)
    found = cells(page, "phantoms, 2 labels")
    assert found["supervised"][6] == found["bcp"][6] == "reference" and found["row"][6] == "Δ Dice to its reference [95 % CI]"
    assert found["mean_teacher"][6] == "+0.010 [+0.010, +0.010] to supervised, 1 seed"
    assert found["beta tsa_weight=0.4"][6] == "−0.010 [−0.010, −0.010] to bcp, 1 seed" and "4 rows are compared with its reference" in page
    assert (summary["beta tsa_weight=0.4"]["reference"], summary["mean_teacher"]["reference"]) == ("bcp", "supervised")


def test_an_unfinished_study_is_reported_as_such(tmp_path):
    path = write_study(tmp_path)
    plan, _ = make_plan(StudyJob(str(path), device="cpu"), tmp_path / "out")
    page = write_study_report(plan.study, plan.place).read_text()
    assert "0 of 8 runs are done" in page and "8 of 8 runs are missing (8 not done yet)" in page


# A cluster


class Handle:
    """A job of the pretended cluster: it runs when somebody asks whether it is done."""

    def __init__(self, number: int, call, is_preempted: bool) -> None:
        self.job_id, self._call, self._is_preempted, self._result, self.cancelled = f"{number}", call, is_preempted, None, False

    state = "PENDING"

    def done(self) -> bool:
        if self._result is None and not self.cancelled:
            if self._is_preempted:
                self._call = self._call.checkpoint().function
            self._result = self._call()
        return True

    def cancel(self) -> None:
        self.cancelled = True

    def exception(self):
        return RuntimeError("cancelled") if self.cancelled else None

    def result(self):
        return self._result


class DelayedSubmission:
    def __init__(self, function) -> None:
        self.function = function


class AutoExecutor:
    handles: list[Handle] = []
    parameters: dict = {}

    def __init__(self, folder: str) -> None:
        self.folder = folder
        type(self).handles = []

    def update_parameters(self, **parameters) -> None:
        if "speed" in parameters:
            raise NameError("unknown parameter speed")
        type(self).parameters = parameters

    def submit(self, call) -> Handle:
        import pickle

        self.handles.append(Handle(len(self.handles), pickle.loads(pickle.dumps(call)), is_preempted=not self.handles))
        return self.handles[-1]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch)
    module = types.ModuleType("submitit")
    module.AutoExecutor, module.helpers = AutoExecutor, types.SimpleNamespace(DelayedSubmission=DelayedSubmission)
    monkeypatch.setitem(sys.modules, "submitit", module)
    monkeypatch.setattr("semiseg.study.cluster._SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr("semiseg.study.schedule._SECONDS_BETWEEN_LOOKS", 0.01)


def on_cluster(path: Path, out_dir: Path, *parameters: str) -> int:
    return main(["study", str(path), str(out_dir), "--device", "cpu", "--jobs", "2", "--cluster", *parameters])


def test_jobs_of_a_cluster_share_the_grid(cluster, tmp_path):
    path, out_dir = write_study(tmp_path), tmp_path / "out"
    wish(out_dir, **{"bcp-4labels-seed1": "fail"})
    assert on_cluster(path, out_dir, "timeout_min=60", "slurm_partition=gpu") == 2
    assert AutoExecutor.parameters == {"timeout_min": 60, "slurm_partition": "gpu"} and len(AutoExecutor.handles) == 2
    assert starts(out_dir) == {name: 1 for name in starts(out_dir)} and len(starts(out_dir)) == 8, "what failed in this study is not tried again by the next job"
    assert list(json.loads((out_dir / "result.json").read_text())["failed"]) == ["bcp-4labels-seed1"]
    assert "7 of 8 runs are done" in (out_dir / "report.html").read_text()


def test_the_grid_on_a_cluster_knows_what_is_left(cluster, tmp_path):
    """Eight runs of 60 s on two jobs; one of them says that it is half done."""
    path, out_dir = write_study(tmp_path, budget={"seconds": 60}), tmp_path / "out"
    half = out_dir / "runs" / "bcp-2labels-seed0"
    half.mkdir(parents=True)
    write_job(out_dir, Job("study"))
    (half / "events.jsonl").write_text('{"kind": "progress", "time": 0.0, "what": "train", "done": 15, "total": 30}\n')
    assert on_cluster(path, out_dir) == 0
    found = [event["eta_s"] for event in read_events(out_dir / "events.jsonl")[0] if event["kind"] == "progress" and event["what"] == "study"]
    assert found[0] == pytest.approx((7 + 0.5) * 60 / 2)


def test_a_row_that_nobody_knows_counts_as_the_mean_on_a_cluster_too(tmp_path, monkeypatch):
    plan, _ = make_plan(StudyJob(str(write_study(tmp_path)), device="cpu"), tmp_path / "out")
    tasks, known = run_tasks(plan.study, plan.place), {"supervised": 60.0}
    monkeypatch.setattr(Estimate, "seconds", lambda self, run_id: known.get(run_id.partition("-")[0]))
    assert _eta_s(plan, tasks, Outcome(), 2) == pytest.approx(8 * 60 / 2)
    known.clear()
    assert _eta_s(plan, tasks, Outcome(), 2) is None


def test_a_stopped_study_cancels_the_jobs_that_wait(cluster, tmp_path, monkeypatch):
    path, out_dir = write_study(tmp_path), tmp_path / "out"
    submit = AutoExecutor.submit

    def submit_and_stop(self, call):
        (out_dir / "stop").touch()
        return submit(self, call)

    monkeypatch.setattr(AutoExecutor, "submit", submit_and_stop)
    assert on_cluster(path, out_dir) == 3
    assert all(handle.cancelled for handle in AutoExecutor.handles) and starts(out_dir) == {}


def test_a_parameter_that_submitit_refuses_is_told(cluster, tmp_path, capsys):
    assert on_cluster(write_study(tmp_path), tmp_path / "out", "speed=5") == 2
    assert "speed" in capsys.readouterr().err


@pytest.mark.slow
def test_submitit_itself_brings_a_study_to_its_end(tmp_path):
    """Where the extra is installed: its executor of this computer, a process a job, and what it refuses."""
    pytest.importorskip("submitit", reason="needs the optional extra cluster", exc_type=ImportError)
    data = {"phantom": {"num_labeled": 2, "num_unlabeled": 2, "num_held_out": 2, "size": "quarter"}}
    common = {"network_options": {"width": 2}, "training": {"patch_size": [16, 16, 32]}}
    path = write_study(tmp_path, data=data, rows=[{"method": "supervised"}], labels=[2], seeds=[0], budget={"iterations": 2}, common=common)
    command = [sys.executable, "-m", "semiseg", "study", str(path), str(tmp_path / "out"), "--device", "cpu", "--threads", "1", "--cluster"]
    paths = [str(Path(__file__).resolve().parents[2] / "TransMedSeg"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    refused = subprocess.run([*command, "speed=5"], env=environment, capture_output=True, text=True)
    assert refused.returncode == 2 and "speed" in refused.stderr
    done = subprocess.run([*command, "timeout_min=10"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 runs are done" in done.stdout and (tmp_path / "out" / "report.html").exists() and list((tmp_path / "out" / "cluster").iterdir())


def test_without_submitit_a_cluster_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert on_cluster(write_study(tmp_path), tmp_path / "out") == 2
    text = capsys.readouterr().err
    assert "submitit" in text and "semiseg[cluster]" in text
