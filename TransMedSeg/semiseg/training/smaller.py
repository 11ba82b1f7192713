"""Smaller batches and patches: the only settings that a run may be continued with although it was begun with others (E206)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .options import TrainOptions

SHRINKABLE = ("batch_labeled", "batch_unlabeled", "patch_size")
"""Of ``TrainOptions``. Weights and the optimizer's state do not depend on them."""


def smaller_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]] | None:
    """What became smaller between two settings of a training.

    Args:
        before: Fields of ``TrainOptions`` as JSON values, as the run was begun.
        now: The same, as it shall go on.

    Returns:
        Name to [before, now]; None where anything else differs or became larger.
    """
    changed = {name: [before.get(name), now.get(name)] for name in {*before, *now} if before.get(name) != now.get(name)}
    if all(name in SHRINKABLE and None not in pair and _is_smaller(*pair) for name, pair in changed.items()):
        return dict(sorted(changed.items()))
    return None


def _is_smaller(before: Any, now: Any) -> bool:
    pairs = list(zip(before, now)) if isinstance(before, list) else [(before, now)]
    # Training on slices (a first side of 1) is another network, not a smaller patch.
    return all(0 < b <= a and (a == 1) == (b == 1) for a, b in pairs)


def fixes_for(options: TrainOptions, share: float, has_one_size: bool = False) -> list[dict[str, Any]]:
    """Changes of a job that bring a step down to a share of its memory, which grows with the voxels of a step.

    Args:
        options: Of the training that ran out of memory.
        share: Of the memory of a step, above 0 and below 1.
        has_one_size: The network is built for patches of this size, so that its weights do not fit a smaller one.

    Returns:
        Changes of the job's options, each enough alone: a smaller batch, a smaller patch. None of them where nothing can become smaller.
    """
    found: list[dict[str, Any]] = []
    labeled, unlabeled = _fewer(options.batch_labeled, share), _fewer(options.batch_unlabeled, share)
    if labeled < options.batch_labeled:
        found.append({"training": {"batch_labeled": labeled, "batch_unlabeled": unlabeled}})
    if has_one_size:
        return found
    free = sum(side > 1 for side in options.patch_size)
    scale = share ** (1 / max(1, free))
    patch = [side if side == 1 else min(side, max(16, int(side * scale) // 16 * 16)) for side in options.patch_size]
    if patch != list(options.patch_size):
        found.append({"training": {"patch_size": patch}})
    return found


def _fewer(count: int, share: float) -> int:
    """An even number of samples, because methods mix them in pairs."""
    return min(count, max(2, int(count * share) // 2 * 2))


def in_words(changes: Mapping[str, list[Any]]) -> str:
    """ "batch_labeled 2 instead of 4, patch_size 64×80×80 instead of 80×112×112"."""
    return ", ".join(f"{name} {_text(now)} instead of {_text(before)}" for name, (before, now) in changes.items())


def _text(value: Any) -> str:
    return "×".join(map(str, value)) if isinstance(value, list) else str(value)
