"""The contract of methods/base.py, for every entry of METHODS: a new method is tested the minute it is listed."""

from __future__ import annotations

import dataclasses
import inspect
import math

import pytest
import torch
from training_cases import (
    ALL_METHODS,
    CPU,
    PATCH,
    TINY,
    UNMOVED,
    MemoryCases,
    last_stage,
    make_batches,
    make_method,
    steps,
    train_options,
)

from semiseg.data.augment import AugmentOptions
from semiseg.describe import options_of
from semiseg.errors import InputError
from semiseg.methods import METHODS, load_method
from semiseg.methods.base import AbstractMethod, Progress
from semiseg.methods.teacher import Teacher
from semiseg.networks import build_network
from semiseg.training.loop import Fit
from semiseg.training.options import TrainOptions

PRESETS = [(name, preset) for name in ALL_METHODS for preset in load_method(name).presets]


@pytest.fixture(scope="module")
def cases():
    return MemoryCases()


@pytest.fixture(scope="module")
def four_classes():
    return MemoryCases(num_classes=4)


every_method = pytest.mark.parametrize("name", ALL_METHODS)


@every_method
def test_stages_share_the_whole_training(name):
    stages = make_method(name).stages
    assert math.isclose(sum(stage.share for stage in stages), 1.0)
    assert len({stage.name for stage in stages}) == len(stages)


@every_method
def test_losses_are_finite_named_and_add_up(name, cases):
    method = make_method(name).train()
    for stage in method.stages:
        method.start_stage(stage.name)
        losses = method(make_batches(cases).batch(0), Progress(stage.name, 0.5, 0.5, 10))
        total = losses.pop("total")
        assert losses and all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())
        torch.testing.assert_close(total, sum(losses.values()))
        assert total.requires_grad


@every_method
def test_students_learn_and_teachers_do_not(name, cases):
    method = make_method(name).train()
    learned = set()
    for stage in method.stages:
        method.start_stage(stage.name)
        progress = Progress(stage.name, 0.5, 0.5, 10)
        method(make_batches(cases).batch(0), progress)["total"].backward()
        method.after_step(progress)
        learned |= {key for key, parameter in method.named_parameters() if parameter.grad is not None}
    taught = {
        f"{prefix}.{key}" if prefix else key
        for prefix, module in method.named_modules()
        if isinstance(module, Teacher)
        for key, _ in module.named_parameters()
    }
    parameters = dict(method.named_parameters())
    for key in taught:
        assert not parameters[key].requires_grad and parameters[key].grad is None, key
    assert learned == set(parameters) - taught, "every other weight is used in some stage"
    assert all(torch.isfinite(parameters[key].grad).all() for key in learned)
    assert any(parameters[key].grad.abs().max() > 0 for key in learned)


@every_method
def test_the_same_state_and_batch_give_the_same_losses(name, cases):
    method = make_method(name).train()
    batch = make_batches(cases).batch(0)
    state = {key: value.clone() for key, value in method.state_dict().items()}
    found = []
    for _ in range(2):
        method.load_state_dict(state)
        torch.manual_seed(7)
        found.append({key: float(value.detach()) for key, value in method(batch, last_stage(method)).items()})
    assert found[0] == found[1]


@every_method
def test_what_is_saved_continues_as_if_it_had_not_been(name, cases):
    """Everything that the next losses depend on is in the state dictionary: averages, statistics, memory banks."""
    batches = make_batches(cases)
    method = make_method(name, seed=1)
    steps(method, batches, 3)
    other = make_method(name, seed=2)
    other.load_state_dict(method.state_dict())
    torch.manual_seed(7)
    expected = steps(method, batches, 2, first=3)
    torch.manual_seed(7)
    assert steps(other, batches, 2, first=3) == expected


@every_method
def test_the_batch_is_left_as_it_was(name, cases):
    batch = make_batches(cases).batch(0)
    before = [batch.labeled.clone(), batch.labels.clone(), batch.unlabeled.clone()]
    method = make_method(name).train()
    for stage in method.stages:
        method(batch, Progress(stage.name, 0.5, 0.5, 10))
    assert all(torch.equal(*pair) for pair in zip(before, [batch.labeled, batch.labels, batch.unlabeled]))


@every_method
def test_one_ball_is_learned_quickly(name):
    """Through the real loop, all stages: the deployed network finds the ball it was shown."""
    cases = MemoryCases(count=3, shape=(12, 12, 12))
    options = train_options(iterations=20, log_every=20, gradient_clip=5.0, learning_rate=0.03)
    method = make_method(name, network_options={"width": 3})
    batches = make_batches(cases, (12, 12, 12), labeled=(0,), unlabeled=(1, 2), augment=UNMOVED)
    Fit(method, batches, options, CPU).run()
    network = method.deployed.eval()
    batch = batches.batch(1000)
    with torch.no_grad():
        found = network(batch.labeled).logits.argmax(1)
    overlap = 2 * ((found == 1) & (batch.labels == 1)).sum() / ((found == 1).sum() + (batch.labels == 1).sum())
    assert overlap > 0.9, float(overlap)


@every_method
def test_the_deployed_network_can_be_built_again_from_its_name(name, cases):
    """The model file holds a name, options and weights; the method is not needed to use them."""
    method = make_method(name)
    steps(method, make_batches(cases), 1)
    by_name = method.deployed_network or ("vnet", {**TINY["vnet"]})
    network = build_network(by_name[0], 1, 2, by_name[1]).eval()
    network.load_state_dict(method.deployed.state_dict())
    image = make_batches(cases).batch(0).labeled
    with torch.no_grad():
        torch.testing.assert_close(network(image).logits, method.deployed.eval()(image).logits)


@every_method
@pytest.mark.parametrize("network", ["vnet", "unet2d"], ids=["volumes", "slices"])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_volumes_and_slices_of_two_and_of_four_classes_work_in_every_stage(name, network, num_classes, cases, four_classes):
    """In the loop's memory layout: kernels of planes and volumes differ in it. What is deployed is built again from its name."""
    planar = network == "unet2d"
    patch, layout = ((1, 16, 16), torch.channels_last) if planar else (PATCH, torch.channels_last_3d)
    method = make_method(name, num_classes=num_classes, network=network).to(memory_format=layout).train()
    batches = make_batches(cases if num_classes == 2 else four_classes, patch)
    for stage in method.stages:
        method.start_stage(stage.name)
        for iteration in range(2):
            progress = Progress(stage.name, 0.5, 0.5, iteration)
            losses = method(batches.batch(iteration), progress)
            assert all(torch.isfinite(value) for value in losses.values()), stage.name
            losses["total"].backward()
            method.after_step(progress)
    image = torch.randn(2, 1, *(patch[1:] if planar else patch))
    with torch.no_grad():
        logits = method.deployed.eval()(image).logits
        assert logits.shape == (2, num_classes, *image.shape[2:]) and torch.isfinite(logits).all()
        by_name = method.deployed_network or (network, {**TINY[network], "norm": "instance"})
        again = build_network(by_name[0], 1, num_classes, by_name[1]).eval()
        again.load_state_dict(method.deployed.state_dict())
        torch.testing.assert_close(again(image).logits, logits, rtol=1e-4, atol=1e-3)  # another memory layout rounds otherwise
    assert all(math.isfinite(value) for value in method.diagnostics().values())


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_preset_constructs_and_steps(name, preset, cases):
    """With the preset's own training, network and augmentation, through the real loop."""
    chosen = load_method(name).presets[preset]
    batch = {key: value for key, value in chosen.training.items() if not key.startswith(("iterations", "batch"))}
    options = TrainOptions(**{**batch, "iterations": 4, "patch_size": PATCH, "log_every": 2})
    method = make_method(name, preset, network_options=dict(chosen.network))
    batches = make_batches(cases, augment=AugmentOptions(**chosen.augment))
    assert Fit(method, batches, options, CPU).run().is_complete
    assert all(torch.isfinite(parameter).all() for parameter in method.parameters())


@every_method
def test_both_common_presets_are_there(name):
    assert {"plus", "faithful"} <= set(load_method(name).presets)


@every_method
def test_no_labeled_data_is_the_users_to_repair(name, cases):
    with pytest.raises(InputError) as raised:
        Fit(make_method(name), make_batches(cases, labeled=()), train_options(), CPU).run()
    assert raised.value.code == "E801"


@every_method
def test_without_unlabeled_cases_a_method_trains_on_the_labels(name, cases):
    """E802 allows it; it must not be a crash."""
    method = make_method(name)
    batches = make_batches(cases, unlabeled=())
    for stage in method.stages:
        losses = method.train()(batches.batch(0), Progress(stage.name, 0.5, 0.5, 0))
        assert torch.isfinite(losses["total"]) and losses["total"].requires_grad


@every_method
def test_every_option_is_explained(name):
    options = load_method(name).Options
    described = options_of(options)
    assert [one["name"] for one in described] == [field.name for field in dataclasses.fields(options)]
    for one in described:
        assert len(one["meaning"]) > 20, f"{name}.{one['name']} has no meaning"


@every_method
def test_options_cannot_be_changed_behind_the_methods_back(name):
    options = load_method(name).Options()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(options, dataclasses.fields(options)[0].name, None)


@every_method
def test_diagnostics_are_numbers_before_and_after_a_step(name, cases):
    method = make_method(name)
    for values in (method.diagnostics(), (steps(method, make_batches(cases), 1), method.diagnostics())[1]):
        assert all(isinstance(key, str) and isinstance(value, float) and math.isfinite(value) for key, value in values.items())


@every_method
def test_a_method_is_final_and_fulfills_the_contract(name):
    """Nothing finished is inherited from: between a method and the contract there are abstract classes alone."""
    kind = load_method(name)
    between = [base for base in kind.__mro__[1:] if issubclass(base, AbstractMethod)]
    assert AbstractMethod in between and all(inspect.isabstract(base) and base.__name__.startswith("Abstract") for base in between)
    assert not inspect.isabstract(kind) and not kind.__subclasses__()
    assert (kind.__module__.rpartition(".")[2], kind.__name__) == tuple(METHODS[name].location.split(":"))
    assert METHODS[name].title and METHODS[name].paper


def test_an_unknown_method_is_answered_with_the_known_ones():
    with pytest.raises(InputError) as raised:
        load_method("bpc")
    assert "bcp" in raised.value.hint
