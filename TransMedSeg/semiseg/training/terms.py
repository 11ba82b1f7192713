"""What the loss terms of the last steps say."""

from __future__ import annotations

import torch


def means(steps: list[dict[str, torch.Tensor]]) -> dict[str, float]:
    """Each term's mean over the steps that had it: single steps differ, mixed and unmixed ones a lot."""
    names = {name: None for losses in steps for name in losses}
    return {name: float(torch.stack([losses[name] for losses in steps if name in losses]).mean()) for name in names}


def first_bad(steps: list[dict[str, torch.Tensor]]) -> list[str]:
    """The terms that are no numbers in the first step that has any: one step later all of them are."""
    for losses in steps:
        bad = [name for name, value in losses.items() if not bool(torch.isfinite(value))]
        if bad:
            return bad
    return []
