"""The training panel: one state at a time, buttons that say why they are gray, and the run that is watched."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from semiseg import protocol

from .CloseGuard import CloseGuard, askToCloseBeforeStart, sayTrainingContinues
from .Messages import message, withCode
from .Notice import Notice
from .PanelState import PanelState, trainingText
from .RunView import RunView
from .SetupPage import SetupPage
from .TrainCases import TrainCases
from .TrainCheck import TrainCheck
from .TrainFolds import MIN_PATIENTS
from .TrainFollow import TrainFollow
from .TrainForm import TrainForm
from .TrainJob import folderProblem, whyNotStart
from .TrainMeasure import TrainMeasure
from .TrainParameters import ScoreOn
from .TrainResult import TrainResult
from .TrainRuns import TrainRuns


class TrainPanel:
    """Everything between the widgets of TransMedSegTrain.ui and the engine.

    Args:
        ui: Widgets by name.
    """

    def __init__(self, ui) -> None:
        self.ui = ui
        self.parameters = None
        self.state = PanelState.NotReady
        self.check = TrainCheck(self)
        self.measure = TrainMeasure(self)
        self.follow = TrainFollow(self)
        self._connection = (None, None, None)
        self.notice = Notice()
        ui.noticePlace.layout().addWidget(self.notice)
        self.view = RunView(ui)
        self.result = TrainResult(ui, self.notice)
        self.cases = TrainCases(ui, self._onCasesChanged)
        self.form = TrainForm(ui)
        self.setupPage = SetupPage(self._onSetupChanged)
        ui.setupPlace.layout().addWidget(self.setupPage)
        self.runs = TrainRuns(ui, self)
        self._guard = CloseGuard(self._mayClose)
        self._connect()
        self.setState(PanelState.NotReady)

    def _connect(self) -> None:
        ui = self.ui
        ui.setupButton.connect("clicked()", self._onSetupButton)
        ui.startButton.connect("clicked()", self.follow.onStart)
        ui.pauseButton.connect("clicked()", self.follow.onPause)
        ui.stopButton.connect("clicked()", self.follow.onStop)
        ui.checkButton.connect("clicked()", self.check.start)
        ui.sceneAddButton.connect("clicked()", self._onSceneAdd)
        for selector in (ui.sceneVolumeSelector, ui.sceneSegmentationSelector):
            selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self.updateButtons())
        ui.liveCollapsibleButton.connect("contentsCollapsed(bool)", lambda isFolded: isFolded or self.view.unfolded())
        ui.validationCollapsibleButton.connect("contentsCollapsed(bool)", lambda isFolded: isFolded or self.form.refresh())
        ui.logCollapsibleButton.connect("contentsCollapsed(bool)", lambda isCollapsed: isCollapsed or self.view.showLog())

    # The user comes and goes

    def enter(self, parameters) -> None:
        """The module was opened: binds the widgets to the scene's parameters, and looks for a run to watch."""
        self.leaveScene()
        self._guard.start()
        self.parameters = parameters
        self.form.setDefaults(parameters)
        tag = parameters.connectGui(self.ui)
        observer = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._onParameters())
        self._connection = (parameters, tag, observer)
        self.form.setParameters(parameters)
        self.cases.setParameters(parameters)
        self.cases.forgetLostNodes()
        self.check.showKnownCases()
        self.setupPage.start()
        self.runs.start()
        self.follow.reattach()
        self._onParameters()

    def exit(self) -> None:
        """Another module was opened. A run is still watched, so that its curves stay up to date."""
        self.runs.stop()
        self.view.overlay.hide()
        self._disconnect()

    def leaveScene(self) -> None:
        """The scene is about to be closed or another parameter node comes."""
        self._disconnect()
        self.view.overlay.hide()
        self.form.setParameters(None)

    def _disconnect(self) -> None:
        parameters, tag, observer = self._connection
        if parameters is not None:
            parameters.disconnectGui(tag)
            parameters.RemoveObserver(observer)
        self._connection = (None, None, None)

    def sceneChanged(self) -> None:
        """A scene was closed or loaded: the curves of the watched run are drawn anew in it."""
        if self.follow.process is None:
            self.view.forget()
            return
        self.view.show(self.follow.process.runDir)
        self.view.hear(protocol.read_events(self.follow.process.runDir / protocol.EVENTS_FILE)[0])
        if self.follow.process.isRunning:
            self.notice.say(message("E508"), "E508")
        else:
            self.view.finish()

    def nodeRemoved(self) -> None:
        if self._connection[0] is not None:
            self.cases.forgetLostNodes()
            self.cases.refresh()

    def cleanup(self) -> None:
        """Slicer ends or the module is reloaded. A training goes on; a check of the cases ends."""
        self.exit()
        self._guard.stop()
        self.view.finish()
        self.form.discard()
        self.setupPage.cleanup()
        for process in (self.follow.process, self.check.process, self.measure.process):
            if process is not None:
                process.letGo()

    def _mayClose(self) -> bool:
        """Slicer is being closed: a training is none of its business, and the user is told so; one that has not begun yet never will."""
        if self.follow.isRunning:
            sayTrainingContinues()
        return not self.check.isAwaited or askToCloseBeforeStart()

    def setState(self, state: PanelState) -> None:
        self.state = state
        self._showStatus()
        self.updateButtons()

    def _showStatus(self) -> None:
        self.ui.statusLabel.text = self.setupPage.statusText(trainingText(self.state))

    def _onSetupChanged(self) -> None:
        """The set-up page knows more than before."""
        self._showStatus()
        self.form.showDevices(self.parameters)
        self.runs.showTimes(self.parameters)
        if self.state in (PanelState.NotReady, PanelState.Ready, PanelState.Installing, PanelState.Failed):
            self.setState(self.restingState())

    def restingState(self) -> PanelState:
        if self.setupPage.isInstalling:
            return PanelState.Installing
        return PanelState.Ready if self.setupPage.isReady else PanelState.NotReady

    def _onParameters(self) -> None:
        self.form.refresh()
        self.runs.showTimes(self.parameters)
        if self.check.isDone and not self.check.isCurrent:
            self.check.forget()
        self.updateButtons()

    def _onCasesChanged(self) -> None:
        self._onParameters()

    def whyNotStart(self) -> str:
        """Why the button Start is gray; empty when it is not."""
        reason = self._whyNotLook()
        if not reason and self.check.isDone and self.cases.used("labeled") < 2:
            reason = withCode("E801", message("E801"))
        return reason or self._whyNotLeaveOneOut()

    def _whyNotLook(self) -> str:
        """Why the volumes cannot even be looked at."""
        if self.state == PanelState.NotReady:
            return self.setupPage.statusText()
        if self.state == PanelState.Installing:
            return _("Packages are being installed.")
        if self.parameters is None:
            return _("There is no scene.")
        return whyNotStart(self.parameters)

    def _whyNotLeaveOneOut(self) -> str:
        if self.parameters.scoreOn != ScoreOn.LeaveOneOut:
            return ""
        if self.check.isDone and len(self.cases.labeledPatients()) < MIN_PATIENTS:
            return _("Leaving one out needs at least {count} labeled patients.").format(count=MIN_PATIENTS)
        return ""

    def updateButtons(self) -> None:
        ui, reason = self.ui, self.whyNotStart()
        isFollowing = self.follow.isRunning
        looking = _("The volumes are being checked.") if self.check.isRunning else _("The times are being measured.") if self.measure.isRunning else ""
        data = self._whyNotLook()
        _enable(ui.startButton, not (reason or looking), reason or looking, _("Train in the background"))
        _enable(ui.checkButton, not (data or looking), data or looking, _("Look at every volume without training"))
        canMeasure = self.measure.isRunning or not (data or looking)
        _enable(ui.measureButton, canMeasure, data or looking, _("Measure on this computer how long each goal takes, with about 20 iterations"))
        ui.measureButton.text = _("Cancel") if self.measure.isRunning else _("Measure")
        _enable(ui.pauseButton, self.state == PanelState.Running, _("No training is watched."), _("Save and leave; the run can be resumed"))
        isBeforeStart = self.check.isAwaited and self.check.isRunning
        toolTip = _("Save and end the run") if isFollowing else _("End the check; no training is started")
        _enable(ui.stopButton, isFollowing or isBeforeStart, _("No training is watched."), toolTip)
        ui.stopButton.text = _("End now") if self.state == PanelState.Stopping else _("Stop")
        volume = ui.sceneVolumeSelector.currentNode()
        labeled = ui.sceneSegmentationSelector.currentNode() is not None
        ready = _("Add it as labeled") if labeled else _("Add it as unlabeled")
        _enable(ui.sceneAddButton, volume is not None, _("Choose a volume of the scene first"), ready)

    def runsFolder(self) -> Path:
        return Path(self.parameters.runsFolder)

    def refuseFolder(self) -> bool:
        code, text = folderProblem(self.runsFolder())
        if text:
            self.notice.say(text, code, ((_("Choose folder…"), self._chooseRunsFolder),))
        return bool(text)

    def _chooseRunsFolder(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder for the runs"))
        if folder:
            self.parameters.runsFolder = Path(folder)

    def _onSetupButton(self) -> None:
        self.ui.setupPlace.visible = not self.ui.setupPlace.visible
        if self.ui.setupPlace.visible:
            self.setupPage.check()

    def _onSceneAdd(self) -> None:
        self.cases.addNodes(self.ui.sceneVolumeSelector.currentNode(), self.ui.sceneSegmentationSelector.currentNode())


def _enable(button, isEnabled: bool, whyNot: str, toolTip: str) -> None:
    """A gray button says why it is gray."""
    button.enabled = isEnabled
    button.toolTip = toolTip if isEnabled else whyNot
