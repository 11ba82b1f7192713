"""qMRMLTableView: shows a table node, and writes the user's changes back."""

import vtk
from PySide6 import QtWidgets
from PySide6.QtCore import Signal

from ..pythonqt.wrapped import stand_in
from .kept import kept
from .mrml import MrmlView


@stand_in("mrmlSceneChanged(vtkMRMLScene*)")
class qMRMLTableView(MrmlView, QtWidgets.QTableWidget):
    """The cells as text. The first row names the columns where the node says so."""

    mrmlSceneChanged = Signal(object)

    _node = None
    _filling = False

    def __init__(self, *args):
        QtWidgets.QTableWidget.__init__(self, *args)
        self.itemChanged.connect(self._on_item_changed)

    def mrmlTableNode(self):
        return self._node

    def setMRMLTableNode(self, node):
        self.observeNothing()
        self._node = node
        if node is not None:
            self.observe(node, vtk.vtkCommand.ModifiedEvent)
        self.refresh()

    def setMRMLTableNodeID(self, node_id):
        self.setMRMLTableNode(self._scene.GetNodeByID(node_id) if node_id else None)

    def refresh(self):
        node = self._node
        self._filling = True
        self.rowCount = node.GetNumberOfRows() if node is not None else 0
        self.columnCount = node.GetNumberOfColumns() if node is not None else 0
        for column in range(self.columnCount):
            self.setHorizontalHeaderItem(column, QtWidgets.QTableWidgetItem(node.GetColumnName(column)))
            for row in range(self.rowCount):
                self.setItem(row, column, QtWidgets.QTableWidgetItem(node.GetCellText(row, column)))
        locked = node is None or node.GetLocked()
        triggers = QtWidgets.QAbstractItemView.NoEditTriggers if locked else QtWidgets.QAbstractItemView.DoubleClicked
        self.setEditTriggers(triggers)
        self._filling = False

    def _on_item_changed(self, item):
        if not self._filling and self._node is not None:
            self._node.SetCellText(item.row(), item.column(), item.text())

    def firstRowLocked(self):
        return False

    def copySelection(self):
        """Copies the selected cells to the clipboard, separated by tabs."""
        rows = {}
        for item in self.selectedItems():
            rows.setdefault(item.row(), []).append((item.column(), item.text()))
        lines = ["\t".join(text for _, text in sorted(rows[row])) for row in sorted(rows)]
        QtWidgets.QApplication.clipboard().setText("\n".join(lines))

    transposed = kept(bool, False)
