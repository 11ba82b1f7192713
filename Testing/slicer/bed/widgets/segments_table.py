"""qMRMLSegmentsTableView: the list of segments, with color, visibility, name and status."""

import slicer
import vtk
from PySide6 import QtGui, QtWidgets
from PySide6.QtCore import Property, Qt, Signal

from ..pythonqt.wrapped import stand_in
from .kept import kept
from .mrml import MrmlView

_VISIBILITY, _COLOR, _OPACITY, _NAME, _STATUS = range(5)
_STATUS_TEXTS = ("Not started", "In progress", "Completed", "Flagged")


@stand_in(
    "mrmlSceneChanged(vtkMRMLScene*)",
    "selectionChanged(QItemSelection,QItemSelection)",
    "segmentsAboutToBeRemoved(QStringList)",
)
class qMRMLSegmentsTableView(MrmlView, QtWidgets.QWidget):
    """One row per segment; renaming and the check mark of visibility are written back."""

    mrmlSceneChanged = Signal(object)
    selectionChanged = Signal(object, object)
    segmentsAboutToBeRemoved = Signal(list)

    _table = None
    _node = None
    _filling = False

    def __init__(self, *args):
        QtWidgets.QWidget.__init__(self, *args)
        self._table = QtWidgets.QTableWidget(0, 5)
        self._table.setHorizontalHeaderLabels(["", "", "Opacity", "Name", "Status"])
        self._table.verticalHeader().hide()
        self._table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectRows)
        header = self._table.horizontalHeader()
        header.setSectionResizeMode(QtWidgets.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(_NAME, QtWidgets.QHeaderView.Stretch)
        self._table.itemChanged.connect(self._on_item_changed)
        self._table.itemSelectionChanged.connect(lambda: self.selectionChanged.emit(None, None))
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)

    def tableWidget(self):
        return self._table

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node):
        self.observeNothing()
        self._node = node
        if node is not None:
            segmentation = node.GetSegmentation()
            self.observe(
                segmentation,
                segmentation.SegmentAdded,
                segmentation.SegmentRemoved,
                segmentation.SegmentModified,
                segmentation.SegmentsOrderModified,
            )
            self.observe(node, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent, vtk.vtkCommand.ModifiedEvent)
        self.refresh()

    def refresh(self):
        selected = self.selectedSegmentIDs()
        segmentation = self._node.GetSegmentation() if self._node is not None else None
        self._filling = True
        self._table.rowCount = segmentation.GetNumberOfSegments() if segmentation else 0
        for row in range(self._table.rowCount):
            self._fill(row, segmentation.GetNthSegmentID(row), segmentation.GetNthSegment(row))
        for column, shown in self._columns_shown():
            self._table.setColumnHidden(column, not shown)
        self._filling = False
        self.setSelectedSegmentIDs(selected)

    def _columns_shown(self):
        return (
            (_VISIBILITY, self.visibilityColumnVisible),
            (_COLOR, self.colorColumnVisible),
            (_OPACITY, self.opacityColumnVisible),
            (_STATUS, self.statusColumnVisible),
        )

    def _fill(self, row, segment_id, segment):
        display = self._node.GetDisplayNode()
        status = slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentStatus(segment)
        opacity = f"{display.GetSegmentOpacity3D(segment_id):.2f}" if display else ""
        texts = ("", "", opacity, segment.GetName() or "", _STATUS_TEXTS[max(status, 0)])
        for column, text in enumerate(texts):
            item = QtWidgets.QTableWidgetItem(text)
            item.setData(Qt.UserRole, segment_id)
            if column != _NAME or self.readOnly:
                item.setFlags(item.flags() & ~Qt.ItemIsEditable)
            self._table.setItem(row, column, item)
        visible = display is None or display.GetSegmentVisibility(segment_id)
        self._table.item(row, _VISIBILITY).setCheckState(Qt.Checked if visible else Qt.Unchecked)
        # An icon and not a background: the color must be seen in a selected row too.
        swatch = QtGui.QPixmap(16, 16)
        swatch.fill(QtGui.QColor.fromRgbF(*segment.GetColor()))
        icon = QtGui.QIcon(swatch)
        icon.addPixmap(swatch, QtGui.QIcon.Selected)
        self._table.item(row, _COLOR).setIcon(icon)

    def _on_item_changed(self, item):
        if self._filling:
            return
        segment_id = item.data(Qt.UserRole)
        if item.column() == _NAME:
            self._node.GetSegmentation().GetSegment(segment_id).SetName(item.text())
        elif item.column() == _VISIBILITY and self._node.GetDisplayNode():
            self._node.GetDisplayNode().SetSegmentVisibility(segment_id, item.checkState() == Qt.Checked)

    def selectedSegmentIDs(self):
        ids = [item.data(Qt.UserRole) for item in self._table.selectedItems() if item.column() == _NAME]
        return sorted(ids, key=self._row_of)

    def setSelectedSegmentIDs(self, segment_ids):
        self._table.clearSelection()
        self._table.setSelectionMode(QtWidgets.QAbstractItemView.MultiSelection)
        for segment_id in segment_ids:
            if (row := self._row_of(segment_id)) >= 0:
                self._table.selectRow(row)
        self._table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode(int(self.selectionMode)))

    def clearSelection(self):
        self._table.clearSelection()

    def segmentCount(self):
        return self._table.rowCount

    def _row_of(self, segment_id):
        rows = (row for row in range(self._table.rowCount) if self._table.item(row, 0))
        return next((row for row in rows if self._table.item(row, 0).data(Qt.UserRole) == segment_id), -1)

    def setSelectionMode(self, mode):
        object.__setattr__(self, "_mode", int(mode))
        self._table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode(int(mode)))

    _mode = int(QtWidgets.QAbstractItemView.ExtendedSelection)
    selectionMode = Property(int, lambda self: self._mode, setSelectionMode)

    colorColumnVisible = kept(bool, True, refresh)
    filterBarVisible = kept(bool, False)
    headerVisible = kept(bool, True, lambda self: self._table.horizontalHeader().setVisible(self.headerVisible))
    jumpToSelectedSegmentEnabled = kept(bool, False)
    layerColumnVisible = kept(bool, False)
    opacityColumnVisible = kept(bool, True, refresh)
    readOnly = kept(bool, False, refresh)
    statusColumnVisible = kept(bool, True, refresh)
    visibilityColumnVisible = kept(bool, True, refresh)
