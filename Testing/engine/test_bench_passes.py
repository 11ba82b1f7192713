"""The benchmark of a step compares it with as many passes as the step makes: every layer sees as many images in both."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

BENCH = Path(__file__).resolve().parents[1] / "benchmarks" / "bench_method_steps.py"
PATCH, WIDTH = (16, 32, 32), 2

SPEC = importlib.util.spec_from_file_location("bench_method_steps", BENCH)
bench = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench)

NO_NETWORK = ("graph.",)
"""Layers of a loss: what they cost is what the benchmark is to show."""

GATE = {"ae": ("network.decoder.", 2 / 8)}
"""Stage, part, and forward passes a step: SemiGDA looks at its 2 masks in every eighth step, to warn. Nothing learns from it, so it is no part of the passes."""


@contextmanager
def counted(method: nn.Module) -> Iterator[Counter]:
    """Images through every layer of a method's networks, by its name and whether a gradient comes back through it."""
    found: Counter = Counter()

    def count(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            found[name, "learning" if output.requires_grad else "watching"] += len(inputs[0])

        return hook

    layers = [(name, part) for name, part in method.named_modules() if not list(part.children()) and not name.startswith(NO_NETWORK)]
    handles = [layer.register_forward_hook(count(name)) for name, layer in layers]
    yield found
    for handle in handles:
        handle.remove()


def images_a_step(contest, work: Callable[[], None], num_steps: int) -> dict[tuple[str, str], float]:
    """Averaged over so many steps."""
    with counted(contest.method) as found:
        for _ in range(num_steps):
            work()
    return {key: count / num_steps for key, count in found.items()}


def heads_of(images: dict[tuple[str, str], float]) -> dict[str, float]:
    """Images through all classifiers together."""
    return {kind: sum(count for (name, one), count in images.items() if name.endswith("head") and one == kind) for kind in ("learning", "watching")}


@pytest.mark.parametrize("name", list(bench.PASSES))
def test_a_step_makes_the_passes_it_is_compared_with(name):
    contest = bench.Contest(name, PATCH, WIDTH, torch.device("cpu"))
    step = images_a_step(contest, contest.step, bench.BLOCK)  # as the benchmark's times; bcp mixes in two of them
    part, looks = GATE.get(contest.stage, ("", 0.0))
    gate = {key: count for key, count in step.items() if part and key[0].startswith(part) and key[1] == "watching"}
    assert all(count == looks for count in gate.values())
    assert bool(gate) == bool(part)
    step = {key: count for key, count in step.items() if key not in gate}
    # These are the same every time, so once will do.
    assert step == images_a_step(contest, contest.passes_alone, 1)
    assert step == images_a_step(contest, contest.passes_and_update, 1)
    if ":" not in name:  # the parts of semigda see different images each; its counts are for the reader
        batch, passes = len(contest.images), bench.PASSES[name]
        assert heads_of(step) == {"learning": batch * passes.learning, "watching": batch * passes.watching}


@pytest.mark.parametrize("name", ["bcp", "graphcl", "transmedseg"])
def test_whole_cases_are_labeled_beforehand(name):
    contest = bench.Contest(name, PATCH, WIDTH, torch.device("cpu"))
    assert contest._batch().unlabeled_labels is not None


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_of_a_block_as_many_steps_are_mixed_as_the_probability_says(share):
    first = [float(torch.rand((), generator=torch.Generator().manual_seed(seed))) for seed in bench.even_seeds(bench.BLOCK)]
    assert sum(draw < share for draw in first) == share * bench.BLOCK
