"""The line that says how the mask of the open case looks, and the question what becomes of stray pieces."""

import math

from . import SegmentResult


class PlausibilityLine:
    """Remembers how the mask of each case looked when it was written; what a person has changed since is not said of it.

    Args:
        desk: What the sections share.
    """

    def __init__(self, desk):
        self._desk, self._ui = desk, desk.ui
        self._looks = {}  # ID of the case: (Plausibility, ID of the segment)
        self._kept = set()  # IDs of the cases whose pieces may stay
        self._ui.keepPiecesButton.connect("clicked()", self._onKeep)
        self._ui.removePiecesButton.connect("clicked()", self._onRemove)

    def note(self, case, segmentId, seen):
        """The mask of a case was written and looks so."""
        self._looks[case.id] = (seen, segmentId)
        self._kept.discard(case.id)
        self.refresh()

    def forget(self):
        """The scene is closed."""
        self._looks.clear()
        self._kept.clear()
        self.refresh()

    def refresh(self):
        """Shows the line of the open case."""
        found = self._found()
        seen = found[0] if found is not None else None
        self._ui.plausibilityLabel.text = "" if seen is None else seen.text if seen.isPlausible else f"⚠ {seen.text}"
        isAsked = seen is not None and len(seen.piecesMl) > 1 and self._desk.current.id not in self._kept
        for button in (self._ui.keepPiecesButton, self._ui.removePiecesButton):
            button.setVisible(isAsked)

    def _found(self):
        """How the mask of the open case looks; None where that is not known, or a person has changed it since."""
        case = self._desk.current
        found = self._looks.get(case.id) if case is not None else None
        volumeMl = case.number("VolumeMl") if found is not None else None
        return found if volumeMl is not None and math.isclose(volumeMl, found[0].volumeMl, rel_tol=1e-6) else None

    def _onKeep(self):
        self._kept.add(self._desk.current.id)
        self.refresh()

    def _onRemove(self):
        case, (_seen, segmentId) = self._desk.current, self._found()
        self.note(case, segmentId, SegmentResult.keepLargestPiece(case, segmentId, self._desk.review, self._desk.beforeWrite))
        self._desk.refresh()
