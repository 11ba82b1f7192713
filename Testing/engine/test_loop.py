"""The training loop: it continues where it stopped, bit for bit, and comes back from what goes wrong."""

from __future__ import annotations

import errno
import io
import math
from functools import partial

import pytest
import torch
from torch import nn
from training_cases import CPU, MemoryCases, make_batches, make_method, train_options

from semiseg.data.augment import AugmentOptions
from semiseg.errors import InputError
from semiseg.methods import METHODS, load_method
from semiseg.methods.base import AbstractMethod, Progress, Stage
from semiseg.methods.presets import FAITHFUL_LA
from semiseg.training import checkpoint, memory
from semiseg.training.checkpoint import read_state, write_state
from semiseg.training.loop import MAX_SETBACKS, Fit
from semiseg.training.optimizer import learning_rate, make_optimizer
from semiseg.training.options import SCHEDULES, TrainOptions
from semiseg.training.stages import stage_ends

TWO_STAGES = (Stage("first", 0.25), Stage("last", 0.75))


@pytest.fixture(scope="module")
def cases():
    return MemoryCases()


@pytest.fixture
def batches(cases):
    return make_batches(cases)


class Line(AbstractMethod):
    """Fits a number; ``trouble(iteration)`` is multiplied onto one of its terms, once for every visit."""

    stages = TWO_STAGES

    def __init__(self, trouble=lambda iteration: 1.0):
        super().__init__()
        self.network = nn.Conv3d(1, 2, 1)
        self.trouble, self.visited, self.started = trouble, [], []

    def forward(self, batch, progress):
        self.visited.append(progress.iteration)
        output = self.network(batch.labeled)
        fine, risky = output.square().mean(), output.abs().mean() * self.trouble(progress.iteration)
        return {"fine": fine, "risky": risky, "total": fine + risky}

    def start_stage(self, stage):
        self.started.append(stage)

    @property
    def deployed(self):
        return self.network


def fit(method, batches, **changes):
    keywords = {key: changes.pop(key) for key in list(changes) if key in _FIT}
    return Fit(method, batches, train_options(**changes), CPU, **keywords)


_FIT = ("report", "state_path", "identity", "validate", "should_stop")


def stop_after(count):
    """Asks to stop when it is asked for the (count + 1)-th time."""
    asked = iter(range(10**6))
    return lambda: next(asked) >= count


# Resume


@pytest.mark.parametrize(("name", "count"), [(name, 20 if name in ("supervised", "transmedseg") else 6) for name in METHODS])
def test_stopping_and_resuming_changes_nothing(name, count, batches, tmp_path, events):
    """Dropout, batch normalization, every stage, averages and statistics included: every bit is the same."""
    options = {"preset": "faithful", "network_options": {"norm": "batch", "dropout": 0.5}}
    training = {"iterations": count, "log_every": 1}
    whole, resumed = make_method(name, **options), make_method(name, **options)
    torch.manual_seed(3)
    whole_events = type(events)()
    assert fit(whole, batches, report=whole_events, **training).run().is_complete
    torch.manual_seed(3)
    path = tmp_path / "resume.pt"
    first = fit(resumed, batches, report=events, state_path=path, should_stop=stop_after(count // 2), **training).run()
    assert (first.iteration, first.is_complete) == (count // 2, False)
    torch.manual_seed(99)
    again = make_method(name, seed=5, **options)
    assert fit(again, batches, report=events, state_path=path, **training).run().is_complete
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert events.scalars("loss") == whole_events.scalars("loss") and len(events.scalars("loss")) == count
    assert events.scalars("learning_rate") == whole_events.scalars("learning_rate")


def test_compiled_networks_learn_what_others_learn(batches, monkeypatch):
    """Student and teacher of both stages and whole-case labels; PyTorch traces the networks, and a stand-in takes the place of its code generator."""
    traced = []

    def backend(graph, inputs):
        traced.append(sum(node.op == "call_function" for node in graph.graph.nodes))
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    training = {"iterations": 4, "log_every": 2, "optimizer": "sgd"}
    options = {"preset": "faithful", "pretrain_share": 0.5, "network_options": {"norm": "instance"}}
    plain, compiled = make_method("bcp", **options), make_method("bcp", **options)
    assert fit(plain, batches, **training).run().is_complete and not traced
    assert fit(compiled, batches, compile=True, **training).run().is_complete
    assert max(traced) > 20, "a network is traced whole"
    assert list(compiled.state_dict()) == list(plain.state_dict())
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[key], value, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("count", (0, 1, 7))
def test_a_stop_is_obeyed_before_the_next_step(count, batches, tmp_path):
    path = tmp_path / "resume.pt"
    method = Line()
    outcome = fit(method, batches, state_path=path, should_stop=stop_after(count)).run()
    assert (outcome.iteration, outcome.is_complete) == (count, False)
    assert method.visited == list(range(count))
    other = Line()
    assert fit(other, batches, state_path=path).run().is_complete
    assert other.visited == list(range(count, 20))


def test_a_finished_run_takes_no_further_step(batches, tmp_path):
    path = tmp_path / "resume.pt"
    fit(Line(), batches, state_path=path).run()
    again = Line()
    assert fit(again, batches, state_path=path).run().is_complete
    assert again.visited == []


def test_time_spent_adds_up_over_interruptions(batches, tmp_path):
    path = tmp_path / "resume.pt"
    first = fit(Line(), batches, state_path=path, should_stop=stop_after(10)).run()
    second = fit(Line(), batches, state_path=path).run()
    assert second.seconds > first.seconds > 0


def test_a_stage_is_started_once_also_over_an_interruption(batches, tmp_path):
    path = tmp_path / "resume.pt"
    first, second = Line(), Line()
    fit(first, batches, state_path=path, should_stop=stop_after(10)).run()
    fit(second, batches, state_path=path).run()
    assert first.started == ["first", "last"] and second.started == []


def test_the_state_is_saved_now_and_then(batches, tmp_path, events):
    fit(Line(), batches, report=events, state_path=tmp_path / "resume.pt", save_every_s=0.0).run()
    assert [saved["step"] for saved in events.of("saved")] == [*range(1, 21), 20]
    assert list(tmp_path.iterdir()) == [tmp_path / "resume.pt"]


FINGERPRINT = {"supervised": [0.61444, 0.55622, 0.52959, 0.51718], "transmedseg": [1.9088, 1.7259, 1.7540, 1.5913]}


@pytest.mark.parametrize("name", FINGERPRINT)
def test_fingerprint(name, cases, events):
    """The losses of a fixed seed and the papers' options: a change that is meant to change nothing must leave them alone."""
    batches = make_batches(cases, augment=AugmentOptions((1, 2), False, 10.0, 0.1, 1.0))
    method = make_method(name, preset="faithful")
    training = {"iterations": 12, "log_every": 1, "schedule": "cosine", "optimizer": "adamw", "weight_decay": 0.01}
    fit(method, batches, report=events, learning_rate=0.01, gradient_clip=5.0, **training).run()
    found, known = events.scalars("loss")[2::3], FINGERPRINT[name]
    # Another processor rounds otherwise, and every step makes more of it.
    assert found[0] == pytest.approx(known[0], rel=5e-4) and found == pytest.approx(known, rel=5e-3)


def test_a_curve_shows_the_mean_of_the_steps_since_its_last_point(batches, events):
    """Single steps differ, mixed and unmixed ones a lot."""
    every, third = [], []
    for log_every, found in ((1, every), (3, third)):
        seen = []
        torch.manual_seed(0)  # the same weights to start from
        fit(Line(), batches, report=lambda kind, **values: seen.append((kind, values)), iterations=12, log_every=log_every).run()
        found += [values["value"] for kind, values in seen if kind == "scalar" and values["name"] == "loss"]
    assert len(every) == 12 and third == pytest.approx([sum(every[at : at + 3]) / 3 for at in range(0, 12, 3)])


# What goes wrong


def test_a_loss_that_is_no_number_goes_back_with_half_the_step(batches, events):
    """It breaks once at step 12; the last good look was after step 10."""
    broken = iter([True])
    method = Line(lambda iteration: math.nan if iteration == 12 and next(broken, False) else 1.0)
    outcome = fit(method, batches, report=events, schedule="constant").run()
    assert outcome.is_complete
    assert method.visited == [*range(15), *range(10, 20)]
    (warning,) = events.of("warning")
    assert warning["code"] == "E806" and "iteration 15" in warning["message"] and "iteration 10" in warning["message"]
    assert events.scalars("learning_rate") == pytest.approx([0.01, 0.01, 0.005, 0.005])
    assert all(math.isfinite(value) for value in events.scalars("loss"))
    assert torch.isfinite(method.network.weight).all()


def test_after_a_setback_the_same_batches_come_again(batches):
    """The weights after going back are those of a run that never left the way, up to the step size."""
    broken = iter([True])
    method = Line(lambda iteration: math.nan if iteration == 2 and next(broken, False) else 1.0)
    torch.manual_seed(0)
    straight = Line()
    method.load_state_dict(straight.state_dict())
    fit(method, batches, iterations=5, schedule="constant", learning_rate=0.02, optimizer="sgd").run()
    fit(straight, batches, iterations=5, schedule="constant", learning_rate=0.01, optimizer="sgd").run()
    torch.testing.assert_close(method.network.weight, straight.network.weight, rtol=0, atol=0)


def test_after_three_setbacks_the_term_that_broke_is_named(batches, events, tmp_path):
    """All terms are no numbers one step later: it must be the first one that is named."""
    method = Line(lambda iteration: math.nan if iteration == 12 else 1.0)
    with pytest.raises(InputError) as raised:
        fit(method, batches, report=events, schedule="constant").run()
    error = raised.value
    assert error.code == "E806" and error.hint
    assert "risky" in error.message and "fine" not in error.message and "4 times" in error.message
    assert len(events.of("warning")) == MAX_SETBACKS == 3


@pytest.mark.parametrize("value", (math.inf, -math.inf))
def test_infinite_losses_count_as_well(value, batches):
    with pytest.raises(InputError) as raised:
        fit(Line(lambda iteration: value), batches).run()
    assert raised.value.code == "E806" and "risky" in raised.value.message


def test_a_gradient_that_breaks_the_weights_is_seen_though_the_loss_was_fine(batches, events):
    """The square root of 0 has an infinite slope: the loss of the last step is a number, the weights are not."""

    class Root(Line):
        def forward(self, batch, progress):
            losses = super().forward(batch, progress)
            if progress.iteration == 19:
                losses["total"] = losses["total"] + (0 * self.network.weight).sum().abs().sqrt()
            return losses

    with pytest.raises(InputError) as raised:
        fit(Root(), batches, report=events).run()
    assert raised.value.code == "E806"


def test_a_stop_in_the_middle_of_trouble_saves_the_last_good_state(batches, tmp_path):
    """Weights broke at step 12 and nobody has looked yet: the saved state must be one that can go on."""
    path = tmp_path / "resume.pt"
    method = Line(lambda iteration: math.nan if iteration == 12 else 1.0)
    assert fit(method, batches, state_path=path, should_stop=stop_after(14)).run().iteration == 14
    assert not torch.isfinite(method.network.weight).all()
    state = read_state(path, {}, CPU)
    assert state["iteration"] == 10 and all(torch.isfinite(value).all() for value in state["method"].values())
    assert fit(Line(), batches, state_path=path).run().is_complete


@pytest.mark.parametrize("message", ("CUDA out of memory. Tried to allocate 2.00 GiB", None))
def test_memory_that_runs_out_says_what_would_fit(message, batches, tmp_path):
    def trouble(iteration):
        if iteration == 7:
            raise torch.OutOfMemoryError(message) if message else RuntimeError("cuDNN error: out of memory")
        return 1.0

    path = tmp_path / "resume.pt"
    with pytest.raises(InputError) as raised:
        fit(Line(trouble), make_batches(MemoryCases(), counts=(4, 4)), state_path=path, save_every_s=0.0, batch_labeled=4, patch_size=(64, 64, 64)).run()
    error = raised.value
    assert error.code == "E206" and "iteration 7" in error.message
    assert "batch 2 instead of 4" in error.hint and "instead of 64×64×64" in error.hint
    assert read_state(path, {}, CPU)["iteration"] == 7, "the run continues from here"


def test_any_other_error_keeps_its_name(batches):
    def trouble(iteration):
        raise RuntimeError("expected scalar type Float but found Half")

    with pytest.raises(RuntimeError, match="scalar type"):
        fit(Line(trouble), batches).run()


def test_what_would_fit_on_a_gpu_is_in_proportion(monkeypatch):
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1e9, 8e9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 6e9)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 10e9)
    error = memory.what_would_fit(TrainOptions(batch_labeled=8, patch_size=(80, 112, 112)), device, 820)
    assert "11.0 GB" in error.message and "7.0 of 8.0 GB" in error.message and "820" in error.message
    assert "batch 4 instead of 8" in error.hint and "patch 64×80×80 instead of 80×112×112" in error.hint


# The state on disk


class FullDisk(io.BytesIO):
    """Takes some bytes and then none."""

    def write(self, data):
        if self.tell() + len(data) > 5000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_pauses_and_the_state_before_survives(batches, tmp_path, monkeypatch):
    path = tmp_path / "resume.pt"
    fit(Line(), batches, state_path=path, should_stop=stop_after(5)).run()
    monkeypatch.setattr(checkpoint, "open", lambda *_: FullDisk(), raising=False)
    big = {"state": torch.zeros(100_000)}
    with pytest.raises(InputError) as raised:
        write_state(path, big, {})
    assert raised.value.code == "E807" and "full" in raised.value.message
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [path], "nothing half-written stays behind"
    assert read_state(path, {}, CPU)["iteration"] == 5


def test_an_interrupted_write_leaves_the_state_before(tmp_path, monkeypatch):
    path = tmp_path / "resume.pt"
    write_state(path, {"iteration": 1}, {})

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_state(path, {"iteration": 2}, {})
    assert read_state(path, {}, CPU)["iteration"] == 1 and list(tmp_path.iterdir()) == [path]


def test_a_state_of_other_options_is_refused_by_name(tmp_path):
    path = tmp_path / "resume.pt"
    write_state(path, {"iteration": 3}, {"method": "bcp", "seed": 0})
    with pytest.raises(InputError, match="seed: 0 before, 1 now") as raised:
        read_state(path, {"method": "bcp", "seed": 1}, CPU)
    assert "bcp" not in raised.value.message and raised.value.path == path
    assert read_state(path, {"seed": 0, "method": "bcp"}, CPU) == {"iteration": 3}


def test_a_state_of_another_version_says_so(tmp_path, monkeypatch):
    path = tmp_path / "resume.pt"
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 0)
    write_state(path, {}, {})
    monkeypatch.undo()
    with pytest.raises(InputError) as raised:
        read_state(path, {}, CPU)
    assert raised.value.code == "E810"


@pytest.mark.parametrize("damage", ("garbage", "cut", "code"))
def test_a_damaged_state_is_refused_and_runs_nothing(damage, tmp_path):
    path, trap = tmp_path / "resume.pt", tmp_path / "trap"

    class Code:
        def __reduce__(self):
            return open, (str(trap), "w")

    write_state(path, {"weights": torch.zeros(1000)}, {})
    if damage == "garbage":
        path.write_bytes(b"not a state")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-500])
    else:
        torch.save({"format_version": 1, "identity": "{}", "state": Code()}, path)
    with pytest.raises(InputError, match="cannot be read") as raised:
        read_state(path, {}, CPU)
    assert "Delete it" in raised.value.hint and not trap.exists()


# Stages, validation, events


def test_stages_end_where_their_shares_say():
    assert stage_ends(TWO_STAGES, 100) == [("first", 0, 25), ("last", 25, 100)]
    assert stage_ends(TWO_STAGES, 1) == [("last", 0, 1)]
    assert stage_ends((Stage("a", 2 / 17), Stage("b", 15 / 17)), 17_000) == [("a", 0, 2000), ("b", 2000, 17_000)]


def test_a_method_hears_where_it_is(batches):
    heard = []

    class Listening(Line):
        def forward(self, batch, progress):
            heard.append(progress)
            return super().forward(batch, progress)

    fit(Listening(), batches).run()
    assert heard[0] == Progress("first", 0.0, 0.0, 0) and heard[5] == Progress("last", 0.0, 0.25, 5)
    assert heard[-1].fraction == pytest.approx(14 / 15) and heard[-1].overall == 0.95
    assert [one.iteration for one in heard] == list(range(20))


@pytest.mark.parametrize(("every", "expected"), [(0, [5, 20]), (8, [5, 8, 16, 20])])
def test_validation_comes_at_the_end_of_stages_and_in_between(every, expected, batches):
    seen = []

    def validate(method, iteration):
        seen.append(iteration)
        method.eval()

    method = Line()
    fit(method, batches, validate=validate, validate_every=every).run()
    assert seen == expected and method.training


def test_events_tell_stage_losses_rate_and_remaining_time(batches, events):
    fit(Line(), batches, report=events).run()
    assert [stage["name"] for stage in events.of("stage")] == ["first", "last"]
    assert {values["name"] for values in events.of("scalar")} == {"loss", "loss_fine", "loss_risky", "learning_rate"}
    assert [values["step"] for values in events.of("scalar") if values["name"] == "loss"] == [5, 10, 15, 20]
    last = events.of("progress")[-1]
    assert last["done"] == last["total"] == 20 and last["rate_per_s"] > 0 and last["eta_s"] == 0
    assert all(values["eta_s"] > 0 for values in events.of("progress")[:-1])


# Optimizer and schedules


def rates(schedule, iterations=100, warmup=0):
    options = TrainOptions(iterations=iterations, schedule=schedule, learning_rate=1.0, warmup_iterations=warmup)
    found = []
    for name, start, end in stage_ends(TWO_STAGES, iterations):
        for step in range(start, end):
            progress = Progress(name, (step - start) / (end - start), step / iterations, step)
            found.append(learning_rate(options, progress, TWO_STAGES))
    return found


def test_constant():
    assert set(rates("constant")) == {1.0}


def test_cosine_falls_to_zero_over_everything():
    found = rates("cosine")
    assert found[0] == 1.0 and found[50] == pytest.approx(0.5) and found[-1] < 1e-3
    assert found == sorted(found, reverse=True)


def test_stage_cosine_falls_to_zero_in_every_stage():
    found = rates("stage_cosine")
    assert found[0] == 1.0 and found[24] < 0.01 and found[25] == 0.5 and found[-1] < 1e-3


def test_stage_cosine_halves_the_last_stage_alone():
    """SemiGDA: autoencoder and alignment at the full rate, segmentation at half of it (methods specification of the 3-D expression)."""
    stages = (Stage("ae", 0.3), Stage("align", 0.2), Stage("segment", 0.5))
    options = TrainOptions(schedule="stage_cosine", learning_rate=1.0, warmup_iterations=0)
    assert [learning_rate(options, Progress(stage.name, 0.0, 0.0, 0), stages) for stage in stages] == [1.0, 1.0, 0.5]
    assert learning_rate(options, Progress("train", 0.0, 0.0, 0), (Stage("train", 1.0),)) == 1.0


def test_ua_mt_step_is_that_of_6000_iterations():
    options = TrainOptions(schedule="ua_mt_step", learning_rate=1.0, warmup_iterations=0)
    found = [learning_rate(options, Progress("train", step / 6000, step / 6000, step), (Stage("train", 1.0),)) for step in (0, 2499, 2500, 4999, 5000, 5999)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("method", "schedule"),
    [("supervised", "ua_mt_step"), ("mean_teacher", "ua_mt_step"), ("ua_mt", "ua_mt_step"), ("cps", "poly"), ("bcp", "bcp_step"), ("transmedseg", "bcp_step")],
)
def test_the_authors_preset_has_the_rate_of_its_own_code(method, schedule):
    assert load_method(method).presets["faithful"].training["schedule"] == schedule


def test_poly_is_the_published_curve():
    assert rates("poly")[40] == pytest.approx(0.6**0.9)


def test_bcp_step_divides_by_ten_every_sixth_of_the_last_stage():
    found = rates("bcp_step", 400)
    assert set(found[:100]) == {1.0}
    assert [found[100 + 50 * sixth] for sixth in range(6)] == pytest.approx([0.1**sixth for sixth in range(6)])
    assert found[149] == 1.0


def test_the_authors_rate_is_there_from_the_first_step():
    options = TrainOptions(**FAITHFUL_LA.training)
    stages = (Stage("pretrain", 2 / 17), Stage("self_train", 15 / 17))
    rates = [learning_rate(options, Progress(stage, part, 0.0, step), stages) for stage, part, step in (("pretrain", 0.0, 0), ("self_train", 0.2, 5000))]
    assert rates == [0.01, pytest.approx(0.001)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_warms_up_and_stays_positive_until_the_end(schedule):
    plain, warm = rates(schedule), rates(schedule, warmup=10)
    assert warm[0] == pytest.approx(plain[0] / 10) and warm[10:] == plain[10:]
    assert min(plain) >= 0 and max(plain) <= 1


def test_weight_decay_spares_what_has_no_reason_to_be_small():
    method = make_method("supervised")
    groups = make_optimizer(method, train_options(optimizer="adamw", weight_decay=0.1)).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] > 0 for p in group["params"]}
    learning = {name: p for name, p in method.named_parameters() if p.requires_grad}
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in learning.values()}
    assert {name for name, p in learning.items() if id(p) in decayed} == {name for name, p in learning.items() if p.ndim > 1}


def test_sgd_has_the_papers_momentum():
    (group,) = make_optimizer(make_method("supervised"), train_options(optimizer="sgd", weight_decay=1e-4)).param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.9, 1e-4)

def test_the_update_in_one_kernel_is_the_same():
    """Used on a CPU, where it is faster; five steps of both, to the digits of single precision."""
    found = []
    for changes in ({}, {"foreach": True, "fused": False}):
        method = make_method("supervised")
        optimizer = make_optimizer(method, train_options(optimizer="adamw"))
        assert optimizer.param_groups[0]["fused"]
        for group in optimizer.param_groups:
            group.update(changes)
        for step in range(5):
            for number, parameter in enumerate(method.student.parameters()):
                parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(100 * step + number))
            optimizer.step()
        found.append(torch.cat([parameter.detach().flatten() for parameter in method.student.parameters()]))
    torch.testing.assert_close(*found)


def test_clipping_limits_the_step(batches):
    method = Line()
    before = method.network.weight.detach().clone()
    fit(method, batches, optimizer="sgd", momentum=0.0, weight_decay=0.0, gradient_clip=1e-3, learning_rate=0.1, iterations=1).run()
    moved = torch.cat([(method.network.weight - before).flatten()]).norm()
    assert 0 < moved <= 1e-4


@pytest.mark.parametrize(
    "values",
    [
        {"iterations": 0},
        {"patch_size": (16, 16)},
        {"optimizer": "adam"},
        {"schedule": "step"},
        {"learning_rate": 0.0},
        {"minutes": -1},
        {"log_every": 0},
    ],
)
def test_impossible_options_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        TrainOptions(**values)
