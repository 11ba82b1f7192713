"""All numbers of one mask against its reference."""

from __future__ import annotations

import math

import numpy as np

from .overlap import dice_from_counts, jaccard_from_counts
from .surface import SurfacePair, diagonal, joint_box, step_matrix

METRICS = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "hd95_voxels": "95HD [voxel]",
    "asd_voxels": "ASD [voxel]",
    "assd_voxels": "ASSD [voxel]",
    "hd95_mm": "95HD [mm]",
    "asd_mm": "ASD [mm]",
    "assd_mm": "ASSD [mm]",
    "volume_ml": "volume [mL]",
    "reference_ml": "reference [mL]",
    "volume_difference_percent": "difference [%]",
}
"""Every number of :func:`score_masks` with its title, in the order of the tables."""

BOTH_EMPTY = "both masks are empty"
PREDICTION_EMPTY = "the prediction is empty: distances are the image diagonal"
REFERENCE_EMPTY = "the reference is empty: distances are the image diagonal"


def score_masks(
    prediction: np.ndarray, reference: np.ndarray, step_mm: np.ndarray | tuple[float, ...]
) -> tuple[dict[str, float], str]:
    """Scores one mask.

    Empty masks: with both empty, overlap and distances are undefined (NaN). With one empty, overlap is 0 and every
    distance is the diagonal of the image, so that a model cannot gain by finding nothing (the papers' code scores such
    a case as distance 0).

    Args:
        prediction: Mask, any dtype; nonzero is inside.
        reference: Mask of the same shape.
        step_mm: Spacing of each axis, or the (axis, axis) matrix whose columns are the steps of a sheared grid.

    Returns:
        A value for each key of ``METRICS``, and a note on empty masks (an empty string without).
    """
    shape = prediction.shape
    matrix = step_matrix(step_mm, len(shape))
    box = joint_box(prediction, reference) or (slice(0, 0),) * len(shape)
    a, b = prediction[box].astype(bool, copy=False), reference[box].astype(bool, copy=False)
    shared, predicted, referred = (int(np.count_nonzero(part)) for part in (a & b, a, b))
    voxel_ml = abs(float(np.linalg.det(matrix))) / 1000.0
    values = {
        "dice": dice_from_counts(shared, predicted, referred),
        "jaccard": jaccard_from_counts(shared, predicted, referred),
        **_distances(a, b, matrix, shape),
        "volume_ml": predicted * voxel_ml,
        "reference_ml": referred * voxel_ml,
        "volume_difference_percent": 100.0 * (predicted - referred) / referred if referred else math.nan,
    }
    return {name: values[name] for name in METRICS}, _note(bool(predicted), bool(referred))


def _note(has_prediction: bool, has_reference: bool) -> str:
    if has_prediction and has_reference:
        return ""
    if has_reference:
        return PREDICTION_EMPTY
    return REFERENCE_EMPTY if has_prediction else BOTH_EMPTY


def _distances(a: np.ndarray, b: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> dict[str, float]:
    names = ("hd95", "asd", "assd")
    if not a.any() or not b.any():
        undefined = not a.any() and not b.any()
        units = {"voxels": diagonal(shape), "mm": diagonal(shape, matrix)}
        return {f"{name}_{unit}": math.nan if undefined else far for unit, far in units.items() for name in names}
    surfaces = SurfacePair(a, b)
    voxels = surfaces.distances()
    # With equal spacing along right angles millimeters are voxels times that spacing: no second search.
    scale = float(np.linalg.norm(matrix[:, 0]))
    isotropic = np.allclose(matrix.T @ matrix, scale**2 * np.eye(len(shape)), rtol=0, atol=1e-9 * scale**2)
    mm = voxels.scaled(scale) if isotropic else surfaces.distances(matrix)
    found = {"voxels": voxels, "mm": mm}
    return {f"{name}_{unit}": getattr(sets, name) for unit, sets in found.items() for name in names}
