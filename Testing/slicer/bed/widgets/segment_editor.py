"""qMRMLSegmentEditorWidget: the Segment Editor inside a module's panel.

It edits nothing by itself. It keeps what is chosen in the vtkMRMLSegmentEditorNode, as the real one does, lists the
segments, and has the real undo history (vtkSegmentationHistory), which is what modules depend on when they write
voxels themselves.
"""

import slicer
from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal

from ..pythonqt.wrapped import stand_in
from .kept import kept
from .mrml import qMRMLWidget
from .segments_table import qMRMLSegmentsTableView

EFFECTS = (
    "Threshold",
    "Paint",
    "Draw",
    "Erase",
    "Level tracing",
    "Grow from seeds",
    "Fill between slices",
    "Margin",
    "Hollow",
    "Smoothing",
    "Scissors",
    "Islands",
    "Logical operators",
    "Mask volume",
)


class Effect:
    """An effect keeps its parameters in the Segment Editor node, under its own name."""

    def __init__(self, name, editor):
        self.name, self._editor = name, editor

    def _key(self, name):
        return f"{self.name}.{name}"

    def setParameter(self, name, value):
        self._editor.mrmlSegmentEditorNode().SetAttribute(self._key(name), str(value))

    def parameter(self, name):
        return self._editor.mrmlSegmentEditorNode().GetAttribute(self._key(name)) or ""

    def integerParameter(self, name):
        return int(float(self.parameter(name) or 0))

    def doubleParameter(self, name):
        return float(self.parameter(name) or 0)

    def scriptedEffect(self):
        return self

    self = scriptedEffect


@stand_in(
    "segmentationNodeChanged(vtkMRMLSegmentationNode*)",
    "sourceVolumeNodeChanged(vtkMRMLVolumeNode*)",
    "currentSegmentIDChanged(QString)",
    "activeEffectChanged(QString)",
)
class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Chooses segmentation, source volume, segment and effect; undoes and redoes."""

    segmentationNodeChanged = Signal(object)
    sourceVolumeNodeChanged = Signal(object)
    currentSegmentIDChanged = Signal(str)
    activeEffectChanged = Signal(str)

    _editor_node = None
    _history = None
    _table = None
    _undo_button = None
    _redo_button = None
    _effect_buttons = None
    _shortcuts_installed = False
    _views_observed = False
    _shown = (None, None, "", "")

    def __init__(self, *args):
        qMRMLWidget.__init__(self, *args)
        self._history = slicer.vtkSegmentationHistory()
        # As the real one: whether there is something to undo is known only when the voxels have changed.
        self._history.AddObserver("ModifiedEvent", lambda *_: self._show_buttons(self._shown[3]))
        self._table = qMRMLSegmentsTableView()
        self._table.name = "SegmentsTableView"
        self._undo_button, self._redo_button = QtWidgets.QPushButton("Undo"), QtWidgets.QPushButton("Redo")
        self._undo_button.setObjectName("UndoButton")
        self._redo_button.setObjectName("RedoButton")
        self._undo_button.setToolTip("Undo last editing.")
        self._redo_button.setToolTip("Redo last undone editing.")
        self._undo_button.clicked.connect(lambda *_: self.undo())
        self._redo_button.clicked.connect(lambda *_: self.redo())
        self._table.selectionChanged.connect(lambda *_: self._on_table())
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)
        layout.addLayout(self._effects_layout())
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self._undo_button)
        row.addWidget(self._redo_button)
        layout.addLayout(row)
        self.setMaximumNumberOfUndoStates(10)
        self.refresh()

    def _effects_layout(self):
        grid = QtWidgets.QGridLayout()
        self._effect_buttons = {}
        for index, name in enumerate(EFFECTS):
            button = QtWidgets.QToolButton()
            button.text = name
            button.setCheckable(True)
            button.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
            button.clicked.connect(lambda checked, name=name: self.setActiveEffectByName(name if checked else ""))
            grid.addWidget(button, index // 4, index % 4)
            self._effect_buttons[name] = button
        return grid

    # The node that keeps what is chosen

    def mrmlSegmentEditorNode(self):
        return self._editor_node

    def setMRMLSegmentEditorNode(self, node):
        self._editor_node = node
        self._observe_all()
        self.refresh()

    def _observe_all(self):
        self.observeNothing()
        if self._editor_node is not None:
            self.observe(self._editor_node, "ModifiedEvent")
        segmentation_node = self.segmentationNode()
        if segmentation_node is not None:
            segmentation = segmentation_node.GetSegmentation()
            self.observe(segmentation, segmentation.SegmentAdded, segmentation.SegmentRemoved)

    def refresh(self):
        """Follows the node; announces what changed since the last time."""
        node = self._editor_node
        segmentation_node, volume = self.segmentationNode(), self.sourceVolumeNode()
        now = (segmentation_node, volume, self.currentSegmentID(), node.GetActiveEffectName() or "" if node else "")
        before, self._shown = self._shown, now
        if now[0] is not before[0]:
            # Undo of one segmentation must not touch another one.
            self._history.RemoveAllStates()
            self._history.SetSegmentation(segmentation_node.GetSegmentation() if segmentation_node else None)
            self._table.setSegmentationNode(segmentation_node)
            self._observe_all()
            self.segmentationNodeChanged.emit(segmentation_node)
        if now[1] is not before[1]:
            self.sourceVolumeNodeChanged.emit(volume)
        if now[2] != before[2]:
            self._table.setSelectedSegmentIDs([now[2]] if now[2] else [])
            self.currentSegmentIDChanged.emit(now[2])
        if now[3] != before[3]:
            self.activeEffectChanged.emit(now[3])
        self._show_buttons(now[3])

    def updateWidgetFromMRML(self):
        self.refresh()

    def _show_buttons(self, active):
        for name, button in self._effect_buttons.items():
            button.setChecked(name == active)
            button.setEnabled(self.segmentationNode() is not None and not self.readOnly)
        self._undo_button.setEnabled(bool(self._history.IsRestorePreviousStateAvailable()))
        self._redo_button.setEnabled(bool(self._history.IsRestoreNextStateAvailable()))

    def _needs_node(self):
        if self._editor_node is None:
            raise RuntimeError("call setMRMLSegmentEditorNode() first; the real widget does nothing without it")
        return self._editor_node

    # What is chosen

    def segmentationNode(self):
        return self._editor_node.GetSegmentationNode() if self._editor_node is not None else None

    def setSegmentationNode(self, node):
        self._needs_node().SetAndObserveSegmentationNode(node)
        segments = node.GetSegmentation() if node is not None else None
        first = segments.GetNthSegmentID(0) if segments is not None and segments.GetNumberOfSegments() else ""
        self._editor_node.SetSelectedSegmentID(first)
        self.refresh()

    def setSegmentationNodeID(self, node_id):
        self.setSegmentationNode(self._scene.GetNodeByID(node_id) if node_id else None)

    def segmentationNodeID(self):
        return self.segmentationNode().GetID() if self.segmentationNode() else ""

    def sourceVolumeNode(self):
        return self._editor_node.GetSourceVolumeNode() if self._editor_node is not None else None

    def setSourceVolumeNode(self, node):
        self._needs_node().SetAndObserveSourceVolumeNode(node)
        segmentation_node = self.segmentationNode()
        if node is not None and segmentation_node is not None:
            role = segmentation_node.GetReferenceImageGeometryReferenceRole()
            if not segmentation_node.GetNodeReferenceID(role):
                segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(node)
        self.refresh()

    def setSourceVolumeNodeID(self, node_id):
        self.setSourceVolumeNode(self._scene.GetNodeByID(node_id) if node_id else None)

    def sourceVolumeNodeID(self):
        return self.sourceVolumeNode().GetID() if self.sourceVolumeNode() else ""

    def currentSegmentID(self):
        return (self._editor_node.GetSelectedSegmentID() or "") if self._editor_node is not None else ""

    def setCurrentSegmentID(self, segment_id):
        self._needs_node().SetSelectedSegmentID(segment_id)
        self.refresh()

    def _on_table(self):
        selected = self._table.selectedSegmentIDs()
        if selected and self._editor_node is not None and selected[0] != self.currentSegmentID():
            self.setCurrentSegmentID(selected[0])

    # Effects

    def availableEffectNames(self):
        return list(EFFECTS)

    def effectByName(self, name):
        return Effect(name, self) if name in EFFECTS else None

    def activeEffect(self):
        return self.effectByName(self._shown[3])

    def setActiveEffect(self, effect):
        self.setActiveEffectByName(effect.name if effect is not None else "")

    def setActiveEffectByName(self, name):
        self._needs_node().SetActiveEffectName(name or "")
        self.refresh()

    def setEffectNameOrder(self, names):
        pass

    # Undo

    def saveStateForUndo(self):
        """Remembers the segmentation as it is now. Call it before writing voxels."""
        if self._history.GetMaximumNumberOfStates() == 0 or self.segmentationNode() is None:
            return
        self._history.SaveState()
        self.refresh()

    def undo(self):
        self._history.RestorePreviousState()
        self.refresh()

    def redo(self):
        self._history.RestoreNextState()
        self.refresh()

    def setMaximumNumberOfUndoStates(self, number):
        self._history.SetMaximumNumberOfStates(number)

    # Keys and views

    def installKeyboardShortcuts(self, parent=None):
        self._shortcuts_installed = True

    def uninstallKeyboardShortcuts(self):
        self._shortcuts_installed = False

    def setupViewObservations(self):
        self._views_observed = True

    def removeViewObservations(self):
        self._views_observed = False

    maximumNumberOfUndoStates = Property(
        int, lambda self: self._history.GetMaximumNumberOfStates(), setMaximumNumberOfUndoStates
    )
    undoEnabled = kept(bool, True)
    readOnly = kept(bool, False, refresh)
    autoShowSourceVolumeNode = kept(bool, True)
    segmentationNodeSelectorVisible = kept(bool, True)
    sourceVolumeNodeSelectorVisible = kept(bool, True)
    switchToSegmentationsButtonVisible = kept(bool, True)
    unorderedEffectsVisible = kept(bool, True)
    maskingSectionVisible = kept(bool, True)
    jumpToSelectedSegmentEnabled = kept(bool, False)
    effectButtonStyle = kept(int, 0)
    effectColumnCount = kept(int, 4)
