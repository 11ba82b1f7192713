"""Where the model was in doubt: a heat map over the image, and the slices worth a look.

The map holds 0 (sure) to 1 (every structure equally likely) on the grid of the image.
"""

from dataclasses import dataclass

import numpy as np
import slicer
from slicer.i18n import tr as _

from .VolumeExchange import positionRas

MAX_SLICES = 5
_GAP = 3
"""Slices nearer than this to a listed one are not listed: they show the same place."""
_OPACITY = 0.5


@dataclass(frozen=True)
class DoubtfulSlice:
    """One slice worth a look.

    Attributes:
        index: Number of the slice in the stack, from 0.
        doubt: Sum of the map over the slice, in voxels that are entirely unsure.
        position: Where it is worst, (R, A, S) in mm.
    """

    index: int
    doubt: float
    position: tuple

    @property
    def text(self):
        # Slicer's slice numbers begin at 0 in the data probe; so do ours.
        return _("Slice {number}").format(number=self.index)


def doubtfulSlices(mapNode, atMost=MAX_SLICES):
    """The slices with most doubt, worst first, none beside another one. Empty where the model was sure everywhere."""
    doubt = slicer.util.arrayFromVolume(mapNode)
    sums = doubt.sum(axis=(1, 2), dtype=np.float64)
    found = []
    for index in np.argsort(-sums, kind="stable"):
        if len(found) == atMost or sums[index] < max(1.0, 0.25 * sums.max()):
            break
        if any(abs(int(index) - one.index) < _GAP for one in found):
            continue
        row, column = np.unravel_index(int(doubt[index].argmax()), doubt.shape[1:])
        found.append(DoubtfulSlice(int(index), float(sums[index]), positionRas(mapNode, (index, row, column))))
    return found


def caseDoubt(mapNode, volumeMl, voxelMl):
    """How unsure the model was of a whole case: milliliters in doubt for each milliliter found; 1 where it found none."""
    if not volumeMl:
        return 1.0
    doubt = slicer.util.arrayFromVolume(mapNode)
    return float(min(1.0, doubt.sum(dtype=np.float64) * voxelMl / volumeMl))


def jumpTo(position):
    """Moves the slice views to a point of the world."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *position, slicer.vtkMRMLSliceNode.OffsetJumpSlice)


def prepareMap(mapNode, name):
    """Colors a map from dark to bright with nothing where the model is sure."""
    mapNode.SetName(name)
    mapNode.CreateDefaultDisplayNodes()
    display = mapNode.GetDisplayNode()
    inferno = slicer.util.getFirstNodeByName("Inferno", "vtkMRMLColorNode")
    if inferno is not None:
        display.SetAndObserveColorNodeID(inferno.GetID())
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.SetThreshold(0.1, 1.0)
    display.SetApplyThreshold(True)


def showMap(mapNode):
    """Blends the map over the image in every slice view; None takes it away."""
    for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        node.SetForegroundVolumeID(mapNode.GetID() if mapNode is not None else None)
        node.SetForegroundOpacity(_OPACITY if mapNode is not None else 0.0)


def shownMap():
    """ID of the map in front of the images; None where nothing is."""
    for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if node.GetForegroundVolumeID():
            return node.GetForegroundVolumeID()
    return None
