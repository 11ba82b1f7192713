"""qMRMLSegmentationShow3DButton: makes the closed surfaces and shows them."""

from PySide6 import QtWidgets

from ..pythonqt.wrapped import stand_in
from .mrml import MrmlView

_SURFACE = "Closed surface"


@stand_in()
class qMRMLSegmentationShow3DButton(MrmlView, QtWidgets.QPushButton):
    """Pressed: the segmentation has closed surfaces and they are visible in 3-D."""

    _node = None

    def __init__(self, *args):
        QtWidgets.QPushButton.__init__(self, *args)
        self.text = self.text or "Show 3D"
        self.setCheckable(True)
        self.setEnabled(False)
        self.toggled.connect(self._on_toggled)

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node):
        self.observeNothing()
        self._node = node
        if node is not None:
            segmentation = node.GetSegmentation()
            self.observe(segmentation, segmentation.ContainedRepresentationNamesModified)
        self.refresh()

    def refresh(self):
        self.setEnabled(self._node is not None)
        self.blockSignals(True)
        self.setChecked(self._node is not None and self._node.GetSegmentation().ContainsRepresentation(_SURFACE))
        self.blockSignals(False)

    def _on_toggled(self, shown):
        if self._node is None:
            return
        if shown:
            self._node.CreateClosedSurfaceRepresentation()
            self._node.CreateDefaultDisplayNodes()
            self._node.GetDisplayNode().SetVisibility3D(True)
        else:
            self._node.RemoveClosedSurfaceRepresentation()
