"""One undo step for what the AI writes into a case that is not open.

The Segment Editor keeps the history of the segmentation it works on and forgets it when it is given another one. So the
state before such a write is kept here, and becomes a step of the editor's own history when the case is opened.
"""

import slicer

from .CaseTable import PREDICTED


class UndoLater:
    """States before writes, by segmentation.

    Args:
        review: Its `writing()` keeps the way back and forth from counting as an edit.
    """

    def __init__(self, review):
        self._review = review
        self._kept = {}

    def remember(self, case):
        """The AI is about to write into the segmentation of a case."""
        node = case.segmentation
        if node is None:
            return
        history = self._kept.get(node.GetID())
        if history is None:
            history = self._kept[node.GetID()] = slicer.vtkSegmentationHistory()
            history.SetSegmentation(node.GetSegmentation())
        history.SaveState()

    def handOver(self, case, editor):
        """The editor has been given the segmentation of a case: the writes since become steps that it can undo.

        What a person has drawn since, in another editor, would be lost on the way: then there is nothing to hand over.
        """
        node = case.segmentation
        history = self._kept.pop(node.GetID(), None) if node is not None else None
        if history is None or case.status != PREDICTED:
            return
        chosen, steps = editor.currentSegmentID(), 0
        with self._review.writing():
            while history.IsRestorePreviousStateAvailable():
                history.RestorePreviousState()
                steps += 1
            for _step in range(steps):
                editor.saveStateForUndo()
                history.RestoreNextState()
        if chosen:
            editor.setCurrentSegmentID(chosen)

    def forget(self):
        """The scene is closed."""
        self._kept.clear()
