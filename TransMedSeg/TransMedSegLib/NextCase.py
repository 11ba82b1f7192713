"""Which case to label next: one the model is unsure of, and that does not look like those already labeled.

A greedy form of the usual active-learning score, doubt x distance (Yang et al. 2017, Suggestive Annotation: unsure
first, then unlike the chosen ones). The picture of a case is a handful of numbers of its intensities and spacing.
"""

import math
from dataclasses import dataclass

import numpy as np
import slicer
from slicer.i18n import tr as _

from .CaseTable import APPROVED, EDITED
from .Counted import counted

_UNKNOWN_DOUBT = 0.5
_STEP = 4
"""Every so many voxels along each axis are looked at: the picture of a case takes a few milliseconds."""


@dataclass(frozen=True)
class Suggestion:
    """A case and why it comes next.

    Attributes:
        doubt: 0 sure to 1; None before the model has seen it.
        distance: To the nearest labeled case, 1 is the typical distance between two cases; None without labeled ones.
        score: What the cases are ordered by.
        reason: One sentence for the user.
    """

    case: object
    doubt: float | None
    distance: float | None
    score: float
    reason: str


def describe(volumeNode):
    """Nine numbers of an image: seven quantiles of its intensities, on a scale of its own, and the log of its spacing.

    The scale takes out the arbitrary units of MRI: 0 is the 5th percentile, 1 the 95th.
    """
    voxels = slicer.util.arrayFromVolume(volumeNode)[::_STEP, ::_STEP, ::_STEP].astype(np.float64)
    finite = voxels[np.isfinite(voxels)]
    if finite.size == 0:
        return np.zeros(9)
    low, high = np.percentile(finite, [5, 95])
    quantiles = np.percentile(finite, [1, 10, 25, 50, 75, 90, 99])
    shape = (quantiles - low) / (high - low) if high > low else np.zeros(7)
    spacing = volumeNode.GetSpacing()
    in_plane, through = math.sqrt(max(spacing[0] * spacing[1], 1e-9)), max(spacing[2], 1e-9)
    return np.array([*np.clip(shape, -3, 3), math.log(in_plane), math.log(through)])


def suggest(caseList, current=None):
    """Orders the cases that nobody has corrected or approved yet, most useful first.

    Args:
        caseList: Every case.
        current: The case that is open now; it comes last.
    """
    labeled = [case for case in caseList if case.status in (EDITED, APPROVED) or case.isLabeled]
    open_ = [case for case in caseList if case not in labeled]
    if not open_:
        return []
    pictures = {case: describe(case.volume) for case in (*labeled, *open_)}
    distances = _distances(open_, labeled, pictures)
    suggestions = [_suggestion(case, distances[case], len(open_), len(labeled)) for case in open_]
    ordered = sorted(suggestions, key=lambda one: -one.score)
    return [one for one in ordered if one.case != current] + [one for one in ordered if one.case == current]


def _distances(open_, labeled, pictures):
    """Distance of each open case to the nearest labeled one, in units of the median distance between any two."""
    if not labeled:
        return dict.fromkeys(open_)
    everything = np.stack(list(pictures.values()))
    spread = everything.std(axis=0)
    spread[spread < 1e-9] = 1.0
    gap = lambda a, b: float(np.linalg.norm((pictures[a] - pictures[b]) / spread))
    names = list(pictures)
    gaps = [gap(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    typical = float(np.median(gaps)) or 1.0
    return {case: min(gap(case, other) for other in labeled) / typical for case in open_}


def _suggestion(case, distance, numOpen, numLabeled):
    doubt = case.number("Doubt")
    score = (_UNKNOWN_DOUBT if doubt is None else doubt) * (1.0 if distance is None else 0.1 + distance)
    return Suggestion(case, doubt, distance, score, _reason(case.name, doubt, distance, numOpen, numLabeled))


def _reason(name, doubt, distance, numOpen, numLabeled):
    if numOpen == 1:
        return _("{case} is the last case that nobody has checked.").format(case=name)
    if doubt is None and distance is None:
        return _("{case} is next on the list: no case is labeled yet and the model has not seen it.").format(case=name)
    if distance is None:
        text = _("The model is unsure of {doubt:.0%} of what it found in {case}; no case is labeled yet.")
        return text.format(doubt=doubt, case=name)
    alike = _("unlike") if distance > 1.2 else _("somewhat like") if distance > 0.6 else _("much like")
    if doubt is None:
        one = _("{case} looks {alike} the labeled case; the model has not seen it.")
        many = _("{case} looks {alike} the {count} labeled cases; the model has not seen it.")
        return counted(numLabeled, one, many, case=name, alike=alike)
    one = _("The model is unsure of {doubt:.0%} of what it found in {case}, which looks {alike} the labeled case.")
    many = _("The model is unsure of {doubt:.0%} of what it found in {case}, which looks {alike} the {count} labeled cases.")
    return counted(numLabeled, one, many, doubt=doubt, case=name, alike=alike)
