"""Whether unlabeled volumes look like the labeled ones: another scanner or site teaches what the labels do not, or misleads where nobody wants it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .cache import PreparedCase

# What the limits rest on: docs/benchmarks.md, "Unlabeled volumes of another site".
MAX_QUANTILE_DISTANCE = 0.5
MAX_SHIFT = 1.2
MIN_LABELED, MIN_UNLABELED = 4, 10
MAX_SPACING_RATIO = 1.5
_RANKS = np.linspace(0.02, 0.98, 17)


def intensity_quantiles(image: np.ndarray) -> list[float]:
    """17 evenly spaced quantiles of a normalized image; their mean distance is nearly the earth mover's."""
    return np.quantile(image[::2, ::2, ::2], _RANKS).round(4).tolist()


def differences(unlabeled: Sequence[PreparedCase], labeled: Sequence[PreparedCase]) -> list[str]:
    """How each unlabeled volume differs from the labeled ones, as a sentence; empty where it does not.

    A volume is named that is strange by itself. Where the sets lie apart as wholes, which is how another scanner shows,
    those volumes are named that do so too; with fewer than ``MIN_LABELED`` or ``MIN_UNLABELED`` volumes chance would say
    as much.
    """
    if not labeled:
        return [""] * len(unlabeled)
    sentences = [difference(case, labeled) for case in unlabeled]
    if len(labeled) < MIN_LABELED or len(unlabeled) < MIN_UNLABELED:
        return sentences
    whole, each = shift(np.array([case.quantiles for case in labeled]), np.array([case.quantiles for case in unlabeled]))
    if whole <= MAX_SHIFT:
        return sentences
    text = "This volume looks different: its intensities lie {:.1f} times as far from the labeled volumes as volumes of one set from each other."
    return [sentence or (text.format(ratio) if ratio > MAX_SHIFT else "") for sentence, ratio in zip(sentences, each, strict=True)]


def shift(labeled: np.ndarray, unlabeled: np.ndarray) -> tuple[float, np.ndarray]:
    """How far apart two sets of volumes lie, in units of the distance between volumes of one set: about 1 for one site.

    The distance of two volumes is the mean difference of their quantiles; within a set, the mean over its pairs, and of
    both sets. A ratio of the terms of the energy distance (Székely and Rizzo 2013).

    Args:
        labeled: (volume, rank) quantiles, two volumes or more.
        unlabeled: The same of the other set.

    Returns:
        The mean over all pairs of a labeled and an unlabeled volume, and over those of each unlabeled volume.
    """
    within = (_mean_of_pairs(labeled) + _mean_of_pairs(unlabeled)) / 2
    each = _distances(unlabeled, labeled).mean(axis=1) / max(within, 1e-6)
    return float(each.mean()), each


def difference(case: PreparedCase, labeled: Sequence[PreparedCase]) -> str:
    """How a case differs from the nearest of the labeled ones, as a sentence; empty when it does not."""
    ratio = min(_spacing_ratio(case, other) for other in labeled)
    if ratio > MAX_SPACING_RATIO:
        return f"This volume looks different: its spacing is {ratio:.1f} times that of the nearest labeled volume."
    distance = float(_distances(np.array([case.quantiles]), np.array([other.quantiles for other in labeled])).min())
    if distance > MAX_QUANTILE_DISTANCE:
        return f"This volume looks different: its intensities lie {distance:.2f} standard deviations from the nearest."
    return ""


def _distances(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(one, other) mean difference of the quantiles."""
    return np.abs(ones[:, None] - others[None]).mean(axis=-1)


def _mean_of_pairs(volumes: np.ndarray) -> float:
    """Over all pairs of two different volumes."""
    return float(_distances(volumes, volumes).sum() / (len(volumes) * (len(volumes) - 1)))


def _spacing_ratio(one: PreparedCase, other: PreparedCase) -> float:
    spacings = []
    for case in (one, other):
        restore = case.way_back
        spacings.append(restore.turn.apply_to_geometry(restore.source).spacing_mm)
    return float(np.exp(np.abs(np.log(np.divide(*spacings))).max()))
