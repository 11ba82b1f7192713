"""Section 3 of the panel: prompts, the Segment Editor, the lock, and the approval."""

import slicer
from slicer.i18n import tr as _

from . import Review
from .CaseTable import APPROVED
from .Messages import message
from .Notice import Notice
from .PromptMarks import marksOf
from .PromptPanel import PromptPanel
from .VolumeExchange import maskOf

UNDO_STEPS = 10


class CorrectPanel:
    """Fills the section Correct.

    Args:
        desk: What the sections share.
        openNext: Opens the next case.
    """

    def __init__(self, desk, openNext):
        self.desk, self.ui, self._openNext = desk, desk.ui, openNext
        self.notice = Notice()
        self.ui.correctNoticePlace.layout().addWidget(self.notice)
        self.promptRow = PromptPanel(desk, self.notice, self.undo)
        self._texts = {
            "locked": _("AI will not change this segment."),
            "approve": _("A person has looked at this case and says it is right; opens the next one (Ctrl+→)"),
            "nothing": _("There is nothing to approve: segment this case first"),
            "3D": _("Show the surface of the mask in the 3-D view"),
            "no 3D": _("There is no mask to show: segment this case first"),
            "labeled": _("Put this approved case on the list of labeled volumes of TransMedSegTrain"),
            "notApproved": _("Approve this case first"),
        }
        self.ui.segmentEditor.setMaximumNumberOfUndoStates(UNDO_STEPS)
        self.ui.segmentEditor.connect("currentSegmentIDChanged(QString)", lambda name: self.refresh())
        self.ui.unlockButton.connect("clicked()", self._onUnlock)
        self.ui.approveButton.connect("clicked()", self.approveAndNext)
        self.ui.labeledButton.connect("clicked(bool)", self._onLabeled)

    def enter(self):
        """The user opened the module: the editor works on the open case, with its keys."""
        editor = self.ui.segmentEditor
        # One node for our editor and for the module Segment Editor: the chosen segment and effect are shared.
        node = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag("SegmentEditor")
            node = slicer.mrmlScene.AddNode(node)
        editor.setMRMLSegmentEditorNode(node)
        editor.installKeyboardShortcuts()
        editor.setupViewObservations()

    def exit(self):
        """The user left the module: no key and no mouse in a view belongs to us any more."""
        self.promptRow.prompts.putAway()
        editor = self.ui.segmentEditor
        if editor.mrmlSegmentEditorNode() is not None:
            editor.setActiveEffect(None)
        editor.uninstallKeyboardShortcuts()
        editor.removeViewObservations()

    def sceneClosed(self):
        """The node of the editor went with the scene."""
        self.promptRow.prompts.putAway()
        self.ui.segmentEditor.setMRMLSegmentEditorNode(None)

    def discard(self):
        """The panel goes away: nothing of it may answer when the node, which other editors share, changes later."""
        self.ui.segmentEditor.blockSignals(True)  # the panel is not shown any more, so it need not follow
        self.sceneClosed()

    def refresh(self):
        """Shows lock, approval and undo of the open case."""
        case = self.desk.current
        self.desk.giveToEditor(case)
        hasSegments = case is not None and case.segmentation is not None
        hasSegments = hasSegments and case.segmentation.GetSegmentation().GetNumberOfSegments() > 0
        self.ui.show3DButton.setSegmentationNode(case.segmentation if hasSegments else None)
        self.ui.show3DButton.toolTip = self._texts["3D" if hasSegments else "no 3D"]
        segment = self._segment(case)
        isLocked = segment is not None and Review.isLocked(segment)
        self.ui.lockLabel.text = self._texts["locked"] if isLocked else ""
        self.ui.lockLabel.setVisible(isLocked)
        self.ui.unlockButton.setVisible(isLocked)
        self.promptRow.refresh(self._canUndo())
        self.ui.approveButton.enabled = bool(hasSegments)
        self.ui.approveButton.toolTip = self._texts["approve" if hasSegments else "nothing"]
        isApproved = case is not None and case.status == APPROVED
        self.ui.labeledButton.enabled = isApproved
        self.ui.labeledButton.checked = case is not None and case.isLabeled
        self.ui.labeledButton.toolTip = self._texts["labeled" if isApproved else "notApproved"]

    def _segment(self, case):
        """The segment that is chosen in the editor; else the first of the case."""
        if case is None or case.segmentation is None:
            return None
        segmentation = case.segmentation.GetSegmentation()
        chosen = segmentation.GetSegment(self.ui.segmentEditor.currentSegmentID())
        first = segmentation.GetNthSegment(0) if segmentation.GetNumberOfSegments() else None
        return chosen or first

    def _onUnlock(self):
        with self.desk.review.writing():
            Review.setLocked(self._segment(self.desk.current), False)
        self.desk.refresh()

    def approveAndNext(self):
        """Approves the open case and opens the next one."""
        case = self.desk.current
        if case is None or not self.ui.approveButton.enabled:
            return
        self.desk.review.approve(case)
        self._openNext()

    def _canUndo(self):
        """Whether there is a step to take back. The Segment Editor only tells by its own button."""
        button = slicer.util.findChild(self.ui.segmentEditor, "UndoButton")
        return button.enabled

    def undo(self):
        """One step back; the line says why there is none (E605)."""
        editor = self.ui.segmentEditor
        before = self._voxels()
        editor.undo()
        self.desk.review.checkNow()
        if self._voxels() == before:
            self.notice.say(message("E605"), "E605")
        else:
            self.notice.clear()
        self.desk.refresh()

    def _voxels(self):
        """Changes with the segments of the open case and with the marks on them."""
        case = self.desk.current
        if case is None or case.segmentation is None:
            return None
        segmentation = case.segmentation.GetSegmentation()
        ids = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
        marks = [len(marksOf(segmentation.GetSegment(one))) for one in ids]
        return [(one, Review.checksum(maskOf(case.segmentation, one, case.volume)), n) for one, n in zip(ids, marks)]

    def _onLabeled(self, isOn):
        case = self.desk.current
        if case is not None and case.status == APPROVED:
            case.setLabeled(isOn)
        self.desk.refresh()
