"""How much of two masks is shared.

The definitions are medpy's, which the papers of the field use: Dice 2|A and B| / (|A| + |B|), Jaccard |A and B| / |A
or B|. Two empty masks share everything and nothing: both numbers are undefined (NaN), and tables show "-". medpy calls
that case 0.
"""

from __future__ import annotations

import math

import numpy as np


def dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Dice of two masks of one shape, 0 to 1; NaN where both are empty."""
    shared, predicted, referred = _counts(prediction, reference)
    return dice_from_counts(shared, predicted, referred)


def jaccard(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Jaccard index of two masks of one shape, 0 to 1; NaN where both are empty."""
    shared, predicted, referred = _counts(prediction, reference)
    return jaccard_from_counts(shared, predicted, referred)


def dice_from_counts(shared: int, predicted: int, referred: int) -> float:
    """Dice from the number of shared, predicted and reference voxels."""
    return 2.0 * shared / (predicted + referred) if predicted + referred else math.nan


def jaccard_from_counts(shared: int, predicted: int, referred: int) -> float:
    """Jaccard index from the number of shared, predicted and reference voxels."""
    union = predicted + referred - shared
    return shared / union if union else math.nan


def _counts(prediction: np.ndarray, reference: np.ndarray) -> tuple[int, int, int]:
    if prediction.shape != reference.shape:
        raise ValueError(f"The masks differ in shape: {prediction.shape} and {reference.shape}.")
    a, b = prediction.astype(bool, copy=False), reference.astype(bool, copy=False)
    return int(np.count_nonzero(a & b)), int(np.count_nonzero(a)), int(np.count_nonzero(b))
