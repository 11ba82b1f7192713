"""The training panel: one state at a time, buttons that say why they are gray, and the run that is watched."""

from __future__ import annotations

import enum
from pathlib import Path

import qt
import slicer
import vtk
from semiseg import protocol
from slicer.i18n import tr as _

from . import Computer
from .EngineProcess import EngineProcess, silenceText
from .Messages import message, withCode
from .Notice import Notice
from .RunList import RunList, deviceTitle, isOlderVersion
from .RunState import CLOSED_FILE, Ending, State, durationText, lastIteration, readJson
from .RunView import RunView
from .SetupPage import SetupPage
from .TrainCases import TrainCases, readCases
from .TrainForm import TrainForm
from .TrainJob import fingerprint, folderProblem, trainOptions, whyNotStart
from .TrainResult import TrainResult
from .TrainRuns import TrainRuns

CHECK_FOLDER = "_check"
"""Run folder of the last check; it becomes the run's own folder when the training starts unchanged."""


class PanelState(enum.Enum):
    """What the panel is doing. Every change goes through `TrainPanel._setState`."""

    NotReady = "not ready"
    Ready = "ready"
    Installing = "installing"
    Running = "running"
    Stopping = "stopping"
    Failed = "failed"


class TrainPanel:
    """Everything between the widgets of TransMedSegTrain.ui and the engine.

    Args:
        ui: Widgets by name.
    """

    def __init__(self, ui) -> None:
        self.ui = ui
        self.parameters = None
        self.state = PanelState.NotReady
        self.process: EngineProcess | None = None
        self.checking: EngineProcess | None = None
        self._checked = ""
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
        self._connect()
        self._setState(PanelState.NotReady)

    def _connect(self) -> None:
        ui = self.ui
        ui.setupButton.connect("clicked()", self._onSetupButton)
        ui.startButton.connect("clicked()", self.onStart)
        ui.pauseButton.connect("clicked()", self.onPause)
        ui.stopButton.connect("clicked()", self.onStop)
        ui.checkButton.connect("clicked()", self.onCheck)
        ui.sceneAddButton.connect("clicked()", self._onSceneAdd)
        for selector in (ui.sceneVolumeSelector, ui.sceneSegmentationSelector):
            selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._updateButtons())
        ui.logCollapsibleButton.connect("contentsCollapsed(bool)", lambda isCollapsed: isCollapsed or self.view.showLog())

    # The user comes and goes

    def enter(self, parameters) -> None:
        """The module was opened: binds the widgets to the scene's parameters, and looks for a run to watch."""
        self.leaveScene()
        self.parameters = parameters
        self.form.setDefaults(parameters)
        tag = parameters.connectGui(self.ui)
        observer = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._onParameters())
        self._connection = (parameters, tag, observer)
        self.form.setParameters(parameters)
        self.cases.setParameters(parameters)
        self.cases.forgetLostNodes()
        self._showKnownCases()
        self.setupPage.start()
        self.runs.start()
        self._reattach()
        self._onParameters()

    def exit(self) -> None:
        """Another module was opened. A run is still watched, so that its curves stay up to date."""
        self.runs.stop()
        self._disconnect()

    def leaveScene(self) -> None:
        """The scene is about to be closed or another parameter node comes."""
        self._disconnect()
        self.form.setParameters(None)

    def _disconnect(self) -> None:
        parameters, tag, observer = self._connection
        if parameters is not None:
            parameters.disconnectGui(tag)
            parameters.RemoveObserver(observer)
        self._connection = (None, None, None)

    def sceneChanged(self) -> None:
        """A scene was closed or loaded: the curves of the watched run are drawn anew in it."""
        if self.process is None:
            self.view.forget()
            return
        self.view.show(self.process.runDir)
        self.view.hear(protocol.read_events(self.process.runDir / protocol.EVENTS_FILE)[0])
        if self.process.isRunning:
            self.notice.say(message("E508"), "E508")

    def nodeRemoved(self) -> None:
        if self._connection[0] is not None:
            self.cases.forgetLostNodes()
            self.cases.refresh()

    def cleanup(self) -> None:
        """Slicer ends or the module is reloaded. A training goes on; a check of the cases ends."""
        self.exit()
        self.setupPage.cleanup()
        for process in (self.process, self.checking):
            if process is not None:
                process.letGo()

    # State

    def _setState(self, state: PanelState) -> None:
        self.state = state
        self._updateButtons()

    def _onSetupChanged(self) -> None:
        """The set-up page knows more than before."""
        self.ui.statusLabel.text = self.setupPage.statusText()
        self.form.showDevices(self.parameters)
        self.runs.showTimes(self.parameters)
        if self.state in (PanelState.NotReady, PanelState.Ready, PanelState.Installing, PanelState.Failed):
            self._setState(self._restingState())

    def _restingState(self) -> PanelState:
        if self.setupPage.isInstalling:
            return PanelState.Installing
        return PanelState.Ready if self.setupPage.isReady else PanelState.NotReady

    def _onParameters(self) -> None:
        self.form.refresh()
        if self._checked and self._checked != fingerprint(self.parameters):
            self._checked = ""
            self.cases.setRows([])
            self.ui.checkLabel.text = ""
        self._updateButtons()

    def _onCasesChanged(self) -> None:
        self._onParameters()

    def whyNotStart(self) -> str:
        """Why the button Start is gray; empty when it is not."""
        if self.state == PanelState.NotReady:
            return self.setupPage.statusText()
        if self.state == PanelState.Installing:
            return _("Packages are being installed.")
        if self.parameters is None:
            return _("There is no scene.")
        reason = whyNotStart(self.parameters)
        if not reason and self._checked and self.cases.used("labeled") < 2:
            reason = withCode("E801", message("E801"))
        return reason

    def _updateButtons(self) -> None:
        ui, reason = self.ui, self.whyNotStart()
        isFollowing = self.process is not None and self.process.isRunning
        isChecking = self.checking is not None and self.checking.isRunning
        _enable(ui.startButton, not reason and not isChecking, reason or _("The volumes are being checked."), _("Train in the background"))
        _enable(ui.checkButton, not reason and not isChecking, reason or _("The volumes are being checked."), _("Look at every volume without training"))
        _enable(ui.pauseButton, self.state == PanelState.Running, _("No training is watched."), _("Save and leave; the run can be resumed"))
        _enable(ui.stopButton, isFollowing, _("No training is watched."), _("Save and end the run"))
        ui.stopButton.text = _("End now") if self.state == PanelState.Stopping else _("Stop")
        volume = ui.sceneVolumeSelector.currentNode()
        labeled = ui.sceneSegmentationSelector.currentNode() is not None
        ready = _("Add it as labeled") if labeled else _("Add it as unlabeled")
        _enable(ui.sceneAddButton, volume is not None, _("Choose a volume of the scene first"), ready)

    # Checking the volumes

    def runsFolder(self) -> Path:
        return Path(self.parameters.runsFolder)

    def _showKnownCases(self) -> None:
        if self._checked and self._checked == fingerprint(self.parameters):
            self.cases.setRows(readCases(self.runsFolder() / CHECK_FOLDER))

    def onCheck(self) -> None:
        """Lets the engine look at every volume. The check ends with Slicer."""
        if self._refuseFolder():
            return
        folder = self.runsFolder() / CHECK_FOLDER
        self._checked = ""
        self.checking = EngineProcess(folder, self._onCheckEvents, self._onCheckEnded)
        folder.mkdir(parents=True, exist_ok=True)
        self.checking.start("prepare", trainOptions(self.parameters, folder))
        self.ui.checkLabel.text = _("Looking at the volumes…")
        self._updateButtons()

    def _onCheckEvents(self, events: list[dict]) -> None:
        for event in events:
            if event["kind"] == "progress":
                self.ui.checkLabel.text = _("{done} of {total} volumes").format(done=event.get("done", 0), total=event.get("total", 0))
            elif event["kind"] == "warning":
                self.ui.checkLabel.text = withCode(str(event.get("code") or ""), str(event.get("message", "")))

    def _onCheckEnded(self, ending: Ending) -> None:
        self.cases.setRows(readCases(self.runsFolder() / CHECK_FOLDER))
        self._checked = fingerprint(self.parameters)
        self.ui.checkLabel.text = self._checkSummary() if ending.state == State.Finished else ""
        if ending.state == State.Failed:
            self.notice.say(ending.text, ending.code, self._helpActions(self.checking.runDir))
        self._updateButtons()

    def _checkSummary(self) -> str:
        counts = {role: self.cases.used(role) for role in ("labeled", "validation", "unlabeled", "held out")}
        text = _("{labeled} labeled, {validation} held out, {unlabeled} unlabeled").format(
            labeled=counts["labeled"], validation=counts["validation"] + counts["held out"], unlabeled=counts["unlabeled"]
        )
        return text if counts["unlabeled"] else f"{text}\n{withCode('E802', message('E802'))}"

    # Training

    def _refuseFolder(self) -> bool:
        code, text = folderProblem(self.runsFolder())
        if text:
            self.notice.say(text, code)
        return bool(text)

    def onStart(self) -> None:
        """Starts a training, unless another one computes on the same device: then the user decides."""
        self.notice.clear()
        if self._refuseFolder():
            return
        device = Computer.resolveDevice(self.parameters.device)
        busy = RunList(self.runsFolder()).busyRuns(device)
        if not busy:
            self.start(device, [])
            return
        actions = [(_("Queue"), lambda: self.start(device, [one.runDir for one in busy]))]
        for gpu in Computer.gpus():
            if gpu.device != device and not RunList(self.runsFolder()).busyRuns(gpu.device):
                title = _("Use {device}").format(device=deviceTitle(gpu.device))
                actions.append((title, lambda other=gpu.device: self.start(other, [])))
        actions.append((_("Cancel"), lambda: None))
        self.notice.say(message("E812", device=deviceTitle(device)), "E812", tuple(actions))

    def start(self, device: str, after: list[Path]) -> None:
        """Makes the run folder and starts the engine there, detached.

        Args:
            device: "cpu" or "cuda:N".
            after: Runs to wait for.
        """
        runDir = self._newRunDir()
        options = {**trainOptions(self.parameters, runDir), "device": device}
        isWatching = self.process is not None and self.process.isRunning
        process = EngineProcess(runDir) if isWatching else self._watch(runDir)
        process.start("train", options, detached=True, after=after)
        slicer.app.userSettings().setValue("TransMedSeg/RunsFolder", str(self.runsFolder()))
        if isWatching:
            process.letGo()
            self.notice.say(_("The run '{run}' is queued.").format(run=runDir.name))
        elif process.isRunning:
            self._setState(PanelState.Running)
            self.view.ui.stateLabel.text = _("You can close Slicer; the run goes on. Open this module again to see it.")
        self.runs.refresh()

    def _newRunDir(self) -> Path:
        """A new folder, or the one of an unchanged check with its prepared volumes."""
        runDir = RunList(self.runsFolder()).newRunDir()
        folder = self.runsFolder() / CHECK_FOLDER
        if self._checked and self._checked == fingerprint(self.parameters) and folder.is_dir():
            runDir.rmdir()
            folder.rename(runDir)
            self._checked = ""
        return runDir

    def _watch(self, runDir: Path) -> EngineProcess:
        """Makes the panel show a run. The one watched before goes on."""
        if self.process is not None:
            self.process.letGo()
        self.process = EngineProcess(runDir, self._onEvents, self._onEnded, self._onSilent)
        self.view.show(runDir)
        self.result.clear()
        if self.parameters is not None:
            self.parameters.run = str(runDir)
        return self.process

    def _onEvents(self, events: list[dict]) -> None:
        self.view.hear(events)
        if any(event["kind"] == "case" for event in events):
            self.cases.setRows(readCases(self.process.runDir))

    def _onSilent(self, text: str) -> None:
        if not text:
            self.notice.clear()
        elif self.process is not None:
            stop = (_("Stop"), self._stopNow)
            code = "E504" if text == silenceText() else "E808"
            self.notice.say(text, code, ((_("Wait"), lambda: None), stop))

    def _onEnded(self, ending: Ending) -> None:
        runDir = self.process.runDir
        if ending.state == State.Finished:
            self.notice.clear()
            self.view.ui.stateLabel.text = _("Finished.")
            self.result.show(runDir, ending.result)
        elif ending.state == State.Paused and not ending.code:
            text = _("Paused at iteration {iteration}.").format(iteration=lastIteration(runDir))
            self.notice.say(text, "", (self._resumeAction(runDir),))
        elif ending.state == State.Stopped:
            self.view.ui.stateLabel.text = _("Stopped at iteration {iteration}.").format(iteration=lastIteration(runDir))
            self.result.show(runDir, {})
        elif ending.state == State.Interrupted:
            self.notice.say(_("The run was interrupted."), "", (self._resumeAction(runDir),))
        else:
            self.notice.say(ending.text, ending.code, self._helpActions(runDir))
        self._setState(PanelState.Failed if ending.state == State.Failed else self._restingState())
        self.runs.refresh()

    def _resumeAction(self, runDir: Path) -> tuple:
        title = _("Resume from iteration {iteration}").format(iteration=lastIteration(runDir))
        return title, lambda: self.resume(runDir)

    def _helpActions(self, runDir: Path) -> tuple:
        actions = [(_("Show log"), self._showLog), (_("Copy for bug report"), lambda: self.result.copyReport(runDir))]
        if (runDir / protocol.RESUME_FILE).exists():
            actions.insert(0, self._resumeAction(runDir))
        return tuple(actions)

    def _showLog(self) -> None:
        self.ui.logCollapsibleButton.collapsed = False
        self.view.showLog()

    # Pause, stop, resume

    def onPause(self) -> None:
        if self.process is not None:
            self.process.pause()
            self.view.ui.stateLabel.text = _("Saving…")
            self._setState(PanelState.Stopping)

    def onStop(self) -> None:
        """Asks first; the second click ends the program at once."""
        if self.process is None or not self.process.isRunning:
            return
        if self.state == PanelState.Stopping:
            self.process.kill()
            return
        best = self.view.advice.best
        question = _("Stop this training?") if best is None else _("Stop this training and keep its state (best validation Dice {dice})?")
        if slicer.util.confirmYesNoDisplay(question.format(dice="" if best is None else f"{best[1]:.3f}")):
            self._stopNow()

    def _stopNow(self) -> None:
        (self.process.runDir / CLOSED_FILE).touch()
        self.process.stop()
        self.view.ui.stateLabel.text = _("Saving…")
        self._setState(PanelState.Stopping)

    def open(self, runDir: Path) -> None:
        """Shows a run from its first event; a living one is followed."""
        summary = RunList(runDir.parent).summary(runDir)
        self.notice.clear()
        process = self._watch(runDir)
        if summary.state in (State.Running, State.Queued):
            self._setState(PanelState.Running)
            self._sayForeign(runDir)
            process.attach()
            return
        events, _offset = protocol.read_events(runDir / protocol.EVENTS_FILE)
        self.view.hear(events)
        self.cases.setRows(readCases(runDir))
        self.result.show(runDir, readJson(runDir / protocol.RESULT_FILE))
        self._setState(self._restingState())
        if isOlderVersion(summary.version):
            self.notice.say(self._olderText(summary.version), "E810")
        elif summary.canResume:
            self.notice.say(_("This run can be resumed."), "", (self._resumeAction(runDir),))

    def _sayForeign(self, runDir: Path) -> None:
        lock = protocol.read_lock(runDir)
        if lock is not None and lock.host != qt.QSysInfo.machineHostName():
            ago = _("{time} ago").format(time=durationText(lock.age_s))
            self.notice.say(message("E809", host=lock.host, time=ago), "E809")

    def _olderText(self, version: str) -> str:
        from semiseg import __version__

        return message("E810", found=version, expected=__version__)

    def resume(self, runDir: Path) -> None:
        """Continues a stopped run from its last saved state."""
        runList = RunList(runDir.parent)
        summary = runList.summary(runDir)
        if isOlderVersion(summary.version):
            self.notice.say(self._olderText(summary.version), "E810")
            return
        busy = [one.runDir for one in runList.busyRuns(summary.device) if one.runDir != runDir]
        if busy:
            queue = (_("Queue"), lambda: self._resumeNow(runDir, busy))
            self.notice.say(message("E812", device=deviceTitle(summary.device)), "E812", (queue, (_("Cancel"), lambda: None)))
            return
        self._resumeNow(runDir, [])

    def _resumeNow(self, runDir: Path, after: list[Path]) -> None:
        process = self._watch(runDir)
        self.view.hear(protocol.read_events(runDir / protocol.EVENTS_FILE)[0])
        process.resume(detached=True, after=after)
        if process.isRunning:
            self._setState(PanelState.Running)
        self.runs.refresh()

    def _reattach(self) -> None:
        """Finds the run again that the scene names, or the one that is alive."""
        if self.process is not None and self.process.isRunning:
            return
        living = [one for one in RunList(self.runsFolder()).runs() if one.state in (State.Running, State.Queued)]
        named = next((one for one in living if str(one.runDir) == self.parameters.run), None)
        if named is not None or living:
            self.open((named or living[0]).runDir)

    # Small things

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
