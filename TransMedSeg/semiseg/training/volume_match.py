"""The threshold at which pseudo-labels are as large as what a person has labeled.

Where the unlabeled volumes look different, a network finds too much or too little in them, and self-training on its own labels makes that worse from
round to round: on phantoms of another site the labels grew from 20 to 60 % too large. Hearts are as large at one site as at the other, so their mean
volume is known from the labeled cases, but from a few of them only poorly: this helped one set of phantoms and harmed another (docs/benchmarks.md,
"Pseudo-labels that grow"), and is an option, off by default. It is the idea of distribution alignment (Berthelot et al., ReMixMatch, ICLR 2020) for
volumes instead of classes.
"""

from __future__ import annotations

from collections.abc import Callable

_LOW, _HIGH = 0.25, 0.97
"""Beyond these a threshold says more of the network's calibration than of the structure."""

_CLOSE = 0.02
_MOST_TRIES = 6
MOST_CASES = 24
"""The threshold is sought on so many cases: each try looks for the largest component in all of them."""


def matching_threshold(volume_at: Callable[[float], float], target: float, start: float = 0.5) -> float:
    """Bisects to where the volume is the target.

    Args:
        volume_at: Mean volume of the labels at a threshold; falls as the threshold rises.
        target: Mean volume of the labeled cases, in the same unit.
        start: The first threshold that is tried; it stays when it fits.

    Returns:
        The threshold that came closest, between 0.25 and 0.97.
    """
    low, high, threshold = _LOW, _HIGH, start
    tried: dict[float, float] = {}
    for _ in range(_MOST_TRIES):
        volume = volume_at(threshold)
        tried[threshold] = abs(volume - target)
        if tried[threshold] <= _CLOSE * target:
            break
        low, high = (threshold, high) if volume > target else (low, threshold)
        threshold = (low + high) / 2
    return min(tried, key=lambda one: tried[one])
