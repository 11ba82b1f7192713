"""How far a case is: To do, Predicted, Edited, Approved. Who drew a segment, and whether the AI may change it.

A segment remembers, as tags that are saved with it, who drew it (the DICOM algorithm type) and a checksum of what the
AI wrote. While the checksum fits, the segment is the AI's own; undoing all edits makes it so again.
"""

import zlib
from contextlib import contextmanager

import numpy as np
import qt
import slicer
from slicer.util import VTKObservationMixin

from .CaseTable import APPROVED, EDITED, PREDICTED, TO_DO, cases
from .Terminology import tagOf
from .VolumeExchange import boxOf, maskOf, voxelVolumeMl

TYPE_TAG, NAME_TAG = "DICOM.SegmentAlgorithmType", "DICOM.SegmentAlgorithmName"
VERSION_TAG = "DICOM.SegmentAlgorithmVersion"
WRITTEN_TAG, LOCKED_TAG = "TransMedSeg.Written", "TransMedSeg.Locked"
APPROVED_TAG, SEEN_TAG = "TransMedSeg.Approved", "TransMedSeg.Seen"
AUTOMATIC, SEMIAUTOMATIC, MANUAL = "AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"
_QUIET_MS = 300


def checksum(mask):
    """A number for the voxels of a mask that does not depend on how far the image around it reaches."""
    box = boxOf(mask)
    if box is None:
        return "empty"
    place = ",".join(f"{one.start}-{one.stop}" for one in box)
    return f"{zlib.crc32(np.packbits(mask[box]).tobytes()):08x}:{place}"


def markWritten(segment, mask, algorithm, version=""):
    """Notes that the AI drew a segment."""
    segment.SetTag(WRITTEN_TAG, checksum(mask))
    segment.SetTag(TYPE_TAG, AUTOMATIC)
    segment.SetTag(NAME_TAG, algorithm)
    if version:
        segment.SetTag(VERSION_TAG, version)
    segment.SetTag(SEEN_TAG, checksum(mask))
    segment.RemoveTag(LOCKED_TAG)
    segment.RemoveTag(APPROVED_TAG)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(segment, logic.InProgress)


def isLocked(segment):
    """Whether a person has edited or approved the segment, so that the AI leaves it alone."""
    return tagOf(segment, LOCKED_TAG) == "1"


def setLocked(segment, locked):
    if locked != isLocked(segment):
        segment.SetTag(LOCKED_TAG, "1") if locked else segment.RemoveTag(LOCKED_TAG)


def _noteMask(case, segment, mask):
    """The first segment is what the table of cases shows the volume of; both follow what a person draws."""
    volumeMl = float(np.count_nonzero(mask)) * voxelVolumeMl(case.volume)
    known = case.number("VolumeMl")
    if known is None or not np.isclose(volumeMl, known) or tagOf(segment, SEEN_TAG) != checksum(mask):
        case.noteMask(volumeMl)


class Review(VTKObservationMixin):
    """Follows the segmentations of the cases and keeps their status.

    Args:
        onChanged: Called as onChanged(case) after a status has changed.
    """

    def __init__(self, onChanged=lambda case: None):
        VTKObservationMixin.__init__(self)
        self._onChanged = onChanged
        self._writing = 0
        self._touched = set()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_QUIET_MS)
        self._timer.connect("timeout()", self.checkNow)

    def follow(self):
        """Observes the segmentations of all cases of the scene; call it again after the list has changed."""
        self.removeObservers()
        for case in cases():
            node = case.segmentation
            if node is None:
                continue
            segmentation = node.GetSegmentation()
            events = (
                segmentation.SourceRepresentationModified,
                segmentation.SegmentAdded,
                segmentation.SegmentRemoved,
                # The undo of the Segment Editor invokes only this one.
                segmentation.SegmentModified,
            )
            for event in events:
                self.addObserver(segmentation, event, self._onEdited)

    def stop(self):
        self._timer.stop()
        self._touched.clear()
        self.removeObservers()

    @contextmanager
    def writing(self):
        """While it lasts, changes of segmentations are our own and count for nobody's edit."""
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1

    def _onEdited(self, segmentation, event):
        if self._writing:
            return
        for case in cases():
            if case.segmentation is not None and case.segmentation.GetSegmentation() is segmentation:
                self._touched.add(case.id)
        self._timer.start()

    def checkNow(self):
        """Looks at what was touched since the last time; a moment after the last stroke, or when asked."""
        self._timer.stop()
        touched, self._touched = self._touched, set()
        for case in cases():
            if case.id in touched:
                self.judge(case)

    def judge(self, case):
        """Sets the status of a case from its segments."""
        segmentation = case.segmentation.GetSegmentation() if case.segmentation else None
        segments = [segmentation.GetNthSegment(i) for i in range(segmentation.GetNumberOfSegments())] if segmentation else []
        ids = [segmentation.GetNthSegmentID(i) for i in range(len(segments))]
        edited = []
        with self.writing():
            for one, name in zip(segments, ids):
                mask = maskOf(case.segmentation, name, case.volume)
                if not edited:
                    _noteMask(case, one, mask)
                edited.append(self._judgeSegment(one, mask))
        before = case.status
        if case.status == APPROVED and not any(edited):
            after = APPROVED
        elif not segments:
            after = TO_DO
        else:
            after = EDITED if any(edited) or any(map(isLocked, segments)) else PREDICTED
        case.setStatus(after)
        if before == APPROVED and after != APPROVED:
            case.setLabeled(False)
        self._onChanged(case)

    def _judgeSegment(self, segment, mask):
        """Marks a segment that a person has changed. Returns whether it is a person's work that is not approved yet."""
        now = checksum(mask)
        isChanged = tagOf(segment, SEEN_TAG) != now
        segment.SetTag(SEEN_TAG, now)
        written = tagOf(segment, WRITTEN_TAG)
        if tagOf(segment, APPROVED_TAG) == now or (not written and now == "empty"):
            return False
        if written == now:
            segment.SetTag(TYPE_TAG, AUTOMATIC)
            setLocked(segment, False)
            return False
        segment.SetTag(TYPE_TAG, SEMIAUTOMATIC if written else MANUAL)
        segment.RemoveTag(APPROVED_TAG)
        if isChanged:
            # A color or a name may change without locking again what the user has unlocked.
            setLocked(segment, True)
            logic = slicer.vtkSlicerSegmentationsModuleLogic
            logic.SetSegmentStatus(segment, logic.InProgress)
        return True

    def approve(self, case):
        """A person has looked at every segment of a case and says it is right."""
        segmentation = case.segmentation.GetSegmentation()
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        with self.writing():
            for index in range(segmentation.GetNumberOfSegments()):
                segment, segmentId = segmentation.GetNthSegment(index), segmentation.GetNthSegmentID(index)
                mask = maskOf(case.segmentation, segmentId, case.volume)
                if index == 0:
                    _noteMask(case, segment, mask)
                self._judgeSegment(segment, mask)
                segment.SetTag(APPROVED_TAG, checksum(mask))
                setLocked(segment, True)
                logic.SetSegmentStatus(segment, logic.Completed)
        self._touched.discard(case.id)
        case.setStatus(APPROVED)
        self._onChanged(case)
