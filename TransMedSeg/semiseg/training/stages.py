"""Stages in iterations."""

from __future__ import annotations

from ..methods.base import Stage


def stage_ends(stages: tuple[Stage, ...], iterations: int) -> list[tuple[str, int, int]]:
    """(name, first iteration, end) of every stage; the last one ends with the last iteration."""
    ends, start, share = [], 0, 0.0
    for index, stage in enumerate(stages):
        share += stage.share
        end = iterations if index == len(stages) - 1 else min(iterations, round(iterations * share))
        if end > start:
            ends.append((stage.name, start, end))
        start = max(start, end)
    return ends


def labeling_rounds(stages: list[tuple[str, int, int]], stage: str, count: int) -> list[int]:
    """The iterations before which the unlabeled cases are labeled: ``count`` of them, evenly from the stage's start."""
    return [start + (end - start) * k // count for name, start, end in stages if name == stage for k in range(count)]
