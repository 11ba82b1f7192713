"""How long a training takes: timed steps are those that training takes, and rounds of labeling count."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training_cases import CPU, PATCH, MemoryCases, make_method

from semiseg.data.augment import AugmentOptions
from semiseg.data.batches import CaseStore, TwoStreamBatches
from semiseg.methods.base import AbstractMethod, Stage
from semiseg.networks.output import NetworkOutput
from semiseg.training import probe
from semiseg.training.options import TrainOptions
from semiseg.training.probe import Pace, measure_pace

OPTIONS = TrainOptions(patch_size=PATCH)


@pytest.fixture
def batches():
    cases = MemoryCases()
    store = CaseStore(cases, [0, 1, 2, 3], CPU, 10**9)
    return TwoStreamBatches(store, [0, 1], [2, 3], PATCH, 2, 2, AugmentOptions(), 0)


class Point(nn.Conv3d):
    """A network of one number a class."""

    def forward(self, images):
        return NetworkOutput(super().forward(images), images)


class Line(AbstractMethod):
    """Fits a number in two stages, and notes what it is shown."""

    stages = (Stage("first", 0.75), Stage("last", 0.25))

    def __init__(self, rounds=0):
        super().__init__()
        self.network, self.rounds = Point(1, 2, 1), rounds
        self.visited, self.started, self.seen = [], [], {}

    def forward(self, batch, progress):
        self.visited.append((progress.stage, progress.iteration))
        self.seen[progress.stage] = batch.unlabeled_labels
        return {"total": self.network(batch.labeled).logits.square().mean()}

    def start_stage(self, stage):
        self.started.append(stage)

    @property
    def case_labeling(self):
        return ("last", self.rounds) if self.rounds else ("", 0)

    @property
    def deployed(self):
        return self.network


@pytest.fixture
def ticks(monkeypatch):
    """A clock that only moves when told to."""
    now = [0.0]
    monkeypatch.setattr(probe.time, "perf_counter", lambda: now[0])
    return now


def test_every_stage_is_timed_and_nothing_is_kept(batches, monkeypatch):
    monkeypatch.setattr(probe, "_ENOUGH_S", 0.0)
    made = []

    def make():
        made.append(Line())
        return made[-1]

    assert measure_pace(make, batches, OPTIONS, CPU, num_steps=2).step_s > 0
    assert len(made) == 1 and made[0].started == ["first", "last"] and len(made[0].visited) == 8


def test_stages_count_by_their_shares_and_warming_up_does_not(batches, ticks):
    class Slow(Line):
        def forward(self, batch, progress):
            warming = sum(stage == progress.stage for stage, _ in self.visited) < 2
            ticks[0] += 100 if warming else {"first": 1.0, "last": 3.0}[progress.stage]
            return super().forward(batch, progress)

    assert measure_pace(Slow, batches, OPTIONS, CPU) == Pace(0.75 * 1 + 0.25 * 3, 0.0, 1.0)


def test_short_steps_are_timed_more_often(batches, ticks):
    made = []

    class Quick(Line):
        def __init__(self):
            super().__init__()
            made.append(self)

        def forward(self, batch, progress):
            ticks[0] += 0.11
            return super().forward(batch, progress)

    assert measure_pace(Quick, batches, OPTIONS, CPU).step_s == pytest.approx(0.11)
    assert len(made[0].visited) == 2 * (2 + 12)  # 12 steps are the first multiple of 4 that takes a second


def test_all_ranks_take_as_many_steps(batches, ticks, monkeypatch):
    """A rank whose steps are slow goes on with those whose steps are short: losses may ask all of them."""
    made, asked = [], []

    class Slow(Line):
        def __init__(self):
            super().__init__()
            made.append(self)

        def forward(self, batch, progress):
            ticks[0] += 10
            return super().forward(batch, progress)

    monkeypatch.setattr(probe, "any_rank", lambda flag: asked.append(flag) or len(asked) % 2 == 1)
    measure_pace(Slow, batches, OPTIONS, CPU)
    assert not any(asked) and len(made[0].visited) == 2 * (2 + 8)


def test_every_rank_takes_the_pace_of_the_first(batches, monkeypatch):
    """Other iterations on one rank would leave the others waiting for it."""
    monkeypatch.setattr(probe, "from_owner", lambda value, owner: torch.tensor([7.0, 3.0]) if owner == 0 else value)
    assert measure_pace(Line, batches, OPTIONS, CPU) == Pace(7.0, 3.0)


def test_rounds_of_labeling_count_for_all_cases(batches, ticks, monkeypatch):
    """Two rounds over two cases, by their voxels; the first labeling warms up."""
    times = iter([50.0, 2.0])

    class Labels(Line):
        def label_case(self, maps):
            ticks[0] += next(times)
            return (maps[0] > 0.5).long()

    sizes = sorted(batches.store.num_voxels(index) for index in (2, 3))
    assert measure_pace(lambda: Labels(rounds=2), batches, OPTIONS, CPU).labeling_s == pytest.approx(2 * 2.0 * sum(sizes) / sizes[1])


def test_the_stage_with_labeled_cases_is_timed_with_their_labels(batches):
    made = []

    class Labels(Line):
        def __init__(self):
            super().__init__(rounds=1)
            made.append(self)

        def label_case(self, maps):
            return (maps[0] > 0.5).long()

    measure_pace(Labels, batches, OPTIONS, CPU)
    assert made[0].seen["first"] is None and made[0].seen["last"].shape == (2, *PATCH)
    assert batches.batch(0).unlabeled_labels is None


@pytest.mark.parametrize("name", ["bcp", "graphcl", "transmedseg"])
def test_no_teacher_is_timed_where_training_has_none(name, batches, monkeypatch):
    """The labels of whole cases take the place of its pass in every step."""
    monkeypatch.setattr(probe, "_labeling_seconds", lambda *_: 0.0)
    passes = []

    def make():
        method = make_method(name)
        for module in method.modules():
            if hasattr(module, "teacher"):
                module.teacher.register_forward_hook(lambda network, inputs, output: passes.append(len(inputs[0])))
        return method

    measure_pace(make, batches, OPTIONS, CPU)
    assert make_method(name).case_labeling[1] > 0 and not passes


def test_a_budget_holds_steps_and_rounds():
    assert Pace(0.5, 10.0).iterations(110.0) == 200 and Pace(0.5, 10.0).seconds(200) == 110.0
    assert Pace(0.5, 100.0).iterations(60.0) == 60, "rounds never take more than half"
    assert Pace(10.0).iterations(1.0) == 20


def test_background_labels_leave_the_images_alone(batches):
    stream = batches.batch(3).unlabeled_stream
    assert torch.equal(stream.as_background().images, stream.images) and not stream.as_background().labels.any()
