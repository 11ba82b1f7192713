"""The moving-average copy of a network (Tarvainen and Valpola, Mean Teacher, NeurIPS 2017)."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Teacher(nn.Module):
    """A copy of a network that never receives a gradient and follows the network slowly.

    Args:
        student: The network to follow.
        decay: Weight of the old teacher in an update. The first steps use less, min(decay, (step + 1) / (step + 10)), so that the teacher
            forgets its random start.
        average_buffers: Follow the buffers of batch normalization too. The published codes of UA-MT and BCP (LA) do not.
        training_mode: Keep dropout and batch statistics on, as those codes do; otherwise the teacher is in evaluation mode.
    """

    def __init__(
        self, student: nn.Module, decay: float = 0.99, average_buffers: bool = True, training_mode: bool = False
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(student).requires_grad_(False)
        self.decay, self.average_buffers, self.training_mode = decay, average_buffers, training_mode
        self.train()

    def train(self, mode: bool = True) -> Teacher:
        """Ignores the student's mode; see ``training_mode``."""
        super().train(mode)
        self.network.train(self.training_mode)
        return self

    @torch.no_grad()
    def forward(self, x: torch.Tensor):
        """The network's output without gradient."""
        return self.network(x)

    @torch.no_grad()
    def copy_from(self, student: nn.Module) -> None:
        """Takes over all weights and buffers."""
        self.network.load_state_dict(student.state_dict())

    @torch.no_grad()
    def update(self, student: nn.Module, step: int) -> None:
        """One step of the moving average, in few kernels for all tensors."""
        decay = min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(self.network.parameters()), list(student.parameters()), 1 - decay)
        if not self.average_buffers:
            return
        for own, other in zip(self.network.buffers(), student.buffers()):
            if own.is_floating_point():
                own.lerp_(other, 1 - decay)
            else:
                own.copy_(other)  # counters of batch normalization
