"""The check page of a DICOM export: what has to be right before a segmentation is written, and what mends it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import DicomPackages
from .CaseTable import APPROVED, placeBeside
from .Counted import counted
from .Messages import message
from .Study import putUnderStudy, studyOf
from .Terminology import LEFT_ATRIUM, hasTerminology, setTerminology, structureNamed, structures
from .VolumeExchange import REFERENCE, maskOf, writeMask

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True)
class Check:
    """One line of the check page.

    Attributes:
        name: Which check: reference, files, study, geometry, empty, terminology, reviewer, approval; packages where they lack.
        state: OK, WARNING (can be written) or ERROR.
        text: For the user.
        code: Of the message; "" where all is well.
        fix: What the button beside it says; "" without a button.
        other: What a second button says, which does "<name> other".
    """

    name: str
    state: str
    text: str
    code: str = ""
    fix: str = ""
    other: str = ""


@dataclass
class Export:
    """What is to be written.

    Attributes:
        segmentation: The segmentation node.
        volume: The volume it was drawn on.
        case: Its case; None where it belongs to none.
        reviewer: Name of the person who answers for it, "Family^Given".
        isUnverified: The user exports it as "unverified" although nobody approved it.
    """

    segmentation: object
    volume: object
    case: object = None
    reviewer: str = ""
    isUnverified: bool = False

    def segments(self):
        segmentation = self.segmentation.GetSegmentation()
        for index in range(segmentation.GetNumberOfSegments()):
            yield segmentation.GetNthSegmentID(index), segmentation.GetNthSegment(index)

    def instanceUids(self):
        return (self.volume.GetAttribute("DICOM.instanceUIDs") or "").split()

    def sourceFiles(self):
        """Paths of the source images in the order of the slices; "" for one that the database has not."""
        return [slicer.dicomDatabase.fileForInstance(uid) for uid in self.instanceUids()]


def checks(export):
    """Every line of the check page, in order."""
    reference = _checkReference(export)
    if reference.state == ERROR:
        return [reference]
    lines = [reference, _checkFiles(export), _checkStudy(export), _checkGeometry(export), *_checkEmpty(export)]
    lines += [*_checkTerminology(export), _checkReviewer(export), _checkApproval(export)]
    return lines if DicomPackages.areFit() else [*lines, _lacksPackages()]


def _checkReference(export):
    if not export.instanceUids() or "Unknown" in export.instanceUids():
        return Check("reference", ERROR, message("E901"), "E901", _("Save .seg.nrrd"))
    return Check("reference", OK, _("Reference series found: {name}").format(name=export.volume.GetName()))


def _checkFiles(export):
    files = export.sourceFiles()
    missing = sum(not path or not Path(path).is_file() for path in files)
    if missing:
        text = message("E902", missing=missing, total=len(files))
        return Check("files", ERROR, text, "E902", _("Import folder again…"))
    one, many = _("The source file is in the DICOM database"), _("All {count} source files are in the DICOM database")
    return Check("files", OK, counted(len(files), one, many))


def _checkStudy(export):
    """Our own export reads patient and study from the source files, Slicer's from the subject hierarchy: without, a file can be written."""
    study = studyOf(export.volume)
    if study and studyOf(export.segmentation) == study:
        return Check("study", OK, _("Volume and segmentation are under one study"))
    if study:
        text = _("'{name}' is not under the study of its volume.").format(name=export.segmentation.GetName())
    else:
        text = _("'{name}' is not under a study, so other exports of Slicer do not know its patient.").format(name=export.volume.GetName())
    return Check("study", WARNING, text, fix=_("Put under study") if study or any(export.sourceFiles()) else "")


def _checkGeometry(export):
    isReference = export.segmentation.GetNodeReference(REFERENCE) is export.volume
    isMoved = export.segmentation.GetTransformNodeID() != export.volume.GetTransformNodeID()
    if not isReference or isMoved or not _isOnGrid(export):
        return Check("geometry", ERROR, message("E905"), "E905", _("Resample to source grid"))
    return Check("geometry", OK, _("The mask is on the grid of the source images"))


def _isOnGrid(export):
    """Whether every segment has its voxels at voxels of the volume."""
    from vtk import vtkMatrix4x4

    wanted = vtkMatrix4x4()
    export.volume.GetIJKToRASMatrix(wanted)
    back = vtkMatrix4x4()
    vtkMatrix4x4.Invert(wanted, back)
    for segmentId, _segment in export.segments():
        image = export.segmentation.GetBinaryLabelmapInternalRepresentation(segmentId)
        if image is None or image.GetNumberOfPoints() == 0:
            continue
        own, step = vtkMatrix4x4(), vtkMatrix4x4()
        image.GetImageToWorldMatrix(own)
        vtkMatrix4x4.Multiply4x4(back, own, step)
        matrix = np.array([[step.GetElement(i, j) for j in range(4)] for i in range(3)])
        if not np.allclose(np.abs(matrix[:, :3]).round(), np.abs(matrix[:, :3]), atol=1e-3):
            return False
        if not np.allclose(np.abs(matrix[:, :3]).sum(axis=0), 1, atol=1e-3):
            return False
        if not np.allclose(matrix[:, 3], matrix[:, 3].round(), atol=1e-3):
            return False
    return True


def emptySegments(export):
    """IDs of the segments without voxels."""
    return [one for one, _segment in export.segments() if not maskOf(export.segmentation, one, export.volume).any()]


def _checkEmpty(export):
    empty = emptySegments(export)
    names = {one: segment.GetName() for one, segment in export.segments()}
    if len(empty) == len(names):
        text = _("The segmentation is empty: there is nothing to write.")
        return [Check("empty", ERROR, text, "E904")]
    found = [Check("empty", WARNING, message("E904", segment=names[one]), "E904", _("Remove it")) for one in empty]
    return found or [Check("empty", OK, _("No segment is empty"))]


def _checkTerminology(export):
    empty = set(emptySegments(export))
    missing = [segment.GetName() for one, segment in export.segments() if one not in empty and not hasTerminology(segment)]
    fix = _("Set to 'Left atrium (SCT 82471001)'")
    found = [Check("terminology", ERROR, message("E903", segment=name), "E903", fix) for name in missing]
    return found or [Check("terminology", OK, _("Every segment has a medical code"))]


def _checkReviewer(export):
    if export.reviewer.strip():
        return Check("reviewer", OK, _("Reviewer: {name}").format(name=export.reviewer))
    return Check("reviewer", WARNING, _("No reviewer is named; the file will not say who answers for it."))


def _checkApproval(export):
    if export.case is not None and export.case.status == APPROVED:
        return Check("approval", OK, _("Approved by a person"))
    if export.isUnverified:
        return Check("approval", WARNING, _("Exported as 'unverified': nobody has approved it."), "E909")
    return Check("approval", ERROR, message("E909"), "E909", _("Approve"), _("Export as 'unverified'"))


def _lacksPackages():
    return Check("packages", ERROR, message("E906", package="highdicom"), "E906", _("Install for this module alone…"), _("Save .seg.nrrd instead"))


# What the buttons do


def setLeftAtrium(export):
    """Gives every segment without a code that of the structure it is named after, or of the left atrium."""
    for _segmentId, segment in export.segments():
        if not hasTerminology(segment):
            name = (segment.GetName() or "").split("(")[0].strip().lower()
            setTerminology(segment, name if structureNamed(name) and name in structures() else LEFT_ATRIUM, keepColor=True)


def putBothUnderStudy(export):
    """Puts the volume under the study that its source files name, and the segmentation beside the volume."""
    if not studyOf(export.volume):
        putUnderStudy(export.volume, next(path for path in export.sourceFiles() if path))
    placeBeside(export.segmentation, export.volume)


def resampleToSource(export, review, beforeWrite):
    """Puts every segment on the grid of the source images, at the nearest voxel."""
    if export.case is not None:
        beforeWrite(export.case)
    with review.writing():
        masks = {one: maskOf(export.segmentation, one, export.volume) for one, _segment in export.segments()}
        export.segmentation.SetAndObserveTransformNodeID(export.volume.GetTransformNodeID())
        export.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(export.volume)
        for segmentId, mask in masks.items():
            writeMask(export.segmentation, segmentId, mask, export.volume)


def removeEmptySegments(export):
    for segmentId in emptySegments(export):
        export.segmentation.GetSegmentation().RemoveSegment(segmentId)
