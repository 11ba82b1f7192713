"""qMRMLNodeComboBox: choosing a node of the scene."""

from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal

from ..pythonqt.wrapped import stand_in
from .kept import kept
from .mrml import MrmlView

_CREATE, _DELETE = "create", "delete"


@stand_in(
    "mrmlSceneChanged(vtkMRMLScene*)",
    "currentNodeChanged(vtkMRMLNode*)",
    "currentNodeChanged(bool)",
    "currentNodeIDChanged(QString)",
    "nodeAddedByUser(vtkMRMLNode*)",
    "nodeAdded(vtkMRMLNode*)",
    "nodeActivated(vtkMRMLNode*)",
    "nodeAboutToBeRemoved(vtkMRMLNode*)",
)
class qMRMLNodeComboBox(MrmlView, QtWidgets.QWidget):
    """Lists the nodes of some types. Follows the scene."""

    mrmlSceneChanged = Signal(object)
    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAddedByUser = Signal(object)
    nodeAdded = Signal(object)
    nodeActivated = Signal(object)
    nodeAboutToBeRemoved = Signal(object)

    _box = None
    _entries = ()
    """Node IDs in the order shown; None, and the two actions, stand for the other lines."""
    _current = None
    _attributes = ()

    def __init__(self, *args):
        QtWidgets.QWidget.__init__(self, *args)
        self._box = QtWidgets.QComboBox()
        self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self._box.activated.connect(self._on_activated)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)

    # What the scene offers

    def sceneChanged(self):
        self.observeNothing()
        scene = self._scene
        if scene is not None:
            self.observe(
                scene,
                scene.NodeAddedEvent,
                scene.NodeRemovedEvent,
                scene.EndBatchProcessEvent,
                scene.EndCloseEvent,
                scene.EndImportEvent,
            )
        self.refresh()

    def nodes(self):
        """Lists the nodes that can be chosen."""
        scene = self._scene
        if scene is None:
            return []
        return [node for node in map(scene.GetNthNode, range(scene.GetNumberOfNodes())) if self._offers(node)]

    def nodeCount(self):
        return len(self.nodes())

    def nodeFromIndex(self, index):
        nodes = self.nodes()
        return nodes[index] if index < len(nodes) else None

    def _offers(self, node):
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        if node.GetClassName() in self.hideChildNodeTypes:
            return False
        fits = node.IsA if self.showChildNodeTypes else (lambda kind: node.GetClassName() == kind)
        return any(fits(kind) for kind in self.nodeTypes) and self._has_attributes(node)

    def _has_attributes(self, node):
        wanted = [(name, value) for kind, name, value in self._attributes if node.IsA(kind)]
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name)) for name, value in wanted
        )

    def addAttribute(self, nodeType, name, value=None):
        """Offers nodes of this type only where they have the attribute (with that value)."""
        self._attributes = [*self._attributes, (nodeType, name, None if value is None else str(value))]
        self.refresh()

    def removeAttribute(self, nodeType, name):
        self._attributes = [one for one in self._attributes if one[:2] != (nodeType, name)]
        self.refresh()

    # What is shown

    def refresh(self):
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        nodes = self.nodes()
        lines = [(node.GetID(), node.GetName() or "") for node in nodes]
        if self.noneEnabled or not nodes:
            lines.insert(0, (None, self.noneDisplay))
        choices = [line[0] for line in lines]
        if self.addEnabled and self._scene is not None:
            lines.append((_CREATE, f"Create new {self.baseName or 'node'}"))
        if self.removeEnabled and self._current:
            lines.append((_DELETE, "Delete current node"))
        self._entries = [line[0] for line in lines]
        self._box.blockSignals(True)
        if [self._box.itemText(index) for index in range(self._box.count)] != [line[1] for line in lines]:
            self._box.clear()
            self._box.addItems([line[1] for line in lines])
        # A node that is gone is replaced by the first line: None where that is allowed, else another node.
        current = self._current if self._current in choices else choices[0]
        self._box.setCurrentIndex(self._entries.index(current))
        self._box.blockSignals(False)
        self._announce(current)

    def _announce(self, node_id):
        if node_id == self._current:
            return
        self._current = node_id
        self.currentNodeChanged.emit(self.currentNode())
        self.currentNodeIDChanged.emit(node_id or "")

    # What the user and the module choose

    def _on_activated(self, index):
        entry = self._entries[index]
        if entry == _CREATE:
            self.nodeAddedByUser.emit(self.addNode())
        elif entry == _DELETE:
            self.removeCurrentNode()
        else:
            self._announce(entry)
            self.nodeActivated.emit(self.currentNode())

    def addNode(self, nodeType=None):
        """Creates a node of the first type, or of the type given, and chooses it."""
        node = self._scene.AddNewNodeByClass(nodeType or self.nodeTypes[0], self.baseName)
        for kind, name, value in self._attributes:
            if node.IsA(kind):
                node.SetAttribute(name, value or "")
        self.refresh()
        self.nodeAdded.emit(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        return node

    def removeCurrentNode(self):
        node = self.currentNode()
        if node is not None:
            self.nodeAboutToBeRemoved.emit(node)
            self._scene.RemoveNode(node)

    def currentNode(self):
        return self._scene.GetNodeByID(self._current) if self._scene is not None and self._current else None

    def setCurrentNode(self, node):
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id):
        node_id = node_id or None
        if node_id in self._entries:
            self._box.setCurrentIndex(self._entries.index(node_id))
            self._announce(node_id)
        elif node_id is None:
            self._box.setCurrentIndex(-1)
            self._announce(None)

    def setCurrentNodeIndex(self, index):
        self.setCurrentNode(self.nodeFromIndex(index))

    def setNodeTypes(self, types):
        self.nodeTypes = list(types)

    currentNodeID = Property(str, lambda self: self._current or "", setCurrentNodeID)
    currentText = Property(str, lambda self: self._box.currentText)

    addEnabled = kept(bool, True, refresh)
    baseName = kept(str, "", refresh)
    editEnabled = kept(bool, False)
    hideChildNodeTypes = kept("QStringList", list, refresh)
    interactionNodeSingletonTag = kept(str, "")
    nodeTypes = kept("QStringList", list, refresh)
    noneDisplay = kept(str, "None", refresh)
    noneEnabled = kept(bool, False, refresh)
    removeEnabled = kept(bool, True, refresh)
    renameEnabled = kept(bool, False)
    selectNodeUponCreation = kept(bool, True)
    showChildNodeTypes = kept(bool, True, refresh)
    showHidden = kept(bool, False, refresh)


@stand_in("checkedNodesChanged()")
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """A list of nodes with check marks."""

    checkedNodesChanged = Signal()

    _checked = ()

    def checkedNodes(self):
        return [node for node in self.nodes() if node.GetID() in self._checked]

    def checkState(self, node):
        return 2 if node.GetID() in self._checked else 0

    def setCheckState(self, node, state):
        self._checked = {*self._checked} - {node.GetID()} | ({node.GetID()} if state else set())
        self.checkedNodesChanged.emit()
