"""The model of a training that ends early: the best validated weights so far, else the weights of the moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..inference.model_file import read_model, write_model
from ..methods.base import AbstractMethod
from .validate import Validation

BEST_FILE = "best.pt"
"""In the run folder: a model file like any other, of the best validation so far. A finished training still delivers its last weights."""

MakeCard = Callable[[dict[str, Any]], dict[str, Any]]


class BestSoFar:
    """Validates, and keeps the weights of every validation that is better than all before it.

    Args:
        validation: Does the work.
        path: Where the best weights go; None (ranks above 0) keeps none.
        make_card: Gives a model card around the facts of its training.
        is_resumed: Whether the run continues: else what lies at ``path`` belongs to another one and is removed.
    """

    def __init__(self, validation: Validation, path: Path | None, make_card: MakeCard, is_resumed: bool) -> None:
        self._validation, self._path, self._make_card = validation, path, make_card
        if path is not None and not is_resumed:
            path.unlink(missing_ok=True)
        found = self.read()
        if found is not None:
            facts = found[0]["training"]
            validation.best = (facts["validation_dice"], facts["iterations"])

    def __call__(self, method: AbstractMethod, iteration: int) -> None:
        """Validates; see :class:`Validation`."""
        before = self._validation.best
        self._validation(method, iteration)
        if self._path is not None and self._validation.best != before:
            dice = self._validation.best[0]
            facts = {"iterations": iteration, "validation_dice": dice, "checkpoint": f"best validation so far, Dice {dice:.3f}"}
            write_model(self._path, self._make_card(facts), method.deployed.state_dict())

    def read(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        """Card and weights of the best validation; None where there was none, or its file is damaged."""
        if self._path is None or not self._path.exists():
            return None
        try:
            return read_model(self._path)
        except InputError:
            return None  # weights of the moment then have to do


def write_stopped_model(
    path: Path,
    best: BestSoFar | None,
    method: AbstractMethod,
    make_card: MakeCard,
    iteration: int,
    total: int,
    report: Callable[..., None],
) -> None:
    """Writes and reports the model of a training that was stopped early, whole or not at all.

    There is none before the first step, nor where the weights are no numbers.

    Args:
        path: The model file.
        best: What was validated; None where nothing can be.
        method: As it is now.
        make_card: Gives a model card around the facts of its training.
        iteration: Steps taken.
        total: Steps planned.
        report: Takes events.
    """
    found = best.read() if best is not None else None
    weights = found[1] if found is not None else method.deployed.state_dict()
    numbers = (tensor for tensor in weights.values() if tensor.is_floating_point())
    if iteration == 0 or not all(bool(tensor.isfinite().all()) for tensor in numbers):
        return
    facts = {"iterations": iteration, "checkpoint": "last"}
    if found is not None:
        facts = {key: found[0]["training"][key] for key in ("iterations", "validation_dice", "checkpoint")}
    facts["stopped"] = f"stopped at iteration {iteration} of {total}"
    write_model(path, make_card(facts), weights)
    report("saved", path=str(path), what="model", step=facts["iterations"], dice=facts.get("validation_dice"))
