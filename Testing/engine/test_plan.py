"""From a goal and a computer to numbers that fit both."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg.networks import build_network
from semiseg.training.expectation import lengths
from semiseg.training.options import TrainOptions
from semiseg.training.plan import GOALS, make_plan

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
    assert all(side % 16 == 0 and side >= 16 for side in options.patch_size)
    assert options.minutes > 0 and plan.reason
    size = planned_size(plan, shape, spacing_mm)
    voxels = size[0] * size[1] * size[2]
    assert voxels <= 350_000 * 1.6, "a step of a fraction of a second"
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


@pytest.mark.parametrize("device", (CPU, GPU), ids=str)
def test_slices_are_planned_for_networks_of_planes(device):
    plan = make_plan("normal", device, (12, 250, 210), (8.0, 1.4, 1.4), spatial_dims=2)
    options = TrainOptions(**plan.training)
    assert plan.spacing_mm is None and options.patch_size == (1, 256, 224)
    network = build_network("unet2d", 1, 2, {**plan.network_options, "width": 2})
    assert all(side % network.downscale == 0 for side in options.patch_size[1:])


def test_the_reason_tells_the_user_the_numbers():
    text = make_plan("normal", CPU, *LEFT_ATRIUM).reason
    assert "CPU" in text and "mm" in text and "minutes" in text


def test_an_unknown_goal_is_refused():
    with pytest.raises(ValueError, match="'quick', 'normal', 'best'"):
        make_plan("fast", CPU, *LEFT_ATRIUM)


def test_a_measured_step_tells_the_length_of_every_goal():
    """Minutes become iterations, iterations become seconds; at least 20 steps are taken."""
    options = {"quick": TrainOptions(minutes=1.5), "normal": TrainOptions(iterations=3000), "best": TrainOptions(minutes=0.1)}
    assert lengths(options, 0.5) == {
        "quick": {"iterations": 180, "train_s": 90.0},
        "normal": {"iterations": 3000, "train_s": 1500.0},
        "best": {"iterations": 20, "train_s": 10.0},
    }
