"""What a method leaves to the loop, and what the loop may rely on; for every entry of METHODS."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from training_cases import ALL_METHODS, CPU, MemoryCases, last_stage, make_batches, make_method, steps, train_options

from semiseg import methods
from semiseg.methods.base import Progress
from semiseg.methods.teacher import Teacher
from semiseg.training.loop import Fit

LEFT_TO_THE_LOOP = {"backward", "cuda", "zero_grad", "all_reduce", "manual_seed_all"}
"""Calls that no method makes. Averages of its own weights are moved in ``after_step``."""

every_method = pytest.mark.parametrize("name", ALL_METHODS)


@pytest.fixture(scope="module")
def cases():
    return MemoryCases()


@pytest.fixture(scope="module")
def batches(cases):
    return make_batches(cases)


@pytest.mark.parametrize("path", sorted(Path(methods.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_no_method_goes_backward_steps_an_optimizer_or_chooses_a_device(path):
    called = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    names = {function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "") for function in called}
    assert not names & LEFT_TO_THE_LOOP
    assert "optim" not in path.read_text(encoding="utf-8").replace("optimizer", "")


@every_method
def test_schedules_follow_the_share_of_the_training_and_not_the_number_of_steps(name, batches):
    """A budget can change: the same place in a training a hundred times as long gives the same losses."""
    method = make_method(name).train()
    state = {key: value.clone() for key, value in method.state_dict().items()}
    for stage in method.stages:
        found = []
        for iteration in (8, 800):
            method.load_state_dict(state)
            torch.manual_seed(7)
            losses = method(batches.batch(0), Progress(stage.name, 0.4, 0.4, iteration))
            found.append({term: float(value.detach()) for term, value in losses.items()})
        assert found[0] == found[1], stage.name


@every_method
@pytest.mark.parametrize("num_classes", [2, 4])
def test_a_step_repeats_with_all_that_it_leaves_behind(name, num_classes):
    """Statistics, class weights and counters are buffers: the same state, batch and random numbers give the same ones again."""
    batch = make_batches(MemoryCases(num_classes=num_classes)).batch(0)
    method = make_method(name, num_classes=num_classes).train()
    method(batch, last_stage(method))  # so that there is something to be left behind
    state = {key: value.clone() for key, value in method.state_dict().items()}
    found = []
    for _ in range(2):
        method.load_state_dict(state)
        torch.manual_seed(7)
        losses = {key: float(value.detach()) for key, value in method(batch, last_stage(method)).items()}
        found.append((losses, {key: value.clone() for key, value in method.state_dict().items()}))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(value, found[1][1][key]) for key, value in found[0][1].items())


@every_method
def test_four_classes_continue_as_if_they_had_not_been_saved(name):
    """What methods keep for several classes alone, such as MICD's class weights, is in the state dictionary as well."""
    batches = make_batches(MemoryCases(num_classes=4))
    method, other = make_method(name, num_classes=4, seed=1), make_method(name, num_classes=4, seed=2)
    steps(method, batches, 2)
    other.load_state_dict(method.state_dict())
    torch.manual_seed(7)
    expected = steps(method, batches, 2, first=2)
    torch.manual_seed(7)
    assert steps(other, batches, 2, first=2) == expected


@pytest.mark.parametrize(
    ("name", "preset", "is_training"),
    [
        ("micd", "plus", False),
        ("micd", "faithful", False),
        ("mean_teacher", "faithful", True),
        ("ua_mt", "plus", True),
        ("ua_mt", "faithful", True),
        ("bcp", "faithful", True),
        ("bcp", "plus", False),
    ],
)
def test_teachers_are_in_the_mode_of_their_paper(name, preset, is_training):
    """The codes of Mean Teacher, UA-MT and BCP keep dropout and batch statistics on; MICD's teachers are in evaluation mode."""
    method = make_method(name, preset).train()
    teachers = [module for module in method.modules() if isinstance(module, Teacher)]
    assert teachers and all(teacher.network.training == is_training for teacher in teachers)


def test_a_mean_teachers_noise_is_clipped_at_twice_its_spread(batches):
    method, seen = make_method("mean_teacher").train(), []
    method.teacher.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    batch = batches.batch(0)
    method(batch, last_stage(method))
    noise = seen[0] - batch.unlabeled
    assert noise.abs().max().item() == pytest.approx(0.2, abs=1e-6) and noise.std().item() == pytest.approx(0.096, abs=0.004)


def test_in_the_loop_a_teacher_nears_a_resting_student_by_its_decay(cases):
    """theta'_n - theta = (product of the decays) (theta'_0 - theta): the loop moves the average once after each step."""
    method = make_method("mean_teacher", decay=0.8)
    with torch.no_grad():
        for parameter in method.teacher.network.parameters():
            parameter.add_(1.0)
    start = {key: value.clone() for key, value in method.student.named_parameters()}
    options = train_options(iterations=12, learning_rate=1e-30, optimizer="sgd", schedule="constant", weight_decay=0.0)
    assert Fit(method, make_batches(cases), options, CPU).run().is_complete
    left = 1.0
    for step in range(12):
        left *= min(0.8, (step + 1) / (step + 10))
    for key, value in method.teacher.network.named_parameters():
        torch.testing.assert_close(method.student.get_parameter(key), start[key])
        torch.testing.assert_close(value, start[key] + left, rtol=0, atol=1e-5)


@every_method
def test_the_first_losses_in_bfloat16_are_those_in_fp32(name, batches):
    """The losses themselves are worked out in fp32; what the networks round away stays small."""
    method = make_method(name).train()
    state = {key: value.clone() for key, value in method.state_dict().items()}
    for stage in method.stages:
        found = []
        for enabled in (False, True):
            method.load_state_dict(state)
            torch.manual_seed(7)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                found.append(method(batches.batch(0), Progress(stage.name, 0.5, 0.5, 8)))
        for term, value in found[0].items():
            assert found[1][term].dtype == torch.float32
            torch.testing.assert_close(found[1][term], value, rtol=1e-2, atol=1e-2, msg=lambda text, term=term: f"{stage.name}, {term}: {text}")


@every_method
def test_what_is_deployed_gives_distributions_and_the_same_ones_again_for_any_size_that_fits(name, batches):
    method = make_method(name)
    steps(method, batches, 1)
    network = method.deployed.eval()
    for shape in ((16, 16, 16), (8, 24, 16), (32, 8, 8)):
        image = torch.randn(2, 1, *shape)
        with torch.no_grad():
            first, second = network(image).logits.softmax(1), network(image).logits.softmax(1)
        assert first.shape == (2, 2, *shape) and torch.equal(first, second)
        torch.testing.assert_close(first.sum(1), torch.ones(2, *shape))
