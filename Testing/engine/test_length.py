"""A budget of minutes is kept also where the probe met a busy computer, or a quiet one."""

from __future__ import annotations

import json

import builders
import pytest
import torch
from training_cases import CPU, MemoryCases, make_batches, make_method, train_options

from semiseg.errors import InputError
from semiseg.protocol import EVENTS_FILE, RESULT_FILE, ExitCode, Job, ask_to_stop, read_events, read_job, write_job
from semiseg.training import loop
from semiseg.training.length import FEWEST_SECONDS, Length
from semiseg.training.loop import Fit
from semiseg.training.probe import Pace
from semiseg.worker import run_folder

# How long


@pytest.mark.parametrize(("step_s", "fits"), [(0.1, 9975), (0.85, 1000), (1.0, 1000), (1.15, 1000), (4.0, 256)])
def test_steps_that_take_another_time_than_the_probe_found_change_the_length(step_s, fits):
    """Of 1000 s for 1000 steps; differences of less than a fifth change nothing. At 50 s and more it is looked at."""
    length = Length(1000, Pace(1.0))
    steps = round(60 / step_s)
    assert length.look(1, step_s, 1000, 1.0) == 1000, "too early"
    found = length.look(steps, steps * step_s, 1000, 1.0)
    assert found == pytest.approx(fits, rel=0.03)
    assert steps * step_s + (found - steps) * step_s == pytest.approx(1000, rel=0.21)


def test_a_computer_that_becomes_quiet_later_is_noticed_later():
    """Only the steps since the last look count; after 40 percent of the time the length is settled."""
    length = Length(1000, Pace(1.0))
    assert length.look(55, 55.0, 1000, 1.0) == 1000
    assert length.look(255, 105.0, 1000, 1.0) == pytest.approx((895 / 0.25) + 255, abs=1)
    assert length.look(300, 106.0, 3835, 1.0) == 3835, "not before the next look"
    settled = length.look(1000, 410.0, 3835, 1.0)
    assert length.look(1001, 900.0, settled, 1.0) == settled


def test_a_length_that_is_far_too_short_is_noticed_before_it_ends():
    """The probe met a computer that was thirty times busier: all of its steps together take less time than comes before the first look by the clock."""
    length = Length(1000, Pace(1.0))
    assert length.look(40, 40 / 30, 1000, 1.0) == 1000, "neither time nor steps"
    assert length.look(60, 60 / 30, 1000, 0.1) == pytest.approx(30_000, rel=0.01)


def test_a_slow_beginning_ends_no_training():
    """Networks that are compiled in the first step take most of the time before the first look; then steps are as quick as the probe found."""
    length = Length(720, Pace(0.2))
    total, iteration = 3600, 0
    while iteration < total:
        iteration += 20
        total = length.look(iteration, 100 + 0.2 * iteration, total, 1.0)
    assert 100 + 0.2 * total == pytest.approx(720, rel=0.01)


def test_a_few_slow_steps_decide_nothing():
    assert Length(1000, Pace(1.0)).look(4, 60.0, 1000, 1.0) == 1000


def test_stages_and_rounds_of_labeling_count_as_the_probe_knew_them():
    """Steps of the first stage take 1 s, of the second 3 s, labeling 200 s; all of it twice as fast now."""
    pace = Pace(0.8 * 1 + 0.2 * 3, 200.0, 1.0)
    total = pace.iterations(1000)
    assert total == int(800 / 1.4)
    fits = Length(1000, pace).look(120, 60.0, total, 0.8)
    spent = 60 + ((0.8 * fits - 120) * 1 + 0.2 * fits * 3 + 200) / 2
    assert spent == pytest.approx(1000, rel=0.01)


def test_the_first_stage_is_never_found_over():
    """The second would begin in the past."""
    assert Length(100, Pace(1.0)).look(60, 99.0, 100, 0.8) == 77


# In the loop


class Told:
    """Gives lengths by iteration."""

    def __init__(self, lengths):
        self.lengths = lengths

    def look(self, iteration, spent_s, total, first_share):
        return self.lengths.get(iteration, total)


def trained(method, path, events, told, stop=10**6, iterations=10):
    asked = iter(range(10**6))
    options = train_options(iterations=iterations, log_every=1)
    batches = make_batches(MemoryCases())
    done = Fit(method, batches, options, CPU, report=events, state_path=path, should_stop=lambda: next(asked) >= stop, length=told).run()
    return done


@pytest.mark.parametrize(("told", "steps", "second_from"), [({2: 20}, 20, 16), ({3: 5}, 5, 4), ({2: 20, 4: 8}, 8, 6)])
def test_stages_and_step_sizes_follow_the_length(told, steps, second_from, tmp_path, events):
    method = make_method("bcp", pretrain_share=0.8)
    assert trained(method, tmp_path / "resume.pt", events, Told(told)).iteration == steps
    stages = {event["name"]: event["iteration"] for event in events.of("stage")}
    assert stages == {"pretrain": 0, "self_train": second_from}
    rates = events.scalars("learning_rate")
    assert len(rates) == steps and rates[-1] < 0.2 * max(rates), "the schedule ends with the training"


@pytest.mark.parametrize("share", [0.0, 0.01])
def test_a_first_stage_without_a_step_is_not_looked_at(share, tmp_path, events):
    """The next one has its place in the loop, but not its share."""
    length = Length(0.001, Pace(1.0))
    assert trained(make_method("bcp", pretrain_share=share), tmp_path / "resume.pt", events, length, iterations=20).iteration == 20


def test_a_setback_keeps_the_length(tmp_path, events, monkeypatch):
    """Going back to a state from just before the length changed would train the old number of steps."""
    method, broken = make_method("supervised"), iter([True])
    forward = type(method).forward

    def breaks(self, batch, progress):
        losses = forward(self, batch, progress)
        if progress.iteration == 5 and next(broken, False):
            losses["total"] = losses["total"] * float("nan")
        return losses

    monkeypatch.setattr(type(method), "forward", breaks)
    assert trained(method, tmp_path / "resume.pt", events, Told({5: 15})).iteration == 15
    assert [event["code"] for event in events.of("warning")] == ["E806"]


def test_later_stages_keep_their_length(tmp_path, events):
    """Also where somebody would like another one."""
    assert trained(make_method("bcp", pretrain_share=0.5), tmp_path / "resume.pt", events, Told({6: 100})).iteration == 10


@pytest.mark.parametrize("stop", [1, 7, 15])
def test_a_stopped_training_keeps_its_length(stop, tmp_path, events):
    """Bit for bit, from the job as it was begun, and without anything that looks at the clock."""
    whole, first, again = (make_method("bcp", pretrain_share=0.8) for _ in range(3))
    torch.manual_seed(3)
    trained(whole, tmp_path / "whole.pt", events, Told({} if stop == 1 else {4: 20}))
    torch.manual_seed(3)
    path = tmp_path / "resume.pt"
    assert not trained(first, path, events, Told({} if stop == 1 else {4: 20}), stop).is_complete
    trained(again, path, events, None)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_ranks_take_the_length_of_the_first(tmp_path, events, monkeypatch):
    """Each has a clock of its own, and those that counted other steps would wait for each other forever."""
    monkeypatch.setattr(loop, "from_owner", lambda value, owner: torch.tensor(12) if owner == 0 else value)
    assert trained(make_method("supervised"), tmp_path / "resume.pt", events, Told({2: 99})).iteration == 12


def test_another_length_still_does_not_continue_a_run(tmp_path, events):
    options = train_options(iterations=10, log_every=1)

    def fit(iterations, told=None, stop=lambda: False):
        known = {"training": {"iterations": iterations}}
        return Fit(make_method("supervised"), make_batches(MemoryCases()), options, CPU, state_path=tmp_path / "s.pt", identity=known, should_stop=stop, length=told)

    assert fit(10, Told({2: 15})).run().iteration == 15
    assert fit(15).run().iteration == 15, "the job as it was written at the end"
    assert fit(10).run().iteration == 15, "the job as it was begun"
    with pytest.raises(InputError, match="other options"):
        fit(12).run()


# In a run


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return builders.write_cohort(tmp_path_factory.mktemp("data"), 2, 2, 1, ending=".nrrd")


@pytest.fixture
def twice_as_long(monkeypatch):
    """Every training with minutes comes to 40 iterations."""
    monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)
    monkeypatch.setattr("semiseg.train.FEWEST_SECONDS", 0.0)
    monkeypatch.setattr(Length, "look", lambda self, iteration, *_: 40)


def job(cohort, **changes):
    training = {"minutes": 0.001, **changes.pop("training", {})}
    if "iterations" in training:
        del training["minutes"]
    return builders.tiny_train_job(cohort, training, held_out=[str(cohort / "heldout")], method="bcp", **changes)


def test_the_job_says_the_length_it_came_to(cohort, tmp_path, twice_as_long, monkeypatch):
    monkeypatch.setattr("semiseg.train._equal_budget", lambda *_: 1.5)  # as no clock of this machine says it
    write_job(tmp_path, Job("train", job(cohort, baseline=True)))
    assert run_folder(tmp_path) == ExitCode.FINISHED
    result = json.loads((tmp_path / RESULT_FILE).read_text())
    assert result["iterations"] == 40 == read_job(tmp_path).options["training"]["iterations"]
    said = [event["message"] for event in read_events(tmp_path / EVENTS_FILE)[0] if "than at the start" in event.get("message", "")]
    assert said == ["This computer is faster now than at the start: 40 iterations fit into the time, not 20."]
    assert result["baseline"]["iterations"] == read_job(tmp_path / "baseline").options["training"]["iterations"] == 60, "one and a half times the new length"
    (tmp_path / RESULT_FILE).unlink()
    assert run_folder(tmp_path) == ExitCode.FINISHED, "what was trained is not trained again"
    assert json.loads((tmp_path / RESULT_FILE).read_text())["scores"] == result["scores"]


def test_a_run_stopped_after_it_became_longer_continues(cohort, tmp_path, twice_as_long):
    def listen(kind, **values):
        if kind == "progress" and values["what"] == "train" and values["done"] == 30:
            ask_to_stop(tmp_path)

    write_job(tmp_path, Job("train", job(cohort)))
    assert run_folder(tmp_path, listen) == ExitCode.STOPPED
    assert run_folder(tmp_path) == ExitCode.FINISHED
    assert json.loads((tmp_path / RESULT_FILE).read_text())["iterations"] == 40


@pytest.mark.parametrize("changes", [{"best_on_test": 2}, {"training": {"iterations": 20}}])
def test_a_length_that_others_count_on_stays(changes, cohort, tmp_path, twice_as_long):
    """Looks at the held-out cases come at shares of it; a stated number of steps is a number of steps."""
    write_job(tmp_path, Job("train", job(cohort, **changes)))
    assert run_folder(tmp_path) == ExitCode.FINISHED
    assert json.loads((tmp_path / RESULT_FILE).read_text())["iterations"] == 20


def test_budgets_of_seconds_are_not_looked_after(cohort, tmp_path, twice_as_long, monkeypatch):
    monkeypatch.setattr("semiseg.train.FEWEST_SECONDS", FEWEST_SECONDS)
    write_job(tmp_path, Job("train", job(cohort)))
    assert run_folder(tmp_path) == ExitCode.FINISHED
    assert json.loads((tmp_path / RESULT_FILE).read_text())["iterations"] == 20
