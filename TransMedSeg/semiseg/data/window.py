"""A CT window from the data: the intensities that lie under the masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .case_list import Case
from .files import read_labels, read_volume

_MAX_CASES = 8
_PERCENTILES = (0.5, 99.5)
_FALLBACK = (-175.0, 250.0)  # soft tissue; used where no mask can be read, which preparing then reports


def window_under_masks(cases: Sequence[Case]) -> tuple[float, float]:
    """Lower and upper intensity of a window for CT, rounded to whole Hounsfield units.

    The 0.5 and 99.5 percentiles of the voxels inside any structure, as in nnU-Net (Isensee et al., Nature Methods
    2021), from up to eight evenly spaced labeled cases.

    Args:
        cases: With masks; those that cannot be read are passed over.
    """
    places = np.linspace(0, max(0, len(cases) - 1), min(len(cases), _MAX_CASES)).round().astype(int)
    inside = []
    for case in (cases[place] for place in places):
        try:
            image, mask = read_volume(case.image, case.id).array, read_labels(case.label, case.id)[0].array
        except InputError:
            continue
        if image.shape == mask.shape and mask.any():
            values = image[mask > 0]
            inside.append(values[:: 1 + values.size // 200_000].astype(np.float64))
    if not inside:
        return _FALLBACK
    low, high = np.percentile(np.concatenate(inside), _PERCENTILES)
    return float(np.floor(low)), float(max(np.ceil(high), np.floor(low) + 1))
