"""What a training test needs, tiny: spheres in memory, batches of 16^3 patches, methods on a network of two channels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from semiseg.data.augment import AugmentOptions
from semiseg.data.batches import CaseStore, TwoStreamBatches
from semiseg.methods import METHODS, load_method
from semiseg.methods.base import AbstractMethod, Progress, Task
from semiseg.training.options import TrainOptions

PATCH = (16, 16, 16)
TINY = {"vnet": {"width": 2, "depth": 3, "norm": "instance", "dropout": 0.0}, "unet2d": {"width": 4, "depth": 3, "dropout": 0.0}}
CPU = torch.device("cpu")
UNMOVED = AugmentOptions((), False, 0.0, 0.0, 0.0)


class MemoryCases:
    """Stands for a ``PreparedSet``: nested balls (one shell a structure) in noise, in boxes of unequal sides.

    The first cases are labeled; the arrays are of the types that prepared arrays have.
    """

    def __init__(self, count: int = 6, num_classes: int = 2, shape: tuple[int, int, int] = (18, 20, 25), seed: int = 0) -> None:
        self.num_classes = num_classes
        rng = np.random.default_rng(seed)
        self._cases = []
        for index in range(count):
            size = (shape[0], shape[1] + index % 2, shape[2] - index % 3)
            center = np.array(size)[:, None, None, None] * (0.45 + 0.1 * rng.random(3))[:, None, None, None]
            distance = np.sqrt(((np.indices(size) - center) ** 2).sum(0))
            label = np.zeros(size, np.uint8)
            for structure in range(1, num_classes):
                label[distance < 0.39 * min(shape) * (1 - 0.28 * (structure - 1))] = structure
            image = 2.0 * label / (num_classes - 1) - 0.5 + rng.normal(0, 0.3, size)
            self._cases.append((image.astype(np.float16), label))

    @property
    def cases(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(id=f"case {index}", spacing_mm=(1.0, 1.0, 1.0)) for index in range(len(self._cases))]

    def arrays(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._cases[index]

    def shape(self, index: int) -> tuple[int, int, int]:
        return self._cases[index][0].shape

    def num_bytes(self, index: int) -> int:
        return 3 * self._cases[index][0].size

    def indices(self, role: str) -> list[int]:
        return {"labeled": [0, 1], "unlabeled": [2, 3, 4, 5], "validation": [1]}[role]


def make_batches(
    cases: MemoryCases, patch_size: tuple[int, int, int] = PATCH, augment: AugmentOptions = AugmentOptions(),
    labeled: tuple[int, ...] = (0, 1), unlabeled: tuple[int, ...] = (2, 3, 4, 5), counts: tuple[int, int] = (2, 2),
    seed: int = 0, rank: int = 0, world_size: int = 1, budget_bytes: int = 10**9,
) -> TwoStreamBatches:  # fmt: skip
    store = CaseStore(cases, sorted({*labeled, *unlabeled}), CPU, budget_bytes)
    return TwoStreamBatches(store, list(labeled), list(unlabeled), patch_size, *counts, augment, seed, rank, world_size)


def make_method(
    name: str, preset: str = "plus", num_classes: int = 2, network: str = "vnet", seed: int = 0,
    network_options: dict[str, Any] | None = None, **options: Any,
) -> AbstractMethod:  # fmt: skip
    """A method on a tiny network, without dropout unless asked for; weights follow from the seed."""
    method = load_method(name)
    chosen = method.presets[preset]
    torch.manual_seed(seed)
    task = Task(
        num_classes, network, {**chosen.network, **TINY[network], **(network_options or {})}, two_dimensional=network == "unet2d"
    )
    return method(task, method.Options(**{**chosen.method, **options}))


def train_options(**changes: Any) -> TrainOptions:
    values = {"iterations": 20, "patch_size": PATCH, "warmup_iterations": 0, "log_every": 5, "learning_rate": 0.01}
    return TrainOptions(**{**values, **changes})


def last_stage(method: AbstractMethod, fraction: float = 0.5, iteration: int = 10) -> Progress:
    """In the middle of the last stage."""
    return Progress(method.stages[-1].name, fraction, fraction, iteration)


def steps(method: AbstractMethod, batches: TwoStreamBatches, count: int, first: int = 0, rate: float = 0.02) -> list[dict[str, float]]:
    """Takes plain gradient steps in the method's last stage; returns the losses of each."""
    learning = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, rate)
    method.train()
    found = []
    for iteration in range(first, first + count):
        progress = last_stage(method, iteration=iteration)
        losses = method(batches.batch(iteration), progress)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        method.after_step(progress)
        found.append({name: float(value.detach()) for name, value in losses.items()})
    return found


ALL_METHODS = tuple(METHODS)
