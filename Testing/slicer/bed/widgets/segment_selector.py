"""qMRMLSegmentSelectorWidget: choosing a segmentation and one of its segments."""

from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal

from ..pythonqt.wrapped import stand_in
from .kept import kept
from .mrml import qMRMLWidget
from .node_combo_box import qMRMLNodeComboBox


@stand_in(
    "currentNodeChanged(vtkMRMLNode*)",
    "currentSegmentChanged(QString)",
    "segmentSelectionChanged(QStringList)",
)
class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """A combo box for the node and one for the segment."""

    currentNodeChanged = Signal(object)
    currentSegmentChanged = Signal(str)
    segmentSelectionChanged = Signal(list)

    _nodes = None
    _segments = None
    _segment_id = ""

    def __init__(self, *args):
        qMRMLWidget.__init__(self, *args)
        self._nodes, self._segments = qMRMLNodeComboBox(), QtWidgets.QComboBox()
        self._nodes.nodeTypes = ["vtkMRMLSegmentationNode"]
        self._nodes.noneEnabled = True
        self._nodes.addEnabled = self._nodes.removeEnabled = False
        self._nodes.currentNodeChanged.connect(self._on_node)
        self._segments.currentIndexChanged.connect(lambda _: self._announce())
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._nodes)
        layout.addWidget(self._segments)

    def sceneChanged(self):
        self._nodes.setMRMLScene(self._scene)

    def _on_node(self, node):
        self.observeNothing()
        if node is not None:
            segmentation = node.GetSegmentation()
            self.observe(
                segmentation, segmentation.SegmentAdded, segmentation.SegmentRemoved, segmentation.SegmentModified
            )
        self.refresh()
        self.currentNodeChanged.emit(node)

    def refresh(self):
        node, wanted = self.currentNode(), self._segment_id
        self._segments.blockSignals(True)
        self._segments.clear()
        if self.noneEnabled:
            self._segments.addItem("None", "")
        segmentation = node.GetSegmentation() if node is not None else None
        for index in range(segmentation.GetNumberOfSegments() if segmentation else 0):
            self._segments.addItem(segmentation.GetNthSegment(index).GetName(), segmentation.GetNthSegmentID(index))
        self._segments.setCurrentIndex(max(self._segments.findData(wanted), 0))
        self._segments.blockSignals(False)
        self._announce()

    def _announce(self):
        segment_id = self._segments.currentData or ""
        if segment_id != self._segment_id:
            self._segment_id = segment_id
            self.currentSegmentChanged.emit(segment_id)
            self.segmentSelectionChanged.emit([segment_id] if segment_id else [])

    def currentNode(self):
        return self._nodes.currentNode()

    def setCurrentNode(self, node):
        self._nodes.setCurrentNode(node)

    def currentNodeID(self):
        return self._nodes.currentNodeID

    def setCurrentNodeID(self, node_id):
        self._nodes.setCurrentNodeID(node_id)

    def currentSegmentID(self):
        return self._segment_id

    def setCurrentSegmentID(self, segment_id):
        self._segments.setCurrentIndex(self._segments.findData(segment_id or ""))

    def segmentationNodeComboBox(self):
        return self._nodes

    noneEnabled = kept(bool, False, refresh)
    segmentationNodeSelectorVisible = kept(
        bool, True, lambda self: self._nodes.setVisible(self.segmentationNodeSelectorVisible)
    )
    horizontalLayout = kept(bool, True)
    multiSelection = kept(bool, False)
    selectNodeUponCreation = kept(bool, True)
    currentSegment = Property(str, lambda self: self._segment_id)
