"""``torch.compile`` for the networks of a method."""

from __future__ import annotations

from torch import nn


def compile_networks(method: nn.Module) -> None:
    """Has PyTorch compile every network of a method when it is first called, teachers included; names and weights stay as they are.

    Only networks: what surrounds them draws random numbers, cuts patches and reads schedules, which a compiler would freeze or compute otherwise.
    Parts that a method calls by themselves, as SemiGDA does, are left as they are.
    """
    for module in method.modules():
        if hasattr(module, "downscale"):  # by what its input's sides must divide: every network says it, and nothing else
            module.compile()
