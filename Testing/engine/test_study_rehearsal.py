"""Every shipped study from its file to its report, in miniature: ``semiseg study FILE OUT --quick`` on made-up data of its layout."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import layout_builders as made
import pytest
import torch
from study_bed import here

from semiseg.cli import main
from semiseg.inference.model_file import read_model
from semiseg.protocol import ExitCode, Job, write_job
from semiseg.study.conduct import StudyJob, make_plan
from semiseg.study.definition import DATA_WORD, read_study
from semiseg.study.grid import lines_of, runs_of
from semiseg.study.rehearsal import rehearsal
from semiseg.worker import run_folder

STUDIES = sorted((Path(__file__).resolve().parents[2] / "docs" / "studies").glob("*.json"))


@pytest.fixture(autouse=True)
def leave_this_process_as_it_is(monkeypatch):
    monkeypatch.setattr("semiseg.training.cpu.prepare_cpu", lambda: None)
    monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)
    monkeypatch.setattr("semiseg.measure.prepare_cpu", lambda: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """The data sets of the studies that make none themselves."""
    folder = tmp_path_factory.mktemp("data")
    made.write_left_atrium(folder / "la", num_train=10, num_test=2)
    made.write_acdc(folder / "acdc", num_patients=8, num_slices=3, shape=(64, 64))
    return {path.stem: folder / ("acdc" if path.stem == "acdc" else "la") for path in STUDIES if DATA_WORD in path.read_text(encoding="utf-8")}


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


QUICKEST = ("labels", "recipe")
"""Phantoms and the left atrium; the others take a minute each: SEMISEG_ALL_STUDIES=1 runs them. Slices train in test_layouts_train.py."""


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_row_finishes_and_the_report_says_so(path, data, tmp_path, monkeypatch, capsys):
    if path.stem not in QUICKEST and not os.environ.get("SEMISEG_ALL_STUDIES"):
        pytest.skip("takes a minute: SEMISEG_ALL_STUDIES=1 rehearses every study")
    if "monai:" in path.read_text(encoding="utf-8"):
        pytest.importorskip("monai", reason="needs the optional extra monai", exc_type=ImportError)
    here(monkeypatch)
    where = ["--data", str(data[path.stem])] if path.stem in data else []
    code = main(["study", str(path), str(tmp_path), "--quick", "--device", "cpu", "--threads", "1", *where])
    assert code == 0, capsys.readouterr().err
    small = rehearsal(read_study(path, data.get(path.stem)))
    runs, lines = runs_of(small), lines_of(small)
    assert len(runs) == len(lines) * len(small.data), "every row on every data set, once"
    rows = read(tmp_path / "runs.csv")
    assert {row["run"]: row["state"] for row in rows} == {run.id: "done" for run in runs}
    assert all(0 <= float(row["dice"]) <= 1 and int(row["iterations"]) > 0 and float(row["train_s"]) >= 0 for row in rows)
    summary = read(tmp_path / "summary.csv")
    for one in [row for row in summary if row["metric"] == "dice" and row["structure"] == summary[0]["structure"]]:
        assert (one["difference_to_reference"] == "") == (one["row"] == one["reference"]), one
    cases = read(tmp_path / "cases.csv")
    assert {row["run"] for row in cases} == {run.id for run in runs}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in (f"{len(runs)} of {len(runs)} runs are done", "This is a rehearsal", "The protocol in words", "What the tables do not show", "<h2>Cost</h2>", *(line.name for line in lines)):
        assert words in page, words
    assert not re.findall(r">[^<]*\b(?:nan|None)\b[^<]*<", page)
    assert ("best on test" in page) == bool(small.best_on_test)
    if small.best_on_test:
        assert all(float(row["dice_best_on_test"]) >= float(row["dice"]) - 1e-9 for row in rows), "the last checkpoint is among the looks"


def test_a_rehearsal_keeps_rows_and_methods_and_shrinks_sizes_alone(tmp_path):
    path = next(path for path in STUDIES if path.stem == "left_atrium")
    whole, small = read_study(path), rehearsal(read_study(path))
    assert [line.name for line in lines_of(small)] == [line.name for line in lines_of(whole)]
    for run, other in zip(runs_of(small), [run for run in runs_of(whole) if run.seed == whole.seeds[0]], strict=True):
        sizes = {"training", "network_options", "preprocessing", "num_labeled"}
        assert run.options["num_labeled"] == min(whole.labels), "also where a row has more labels of its own"
        assert {name: value for name, value in run.options.items() if name not in sizes} == {name: value for name, value in other.options.items() if name not in sizes}
        assert run.options["training"] == {**other.options["training"], "patch_size": [16, 16, 16]}
        assert run.options["network_options"] == {**other.options["network_options"], "width": 4}
        assert run.options["preprocessing"]["spacing_mm"] == [2.5, 2.5, 2.5]
    assert small.seeds == (0,) and small.budget.seconds == 1.0


def test_looking_at_the_held_out_cases_changes_nothing_and_ends_with_the_score(data, tmp_path):
    """Weights of a run that looks are those of one that does not, bit for bit; the last look is the score of the last checkpoint."""
    job = {
        "labeled": [str(data["left_atrium"])], "num_labeled": 4, "method": "mean_teacher", "device": "cpu", "threads": 1,
        "preprocessing": {"spacing_mm": [2.5, 2.5, 2.5]}, "network_options": {"width": 2, "depth": 3, "dropout": 0.5},
        "training": {"patch_size": [8, 16, 16], "iterations": 12, "learning_rate": 0.02},
    }  # fmt: skip
    for name, looks in (("plain", 0), ("looking", 3)):
        write_job(tmp_path / name, Job("train", {**job, "best_on_test": looks}))
        assert run_folder(tmp_path / name) == ExitCode.FINISHED
    weights = [read_model(tmp_path / name / "model.pt")[1] for name in ("plain", "looking")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    plain, result = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("plain", "looking"))
    assert "best_on_test" not in plain and result["checkpoint"] == "last" and result["scores"] == plain["scores"]
    best = result["best_on_test"]
    assert list(best["looks"]) == ["4", "8", "12"] and best["looks"]["12"] == pytest.approx(result["scores"]["left atrium"]["dice"]["mean"])
    assert best["dice"] == max(best["looks"].values()) == best["looks"][str(best["iteration"])]
    assert not (tmp_path / "looking" / "looked_at.pt").exists()


@pytest.fixture
def small_study(tmp_path, monkeypatch) -> list[str]:
    """Words of the command line for a study of one run on three training cases and a test case, which has been done."""
    here(monkeypatch)
    made.write_left_atrium(tmp_path / "la", num_train=3, num_test=1)
    document = {
        "title": "T", "data": {"labeled": ["$DATA"]}, "rows": [{"method": "supervised"}], "labels": [2], "budget": {"iterations": 2},
        "common": {"training": {"patch_size": [16, 16, 16]}, "preprocessing": {"spacing_mm": [2.5, 2.5, 2.5]}, "network_options": {"width": 2}},
    }  # fmt: skip
    path = tmp_path / "study.json"
    path.write_text(json.dumps(document))
    words = ["study", str(path), str(tmp_path / "out"), "--data", str(tmp_path / "la"), "--device", "cpu", "--threads", "1"]
    assert main(words) == 0 and main(words) == 0, "nothing has changed"
    return words


def test_changed_files_are_noticed(small_study, tmp_path, capsys):
    changed = tmp_path / "la" / "TRAIN01" / "mri_norm2.h5"
    made.write_arrays(changed, *made.balls(77, 1, (60, 64, 44)))
    capsys.readouterr()
    assert main(small_study) == 2
    text = capsys.readouterr().err
    assert "the files of TRAIN01" in text and "TRAIN00" not in text and "--redo-changed" in text
    assert main([*small_study, "--redo-changed"]) == 0
    assert len(list((tmp_path / "out" / "replaced").iterdir())) == 2, "the prepared cases and the run"


@pytest.mark.parametrize(
    ("names", "words", "others"),
    [
        (["TRAIN00", "TRAIN01", "TRAIN02", "TRAIN03"], "TRAIN03 is new", ("TRAIN00", "TRAIN01", "TRAIN02")),
        (["TRAIN00", "TRAIN01"], "TRAIN02 is gone", ("TRAIN00", "TRAIN01")),
        (["TRAIN00", "TRAIN02", "TRAIN01"], "TRAIN02 is used otherwise, TRAIN01 is used otherwise", ("TRAIN00",)),
    ],
    ids=["added", "removed", "in another order"],
)
def test_cases_that_came_or_went_are_noticed(names, words, others, small_study, tmp_path, capsys):
    data = tmp_path / "la"
    made.write_arrays(data / "TRAIN03" / "mri_norm2.h5", *made.balls(33, 1, (60, 64, 44)))
    assert main(small_study) == 0, "a folder that no list names is no case"
    made.write_list(data / "train.list", names)
    capsys.readouterr()
    assert main(small_study) == 2
    text = capsys.readouterr().err
    assert words in text and "--redo-changed" in text and not any(f"{other} is" in text for other in others)
    assert main([*small_study, "--redo-changed"]) == 0
    prepared = json.loads(next((tmp_path / "out" / "data").glob("*/*/prepared/cases.json")).read_text())
    assert [case["id"] for case in prepared["cases"] if case["role"] in ("labeled", "unlabeled")] == names
    assert main(small_study) == 0, "what was made anew is what is there"


def test_a_rehearsal_and_its_study_do_not_share_a_folder(tmp_path, monkeypatch, capsys):
    here(monkeypatch)
    document = {
        "title": "T", "data": {"phantom": {"num_labeled": 2, "num_unlabeled": 2, "num_held_out": 2, "size": "quarter"}},
        "rows": [{"method": "supervised"}], "labels": [2], "budget": {"iterations": 4}, "common": {"training": {"patch_size": [16, 16, 32]}},
    }  # fmt: skip
    path = tmp_path / "study.json"
    path.write_text(json.dumps(document))
    assert main(["study", str(path), str(tmp_path / "out"), "--quick", "--device", "cpu", "--threads", "1"]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "(rehearsal)" in page and page.index("This is a rehearsal") < page.index("<h2>"), "on top, not among the limits alone"
    assert main(["study", str(path), str(tmp_path / "out"), "--device", "cpu", "--threads", "1"]) == 2
    assert "patch_size" in capsys.readouterr().err, "the numbers of a rehearsal never enter the tables of the study"
    assert make_plan(StudyJob(str(path), device="cpu", quick=True), tmp_path / "out")[0].study.is_rehearsal
