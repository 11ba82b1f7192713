"""Trainings with the same first stage train it once, and every bit of what follows is as if each had trained it."""

from __future__ import annotations

import json

import builders
import pytest
import torch
from study_bed import stand_in, write_study
from training_cases import CPU, MemoryCases, make_batches, make_method, train_options

from semiseg.errors import InputError
from semiseg.protocol import EVENTS_FILE, RESULT_FILE, ExitCode, Job, ask_to_stop, read_events, read_job, write_job
from semiseg.study.definition import read_study
from semiseg.training.first_stage import SharedFirstStage
from semiseg.training.loop import Fit
from semiseg.worker import run_folder

PLAIN = {"graph_alignment": False}
STEPS = 10
"""Eight of pretraining, two of self-training."""


def shared(tmp_path, method):
    return SharedFirstStage(tmp_path / "first_stages", {"method_options": method.first_stage})


def trained(method, events, place=None, stop=10**6, state_path=None, **training):
    asked = iter(range(10**6))
    fit = Fit(
        method, make_batches(MemoryCases()), train_options(iterations=STEPS, log_every=1, **training), CPU, report=events,
        should_stop=lambda: next(asked) >= stop, state_path=state_path, shared=place,
    )  # fmt: skip
    torch.manual_seed(3)
    assert fit.run().is_complete == (stop > STEPS)
    return fit


PAIRS = {
    "the same method": (("bcp", {}), ("bcp", {})),
    "other labels": (("bcp", {}), ("bcp", {"mixing": 0.5, "pseudo_weight": 0.3, "labels_from": "patches"})),
    "copy-paste, then graph": (("bcp", {}), ("graphcl", PLAIN)),
    "graph, then copy-paste": (("graphcl", PLAIN), ("bcp", {})),
    "graph, then TSA": (("graphcl", {}), ("transmedseg", {"statistics": "teacher"})),
    "TSA, then its control": (("transmedseg", {}), ("transmedseg", {"form": "plain"})),
    "TSA with the student's statistics, then without": (("transmedseg", {"statistics": "same_net"}), ("graphcl", {})),
}


@pytest.mark.parametrize("training", [{}, {"optimizer": "sgd"}], ids=["adamw", "sgd"])
@pytest.mark.parametrize(("first", "then"), PAIRS.values(), ids=PAIRS)
def test_what_follows_is_the_same_to_the_last_bit(first, then, training, tmp_path, events):
    """Weights, statistics and losses; with dropout, batch normalization and the teacher of the authors' code as well, below."""
    check(first, then, {}, training, tmp_path, events)


@pytest.mark.parametrize(("first", "then"), [PAIRS["copy-paste, then graph"], PAIRS["graph, then TSA"]], ids=["plain", "aligned"])
def test_what_follows_is_the_same_with_the_authors_code(first, then, tmp_path, events):
    options = {"preset": "faithful", "pretrain_share": 0.8, "network_options": {"norm": "batch", "dropout": 0.5}}
    check(first, then, options, {}, tmp_path, events)


def check(first, then, options, training, tmp_path, events):
    def make(one):
        name, changes = one
        return make_method(name, **{**changes, **options})

    writer, alone, reader = make(first), make(then), make(then)
    assert writer.first_stage == reader.first_stage and json.dumps(reader.first_stage)
    place = shared(tmp_path, writer)
    assert not trained(writer, lambda *_, **__: None, place, **training).took_first_stage and place.path.exists()
    whole_events = type(events)()
    trained(alone, whole_events, **training)
    assert trained(reader, events, place, **training).took_first_stage
    assert len(events.scalars("loss")) == 2 and events.scalars("loss") == whole_events.scalars("loss")[-2:]
    assert events.scalars("learning_rate") == whole_events.scalars("learning_rate")[-2:]
    for key, value in alone.state_dict().items():
        assert torch.equal(value, reader.state_dict()[key]), key


@pytest.mark.parametrize("changes", [{"pretrain_share": 0.5}, {"decay": 0.9}, {"perturb": False}, {"deploy": "student"}, {"pretrain_mixing": 0.5}])
def test_another_first_stage_is_not_taken(changes, tmp_path):
    assert shared(tmp_path, make_method("bcp")).path != shared(tmp_path, make_method("bcp", **changes)).path


def test_networks_and_methods_of_one_stage_do_not_share(tmp_path):
    assert shared(tmp_path, make_method("graphcl")).path != shared(tmp_path, make_method("graphcl", **PLAIN)).path
    assert all(make_method(name).first_stage is None for name in ("supervised", "mean_teacher", "ua_mt", "cps", "micd", "semigda"))


def test_a_run_stopped_within_the_first_stage_keeps_nothing(tmp_path, events):
    method = make_method("bcp")
    place = shared(tmp_path, method)
    trained(method, events, place, stop=5, state_path=tmp_path / "resume.pt")
    assert not place.path.exists()
    assert not trained(make_method("bcp"), events, place, state_path=tmp_path / "resume.pt").took_first_stage and place.path.exists()


def test_a_first_stage_that_became_unstable_is_not_kept(tmp_path, events):
    """Its step size is not that of the others."""
    method = make_method("bcp")
    place, forward = shared(tmp_path, method), method.forward

    def bad(batch, progress):
        losses = forward(batch, progress)
        return {name: value * float("nan") for name, value in losses.items()} if progress.iteration == 3 and not events.of("warning") else losses

    method.forward = bad
    trained(method, events, place)
    assert events.of("warning") and not place.path.exists()


def test_a_damaged_file_is_named(tmp_path, events):
    method = make_method("bcp")
    place = shared(tmp_path, method)
    place.path.parent.mkdir()
    place.path.write_bytes(b"no state")
    with pytest.raises(InputError, match="cannot be read"):
        trained(method, events, place)


# In runs and studies


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return builders.write_cohort(tmp_path_factory.mktemp("data"), 3, 2, 1, ending=".nrrd")


def run(folder, cohort, **changes):
    kept = {"held_out": [str(cohort / "heldout")], "method": "bcp", "first_stages": str(folder.parent / "first_stages")}
    job = builders.tiny_train_job(cohort, {"iterations": 10}, **{**kept, **changes})
    write_job(folder, Job("train", job))
    return folder


@pytest.fixture(autouse=True)
def leave_this_process_as_it_is(monkeypatch):
    monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)


def test_a_run_says_that_it_took_it(cohort, tmp_path):
    first, second = run(tmp_path / "first", cohort), run(tmp_path / "second", cohort, method_options={"pseudo_weight": 0.5})
    for folder in (first, second):
        assert run_folder(folder) == ExitCode.FINISHED
    results = [json.loads((folder / RESULT_FILE).read_text()) for folder in (first, second)]
    assert "took_first_stage" not in results[0] and results[1]["took_first_stage"]
    assert [one["iterations"] for one in results] == [10, 10] and results[1]["train_s"] >= 0
    messages = [event.get("message") for event in read_events(second / EVENTS_FILE)[0]]
    assert "The first 8 iterations are the same as in another run, and are taken from there." in messages


def test_a_run_that_took_it_is_continued_after_a_stop(cohort, tmp_path):
    run_folder(run(tmp_path / "first", cohort))
    second = run(tmp_path / "second", cohort)

    def listen(kind, **values):
        if kind == "progress" and values["what"] == "train" and values["done"] == 9:
            ask_to_stop(second)

    assert run_folder(second, listen) == ExitCode.STOPPED and run_folder(second) == ExitCode.FINISHED
    assert json.loads((second / RESULT_FILE).read_text())["took_first_stage"]


@pytest.mark.parametrize("changes", [{"seed": 1}, {"num_validation": 1}, {"best_on_test": 2}, {"threads": 2}, {"augment": {"rotation_deg": 5.0}}])
def test_other_runs_do_not_take_it(changes, cohort, tmp_path):
    """Other numbers, or somebody who looks into the first stage."""
    before = torch.get_num_threads()
    try:
        run_folder(run(tmp_path / "first", cohort, threads=1))
        assert run_folder(run(tmp_path / "second", cohort, **{"threads": 1, **changes})) == ExitCode.FINISHED
    finally:
        torch.set_num_threads(before)
    assert "took_first_stage" not in json.loads((tmp_path / "second" / RESULT_FILE).read_text())


def test_a_study_has_a_folder_for_them(tmp_path, monkeypatch):
    from semiseg.cli import main

    stand_in(tmp_path, monkeypatch)
    path, out_dir = write_study(tmp_path, seeds=[0], labels=[4]), tmp_path / "out"
    assert main(["study", str(path), str(out_dir), "--device", "cpu"]) == 0
    assert "first_stages" not in read_job(out_dir / "runs" / "bcp-4labels-seed0").options
    path = write_study(tmp_path, seeds=[0, 1], labels=[4], share_first_stage=True)
    assert main(["study", str(path), str(out_dir), "--device", "cpu"]) == 0, "which makes no other study of it"
    assert read_job(out_dir / "runs" / "bcp-4labels-seed1").options["first_stages"] == str((out_dir / "first_stages").resolve())
    assert "0 of 4 runs took theirs from another" in (out_dir / "report.html").read_text()


@pytest.mark.parametrize(("changes", "words"), [({"share_first_stage": 1}, "true or false"), ({"share_first_stage": True, "best_on_test": 2}, "best_on_test looks into")])
def test_a_study_that_cannot_share_is_refused(changes, words, tmp_path):
    with pytest.raises(InputError, match=words):
        read_study(write_study(tmp_path, **changes))
