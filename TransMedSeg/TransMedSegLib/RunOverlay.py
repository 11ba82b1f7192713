"""The worst validation case in the slice views: its image, and over it what agrees and what is wrong. Never saved with the scene."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

from .Uncertainty import jumpTo

PREVIEW_ATTRIBUTE = "TransMedSeg.Preview"
_OPACITY = 0.35


class RunOverlay:
    """Shows one preview at a time; hiding it gives the views back as they were.

    Args:
        button: Checkable; shown while there is something to lay over.
    """

    def __init__(self, button) -> None:
        self._button = button
        self._event: dict = {}
        self._before: dict[str, str | None] = {}
        button.connect("toggled(bool)", lambda isOn: self._show() if isOn else self._remove())
        self.forget()

    def hear(self, event: dict) -> None:
        """Takes a preview event of the engine; one that is shown already is replaced by it."""
        if not all(Path(str(event.get(key) or "/nowhere")).is_file() for key in ("image", "labels")):
            return  # a run of another computer, or one whose files are gone
        self._event = event
        self._button.visible = True
        if self._button.checked:
            self._show()

    def forget(self) -> None:
        """Another run is shown, the module is left, or the scene closes."""
        self.hide()
        self._event = {}
        self._button.visible = False

    def hide(self) -> None:
        """Takes the overlay out of the views and its nodes out of the scene."""
        self._button.checked = False
        self._remove()

    def _show(self) -> None:
        """Loads the volumes anew: the file of the comparison is replaced at every validation."""
        event = self._event
        if not event:
            return
        with slicer.util.tryWithErrorDisplay(_("The preview could not be shown."), waitCursor=True):
            image = self._image(Path(event["image"]), str(event.get("case", "")))
            self._dropNodes("vtkMRMLSegmentationNode")
            labels = slicer.util.loadSegmentation(str(event["labels"]), {"name": _("{case}: worst slice").format(case=event.get("case", ""))})
            _mark(labels)
            display = labels.GetDisplayNode()
            display.SetOpacity2DFill(_OPACITY)
            display.SetSaveWithScene(False)
            self._lay(image)
            x, y, z = event["position_mm"]
            jumpTo((-x, -y, z))  # the engine speaks LPS, the scene RAS

    def _image(self, path: Path, case: str):
        """The image of the preview: the one that is in the scene already, or a new one."""
        for node in _nodes("vtkMRMLScalarVolumeNode"):
            if node.GetAttribute(PREVIEW_ATTRIBUTE) == str(path):
                return node
        self._dropNodes("vtkMRMLScalarVolumeNode")
        node = slicer.util.loadVolume(str(path), {"name": _("{case}: validation").format(case=case), "show": False})
        _mark(node, str(path))
        return node

    def _lay(self, image) -> None:
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            self._before.setdefault(composite.GetID(), composite.GetBackgroundVolumeID())
            composite.SetBackgroundVolumeID(image.GetID())

    def _remove(self) -> None:
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            shown = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
            if shown is not None and shown.GetAttribute(PREVIEW_ATTRIBUTE):
                before = self._before.get(composite.GetID())
                isThere = before is not None and slicer.mrmlScene.GetNodeByID(before) is not None
                composite.SetBackgroundVolumeID(before if isThere else None)
        self._before = {}
        self._dropNodes("vtkMRMLSegmentationNode")
        self._dropNodes("vtkMRMLScalarVolumeNode")

    def _dropNodes(self, className: str) -> None:
        for node in _nodes(className):
            for index in reversed(range(node.GetNumberOfDisplayNodes())):
                slicer.mrmlScene.RemoveNode(node.GetNthDisplayNode(index))
            if node.GetStorageNode() is not None:
                slicer.mrmlScene.RemoveNode(node.GetStorageNode())
            slicer.mrmlScene.RemoveNode(node)


def _nodes(className: str) -> list:
    return [node for node in slicer.util.getNodesByClass(className) if node.GetAttribute(PREVIEW_ATTRIBUTE)]


def _mark(node, value: str = "1") -> None:
    node.SetAttribute(PREVIEW_ATTRIBUTE, value)
    node.SetSaveWithScene(False)
