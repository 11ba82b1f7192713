"""Saving a segmentation in other formats: .seg.nrrd, NIfTI with a JSON beside it, STL."""

import json
from pathlib import Path

import numpy as np

import slicer

from . import Review
from .Terminology import TERMINOLOGY_TAG, tagOf
from .VolumeExchange import maskOf, writeSegmentation

FORMATS = (".seg.nrrd", ".nii.gz", ".stl")
_JSON_TAGS = {
    "terminology": TERMINOLOGY_TAG,
    "algorithm_type": Review.TYPE_TAG,
    "algorithm_name": Review.NAME_TAG,
    "algorithm_version": Review.VERSION_TAG,
}


def save(case, path):
    """Writes the segmentation of a case; the ending of the path says how.

    Raises:
        ValueError: The ending is none of FORMATS.
        OSError: It could not be written.
    """
    path = Path(path)
    if path.name.lower().endswith(".seg.nrrd"):
        writeSegmentation(case.segmentation, path, case.volume)
    elif path.name.lower().endswith(".nii.gz"):
        _saveNifti(case, path)
    elif path.suffix.lower() == ".stl":
        _saveSurfaces(case, path)
    else:
        raise ValueError(f"{path.name}: {', '.join(FORMATS)} are known")


def _saveNifti(case, path):
    """One label map; where segments overlap, the later one wins. The JSON says which value is what."""
    segmentation = case.segmentation.GetSegmentation()
    labels, facts = None, []
    for index in range(segmentation.GetNumberOfSegments()):
        segmentId, segment = segmentation.GetNthSegmentID(index), segmentation.GetNthSegment(index)
        mask = maskOf(case.segmentation, segmentId, case.volume)
        labels = np.zeros(mask.shape, np.uint8) if labels is None else labels
        labels[mask] = index + 1
        entry = {"value": index + 1, "name": segment.GetName()}
        facts.append(entry | {key: tagOf(segment, tag) for key, tag in _JSON_TAGS.items() if tagOf(segment, tag)})
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    try:
        node.CopyOrientation(case.volume)
        slicer.util.updateVolumeFromArray(node, labels)
        if not slicer.util.exportNode(node, str(path)):
            raise OSError(f"{path} could not be written.")
    finally:
        slicer.mrmlScene.RemoveNode(node)
    beside = path.with_name(path.name[: -len(".nii.gz")] + ".json")
    beside.write_text(json.dumps({"segments": facts}, indent=1) + "\n", encoding="utf-8")


def _saveSurfaces(case, path):
    """One .stl file for each segment, in the folder of `path`; Slicer names them."""
    case.segmentation.CreateClosedSurfaceRepresentation()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if not logic.ExportSegmentsClosedSurfaceRepresentationToFiles(str(path.parent), case.segmentation, None, "STL"):
        raise OSError(f"{path.parent} could not be written to.")
