"""Takes a mask that the engine wrote into the scene: one segment for each structure, one undo step for each write."""

from dataclasses import dataclass

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import Plausibility, Review, Uncertainty
from .CaseTable import PREDICTED, placeBeside
from .RegionBox import spread
from .Terminology import LEFT_ATRIUM, setTerminology, structureNamed, structures, tagOf
from .VolumeExchange import maskOf, readSegmentation, readVolume, voxelVolumeMl, writeMask

STRUCTURE_TAG = "TransMedSeg.Structure"
REFUSE, ONCE, NEW = "refuse", "once", "new"


class EmptyResult(Exception):
    """The model found nothing; no segment was added."""


class LockedSegment(Exception):
    """A person has edited the segment that the result belongs into; nothing was written."""


@dataclass(frozen=True)
class Overlap:
    """Voxels that both the new mask and another segment claim. They were left to the other one.

    Attributes:
        segmentId: The new segment.
        otherId: The one that kept them.
        volumeMl: Of the shared voxels.
    """

    segmentId: str
    otherId: str
    otherName: str
    volumeMl: float


@dataclass(frozen=True)
class Taken:
    """What was written.

    Attributes:
        segmentIds: In the order of the file.
        plausibility: Of the first structure.
        overlaps: With other segments.
    """

    segmentIds: tuple
    plausibility: Plausibility.Plausibility
    overlaps: tuple


def take(case, path, review, beforeWrite, locked=REFUSE, region=None):
    """Puts a result file into the segmentation of a case.

    Args:
        case: The case whose volume was segmented.
        path: The .seg.nrrd that the engine wrote.
        review: Its `writing()` marks the change as ours.
        beforeWrite: Called as beforeWrite(case) before the first voxel changes; it saves the undo state.
        locked: What to do where a person has edited the segment: REFUSE, write ONCE, or write a NEW segment.
        region: The box that the model saw (RegionBox.Region); outside is background.

    Raises:
        EmptyResult: Nothing was found.
        LockedSegment: See `locked`.
        OSError: The file cannot be read.
    """
    found = _read(path, case.volume, region)
    if not found:
        raise EmptyResult
    node = case.makeSegmentation()
    segmentation = node.GetSegmentation()
    targets = [_target(segmentation, name) for name, _mask, _tags in found]
    isLocked = any(one and Review.isLocked(segmentation.GetSegment(one)) for one in targets)
    if isLocked and locked == REFUSE:
        raise LockedSegment
    beforeWrite(case)
    ids, overlaps = [], []
    with review.writing(), slicer.util.NodeModify(node):
        for (name, mask, tags), target in zip(found, targets):
            isNew = target is None or (locked == NEW and Review.isLocked(segmentation.GetSegment(target)))
            segmentId = _addSegment(segmentation, name) if isNew else target
            mask, shared = leaveOthers(case, segmentId, mask, set(targets) | set(ids))
            _write(case, segmentId, name, mask, tags)
            ids.append(segmentId)
            overlaps += shared
    first = maskOf(node, ids[0], case.volume)
    seen = Plausibility.look(first, voxelVolumeMl(case.volume))
    case.noteMask(seen.volumeMl)
    case.setStatus(PREDICTED)
    review.follow()
    return Taken(tuple(ids), seen, tuple(overlaps))


def _read(path, volumeNode, region=None):
    """The structures of a file that have voxels: (name, mask, tags)."""
    tagNames = (Review.NAME_TAG, Review.VERSION_TAG)
    with readSegmentation(path) as stored:
        segmentation = stored.GetSegmentation()
        stored.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        found = []
        for index in range(segmentation.GetNumberOfSegments()):
            segment = segmentation.GetNthSegment(index)
            mask = maskOf(stored, segmentation.GetNthSegmentID(index), volumeNode)
            mask = mask if region is None else region.clip(mask)
            if mask.any():
                name = (segment.GetName() or LEFT_ATRIUM).lower()
                found.append((name, mask, [tagOf(segment, tag) for tag in tagNames]))
        return found


def _target(segmentation, name):
    """The segment that holds the AI's version of a structure; None where there is none."""
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        if tagOf(segment, STRUCTURE_TAG) == name:
            return segmentation.GetNthSegmentID(index)
    return None


def _addSegment(segmentation, name):
    structure = structureNamed(name)
    title = structure["meaning"] if structure else name
    segmentId = segmentation.AddEmptySegment("", _("{structure} (AI)").format(structure=title))
    segment = segmentation.GetSegment(segmentId)
    segment.SetTag(STRUCTURE_TAG, name)
    if name in structures():
        setTerminology(segment, name)
    return segmentId


def addLeftAtrium(segmentationNode):
    """Adds an empty segment for the left atrium, to be drawn by hand. Returns its ID."""
    segmentation = segmentationNode.GetSegmentation()
    segmentId = segmentation.AddEmptySegment("", structures()[LEFT_ATRIUM]["meaning"])
    setTerminology(segmentation.GetSegment(segmentId), LEFT_ATRIUM)
    return segmentId


def _write(case, segmentId, name, mask, tags):
    writeMask(case.segmentation, segmentId, mask, case.volume)
    segment = case.segmentation.GetSegmentation().GetSegment(segmentId)
    Review.markWritten(segment, mask, tags[0] or "TransMedSeg", tags[1])


def leaveOthers(case, segmentId, mask, ours):
    """The mask without what other visible segments hold, and what that cost."""
    node, overlaps = case.segmentation, []
    segmentation = node.GetSegmentation()
    for index in range(segmentation.GetNumberOfSegments()):
        otherId, other = segmentation.GetNthSegmentID(index), segmentation.GetNthSegment(index)
        # Another version of the same structure is no rival.
        mine, structure = segmentation.GetSegment(segmentId), structureNamed(other.GetName() or "")
        isVersion = tagOf(other, STRUCTURE_TAG, None) == tagOf(mine, STRUCTURE_TAG)
        isSame = structure is not None and structure == structureNamed(mine.GetName() or "")
        if otherId in ours or otherId == segmentId or isVersion or isSame:
            continue
        shared = mask & maskOf(node, otherId, case.volume)
        if shared.any():
            mask = mask & ~shared
            volume = float(np.count_nonzero(shared)) * voxelVolumeMl(case.volume)
            overlaps.append(Overlap(segmentId, otherId, other.GetName(), volume))
    return mask, overlaps


def takeOver(case, overlap, fullMask, review, beforeWrite):
    """Gives the shared voxels to the new segment after all."""
    beforeWrite(case)
    node = case.segmentation
    with review.writing(), slicer.util.NodeModify(node):
        other = maskOf(node, overlap.otherId, case.volume) & ~fullMask
        writeMask(node, overlap.otherId, other, case.volume)
        segment = node.GetSegmentation().GetSegment(overlap.segmentId)
        tags = tagOf(segment, Review.NAME_TAG), tagOf(segment, Review.VERSION_TAG)
        _write(case, overlap.segmentId, tagOf(segment, STRUCTURE_TAG), fullMask, tags)
    case.noteMask(float(np.count_nonzero(fullMask)) * voxelVolumeMl(case.volume))


def keepLargestPiece(case, segmentId, review, beforeWrite):
    """Removes all but the largest piece of a segment. Returns how it looks now."""
    beforeWrite(case)
    mask = Plausibility.largestPiece(maskOf(case.segmentation, segmentId, case.volume))
    segment = case.segmentation.GetSegmentation().GetSegment(segmentId)
    with review.writing():
        writeMask(case.segmentation, segmentId, mask, case.volume)
        # What is left is still the machine's own work: nobody has drawn in it.
        Review.markWritten(segment, mask, tagOf(segment, Review.NAME_TAG), tagOf(segment, Review.VERSION_TAG))
    seen = Plausibility.look(mask, voxelVolumeMl(case.volume))
    case.noteMask(seen.volumeMl)
    return seen


def takeDoubt(case, path, region=None):
    """Loads the map of doubt of a case and keeps how unsure the model was of the whole."""
    node = readVolume(path, _("{case} doubt").format(case=case.name))
    Uncertainty.prepareMap(node, _("{case} doubt").format(case=case.name))
    if region is not None:
        spread(node, region, case.volume)
    node.SetAndObserveTransformNodeID(case.volume.GetTransformNodeID())
    placeBeside(node, case.volume)
    case.setDoubtMap(node)
    case.setNumber("Doubt", Uncertainty.caseDoubt(node, case.number("VolumeMl"), voxelVolumeMl(case.volume)))
