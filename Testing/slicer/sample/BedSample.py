"""A small scripted module, written as for Slicer, on which the bed's own tests try it."""

import enum
import pathlib
from typing import Annotated

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class BedSample(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Bed sample")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.contributors = ["The test bed"]
        self.parent.helpText = _("Counts voxels above a threshold.") + self.getDefaultModuleDocumentationLink()
        self.started = False
        slicer.app.connect("startupCompleted()", self.onStartup)

    def onStartup(self):
        self.started = True


class Goal(enum.Enum):
    Quick = "quick"
    Best = "best"


@parameterNodeWrapper
class BedSampleParameterNode:
    inputVolume: slicer.vtkMRMLScalarVolumeNode
    otherVolumes: list[slicer.vtkMRMLScalarVolumeNode]
    threshold: Annotated[float, WithinRange(0, 200)] = 100
    count: Annotated[int, WithinRange(1, 9)] = 3
    invert: bool = False
    caption: str = "hello"
    folder: pathlib.Path
    goal: Goal = Goal.Quick
    device: Annotated[str, Choice(["cpu", "cuda"]), Default("cpu")]
    names: list[str]


class BedSampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.calls = []
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/BedSample.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = BedSampleLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.initializeParameterNode()

    def enter(self):
        self.calls.append("enter")
        self.initializeParameterNode()
        self.shortcut = qt.QShortcut(qt.QKeySequence("Ctrl+Return"), self.parent)
        self.shortcut.connect("activated()", self.onApplyButton)

    def exit(self):
        self.calls.append("exit")
        self.shortcut.delete()
        self.setParameterNode(None)

    def cleanup(self):
        self.calls.append("cleanup")
        self.removeObservers()

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            self._parameterNode.inputVolume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")

    def setParameterNode(self, node):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.checkCanApply)
        self._parameterNode = node
        if node:
            self._parameterNodeGuiTag = node.connectGui(self.ui)
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.checkCanApply)
            self.checkCanApply()

    def checkCanApply(self, caller=None, event=None):
        self.ui.applyButton.enabled = self._parameterNode.inputVolume is not None
        self.ui.applyButton.toolTip = _("Count") if self.ui.applyButton.enabled else _("Choose a volume first")

    def onApplyButton(self):
        with slicer.util.tryWithErrorDisplay(_("Failed to count."), waitCursor=True):
            number = self.logic.process(self._parameterNode)
            self.ui.resultLabel.text = _("{n} voxels").format(n=number)


class BedSampleLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return BedSampleParameterNode(super().getParameterNode())

    def process(self, parameters):
        return int((slicer.util.arrayFromVolume(parameters.inputVolume) > parameters.threshold).sum())


class BedSampleTest(ScriptedLoadableModuleTest):
    ran = []

    def test_first(self):
        self.ran.append("first")

    def test_second(self):
        self.delayDisplay("second")
        self.ran.append("second")
