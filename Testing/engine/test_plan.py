"""From a goal and a computer to numbers that fit both."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg.networks import build_network
from semiseg.train_job import TrainJob, resolve
from semiseg.training.expectation import lengths
from semiseg.training.options import TrainOptions
from semiseg.training.plan import GOALS, make_plan
from semiseg.training.probe import Pace

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
LEFT_ATRIUM = (88, 300, 220), (0.625, 0.625, 0.625)

sides = st.integers(3, 700)
spacings = st.floats(0.2, 8.0)


def planned_size(plan, shape, spacing_mm):
    grid = plan.spacing_mm or spacing_mm
    return [max(1, round(n * mm / new)) for n, mm, new in zip(shape, spacing_mm, grid)]


@settings(max_examples=150, deadline=None)
@given(st.tuples(sides, sides, sides), st.tuples(spacings, spacings, spacings), st.sampled_from(GOALS))
def test_any_case_gets_a_plan_for_a_cpu_that_can_be_built(shape, spacing_mm, goal):
    plan = make_plan(goal, CPU, shape, spacing_mm)
    options = TrainOptions(**plan.training)
    step = 2 ** (plan.network_options.get("depth", 5) - 1)
    assert all(side % step == 0 and side >= step for side in options.patch_size)
    assert options.minutes > 0 and plan.reason
    size = planned_size(plan, shape, spacing_mm)
    voxels = size[0] * size[1] * size[2]
    assert voxels <= (85_000 if goal == "quick" else 350_000) * 1.6, "a step of a fraction of a second"
    if plan.spacing_mm is not None:
        assert all(new >= mm * 0.999 for new, mm in zip(plan.spacing_mm, spacing_mm)), "never finer than the case"
    assert all(patch <= max(16, -(-n // 16) * 16) for patch, n in zip(options.patch_size, size)), "no larger than a case needs"


def test_a_small_case_keeps_its_grid():
    plan = make_plan("normal", CPU, (40, 60, 60), (2.0, 1.0, 1.0))
    assert plan.spacing_mm is None and plan.training["patch_size"] == (48, 64, 64)


def test_the_left_atrium_is_halved_on_a_cpu():
    """Box averages over two voxels are the cleanest way down."""
    plan = make_plan("normal", CPU, *LEFT_ATRIUM)
    assert plan.spacing_mm == pytest.approx((1.25, 1.25, 1.25)) or max(plan.spacing_mm) <= 1.9
    ratios = [new / 0.625 for new in plan.spacing_mm]
    assert ratios == pytest.approx([round(ratio) for ratio in ratios])


def test_the_finest_axes_are_coarsened_first():
    plan = make_plan("normal", CPU, (40, 512, 512), (5.0, 0.5, 0.5))
    assert plan.spacing_mm[0] == pytest.approx(5.0) and plan.spacing_mm[1] == plan.spacing_mm[2] > 0.5


def test_a_gpu_takes_the_published_patch_on_the_cases_own_grid():
    plan = make_plan("normal", GPU, *LEFT_ATRIUM)
    assert plan.spacing_mm is None and plan.training["patch_size"] == (80, 112, 112)
    assert (plan.training["batch_labeled"], plan.training["batch_unlabeled"], plan.network_options["width"]) == (4, 4, 16)
    assert plan.training["iterations"] == 17_000


@pytest.mark.parametrize("device", (CPU, GPU), ids=str)
@pytest.mark.parametrize("dims", (2, 3))
def test_a_better_goal_takes_longer(device, dims):
    lengths = []
    for goal in ("quick", "normal", "best"):
        training = make_plan(goal, device, *LEFT_ATRIUM, dims).training
        lengths.append(training.get("minutes") or training["iterations"])
    assert lengths == sorted(lengths) and len(set(lengths)) == 3


HEART = (10, 256, 216), (10.0, 1.5, 1.5)
"""A typical frame of ACDC as SSL4MIS distributes it."""


@pytest.mark.parametrize(("device", "patch"), ((CPU, (1, 208, 176)), (GPU, (1, 256, 224))), ids=str)
def test_slices_are_planned_for_networks_of_planes(device, patch):
    plan = make_plan("normal", device, (12, 250, 210), (8.0, 1.4, 1.4), spatial_dims=2)
    options = TrainOptions(**plan.training)
    assert plan.spacing_mm == (pytest.approx((8.0, 1.75, 1.75)) if device == CPU else None) and options.patch_size == patch
    network = build_network("unet2d", 1, 2, {**plan.network_options, "width": 2})
    assert all(side % network.downscale == 0 for side in options.patch_size[1:])


@settings(max_examples=150, deadline=None)
@given(st.tuples(sides, sides, sides), st.tuples(spacings, spacings, spacings))
def test_slices_on_a_cpu_are_coarsened_within_their_plane_alone(shape, spacing_mm):
    plan = make_plan("quick", CPU, shape, spacing_mm, spatial_dims=2)
    _, rows, columns = planned_size(plan, shape, spacing_mm)
    assert rows * columns <= 40_000 * 1.35, "rounding to an exact half or third may leave some more"
    _, patch_rows, patch_columns = plan.training["patch_size"]
    assert patch_rows * patch_columns <= 256 * 256 and patch_rows < rows + 16 and patch_columns < columns + 16
    if plan.spacing_mm is None:
        assert shape[1] * shape[2] <= 40_000 * 1.35
    else:
        assert plan.spacing_mm[0] == spacing_mm[0] and all(new >= mm * 0.999 for new, mm in zip(plan.spacing_mm, spacing_mm))


def test_a_small_slice_keeps_its_grid_and_a_large_one_is_seen_whole():
    assert make_plan("normal", CPU, (30, 192, 192), (10.0, 1.5, 1.5), 2).spacing_mm is None
    plan = make_plan("normal", CPU, (120, 512, 512), (3.0, 0.7, 0.7), 2)
    assert plan.spacing_mm == pytest.approx((3.0, 2.1, 2.1)) and plan.training["patch_size"] == (1, 176, 176)
    assert "2.1 × 2.1 mm" in plan.reason and "12 minutes" in plan.reason


def step_s(name, plan) -> float:
    """Processor time of one forward and backward pass on the labeled samples; the shorter of two, after a first one."""
    batch, patch = TrainOptions(**plan.training).batch_labeled, plan.training["patch_size"]
    layout = torch.channels_last if patch[0] == 1 else torch.channels_last_3d  # as in the loop
    network = build_network(name, 1, 2, {**plan.network_options, "norm": "instance"}).to(memory_format=layout)
    image = torch.randn(batch, 1, *(patch[1:] if patch[0] == 1 else patch)).to(memory_format=layout)
    times = []
    for _ in range(3):
        start = time.process_time()
        network(image).logits.square().mean().backward()
        times.append(time.process_time() - start)
    return min(times[1:])


def test_a_step_on_slices_costs_a_cpu_about_as_much_as_one_in_space():
    in_space = step_s("vnet", make_plan("normal", CPU, *LEFT_ATRIUM))
    on_slices = step_s("unet2d", make_plan("quick", CPU, *HEART, 2))
    assert 0.5 < on_slices / in_space < 1.7, "on the slices' own grid it would be 1.9"


def test_the_reason_tells_the_user_the_numbers():
    text = make_plan("normal", CPU, *LEFT_ATRIUM).reason
    assert "CPU" in text and "mm" in text and "minutes" in text


@pytest.mark.parametrize("patch", [None, [32, 48, 48]], ids=["planned patch", "stated patch"])
def test_what_a_job_leaves_open_is_planned_whatever_it_states(patch):
    """A stated patch once meant no plan at all: a CPU then trained 16 channels on the cases' own grid, without a limit of minutes."""
    training = {} if patch is None else {"patch_size": patch}
    found = resolve(TrainJob(method="supervised", network="vnet", training=training), CPU)
    assert found.options.patch_size == tuple(patch or (48, 64, 64)) and found.options.minutes == 12
    assert found.network_options["width"] == 8 and found.network_options["coarse_stem"]
    assert found.preprocessing.spacing_mm is not None, "128 x 128 x 64 voxels are too many for a CPU"
    assert resolve(found.job, CPU).job == found.job
    stated = {**training, "iterations": 7, "batch_labeled": 6}
    own = resolve(TrainJob(method="supervised", network="vnet", training=stated, network_options={"width": 5}, preprocessing={"spacing_mm": None}), CPU)
    assert (own.options.iterations, own.options.minutes, own.options.batch_labeled) == (7, 0, 6)
    assert own.network_options["width"] == 5 and own.network_options["coarse_stem"] and own.preprocessing.spacing_mm is None
    assert resolve(TrainJob(method="supervised", network="vnet", training=training, minutes=6.0), CPU).options.minutes == 6
    on_gpu = resolve(TrainJob(method="supervised", network="vnet", training=training), GPU)
    assert (on_gpu.options.iterations, on_gpu.options.batch_labeled, on_gpu.network_options["width"]) == (17_000, 4, 16)


def test_a_short_training_on_a_cpu_takes_a_coarser_grid():
    """In a few minutes many steps on a coarse grid get further than few on a fine one."""
    short, long = make_plan("normal", CPU, *LEFT_ATRIUM, minutes=3.3), make_plan("normal", CPU, *LEFT_ATRIUM)
    assert (short.training["minutes"], long.training["minutes"]) == (3.3, 12)
    assert all(coarse > fine for coarse, fine in zip(short.spacing_mm, long.spacing_mm))
    assert short.network_options["depth"] == 4 and all(side % 8 == 0 for side in short.training["patch_size"])
    job = TrainJob(method="supervised", network="vnet", minutes=3.3)
    assert resolve(job, CPU).options.patch_size == (24, 32, 32)
    deep = resolve(TrainJob(method="supervised", network="vnet", minutes=3.3, network_options={"depth": 5}), CPU)
    assert deep.options.patch_size == (16, 32, 32), "a network of five levels halves four times"
    assert make_plan("quick", GPU, *LEFT_ATRIUM, minutes=1.0) == make_plan("quick", GPU, *LEFT_ATRIUM)


def test_a_patch_divides_by_what_the_network_needs():
    assert make_plan("normal", CPU, *LEFT_ATRIUM, downscale=32).training["patch_size"] == (32, 64, 64)
    assert make_plan("normal", GPU, *LEFT_ATRIUM, downscale=32).training["patch_size"] == (64, 96, 96)


def test_an_unknown_goal_is_refused():
    with pytest.raises(ValueError, match="'quick', 'normal', 'best'"):
        make_plan("fast", CPU, *LEFT_ATRIUM)


def test_a_measured_step_tells_the_length_of_every_goal():
    """Minutes become iterations, iterations become seconds, rounds of labeling included; at least 20 steps are taken."""
    options = {"quick": TrainOptions(minutes=1.5), "normal": TrainOptions(iterations=3000), "best": TrainOptions(minutes=0.1)}
    assert lengths({goal: (one, Pace(0.5, 1.0)) for goal, one in options.items()}) == {
        "quick": {"iterations": 178, "train_s": 90.0},
        "normal": {"iterations": 3000, "train_s": 1501.0},
        "best": {"iterations": 20, "train_s": 11.0},
    }
