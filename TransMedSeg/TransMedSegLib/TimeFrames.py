"""One frame of a time series as a volume of its own: the model needs a 3D scalar volume."""

from __future__ import annotations

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from .CaseTable import placeBeside


def frameCount(volumeNode) -> int:
    """Frames of a time series that is kept in one volume node; 0 where the node is no time series."""
    image = volumeNode.GetImageData()
    count = image.GetNumberOfScalarComponents() if image is not None else 1
    isColor = count in (3, 4) and not volumeNode.IsA("vtkMRMLMultiVolumeNode")
    return 0 if count == 1 or isColor else count


def askForFrame(volumeNode) -> int | None:
    """Asks which frame to take. Returns its index from 0; None where the user wants none."""
    count, ok = frameCount(volumeNode), qt.BoolResult()
    question = _("Which of the {count} frames of '{name}'? 1 is the first.").format(count=count, name=volumeNode.GetName())
    number = qt.QInputDialog.getInt(slicer.util.mainWindow(), _("Pick a time frame"), question, 1, 1, count, 1, ok)
    # PythonQt returns the number alone, PySide the number and whether OK was pressed.
    number = number[0] if isinstance(number, tuple) else number
    return int(number) - 1 if ok else None


def frameOf(volumeNode, index: int):
    """A new volume node with one frame, at the place of the series.

    Args:
        index: From 0.
    """
    name = _("{name} frame {number}").format(name=volumeNode.GetName(), number=index + 1)
    frame = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    frame.CopyOrientation(volumeNode)
    slicer.util.updateVolumeFromArray(frame, np.ascontiguousarray(slicer.util.arrayFromVolume(volumeNode)[..., index]))
    frame.CreateDefaultDisplayNodes()
    frame.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    placeBeside(frame, volumeNode)
    return frame
