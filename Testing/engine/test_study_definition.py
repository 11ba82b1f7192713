"""The study file: what it becomes, and what is refused with the key and the file."""

from __future__ import annotations

import json
from pathlib import Path

import builders
import pytest
from study_bed import write_study

from semiseg.cli import main
from semiseg.errors import InputError
from semiseg.study.check import check_study
from semiseg.study.definition import read_study
from semiseg.study.grid import lines_of, merged, runs_of, slug

STUDIES = sorted((Path(__file__).resolve().parents[2] / "docs" / "studies").glob("*.json"))


def test_a_grid_has_every_combination_once(tmp_path):
    study = read_study(write_study(tmp_path, rows=[{"method": "supervised", "seeds": [0]}, {"method": "bcp", "grid": {"method_options.decay": [0.9, 0.99]}}]))
    runs = runs_of(study)
    assert [line.name for line in lines_of(study)] == ["supervised", "bcp decay=0.9", "bcp decay=0.99"]
    assert len(runs) == 2 + 2 * 2 * 2 and len({run.id for run in runs}) == len(runs)
    assert {(run.labels, run.seed) for run in runs if run.line.row == "bcp"} == {(2, 0), (2, 1), (4, 0), (4, 1)}
    assert [run.seed for run in runs] == sorted(run.seed for run in runs), "all rows get their first seed before any gets a second"
    assert {run.options["method_options"]["decay"] for run in runs if run.line.row == "bcp"} == {0.9, 0.99}
    assert all(run.options["training"] == {"iterations": 30} for run in runs)
    assert len({run.preparation.id for run in runs}) == 2, "cases are prepared once for each number of labels"


def test_rows_change_single_options_of_a_common_group(tmp_path):
    common = {"training": {"learning_rate": 0.01, "optimizer": "sgd"}, "preset": "plus"}
    rows = [{"method": "bcp", "set": {"training.learning_rate": 0.02}}, {"name": "other", "method": "bcp", "set": {"preset": "faithful"}}]
    first, second = (line.job for line in lines_of(read_study(write_study(tmp_path, common=common, rows=rows))))
    assert first["training"] == {"learning_rate": 0.02, "optimizer": "sgd"} and first["preset"] == "plus"
    assert second["training"] == common["training"] and second["preset"] == "faithful"
    assert common["training"]["learning_rate"] == 0.01 and merged({"a": {"b": 1}}, {"a.c": 2}) == {"a": {"b": 1, "c": 2}}


def test_an_option_of_the_study_is_a_grid_over_all_rows(tmp_path):
    study = read_study(write_study(tmp_path, options={"training.learning_rate": [0.01, 0.02]}))
    assert [line.name for line in lines_of(study)] == [f"{name} learning_rate={rate}" for name in ("supervised", "bcp") for rate in ("0.01", "0.02")]


def test_names_of_folders_are_fit_for_every_system():
    names = ["a b", "a/b", "a:b", "ä", "x" * 200, "β = 0.4", "plain-1"]
    found = [slug(name) for name in names]
    assert len(set(found)) == len(names) and all(len(name) < 70 and name.isascii() and not set(name) & set('/\\:*?"<>| ') for name in found)


WRONG = [
    ("rows[1].method", {"rows": [{"method": "supervised"}, {"method": "magic"}]}, "no method 'magic'"),
    ("rows[0].set.method_option.x", {"rows": [{"method": "bcp", "set": {"method_option.x": 1}}]}, "no option 'method_option'"),
    ("rows[0] (bcp)", {"rows": [{"method": "bcp", "set": {"method_options.tau": 2}}]}, "no option tau"),
    ("rows[0] (bcp decay=high)", {"rows": [{"method": "bcp", "grid": {"method_options.decay": ["high"]}}]}, "expected a number"),
    ("rows[0].set.training.iterations", {"rows": [{"method": "bcp", "set": {"training.iterations": 5}}]}, "decided by the budget"),
    ("rows[0].set.training.iterations", {"rows": [{"method": "bcp", "set": {"training": {"iterations": 5}}}]}, "decided by the budget"),
    ("rows[0].grid.training.minutes", {"rows": [{"method": "bcp", "grid": {"training": [{"minutes": 5}]}}]}, "decided by the budget"),
    ("options.training.minutes", {"options": {"training": [{"learning_rate": 0.1}, {"minutes": 5}]}}, "decided by the budget"),
    ("common.training.minutes", {"common": {"training": {"minutes": 0.05}}}, "decided by the budget"),
    ("data.training.iterations", {"data": {"phantom": {"num_labeled": 4}, "training": {"iterations": 5}}}, "decided by the budget"),
    ("rows[0].set.seed", {"rows": [{"method": "bcp", "set": {"seed": 5}}]}, "decided by the study"),
    ("rows[0].grid.training.learning_rate", {"rows": [{"method": "bcp", "grid": {"training.learning_rate": 0.1}}]}, "list of values"),
    ("rows[0]", {"rows": [{"methods": "bcp"}]}, "no option methods"),
    ("rows", {"rows": [{"method": "bcp"}, {"method": "bcp"}]}, "named 'bcp'"),
    ("rows", {"rows": []}, "missing or empty"),
    ("labels", {"labels": [8]}, "8 labeled cases are asked for"),
    ("labels", {"labels": [1]}, "from 2 on"),
    ("seeds", {"seeds": [0, 0]}, "once"),
    ("seeds", {"seeds": ["zero"]}, "integers"),
    ("budget", {"budget": {"iterations": 5, "seconds": 5}}, "either iterations or seconds"),
    ("budget", {"budget": {"hours": 5}}, "no option hours"),
    ("epochs", {"epochs": 5}, "no such key"),
    ("title", {"title": None}, "missing"),
    ("data", {"data": {"name": "x"}}, "either phantom, or labeled"),
    ("data.phantom", {"data": {"phantom": {"size": 5}}}, "expected a text"),
    ("data.phantom", {"data": {"phantom": {"size": "tiny"}}}, "one of full, half, quarter"),
    ("data.phantom", {"data": {"phantom": {"site_mix": {"labeled": {"A": "much"}}}}}, "site mix of 'labeled'"),
    ("data.phantom", {"data": {"phantom": {"appendage": {"labeled": 2}}}}, "numbers from 0 to 1"),
    ("data[1] (b).phantom", {"data": [{"name": "a", "phantom": {"num_labeled": 4}}, {"name": "b", "phantom": {"num_unlabeled": -1}}]}, "0 or more"),
    ("data.phantom.num_held_out", {"data": {"phantom": {"num_held_out": 0}}}, "no case is held out"),
    ("data.labeled", {"data": {"labeled": "here"}}, "list of paths"),
    ("common.speed", {"common": {"speed": 5}}, "no option 'speed'"),
    ("rows[1].take.method_options.margins", {"rows": [{"method": "bcp"}, {"method": "transmedseg", "take": {"method_options.margins": {"row": "G", "scalars": ["a"]}}}]}, "no other row"),
    ("format", {"format": 2}, "reads 1"),
    ("reference", {"reference": "cps"}, "no row of the table is named 'cps'"),
    ("rows[1].reference", {"rows": [{"method": "supervised"}, {"method": "bcp", "reference": "cps"}]}, "no row of the table is named 'cps'"),
    ("best_on_test", {"best_on_test": -1}, "0 or more looks"),
    ("best_on_test", {"best_on_test": True}, "expected an integer"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "changes", "words"), WRONG, ids=[f"{key}-{place}" for place, (key, _, _) in enumerate(WRONG)])
def test_what_does_not_fit_is_refused_with_key_and_file(key, changes, words, tmp_path):
    path = write_study(tmp_path, **changes)
    with pytest.raises(InputError) as raised:
        check_study(read_study(path))
    assert f"study's {key}" in raised.value.message and words in raised.value.message + raised.value.hint
    assert raised.value.path == path and raised.value.hint


def test_a_wrong_study_ends_with_code_2_and_starts_nothing(tmp_path, capsys):
    path = write_study(tmp_path, labels=[99])
    assert main(["study", str(path), str(tmp_path / "out"), "--dry-run"]) == 2
    text = capsys.readouterr().err
    assert "labels" in text and str(path) in text
    assert not (tmp_path / "out").exists()
    (tmp_path / "broken.json").write_text("{")
    assert main(["study", str(tmp_path / "broken.json"), str(tmp_path / "out"), "--dry-run"]) == 2
    assert main(["study", str(tmp_path / "missing.json"), str(tmp_path / "out"), "--dry-run"]) == 2
    assert "not JSON" in (text := capsys.readouterr().err) and "no study file" in text


def test_labels_are_counted_in_a_folder_of_files(tmp_path, capsys):
    folder = builders.write_cohort(tmp_path / "cases", 3, 1, 2)
    data = {"name": "files", "labeled": ["$DATA"]}
    path = write_study(tmp_path, data=data, labels=[3])
    assert check_study(read_study(path, folder)) == []
    (sentence,) = check_study(read_study(path), needs_data=False)
    assert "--data" in sentence
    with pytest.raises(InputError, match="needs the folder of the data"):
        check_study(read_study(path))
    with pytest.raises(InputError, match="4 labeled cases are asked for"):
        check_study(read_study(write_study(tmp_path, data=data, labels=[4]), folder))
    assert main(["study", str(path), str(tmp_path / "out"), "--data", str(tmp_path / "nowhere"), "--dry-run"]) == 2
    text = capsys.readouterr().err
    assert "named with --data does not exist" in text and text.count("Name the folder of the data.") == 1
    with pytest.raises(InputError) as raised:
        check_study(read_study(write_study(tmp_path, data={"labeled": ["nowhere"]})))
    assert str(raised.value).count(raised.value.hint) == 1 and "nowhere" in raised.value.message and "study's data does" in raised.value.message


def test_relative_paths_start_at_the_study_file(tmp_path):
    study = read_study(write_study(tmp_path, data={"labeled": ["cases/labeled"], "held_out": ["$DATA/test"]}), tmp_path / "d")
    assert study.data[0].job == {"labeled": [str((tmp_path / "cases" / "labeled").resolve())], "held_out": [str((tmp_path / "d").resolve() / "test")]}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_fits_this_engine(path, tmp_path, capsys):
    assert main(["study", str(path), str(tmp_path), "--dry-run", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    count = len(runs_of(read_study(path)))
    assert len([line for line in lines if " new " in line]) == count > 2 and f"{count} runs" in lines[-1]
    document = json.loads(path.read_text())
    assert document["question"] and document["title"]
    assert not list(tmp_path.iterdir()), "a dry run leaves nothing behind"


def test_studies_are_shipped():
    assert {"ablation", "beta", "labels", "imbalance", "cross_site", "left_atrium", "acdc"} <= {path.stem for path in STUDIES}


def test_a_step_is_measured_once_for_data_sets_of_one_size(tmp_path):
    """Two measurements of the same step would differ by the load of the moment, and the data sets with them."""
    data = [{"name": name, "phantom": {"num_labeled": 4, "size": size, "site_mix": {"labeled": {site: 1}}}} for name, size, site in (("a", "half", "A"), ("b", "half", "B"), ("c", "quarter", "A"))]
    runs = runs_of(read_study(write_study(tmp_path, data=data)))
    assert {(run.line.name, run.data.name): run.measure for run in runs if run.line.name == "bcp"} == {("bcp", "a"): "bcp-a", ("bcp", "b"): "bcp-a", ("bcp", "c"): "bcp-c"}
