"""Two masks over the image: as outlines, filled, or as errors in two colors that color-blind people tell apart."""

import numpy as np
import slicer
from slicer.i18n import tr as _

from .VolumeExchange import writeMask

OUTLINE, FILL, ERRORS = "outline", "fill", "errors"
FALSE_POSITIVE, FALSE_NEGATIVE = "FalsePositive", "FalseNegative"
# Orange and blue of Okabe and Ito's palette for color-blind readers (2008).
COLORS = {FALSE_POSITIVE: (230 / 255, 159 / 255, 0.0), FALSE_NEGATIVE: (0.0, 114 / 255, 178 / 255)}
ERRORS_ATTRIBUTE = "TransMedSeg.Errors"
_COMPARED = "TransMedSeg.Compared"
"""Attribute of the segmentations of the comparison that is shown."""


def errorsNode():
    """The segmentation that shows the errors; None where there is none."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetAttribute(ERRORS_ATTRIBUTE):
            return node
    return None


def showErrors(maskA, maskB, volumeNode):
    """Shows what only A has in orange and what only B has in blue. Returns the segmentation node."""
    node = errorsNode()
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", _("Differences of A and B"))
        node.SetAttribute(ERRORS_ATTRIBUTE, "1")
        node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    names = {FALSE_POSITIVE: _("only in A (false positive)"), FALSE_NEGATIVE: _("only in B (false negative)")}
    parts = {FALSE_POSITIVE: maskA & ~maskB, FALSE_NEGATIVE: maskB & ~maskA}
    segmentation = node.GetSegmentation()
    with slicer.util.NodeModify(node):
        for segmentId, mask in parts.items():
            if segmentation.GetSegment(segmentId) is None:
                segmentation.AddEmptySegment(segmentId, names[segmentId], COLORS[segmentId])
            writeMask(node, segmentId, mask, volumeNode)
    display = node.GetDisplayNode()
    display.SetVisibility2DOutline(False)
    display.SetOpacity2DFill(0.7)
    return node


def show(mode, nodes, thickness=2):
    """Shows two segmentations in one of three ways.

    Args:
        mode: OUTLINE, FILL or ERRORS; for ERRORS see :func:`showErrors`.
        nodes: The segmentation nodes of A and B; None where one is a label map.
        thickness: Of outlines in pixels, 1 to 3.
    """
    hide(keep=nodes)
    for node in nodes:
        display = node.GetDisplayNode() if node is not None and node.IsA("vtkMRMLSegmentationNode") else None
        if display is None:
            continue
        node.SetAttribute(_COMPARED, "1")
        display.SetVisibility(True)
        display.SetVisibility2DOutline(mode != FILL)
        display.SetVisibility2DFill(mode == FILL)
        display.SetOpacity2DFill(0.4)
        display.SetSliceIntersectionThickness(int(np.clip(thickness, 1, 3)))
    errors = errorsNode()
    if errors is not None:
        errors.GetDisplayNode().SetVisibility(mode == ERRORS)


def hide(keep=()):
    """Takes an earlier comparison out of the views, and the errors."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        isOld = node.GetAttribute(_COMPARED) and node not in keep
        if (isOld or node.GetAttribute(ERRORS_ATTRIBUTE)) and node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(False)
        if isOld:
            node.RemoveAttribute(_COMPARED)


def worstSlice(maskA, maskB):
    """Index of the slice where most voxels differ; the middle one where none does."""
    counts = np.count_nonzero(maskA ^ maskB, axis=(1, 2))
    return int(counts.argmax()) if counts.any() else maskA.shape[0] // 2
