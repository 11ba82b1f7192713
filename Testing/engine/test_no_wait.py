"""No step of training waits for its device: it is queued whole, and the GPU never stands still for the host.

The device here is PyTorch's ``meta``, which holds shapes and no numbers. Reading a number from it raises, and a copy to it that would wait on a GPU is
seen by its arguments.
"""

from __future__ import annotations

import contextlib
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_cases import MemoryCases, make_method, train_options

from semiseg.data.augment import AugmentOptions
from semiseg.data.batches import CaseStore, TwoStreamBatches
from semiseg.methods import METHODS
from semiseg.training.loop import Fit

META = torch.device("meta")
PATCH = (16, 16, 16)
MOVED = {
    "plus": AugmentOptions(rotation_deg=15.0, scale=0.2, elastic=0.19, intensity=1.0, gin=1.0),
    "faithful": AugmentOptions((1, 2), True, 0.0, 0.0, 1.0),  # voxels are copied as they are
}


class WaitingCopies(TorchDispatchMode):
    """Collects copies from the host to the device that would wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operator is torch.ops.aten._to_copy.default:
            target, waits = kwargs.get("device"), not kwargs.get("non_blocking")
        elif operator is torch.ops.aten.copy_.default:
            target, waits = args[0].device, not (len(args) > 2 and args[2])
        else:
            target, waits = None, False
        source = args[1] if operator is torch.ops.aten.copy_.default else args[0] if args else None
        if waits and target == META and isinstance(source, torch.Tensor) and source.device.type == "cpu":
            self.found.append(_place())
        return operator(*args, **kwargs)


def _place() -> str:
    """The line of the engine that made the copy."""
    frame = sys._getframe()
    while frame is not None and "semiseg" not in frame.f_code.co_filename:
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


@pytest.fixture
def no_numbers(monkeypatch):
    """What ``meta`` lacks: generators and autocast."""
    for name, module in list(sys.modules.items()):
        if name.startswith("semiseg") and hasattr(module, "device_generator"):
            monkeypatch.setattr(module, "device_generator", lambda device, seed: None)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


def one_step(name: str, preset: str, is_resident: bool, **options) -> list[str]:
    """One step of every stage; the copies that wait."""
    cases = MemoryCases()
    store = CaseStore(cases, list(range(6)), META, 10**9 if is_resident else 0)
    assert store.is_resident == is_resident
    batches = TwoStreamBatches(store, [0, 1], [2, 3, 4, 5], PATCH, 4, 4, MOVED[preset], 0)
    method = make_method(name, preset, **options)
    # AdamW and clipping ask for foreach kernels, which PyTorch has for real devices alone.
    fit = Fit(method, batches, train_options(iterations=20, patch_size=PATCH, optimizer="sgd", gradient_clip=0.0), META)
    copies = WaitingCopies()
    for iteration in (0, 19):
        fit.iteration = iteration
        progress = fit._progress()
        method.start_stage(progress.stage)
        with copies:
            fit._step(batches.batch(iteration), progress)
    return copies.found


@pytest.mark.parametrize(("name", "preset"), [*((name, "plus") for name in METHODS), ("mean_teacher", "faithful"), ("transmedseg", "faithful")])
def test_a_step_of_every_method_is_queued_whole(name, preset, no_numbers):
    assert set(one_step(name, preset, is_resident=True)) == set()


def test_constant_margins_are_not_sent(no_numbers):
    assert set(one_step("transmedseg", "plus", is_resident=True, form="margin", margins=(0.1, 0.2))) == set()


def test_a_streamed_case_is_sent_without_waiting(no_numbers):
    assert set(one_step("supervised", "plus", is_resident=False)) == set()
