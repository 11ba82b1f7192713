"""Minimal views of the subject hierarchy: qMRMLSubjectHierarchyTreeView and ...ComboBox."""

from PySide6 import QtWidgets
from PySide6.QtCore import Qt, Signal

from ..pythonqt.wrapped import stand_in
from .kept import kept
from .mrml import MrmlView


class _Items:
    """The present item of the hierarchy, and the node it stands for."""

    _item = 0

    def hierarchy(self):
        return self._scene.GetSubjectHierarchyNode() if self._scene is not None else None

    def sceneChanged(self):
        self.observeNothing()
        hierarchy = self.hierarchy()
        if hierarchy is not None:
            self.observe(
                hierarchy,
                hierarchy.SubjectHierarchyItemAddedEvent,
                hierarchy.SubjectHierarchyItemRemovedEvent,
                hierarchy.SubjectHierarchyItemModifiedEvent,
                hierarchy.SubjectHierarchyItemReparentedEvent,
            )
        self.refresh()

    def currentItem(self):
        return self._item

    def setCurrentItem(self, item):
        if item != self._item:
            self._item = item
            self.showCurrent()
            self.currentItemChanged.emit(item)

    def currentNode(self):
        return self.hierarchy().GetItemDataNode(self._item) if self._item else None

    def setCurrentNode(self, node):
        self.setCurrentItem(self.hierarchy().GetItemByDataNode(node) if node is not None else 0)

    def children_of(self, item):
        import vtk

        found = vtk.vtkIdList()
        self.hierarchy().GetItemChildren(item, found)
        return [found.GetId(index) for index in range(found.GetNumberOfIds())]


@stand_in("mrmlSceneChanged(vtkMRMLScene*)", "currentItemChanged(vtkIdType)", "currentItemsChanged(QList<vtkIdType>)")
class qMRMLSubjectHierarchyTreeView(_Items, MrmlView, QtWidgets.QTreeWidget):
    """Patients, studies and nodes as a tree."""

    mrmlSceneChanged = Signal(object)
    currentItemChanged = Signal(object)
    currentItemsChanged = Signal(list)

    def __init__(self, *args):
        QtWidgets.QTreeWidget.__init__(self, *args)
        self.setHeaderLabels(["Node"])
        self.itemSelectionChanged.connect(self._on_selection)

    def refresh(self):
        self.clear()
        hierarchy = self.hierarchy()
        if hierarchy is None:
            return
        for item in self.children_of(hierarchy.GetSceneItemID()):
            self.addTopLevelItem(self._row(item))
        self.expandAll()
        self.showCurrent()

    def _row(self, item):
        row = QtWidgets.QTreeWidgetItem([self.hierarchy().GetItemName(item)])
        row.setData(0, Qt.UserRole, item)
        for child in self.children_of(item):
            row.addChild(self._row(child))
        return row

    def showCurrent(self):
        rows = QtWidgets.QTreeWidgetItemIterator(self)
        while (row := rows.value()) is not None:
            if row.data(0, Qt.UserRole) == self._item:
                row.setSelected(True)
            rows += 1

    def _on_selection(self):
        items = [row.data(0, Qt.UserRole) for row in self.selectedItems()]
        self.currentItemsChanged.emit(items)
        if items:
            self.setCurrentItem(items[0])

    multiSelection = kept(bool, False)
    showRootItem = kept(bool, False)


@stand_in("mrmlSceneChanged(vtkMRMLScene*)", "currentItemChanged(vtkIdType)")
class qMRMLSubjectHierarchyComboBox(_Items, MrmlView, QtWidgets.QComboBox):
    """The same items as a list."""

    mrmlSceneChanged = Signal(object)
    currentItemChanged = Signal(object)

    def __init__(self, *args):
        QtWidgets.QComboBox.__init__(self, *args)
        self.activated.connect(lambda _: self.setCurrentItem(self.currentData or 0))

    def refresh(self):
        self.clear()
        hierarchy = self.hierarchy()
        if hierarchy is not None:
            self._add(hierarchy.GetSceneItemID(), 0)
            self.showCurrent()

    def _add(self, parent, depth):
        for item in self.children_of(parent):
            self.addItem("  " * depth + self.hierarchy().GetItemName(item), item)
            self._add(item, depth + 1)

    def showCurrent(self):
        self.setCurrentIndex(self.findData(self._item))
