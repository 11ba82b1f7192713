"""Starting a training and following it: queue, pause, stop, resume, finding it again, and what is said of its end."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from semiseg import __version__, protocol

from . import Computer
from .EngineProcess import EngineProcess, silenceText
from .Messages import message
from .PanelState import PanelState
from .RunList import RunList, deviceTitle, isOlderVersion
from .RunState import (
    CLOSED_FILE,
    Ending,
    State,
    durationText,
    endingOf,
    lastEnding,
    lastIteration,
    readJson,
    savedModel,
)
from .StartDetails import detailsAction
from .TrainCases import readCases
from .TrainFolds import queueFolds, startFolds, stopFolds
from .TrainJob import trainOptions
from .TrainMemory import fixActions
from .TrainParameters import ScoreOn
from .TrainStop import TrainStop, stoppedText


class TrainFollow:
    """The run that the panel shows.

    Args:
        panel: Where it is shown.
    """

    def __init__(self, panel) -> None:
        self._panel = panel
        self.process: EngineProcess | None = None
        self._stop = TrainStop()

    @property
    def isRunning(self) -> bool:
        return self.process is not None and self.process.isRunning

    def onStart(self) -> None:
        """Starts a training, unless another one computes on the same device: then the user decides."""
        self._panel.notice.clear()
        if self._panel.refuseFolder():
            return
        device = Computer.resolveDevice(self._panel.parameters.device)
        busy = RunList(self._panel.runsFolder()).busyRuns(device)
        if not busy:
            self.start(device)
            return
        actions = [(_("Queue"), lambda: self.start(device))]
        for gpu in Computer.gpus():
            if gpu.device != device and not RunList(self._panel.runsFolder()).busyRuns(gpu.device):
                title = _("Use {device}").format(device=deviceTitle(gpu.device))
                actions.append((title, lambda other=gpu.device: self.start(other)))
        actions.append((_("Cancel"), lambda: None))
        self._panel.notice.say(message("E812", device=deviceTitle(device)), "E812", tuple(actions))

    def start(self, device: str) -> None:
        """Starts a training, after a check of the volumes unless nothing has changed since the last one.

        Args:
            device: "cpu" or "cuda:N".
        """
        if self._panel.check.isCurrent:
            self._panel.check.takeStart()  # the one that waited for answers goes without them
            self._begin(device)
        else:
            self._panel.check.before(lambda: self._begin(device))

    def checkBegins(self) -> None:
        """The volumes are checked before a start."""
        self.sayBeforeStart(_("Checking the volumes first…"))
        if not self.isRunning:
            self._panel.setState(PanelState.Checking)

    def checkEnded(self) -> None:
        """The check is over, whatever it has found."""
        if self._panel.state == PanelState.Checking:
            self.sayBeforeStart("")
            self._panel.setState(self._panel.restingState())

    def sayBeforeStart(self, text: str) -> None:
        """Says where the state of a run is said how far its start is, while no run is followed there."""
        if not self.isRunning:
            self._panel.view.say(text)

    def _begin(self, device: str) -> None:
        """Makes the run folder and starts the engine there, detached, behind the runs that use the device now."""
        after = [one.runDir for one in RunList(self._panel.runsFolder()).busyRuns(device)]
        runDir = self._panel.check.newRunDir()
        options = {**trainOptions(self._panel.parameters, runDir), "device": device}
        isWatching = self.process is not None and self.process.isRunning
        process = EngineProcess(runDir) if isWatching else self._watch(runDir)
        process.start("train", options, detached=True, after=dict.fromkeys(after, 0))
        patients = self._panel.cases.labeledPatients() if self._panel.parameters.scoreOn == ScoreOn.LeaveOneOut else []
        if patients and process.ending is None:
            startFolds(runDir, options, patients, self._panel.parameters.measureGain, process.pid)
        slicer.app.userSettings().setValue("TransMedSeg/RunsFolder", str(self._panel.runsFolder()))
        if isWatching:
            process.letGo()
            self._panel.notice.say(_("The run '{run}' is queued.").format(run=runDir.name))
        elif process.isRunning:
            self._panel.setState(PanelState.Running)
            self._panel.view.say(_("You can close Slicer; the run goes on. Open this module again to see it."))
        self._panel.runs.refresh()

    def _watch(self, runDir: Path) -> EngineProcess:
        """Makes the panel show a run. The one watched before goes on."""
        if self.process is not None:
            self.process.letGo()
        self.process = EngineProcess(runDir, self._onEvents, self._onEnded, self._onSilent)
        self._panel.view.show(runDir)
        self._panel.result.clear()
        if self._panel.parameters is not None:
            self._panel.parameters.run = str(runDir)
        return self.process

    def _onEvents(self, events: list[dict]) -> None:
        self._panel.view.hear(events, isLive=True)
        if any(event["kind"] == "case" for event in events):
            self._panel.cases.setRows(readCases(self.process.runDir))

    def _onSilent(self, text: str) -> None:
        if not text:
            self._panel.notice.clear()
        elif self.process is not None:
            stop = (_("Stop"), self._stopNow)
            code = "E504" if text == silenceText() else "E808"
            self._panel.notice.say(text, code, ((_("Wait"), lambda: None), stop))

    def _onEnded(self, ending: Ending) -> None:
        runDir = self.process.runDir
        self._panel.view.finish()
        self._panel.view.say("")  # what was said of a living run is over
        if ending.state == State.Finished:
            self._panel.notice.clear()
            self._panel.view.say(_("Finished."))
            self._panel.result.show(runDir, ending.result)
        elif ending.state == State.Paused and not ending.code:
            text = _("Paused at iteration {iteration}.").format(iteration=lastIteration(runDir))
            self._panel.notice.say(text, "", (self._resumeAction(runDir),))
        elif ending.state == State.Stopped:
            self._panel.view.say(self._stop.ended(runDir))
            self._panel.result.show(runDir, {})
        elif ending.state == State.Interrupted:
            self._panel.notice.say(_("The run was interrupted."), "", (self._resumeAction(runDir),))
        else:
            actions = self._fixActions(runDir, ending) + self.helpActions(runDir, ending.code)
            if ending.code in ("E704", "E801"):  # a file has changed since the check, which asks what can be done
                actions = ((_("Check the volumes and start again"), self.onStart), *actions)
            self._panel.notice.say(ending.text, ending.code, actions)
        self._panel.setState(PanelState.Failed if ending.state == State.Failed else self._panel.restingState())
        self._panel.runs.refresh()

    def _resumeAction(self, runDir: Path) -> tuple:
        title = _("Resume from iteration {iteration}").format(iteration=lastIteration(runDir))
        return title, lambda: self.resume(runDir)

    def _fixActions(self, runDir: Path, ending: Ending) -> tuple:
        return fixActions(runDir, ending.fixes, lambda: self.resume(runDir))

    def helpActions(self, runDir: Path, code: str = "") -> tuple:
        """What can be done about a run that ended with a code."""
        actions = [(_("Show log"), self._showLog), (_("Copy for bug report"), lambda: self._panel.result.copyReport(runDir))]
        if (runDir / protocol.RESUME_FILE).exists():
            actions.insert(0, self._resumeAction(runDir))
        if code == "E501":
            actions.insert(0, detailsAction())
        elif code == "E809":
            actions.insert(0, self._viewAction(runDir))
        return tuple(actions)

    def _viewAction(self, runDir: Path) -> tuple:
        return _("Open read-only"), lambda: self.open(runDir)

    def _showLog(self) -> None:
        self._panel.ui.logCollapsibleButton.collapsed = False
        self._panel.view.showLog()

    def onPause(self) -> None:
        if self.process is not None:
            stopFolds(self.process.runDir, isClosed=False)
            self.process.pause()
            self._panel.view.say(_("Saving…"))
            self._panel.setState(PanelState.Stopping)

    def onStop(self) -> None:
        """Asks first; the second click ends the program at once. Before a training has begun it ends the check."""
        if not self.isRunning:
            self._panel.check.cancel()
            return
        if self._panel.state == PanelState.Stopping:
            self.process.kill()
            return
        best = self._panel.view.advice.best
        if self._stop.ask(self.process.runDir, None if best is None else best[1]) and self.process.isRunning:
            self._stopNow()

    def _stopNow(self) -> None:
        stopFolds(self.process.runDir, isClosed=True)
        (self.process.runDir / CLOSED_FILE).touch()
        self.process.stop()
        self._panel.view.say(_("Saving…"))
        self._panel.setState(PanelState.Stopping)

    def open(self, runDir: Path) -> None:
        """Shows a run from its first event; a living one is followed."""
        summary = RunList(runDir.parent).summary(runDir)
        self._panel.notice.clear()
        process = self._watch(runDir)
        if summary.state in (State.Running, State.Queued):
            self._panel.setState(PanelState.Running)
            self._sayForeign(runDir)
            process.attach()
            self._panel.updateButtons()  # only now something is followed that can be stopped
            return
        events, _offset = protocol.read_events(runDir / protocol.EVENTS_FILE)
        self._panel.view.hear(events)
        self._panel.view.finish()
        self._panel.cases.setRows(readCases(runDir))
        self._panel.result.show(runDir, readJson(runDir / protocol.RESULT_FILE))
        self._panel.setState(self._panel.restingState())
        if summary.state == State.Finished:
            self._panel.view.say(_("Finished."))
        elif summary.state == State.Stopped:
            self._panel.view.say(stoppedText(runDir, savedModel(runDir)))
        if isOlderVersion(summary.version):
            self._panel.notice.say(self._olderText(summary.version), "E810")
        elif summary.canResume:
            last = lastEnding(events)
            fixes = self._fixActions(runDir, endingOf(last, runDir)) if last is not None else ()
            self._panel.notice.say(_("This run can be resumed."), "", (*fixes, self._resumeAction(runDir)))

    def _sayForeign(self, runDir: Path) -> None:
        lock = protocol.read_lock(runDir)
        if lock is not None and lock.host != qt.QSysInfo.machineHostName():
            ago = _("{time} ago").format(time=durationText(lock.age_s))
            self._panel.notice.say(message("E809", host=lock.host, time=ago), "E809")

    def _olderText(self, version: str) -> str:
        return message("E810", found=version, expected=__version__)

    def resume(self, runDir: Path) -> None:
        """Continues a stopped run from its last saved state; one that is watched at work goes on as it is."""
        if self.isRunning and self.process.runDir == runDir:
            return
        runList = RunList(runDir.parent)
        summary = runList.summary(runDir)
        if isOlderVersion(summary.version):
            self._panel.notice.say(self._olderText(summary.version), "E810")
            return
        if not Computer.isWritable(runDir):
            text = _("The run folder {folder} is not writable. It can be viewed.").format(folder=runDir)
            self._panel.notice.say(text, "E809", (self._viewAction(runDir),))
            return
        busy = [one.runDir for one in runList.busyRuns(summary.device) if one.runDir != runDir]
        if busy:
            queue = (_("Queue"), lambda: self._resumeNow(runDir, busy))
            self._panel.notice.say(message("E812", device=deviceTitle(summary.device)), "E812", (queue, (_("Cancel"), lambda: None)))
            return
        self._resumeNow(runDir, [])

    def _resumeNow(self, runDir: Path, after: list[Path]) -> None:
        self._panel.notice.clear()  # it offered to resume
        process = self._watch(runDir)
        self._panel.view.hear(protocol.read_events(runDir / protocol.EVENTS_FILE)[0])
        process.resume(detached=True, after=dict.fromkeys(after, 0))
        if process.ending is None:
            queueFolds(runDir, process.pid)
        if process.isRunning:
            self._panel.setState(PanelState.Running)
        self._panel.runs.refresh()

    def reattach(self) -> None:
        """Finds the run again that the scene names, or the one that is alive."""
        if self.process is not None and self.process.isRunning:
            return
        living = [one for one in RunList(self._panel.runsFolder()).runs() if one.state in (State.Running, State.Queued)]
        named = next((one for one in living if str(one.runDir) == self._panel.parameters.run), None)
        if named is not None or living:
            self.open((named or living[0]).runDir)
