"""ctkComboBox and ctkCheckableComboBox."""

from PySide6 import QtWidgets
from PySide6.QtCore import QModelIndex, QPersistentModelIndex, Qt, Signal

from ..pythonqt.wrapped import stand_in
from .kept import kept


@stand_in()
class ctkComboBox(QtWidgets.QComboBox):
    """A combo box that can show a text while nothing is chosen, and can ignore the scroll wheel."""

    defaultText = kept(str, "", lambda self: self.setPlaceholderText(self.defaultText))
    forceDefault = kept(bool, False)
    scrollWheelEnabled = kept(bool, True)


@stand_in("checkedIndexesChanged()")
class ctkCheckableComboBox(QtWidgets.QComboBox):
    """A combo box whose items have check marks."""

    checkedIndexesChanged = Signal()

    def __init__(self, *args):
        QtWidgets.QComboBox.__init__(self, *args)
        self.model().rowsInserted.connect(self._make_checkable)
        self.model().dataChanged.connect(self._on_data_changed)

    def _make_checkable(self, parent, first, last):
        for row in range(first, last + 1):
            item = self.model().item(row)
            item.setFlags(item.flags() | Qt.ItemIsUserCheckable)
            if item.data(Qt.CheckStateRole) is None:
                item.setCheckState(Qt.Unchecked)

    def _on_data_changed(self, first, last, roles):
        if not roles or int(Qt.CheckStateRole) in [int(role) for role in roles]:
            self.checkedIndexesChanged.emit()

    def checkableModel(self):
        return self.model()

    def modelColumn(self):
        return 0

    def checkedIndexes(self):
        rows = (self.model().index(row, 0) for row in range(self.count))
        return [index for index in rows if self.checkState(index) == Qt.Checked]

    def allChecked(self):
        return len(self.checkedIndexes()) == self.count

    def noneChecked(self):
        return not self.checkedIndexes()

    def checkState(self, index):
        return self.model().item(_row(index)).checkState()

    def setCheckState(self, index, state):
        self.model().item(_row(index)).setCheckState(Qt.CheckState(state))

    def setAllChecked(self):
        for row in range(self.count):
            self.setCheckState(self.model().index(row, 0), Qt.Checked)


def _row(index):
    if not isinstance(index, (QModelIndex, QPersistentModelIndex)):
        raise ValueError(f"expected a QModelIndex, found {index!r}")
    return index.row()
