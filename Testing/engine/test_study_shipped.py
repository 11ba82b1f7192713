"""The shipped studies ask what they are for: every arm of the ablation differs from its neighbor in one thing, every sweep has its values."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from training_cases import CPU

from semiseg.job_options import options_from
from semiseg.study.definition import Study, read_study
from semiseg.study.grid import lines_of, runs_of
from semiseg.train_job import TrainJob, resolve

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "studies"


def study_of(name: str) -> Study:
    return read_study(FOLDER / f"{name}.json")


def options_of(study: Study) -> dict[str, tuple[str, dict[str, Any]]]:
    """Method and its options by row, every default filled in."""
    found = {}
    for line in lines_of(study):
        job = options_from(TrainJob, {**line.job, "labeled": []}, "the training")
        resolved = resolve(replace(job, training={"patch_size": [16, 16, 16], **job.training}), CPU)
        found[line.name] = line.method, asdict(resolved.method_options)
    return found


def differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in second.items() if first.get(name) != value}


def test_the_ablation_takes_one_thing_at_a_time():
    """A BCP, B clustering, C alignment, D plain cross-entropy, E covariance, F shift, G both, H opposite sign, I margins, J one network, K expectation."""
    study = study_of("ablation")
    rows = options_of(study)
    assert [rows[name][0] for name in "ABCDEFGHIJK"] == ["bcp", "graphcl", "graphcl", *["transmedseg"] * 8] and len(rows) == 11
    options = {name: values for name, (_, values) in rows.items()}
    assert differences(options["C"], options["B"]) == {"graph_alignment": False} and options["C"]["clustering_weight"] == 0.01
    shared = set(options["A"]) & set(options["C"])
    assert {name for name in shared if options["A"][name] != options["C"][name]} == set(), "A is C without the graph"
    whole = options["G"]
    assert whole["tsa_weight"] == 0.4 and whole["statistics"] == "teacher" and (whole["shift"], whole["covariance"], whole["sign"], whole["form"]) == (True, "full", 1, "bound")
    assert {name for name in options["C"] if options["C"][name] != whole[name]} <= {"tsa_weight", "statistics"}, "G is C with the term"
    found = {name: differences(whole, options[name]) for name in "DEFHIJK"}
    assert found["D"].pop("statistics") == "same_net" == found["I"].pop("statistics"), "neither looks at statistics"
    assert found == {
        "D": {"form": "plain"}, "E": {"shift": False}, "F": {"covariance": "none"}, "H": {"sign": -1},
        "I": {"form": "margin"}, "J": {"statistics": "same_net"}, "K": {"form": "exact"},
    }  # fmt: skip
    (taking,) = [line for line in lines_of(study) if line.take]
    assert taking.name == "I" and taking.take == {"method_options.margins": {"row": "G", "scalars": ["tsa_table_0_1", "tsa_table_1_0"]}}
    assert study.labels == (4, 8) and len(study.seeds) == 3 and study.reference == "G" and study.budget.iterations


def test_the_weight_is_swept_from_a_tenth_to_one():
    rows = options_of(study_of("beta"))
    weights = [values["tsa_weight"] for method, values in rows.values() if method == "transmedseg"]
    assert weights == [0.1, 0.2, 0.4, 0.6, 0.8, 1.0] and next(iter(rows.values()))[0] == "graphcl"


def test_labels_are_4_8_and_16():
    study = study_of("labels")
    assert study.labels == (4, 8, 16) and {"supervised", "mean_teacher", "bcp", "transmedseg"} == {line.method for line in lines_of(study)}


def test_the_rare_structure_becomes_rarer_in_training_alone():
    data = study_of("imbalance").data
    assert [one.phantom["appendage"]["labeled"] for one in data] == [1, 0.5, 0.25] == [one.phantom["appendage"]["unlabeled"] for one in data]
    assert all(one.phantom["appendage"]["held_out"] == 1 and len(one.job["labels"]) == 2 for one in data)
    rest = [{name: value for name, value in one.phantom.items() if name != "appendage"} for one in data]
    assert rest[0] == rest[1] == rest[2], "nothing else differs"


@pytest.mark.parametrize("name", ["cross_site", "cross_site_quarter"])
def test_labels_come_from_one_site_and_test_cases_from_another(name):
    mixes = {one.name: one.phantom["site_mix"] for one in study_of(name).data}
    crossed = [mix for mix in mixes.values() if mix["held_out"] != mix["labeled"] and mix["unlabeled"] == mix["held_out"]]
    assert all(mix["labeled"] == {"A": 1} for mix in mixes.values()) and {"B", "C"} <= {site for mix in crossed for site in mix["held_out"]}
    if name == "cross_site":
        controls = [mix for mix in mixes.values() if mix["unlabeled"] == {"A": 1}]
        assert sorted(site for mix in controls for site in mix["held_out"]) == ["A", "B"], "unlabeled cases of the labeled site, and no change of site"


@pytest.mark.parametrize("name", ["left_atrium", "acdc"])
def test_every_method_has_the_same_seconds(name):
    from semiseg.methods import METHODS

    study = study_of(name)
    assert {line.method for line in lines_of(study)} == set(METHODS) and study.budget.seconds > 0 and study.best_on_test > 0
    often = {line.method for line in lines_of(study) if len(line.seeds) >= 3}
    assert often >= {"supervised", "mean_teacher", "bcp", "graphcl", "transmedseg", "micd"}
    assert study.labels == ((8,) if name == "left_atrium" else (7,))
    assert [line.name for line in lines_of(study) if line.labels != study.labels] == ["supervised, every label"], "the ceiling"


def test_tsa_is_compared_with_its_host_on_two_methods_and_two_networks():
    study = study_of("tsa_hosts")
    rows = {line.name: line for line in lines_of(study)}
    pairs = [line for line in rows.values() if line.job.get("tsa")]
    assert {(line.method, line.job["network"]) for line in pairs} == {(method, network) for method in ("mean_teacher", "bcp") for network in ("unet3d", "monai:UNETR")}
    for line in pairs:
        host = rows[line.reference]
        assert {**host.job, "tsa": True} == line.job and host.reference == host.name
    assert len(rows) == 8 and len(runs_of(study)) == 22
