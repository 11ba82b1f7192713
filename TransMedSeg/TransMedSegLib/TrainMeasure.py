"""What each goal takes on this computer: measured by a child process when the user asks, remembered for these settings."""

from __future__ import annotations

import hashlib
import json
import socket

import slicer
from slicer.i18n import tr as _

from semiseg import __version__

from .Computer import knownDevice, knownGpus
from .EngineProcess import EngineProcess
from .RunProgress import phaseText
from .RunState import Ending, State, aboutText
from .TrainJob import fingerprint, trainOptions
from .TrainParameters import Goal, ScoreOn

MEASURED_SETTING = "TransMedSeg/Measured"
"""Settings key of the measurements: JSON, newest last. Their keys are hashes, so that no path is kept."""
_MOST = 30


class TrainMeasure:
    """One measurement at a time. It ends with Slicer.

    Args:
        panel: Whose settings are measured; its check makes the prepared cases, which a measurement needs too.
    """

    def __init__(self, panel) -> None:
        self._panel = panel
        self.process: EngineProcess | None = None
        self._key = ""
        self._isCancelled = False
        panel.ui.measureButton.connect("clicked()", self.onButton)

    @property
    def isRunning(self) -> bool:
        return self.process is not None and self.process.isRunning

    def onButton(self) -> None:
        """Starts a measurement, or ends the one that runs."""
        if self.isRunning:
            self._isCancelled = True
            self.process.kill()
            return
        if self._panel.refuseFolder():
            return
        self._isCancelled = False
        self._key = settingsKey(self._panel.parameters)
        folder, mark = self._panel.check.emptyFolder(), self._panel.check.mark()
        self.process = EngineProcess(folder, self._onEvents, lambda ending: self._onEnded(ending, mark))
        self.process.start("measure", trainOptions(self._panel.parameters, folder))
        self._say(_("Measuring…"))
        self._panel.updateButtons()

    def _onEvents(self, events: list[dict]) -> None:
        for event in events:
            if event["kind"] == "progress":
                self._say(_("Measuring. {phase}").format(phase=phaseText(event)))

    def _onEnded(self, ending: Ending, mark: str) -> None:
        if ending.state == State.Finished:
            remember(self._key, ending.result)
        if not self._isCancelled:
            self._panel.check.tell(ending, mark, self.process.runDir)
        self._panel.runs.showTimes(self._panel.parameters)
        self._panel.updateButtons()

    def _say(self, text: str) -> None:
        self._panel.ui.goalLabel.text = text

    def show(self) -> None:
        """Writes below the goals what the chosen one takes, as far as it was measured."""
        if not self.isRunning and self._panel.parameters is not None:
            self._say(expectationText(known(self._panel.parameters), self._panel.parameters.goal, self.trainings()))

    def trainings(self) -> int:
        return numTrainings(self._panel.parameters, len(self._panel.cases.labeledPatients()))


def settingsKey(parameters) -> str:
    """Changes with everything that decides how long a step takes and how much memory and disk a run needs, but not with the goal."""
    device = knownDevice(parameters.device)
    name = next((gpu.name for gpu in knownGpus() if gpu.device == device), "")
    cases = json.loads(fingerprint(parameters))
    chosen = [parameters.method, parameters.methodOptions, parameters.network, parameters.networkOptions]
    marks = [socket.gethostname(), device, name, __version__, *chosen, cases[:4]]
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest()[:16]


def remember(key: str, result: dict) -> None:
    """Keeps a measurement for these settings on this computer."""
    kept = {name: value for name, value in _all().items() if name != key}
    names = ("goals", "memory_gb", "memory_free_gb", "disk_gb", "disk_free_gb")
    kept[key] = {name: result.get(name) for name in names}
    slicer.app.userSettings().setValue(MEASURED_SETTING, json.dumps(dict(list(kept.items())[-_MOST:])))


def known(parameters) -> dict:
    """What was measured for these settings on this computer; empty when nothing was."""
    return _all().get(settingsKey(parameters), {})


def _all() -> dict:
    try:
        found = json.loads(slicer.util.settingsValue(MEASURED_SETTING, "{}") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def numTrainings(parameters, numPatients: int) -> int:
    """Trainings of a start: also on the labels alone, and with every labeled patient left out once."""
    each = 2 if parameters.measureGain else 1
    return 1 + each * numPatients if parameters.scoreOn == ScoreOn.LeaveOneOut else each


def goalSeconds(measured: dict, trainings: int) -> dict[Goal, float]:
    """Seconds of each goal that was measured, for so many trainings."""
    goals = measured.get("goals") or {}
    return {goal: goals[goal.value]["train_s"] * trainings for goal in Goal if goal.value in goals}


def expectationText(measured: dict, goal: Goal, trainings: int) -> str:
    """Iterations, time, memory and disk of a goal in a line, and a word where memory is short."""
    goals = measured.get("goals") or {}
    if goal.value not in goals:
        return _("Press Measure to see how long each goal takes here.")
    parts = [_("{count} iterations").format(count=int(goals[goal.value]["iterations"]))]
    if trainings > 1:
        parts.append(_("{count} trainings").format(count=trainings))
    parts.append(_("about {time}").format(time=aboutText(goalSeconds(measured, trainings)[goal])))
    for title, need, free in ((_("memory"), measured.get("memory_gb"), measured.get("memory_free_gb")), (_("disk"), measured.get("disk_gb"), measured.get("disk_free_gb"))):
        if need and free:
            parts.append(_("{what} {need} of {free} GB free").format(what=title, need=f"{need:.1f}", free=f"{free:.1f}"))
    text = ", ".join(parts)
    if (measured.get("memory_gb") or 0) > (measured.get("memory_free_gb") or float("inf")):
        text += "\n" + _("This needs more memory than is free. Close other programs first.")
    return text
