"""A first stage that several trainings have in common, trained once.

The rows of an ablation differ in self-training alone: what comes before is the same to the last bit, and most of the computing. The first of them that
gets there keeps its state at the end of the stage, and the others begin with it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoint import read_state, write_state


class SharedFirstStage:
    """The state at the end of a first stage, for all trainings whose first stage is the same.

    Args:
        folder: Where such states lie; of trainings on one computer, for another one rounds differently.
        identity: All that the first stage depends on. JSON values.

    Attributes:
        path: The file, which may not be there yet.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self._identity = identity
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        self.path = folder / f"{digest}.pt"

    def keep(self, state: dict[str, Any], method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Writes the state, unless another training was quicker.

        Args:
            state: Of the training, at the end of its first stage.
            method: Whose names the optimizer's entries get: others may have more parameters.
            optimizer: Of the training.
        """
        if self.path.exists():
            return
        names = _names(method, optimizer)
        learned = {names[index]: entry for index, entry in state["optimizer"]["state"].items()}
        write_state(self.path, {**state, "optimizer": learned}, self._identity)

    def begin(self, own: dict[str, Any], method: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> dict[str, Any]:
        """The state to begin with: the kept one, with what only this method has as it is now.

        Args:
            own: State of the training, at its start.
            method: Its names.
            optimizer: Of the training.
            device: Where it computes.

        Raises:
            InputError: The file is damaged, or gone.
        """
        state = read_state(self.path, self._identity, device)
        weights = {name: state["method"].get(name, value) for name, value in own["method"].items()}
        names = _names(method, optimizer)
        learned = {index: state["optimizer"][name] for index, name in names.items() if name in state["optimizer"]}
        return {**state, "method": weights, "optimizer": {**own["optimizer"], "state": learned}, "lengths": own["lengths"], "changes": []}


def _names(method: nn.Module, optimizer: torch.optim.Optimizer) -> dict[int, str]:
    """Parameter by its number in the optimizer's state."""
    known = {id(parameter): name for name, parameter in method.named_parameters()}
    everyone = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {index: known[id(parameter)] for index, parameter in enumerate(everyone)}
