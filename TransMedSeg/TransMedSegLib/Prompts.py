"""Prompts: the user marks a place in a slice view, and the mask around it is drawn anew. One mark is one undo step.

Each mark is placed as a markup of its own, with Slicer's own place mode. When the placement ends, the mask is changed
and the mark is noted in a tag of the segment; see PromptMarks.
"""

import time

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from . import PromptEdit, PromptMarks, Review, SegmentResult
from .Messages import message, withCode
from .PromptMarks import BOX, POINT
from .Terminology import tagOf
from .VolumeExchange import maskOf, voxelVolumeMl, writeMask

PROMPTED_TAG = "TransMedSeg.Prompted"
"""Checksum of what the last prompt wrote: while it fits, further prompts need no permission."""
_BY_HAND = "by hand"
_STATUS_MS = 4000


class Prompts(VTKObservationMixin):
    """Places marks and applies them.

    Args:
        desk: What the sections share.
        notice: For questions.
        onChanged: Called as onChanged() when another tool is in hand.
    """

    def __init__(self, desk, notice, onChanged=lambda: None):
        VTKObservationMixin.__init__(self)
        self.desk, self.notice, self._onChanged = desk, notice, onChanged
        self.tool = None
        self.text = ""
        self._markup = None
        self._isIn3D = False
        # What ends a placement is an event inside of Slicer's own handling of the mouse: wait until that is over.
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._onPlaced)

    # Tools

    def take(self, kind, isAdding):
        """Takes a tool in hand; the same one again puts it away."""
        tool = None if self.tool == (kind, isAdding) else (kind, isAdding)
        self.putAway()
        if tool is not None and self.desk.current is not None:
            self.tool = tool
            self._placeNext()
        self._onChanged()

    def putAway(self):
        """No tool is in hand, and the mouse in the views is Slicer's again."""
        self._timer.stop()
        self.removeObservers()
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        if self.tool is not None and interaction.GetCurrentInteractionMode() == interaction.Place:
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        self.tool = None
        self._removeMarkup()

    def _placeNext(self):
        """The next click of the user in a view places a mark."""
        self._isIn3D = False
        self._markup = PromptMarks.newMarkup(*self.tool)
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        slicer.modules.markups.logic().SetActiveList(self._markup)
        interaction.SetPlaceModePersistence(0)
        interaction.SetCurrentInteractionMode(interaction.Place)
        self.addObserver(self._markup, self._markup.PointPositionDefinedEvent, self._onPoint)
        self.addObserver(interaction, interaction.EndPlacementEvent, self._onEndPlacement)

    def _removeMarkup(self):
        if self._markup is not None and slicer.mrmlScene.IsNodePresent(self._markup):
            slicer.mrmlScene.RemoveNode(self._markup)
        self._markup = None

    def _onPoint(self, caller, event):
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        ras, xyz = [0.0] * 3, [0.0] * 3
        if crosshair is not None and crosshair.GetCursorPositionRAS(ras):
            # Over a slice view the crosshair names its slice node, over a 3-D view none.
            self._isIn3D = self._isIn3D or crosshair.GetCursorPositionXYZ(xyz) is None

    def _onEndPlacement(self, caller, event):
        self._timer.start()

    def _onPlaced(self):
        """A placement has ended: by a mark, or because the user wants no more."""
        if self.tool is None or self._markup is None or not slicer.mrmlScene.IsNodePresent(self._markup):
            self.putAway()
            self._onChanged()
            return
        tool, mark = self.tool, PromptMarks.markOfMarkup(self._markup, *self.tool)
        isIn3D = self._isIn3D
        self.putAway()
        if mark is not None:
            if isIn3D:
                self.say(message("E601"), "E601")
            else:
                self.apply(mark)
            if tool[0] != BOX and not self.notice.message:
                self.take(*tool)
        self._onChanged()

    def say(self, text, code=""):
        """A line in the panel and in the status bar."""
        self.text = withCode(code, text)
        slicer.util.showStatusMessage(self.text, _STATUS_MS)

    # Applying a mark

    def apply(self, mark, locked=SegmentResult.REFUSE):
        """Corrects the chosen segment of the open case.

        Args:
            mark: What the user says.
            locked: What to do where a person has edited the segment: REFUSE (and ask), ONCE, or NEW.

        Returns:
            Whether voxels have changed.
        """
        case = self.desk.current
        if case is None:
            self.say(message("E301"), "E301")
            return False
        place = _placeOf(mark, case.volume)
        if place is None:
            self.say(message("E601"), "E601")
            return False
        segmentId = self.target(case)
        if segmentId and locked == SegmentResult.REFUSE and _isProtected(case, segmentId):
            actions = (
                (_("Unlock once"), lambda: self._again(mark, SegmentResult.ONCE)),
                (_("Write to a new segment"), lambda: self._again(mark, SegmentResult.NEW)),
            )
            self.notice.say(message("E603"), "E603", actions)
            return False
        return self._correct(case, segmentId, mark, place, locked == SegmentResult.NEW)

    def _again(self, mark, locked):
        self.apply(mark, locked)
        self._onChanged()

    def target(self, case):
        """ID of the segment that a prompt changes: the chosen one, else the first; None where there is none."""
        if case.segmentation is None:
            return None
        segmentation = case.segmentation.GetSegmentation()
        chosen = self.desk.ui.segmentEditor.currentSegmentID()
        if chosen and segmentation.GetSegment(chosen) is not None:
            return chosen
        return segmentation.GetNthSegmentID(0) if segmentation.GetNumberOfSegments() else None

    def _correct(self, case, segmentId, mark, place, isNew):
        begin = time.monotonic()
        node = case.makeSegmentation()
        before = maskOf(node, segmentId or "", case.volume)
        ground = PromptEdit.Ground(
            slicer.util.arrayFromVolume(case.volume), before, case.volume.GetSpacing()[::-1], _doubtOf(case)
        )
        if mark.kind == BOX:
            after = PromptEdit.restrict(ground, *place)
        else:
            reach = PromptEdit.REACH_MM if mark.kind == POINT else PromptEdit.STROKE_REACH_MM
            after = PromptEdit.correct(ground, place, mark.isAdding, reach)
        if np.array_equal(before, after):
            self.say(_("Nothing to change there."))
            return False
        # One undo step: everything below, a new segment as well.
        self.desk.beforeWrite(case)
        with self.desk.review.writing():
            if segmentId is None or isNew:
                segmentId = self._addSegment(node, segmentId)
            added, overlaps = SegmentResult.leaveOthers(case, segmentId, after & ~before, set())
            _write(case, segmentId, (after & before) | added, mark)
        self._finish(case, segmentId)
        milliliters = voxelVolumeMl(case.volume) * (int(np.count_nonzero(after)) - int(np.count_nonzero(before)))
        seconds = time.monotonic() - begin
        self.say(_("{change:+.2f} mL in {seconds:.1f} s").format(change=milliliters, seconds=seconds))
        self._offerOverlap(case, overlaps, after & ~before)
        return True

    def _addSegment(self, node, likeId):
        """A segment for the left atrium, or beside a protected one and named like it."""
        segmentation = node.GetSegmentation()
        newId = SegmentResult.addLeftAtrium(node)
        if likeId is not None:
            old, new = segmentation.GetSegment(likeId), segmentation.GetSegment(newId)
            new.SetName(_("{segment} (corrected)").format(segment=old.GetName()))
            structure = tagOf(old, SegmentResult.STRUCTURE_TAG) or (old.GetName() or "").lower()
            new.SetTag(SegmentResult.STRUCTURE_TAG, structure)
        self.desk.ui.segmentEditor.setCurrentSegmentID(newId)
        return newId

    def _finish(self, case, segmentId):
        self.desk.review.follow()
        self.desk.review.judge(case)
        PromptMarks.showMarks(PromptMarks.marksOf(case.segmentation.GetSegmentation().GetSegment(segmentId)))

    def _offerOverlap(self, case, overlaps, added):
        if overlaps:
            one = overlaps[0]
            text = message("E604", segment=one.otherName, volume_ml=f"{one.volumeMl:.1f}")
            take = lambda: self._takeOverlap(case, one, added)
            self.notice.say(text, "E604", ((_("Leave it"), lambda: None), (_("Take it"), take)))

    def _takeOverlap(self, case, overlap, added):
        """Gives the shared voxels to the corrected segment after all: the answer to a question, a step of its own."""
        node = case.segmentation
        other = maskOf(node, overlap.otherId, case.volume)
        self.desk.beforeWrite(case)
        with self.desk.review.writing():
            writeMask(node, overlap.otherId, other & ~added, case.volume)
            mine = maskOf(node, overlap.segmentId, case.volume) | (other & added)
            _write(case, overlap.segmentId, mine)
        self._finish(case, overlap.segmentId)
        self._onChanged()

    # Marks

    def marks(self):
        """The marks of the segment that the next prompt would change."""
        case = self.desk.current
        segmentId = self.target(case) if case is not None else None
        segment = case.segmentation.GetSegmentation().GetSegment(segmentId) if segmentId else None
        return PromptMarks.marksOf(segment)

    def clear(self):
        """Forgets the marks; what they have changed stays. One undo step."""
        case = self.desk.current
        if not self.marks():
            return
        self.desk.beforeWrite(case)
        with self.desk.review.writing():
            PromptMarks.setMarks(case.segmentation.GetSegmentation().GetSegment(self.target(case)), [])
        self.refresh()

    def refresh(self):
        """Shows the marks of the open case."""
        PromptMarks.showMarks(self.marks())


def _placeOf(mark, volumeNode):
    """The voxels that a mark means; None where it lies outside of the image."""
    if mark.kind == BOX:
        return PromptMarks.insideOf(mark.points[0], mark.points[1:], volumeNode)
    voxels = PromptMarks.voxelsOf(mark, volumeNode)
    return voxels if len(voxels) else None


def _isProtected(case, segmentId):
    """Whether a person has drawn in the segment since the last prompt, or approved it."""
    segment = case.segmentation.GetSegmentation().GetSegment(segmentId)
    if not Review.isLocked(segment):
        return False
    now = Review.checksum(maskOf(case.segmentation, segmentId, case.volume))
    return tagOf(segment, PROMPTED_TAG) != now or tagOf(segment, Review.APPROVED_TAG) == now


def _write(case, segmentId, mask, mark=None):
    """Writes voxels and notes who drew them: model and person together (SEMIAUTOMATIC)."""
    writeMask(case.segmentation, segmentId, mask, case.volume)
    segment = case.segmentation.GetSegmentation().GetSegment(segmentId)
    now = Review.checksum(mask)
    if not tagOf(segment, Review.WRITTEN_TAG):
        # No checksum ever equals it: the segment stays the work of a person with help.
        segment.SetTag(Review.WRITTEN_TAG, _BY_HAND)
    if not tagOf(segment, Review.NAME_TAG):
        segment.SetTag(Review.NAME_TAG, "TransMedSeg prompts")
    segment.SetTag(PROMPTED_TAG, now)
    segment.SetTag(Review.SEEN_TAG, now)
    segment.RemoveTag(Review.APPROVED_TAG)
    # The work that went into the prompts must not be lost to the next run of the model.
    Review.setLocked(segment, True)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(segment, logic.InProgress)
    if mark is not None:
        PromptMarks.setMarks(segment, [*PromptMarks.marksOf(segment), mark])


def _doubtOf(case):
    """The map of doubt on the grid of the image; None where there is none or it lies elsewhere."""
    node = case.doubtMap
    if node is None or node.GetImageData().GetDimensions() != case.volume.GetImageData().GetDimensions():
        return None
    return slicer.util.arrayFromVolume(node)
