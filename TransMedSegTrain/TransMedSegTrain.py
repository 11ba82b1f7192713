"""The module that trains: a few labeled volumes and many unlabeled ones become a model, in the background.

This file is the door that Slicer opens; the rooms are in TransMedSegLib.
"""

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from TransMedSegLib.Reload import forgetLibrary
from TransMedSegLib.TrainPanel import TrainPanel
from TransMedSegLib.TrainParameters import TrainParameters


class TransMedSegTrain(ScriptedLoadableModule):
    """What the application knows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("TransMedSeg Train")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["TransMedSeg developers"]
        self.parent.helpText = _(
            "Trains a segmentation model from a few labeled and many unlabeled volumes. The training runs in the background and goes on when Slicer is closed."
        )
        self.parent.acknowledgementText = _("Trains with TransMedSeg and other published semi-supervised methods. Research use only.")


class TransMedSegTrainWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Loads the panel and tells it when the user comes and goes."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None
        self.ui = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/TransMedSegTrain.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = TransMedSegTrainLogic()
        self.panel = TrainPanel(self.ui)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)

    def enter(self):
        self.panel.enter(self.logic.getParameterNode())

    def exit(self):
        self.panel.exit()

    def cleanup(self):
        self.removeObservers()
        if self.panel is not None:
            self.panel.cleanup()

    def onSceneStartClose(self, caller, event):
        self.panel.leaveScene()

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.panel.enter(self.logic.getParameterNode())
        self.panel.sceneChanged()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        if not slicer.mrmlScene.IsClosing() and node is not None and node.IsA("vtkMRMLDisplayableNode"):
            qt.QTimer.singleShot(0, self.panel.nodeRemoved)  # the parameter node learns of it only after this event

    def onReload(self):
        forgetLibrary()
        ScriptedLoadableModuleWidget.onReload(self)


class TransMedSegTrainLogic(ScriptedLoadableModuleLogic):
    """Training without a window: the engine does it; here is only what the scene keeps."""

    def getParameterNode(self):
        return TrainParameters(super().getParameterNode())


class TransMedSegTrainTest(ScriptedLoadableModuleTest):
    """Runs in Slicer by Reload and Test. The tests without Slicer are in Testing/slicer."""

    def test_PanelOpensAndSaysWhatIsMissing(self):
        widget = slicer.util.getModuleWidget("TransMedSegTrain")
        widget.enter()
        try:
            self.assertFalse(widget.ui.startButton.enabled)
            self.assertTrue(widget.ui.startButton.toolTip)
        finally:
            widget.exit()

    def test_ParametersSurviveTheScene(self):
        parameters = TransMedSegTrainLogic().getParameterNode()
        parameters.structure = "left ventricle"
        self.assertEqual(TransMedSegTrainLogic().getParameterNode().structure, "left ventricle")
