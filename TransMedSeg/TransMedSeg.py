"""The module that segments: cases in, a model's masks out, corrected, compared, approved and exported.

This file is the door that Slicer opens; the rooms are in TransMedSegLib.
"""

import pathlib
from typing import Annotated

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, Default, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from TransMedSegLib.Reload import forgetLibrary
from TransMedSegLib.RestartOffer import comeBack
from TransMedSegLib.SegmentModule import SegmentModule


class TransMedSeg(ScriptedLoadableModule):
    """What the application knows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("TransMedSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["TransMedSeg developers"]
        self.parent.helpText = _(
            "Segments the left atrium with a trained model, shows where the model was unsure, and helps to correct, compare, approve and export the result. Research use only."
        )
        self.parent.acknowledgementText = _("Uses the models of TransMedSegTrain. Research use only.")
        slicer.app.connect("startupCompleted()", comeBack)


@parameterNodeWrapper
class TransMedSegParameterNode:
    """What the scene keeps of the panel. The cases keep themselves, as attributes of their volumes."""

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    modelPath: pathlib.Path
    device: Annotated[str, Choice(["auto", "cpu", "cuda", *(f"cuda:{n}" for n in range(8))]), Default("auto")]
    keepFiles: bool
    comparedA: slicer.vtkMRMLNode
    comparedB: slicer.vtkMRMLNode


class TransMedSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Loads the panel and tells it when the user comes and goes."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.ui = None
        self.module = None
        self._parameterNode = None
        self._guiTag = None
        self._shortcuts = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/TransMedSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = TransMedSegLogic()
        self.module = SegmentModule(self.ui)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEnd)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEnd)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)

    def enter(self):
        self._installShortcuts()
        self.setParameterNode(self.logic.getParameterNode())
        self.module.enter(self._parameterNode)

    def exit(self):
        for shortcut in self._shortcuts:
            shortcut.delete()
        self._shortcuts = []
        self.module.exit()
        self.setParameterNode(None)

    def cleanup(self):
        self.setParameterNode(None)
        self.removeObservers()
        if self.module is not None:
            self.module.cleanup()

    def setParameterNode(self, node):
        """Binds the widgets to a parameter node; None binds them to nothing."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameters)
        self._parameterNode = node
        if node is not None:
            self._guiTag = node.connectGui(self.ui)
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParameters)

    def onParameters(self, caller, event):
        # The binding of the widgets cannot be undone entirely (Slicer issue 7547).
        if self.parent.isEntered:
            self.module.refreshSoon()

    def _installShortcuts(self):
        """Keys that work only while this module is open."""
        for keys, action in self.module.shortcuts():
            shortcut = qt.QShortcut(qt.QKeySequence(keys), self.parent)
            shortcut.connect("activated()", action)
            self._shortcuts.append(shortcut)

    def onSceneStartClose(self, caller, event):
        self.module.leaveScene()
        self.setParameterNode(None)

    def onSceneEnd(self, caller, event):
        if self.parent.isEntered:
            self.setParameterNode(self.logic.getParameterNode())
            self.module.enter(self._parameterNode)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        isOurs = node is not None and node.IsA("vtkMRMLDisplayableNode")
        if isOurs and not slicer.mrmlScene.IsClosing() and self.parent.isEntered:
            self.module.refreshSoon()

    def onReload(self):
        forgetLibrary()
        ScriptedLoadableModuleWidget.onReload(self)


class TransMedSegLogic(ScriptedLoadableModuleLogic):
    """Segmenting without a window; callable from Slicer's Python console."""

    def getParameterNode(self):
        return TransMedSegParameterNode(super().getParameterNode())

    def segment(self, volumeNodes, modelPath, device="auto", onEnded=lambda outcomes: None):
        """Segments volumes in the background and puts the masks into the scene.

        Args:
            volumeNodes: Scalar volumes.
            modelPath: A model file.
            onEnded: Called as onEnded([Outcome]) when the engine has finished.

        Returns:
            The run; keep it until it has ended, and call `discard()` then.
        """
        from TransMedSegLib.SegmentModule import segmentInBackground

        return segmentInBackground(volumeNodes, modelPath, device, onEnded)


class TransMedSegTest(ScriptedLoadableModuleTest):
    """Runs in Slicer by Reload and Test. The tests without Slicer are in Testing/slicer."""

    def test_PanelOpensAndSaysWhatIsMissing(self):
        slicer.util.selectModule("TransMedSeg")
        ui = slicer.util.getModuleWidget("TransMedSeg").ui
        self.assertFalse(ui.segmentButton.enabled)
        self.assertTrue(ui.segmentButton.toolTip)

    def test_ParametersSurviveTheScene(self):
        parameters = TransMedSegLogic().getParameterNode()
        parameters.device = "cpu"
        self.assertEqual(TransMedSegLogic().getParameterNode().device, "cpu")
