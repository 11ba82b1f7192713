"""Saving a segmentation in other formats: .seg.nrrd, NIfTI with a JSON beside it, STL."""

import json
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import Review
from .Counted import counted
from .DicomExport import TRACKING_TAGS
from .Terminology import TERMINOLOGY_TAG, tagOf
from .VolumeExchange import maskOf, writeSegmentation

FORMATS = (".seg.nrrd", ".nii.gz", ".stl")
_JSON_TAGS = {
    "terminology": TERMINOLOGY_TAG,
    "algorithm_type": Review.TYPE_TAG,
    "algorithm_name": Review.NAME_TAG,
    "algorithm_version": Review.VERSION_TAG,
    **{key: tag for tag, key in TRACKING_TAGS.items()},
}
# The name of this field in the documentation and that in Slicer's code; some readers know only one of them.
_REPRESENTATION_KEYS = (b"Segmentation_MasterRepresentation", b"Segmentation_SourceRepresentation")


def save(case, path):
    """Writes the segmentation of a case; the ending of the path says how.

    Returns:
        What the user must know; "" where nothing was lost.

    Raises:
        ValueError: The ending is none of FORMATS.
        OSError: It could not be written.
    """
    path = Path(path)
    if path.name.lower().endswith(".seg.nrrd"):
        _saveSegmentation(case, path)
    elif path.name.lower().endswith(".nii.gz"):
        return _saveNifti(case, path)
    elif path.suffix.lower() == ".stl":
        _saveSurfaces(case, path)
    else:
        raise ValueError(f"{path.name}: {', '.join(FORMATS)} are known")
    return ""


def _saveSegmentation(case, path):
    part = path.with_name(f".whole-{path.name}")
    try:
        writeSegmentation(case.segmentation, part, case.volume)
        part.write_bytes(_withBothKeys(part.read_bytes()))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _withBothKeys(content):
    """An NRRD file whose header names the source representation under both keys."""
    header, voxels = content.split(b"\n\n", 1)
    lines = header.split(b"\n")
    for key, other in (_REPRESENTATION_KEYS, _REPRESENTATION_KEYS[::-1]):
        found = next((line for line in lines if line.startswith(key + b":=")), None)
        if found is not None and not any(line.startswith(other + b":=") for line in lines):
            lines.append(found.replace(key, other, 1))
    return b"\n".join(lines) + b"\n\n" + voxels


def _saveNifti(case, path):
    """One label map; where segments overlap, the later one wins. The JSON says which value is what."""
    segmentation = case.segmentation.GetSegmentation()
    labels, facts, overlap = None, [], 0
    for index in range(segmentation.GetNumberOfSegments()):
        segmentId, segment = segmentation.GetNthSegmentID(index), segmentation.GetNthSegment(index)
        mask = maskOf(case.segmentation, segmentId, case.volume)
        labels = np.zeros(mask.shape, np.uint8) if labels is None else labels
        overlap += int(np.count_nonzero(labels[mask]))
        labels[mask] = index + 1
        entry = {"value": index + 1, "name": segment.GetName()}
        facts.append(entry | {key: tagOf(segment, tag) for key, tag in _JSON_TAGS.items() if tagOf(segment, tag)})
    part = path.with_name(f".part-{path.name}")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    try:
        node.CopyOrientation(case.volume)
        slicer.util.updateVolumeFromArray(node, labels)
        if not slicer.util.exportNode(node, str(part)):
            raise OSError(f"{path} could not be written.")
        beside = path.with_name(path.name[: -len(".nii.gz")] + ".json")
        beside.write_text(json.dumps({"segments": facts}, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
        slicer.mrmlScene.RemoveNode(node)
    if not overlap:
        return ""
    one = _("Segments overlap in {count} voxel; NIfTI keeps the later one there, .seg.nrrd keeps both.")
    many = _("Segments overlap in {count} voxels; NIfTI keeps the later one there, .seg.nrrd keeps both.")
    return counted(overlap, one, many)


def _saveSurfaces(case, path):
    """One .stl file for each segment, in the folder of `path`; Slicer names them."""
    case.segmentation.CreateClosedSurfaceRepresentation()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if not logic.ExportSegmentsClosedSurfaceRepresentationToFiles(str(path.parent), case.segmentation, None, "STL"):
        raise OSError(f"{path.parent} could not be written to.")
