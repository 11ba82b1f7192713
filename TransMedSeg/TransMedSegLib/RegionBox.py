"""A box that the user has drawn around the heart: the model sees only what is inside, and finds nothing outside."""

import itertools
from dataclasses import dataclass

import numpy as np
import slicer
from slicer.i18n import tr as _

from .PromptMarks import BOX, insideOf, markOfMarkup
from .VolumeExchange import boxOf, maskOf, positionRas, writeVolume

ROLE = "TransMedSeg.region"
_MARGIN_MM = 20.0
_LEAST_VOXELS = 2
"""Along each axis: less is no 3-D volume."""


@dataclass(frozen=True)
class Region:
    """Where a box lies in an image.

    Attributes:
        box: Slices [slice, row, column].
        inside: Which voxels of them belong to the box; not all where it is turned against the image.
        shape: Of the whole image.
    """

    box: tuple
    inside: np.ndarray
    shape: tuple

    def clip(self, mask):
        """A mask [slice, row, column] of the whole image without what lies outside of the box."""
        clipped = np.zeros_like(mask)
        clipped[self.box] = mask[self.box] & self.inside
        return clipped


def nodeOf(volumeNode):
    """The box of a volume; None where there is none."""
    return volumeNode.GetNodeReference(ROLE)


def regionOf(volumeNode):
    """Where the box of a volume lies; None without a box, or where box and image do not meet."""
    node = nodeOf(volumeNode)
    mark = markOfMarkup(node, BOX, True) if node is not None else None
    found = insideOf(mark.points[0], mark.points[1:], volumeNode) if mark is not None else None
    if found is None or min(found[1].shape) < _LEAST_VOXELS:
        return None
    return Region(*found, volumeNode.GetImageData().GetDimensions()[::-1])


def sizeOf(volumeNode):
    """Columns, rows and slices that the model gets to see."""
    region = regionOf(volumeNode)
    return volumeNode.GetImageData().GetDimensions() if region is None else region.inside.shape[::-1]


def makeBox(case):
    """Puts a box around what is drawn of a case, else around the middle of its image, to be moved by the user."""
    volume = case.volume
    node = nodeOf(volume)
    if node is None:
        name = _("{case} region").format(case=case.name)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetFillOpacity(0.05)
        volume.SetNodeReferenceID(ROLE, node.GetID())
    low, high = _start(case)
    corners = np.array([positionRas(volume, corner) for corner in itertools.product(*zip(low, high))])
    node.SetCenterWorld(*((corners.min(axis=0) + corners.max(axis=0)) / 2))
    node.SetSizeWorld(*np.ptp(corners, axis=0))
    return node


def _start(case):
    """First and last voxel [slice, row, column] of a box to begin with."""
    shape = np.array(case.volume.GetImageData().GetDimensions()[::-1])
    drawn = np.zeros(shape, bool)
    if case.segmentation is not None:
        for name in case.segmentation.GetSegmentation().GetSegmentIDs():
            drawn |= maskOf(case.segmentation, name, case.volume)
    box = boxOf(drawn)
    if box is None:
        return shape / 4, 3 * shape / 4
    margin = _MARGIN_MM / np.array(case.volume.GetSpacing()[::-1])
    low, high = np.array([(one.start, one.stop - 1) for one in box]).T
    return np.maximum(low - margin, 0), np.minimum(high + margin, shape - 1)


def removeBox(case):
    node = nodeOf(case.volume)
    if node is not None:
        case.volume.SetNodeReferenceID(ROLE, None)
        slicer.mrmlScene.RemoveNode(node)


def writeInside(volumeNode, region, path):
    """Writes the part of a volume that the model may see, each voxel at its place.

    Args:
        region: None writes the whole volume.

    Raises:
        OSError: The file could not be written.
    """
    if region is None:
        writeVolume(volumeNode, path)
        return
    part = slicer.vtkMRMLScalarVolumeNode()
    slicer.util.updateVolumeFromArray(part, np.ascontiguousarray(slicer.util.arrayFromVolume(volumeNode)[region.box]))
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    volumeNode.GetIJKToRASMatrix(matrix)
    affine = slicer.util.arrayFromVTKMatrix(matrix)
    first = [one.start for one in region.box[::-1]]
    affine[:3, 3] += affine[:3, :3] @ first
    part.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
    writeVolume(part, path)


def spread(mapNode, region, volumeNode):
    """Puts a map of the inside of a box onto the grid of the whole image, 0 outside."""
    inside = slicer.util.arrayFromVolume(mapNode)
    full = np.zeros(region.shape, inside.dtype)
    full[region.box] = inside
    slicer.util.updateVolumeFromArray(mapNode, full)
    mapNode.CopyOrientation(volumeNode)
