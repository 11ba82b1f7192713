"""The settings of a training that the parameter node cannot bind by itself: radio buttons, devices, methods, networks."""

from __future__ import annotations

import json
import pathlib

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from . import Computer
from .EngineProcess import describeCommand
from .OptionMenu import OptionMenu
from .RunState import aboutText
from .TrainChoices import DEFAULT_METHOD, defaultNetwork, methodChoices, networkChoices, optionNote
from .TrainParameters import Goal, ScoreOn
from .WrappedLabel import WrappedLabel

RUNS_SETTING = "TransMedSeg/RunsFolder"


class TrainForm:
    """Goal, validation, device, and method and network with their options.

    Args:
        ui: Widgets by name.
    """

    def __init__(self, ui) -> None:
        self.ui = ui
        self._parameters = None
        self._isShowing = False
        self._isSetting = False
        self._described: dict = {}
        self._asking = self._answered = None
        self._goals = {Goal.Quick: ui.quickRadioButton, Goal.Normal: ui.normalRadioButton, Goal.Best: ui.bestRadioButton}
        self._scores = {ScoreOn.HoldOut: ui.holdOutRadioButton, ScoreOn.LeaveOneOut: ui.leaveOneOutRadioButton, ScoreOn.Own: ui.ownRadioButton}
        for buttons, name in ((self._goals, "goal"), (self._scores, "scoreOn")):
            for member, button in buttons.items():
                button.connect("toggled(bool)", lambda isOn, name=name, member=member: isOn and self._set(name, member))
        ui.deviceComboBox.connect("currentIndexChanged(int)", self._onDevice)
        ui.advancedCollapsibleButton.connect("contentsCollapsed(bool)", lambda isCollapsed: isCollapsed or self.askEngine())
        self.methods = OptionMenu(ui.methodComboBox, ui.methodOptionPlace, self._onMethod)
        self.methods.fill([DEFAULT_METHOD])
        self._networkNote = WrappedLabel()
        ui.networkOptionPlace.layout().addWidget(self._networkNote)
        self.networks = OptionMenu(ui.networkComboBox, ui.networkOptionPlace, self._onNetwork)
        self.networks.fill(networkChoices({}))
        ui.runsFolderPathLineEdit.filters = ctk.ctkPathLineEdit.Dirs
        self.showDevices(None)

    def setDefaults(self, parameters) -> None:
        """Proposes a folder for the runs: the last one, or one among the user's documents."""
        if str(parameters.runsFolder).strip(". "):
            return
        documents = qt.QStandardPaths.writableLocation(qt.QStandardPaths.DocumentsLocation)
        default = str(pathlib.Path(documents) / "TransMedSeg" / "runs")
        parameters.runsFolder = pathlib.Path(slicer.util.settingsValue(RUNS_SETTING, default))

    def setParameters(self, parameters) -> None:
        self._parameters = parameters
        if parameters is not None:
            self.refresh()

    def refresh(self) -> None:
        """Shows what the parameters say."""
        parameters = self._parameters
        if parameters is None:
            return
        self._isShowing = True
        self._goals[parameters.goal].checked = True
        self._scores[parameters.scoreOn].checked = True
        self.ui.heldOutPlace.visible = parameters.scoreOn == ScoreOn.Own
        self.ui.holdOutSpinBox.enabled = parameters.scoreOn == ScoreOn.HoldOut
        _choose(self.ui.deviceComboBox, parameters.device)
        self._isShowing = False
        if self._isSetting:
            return
        self.methods.show(parameters.method, json.loads(parameters.methodOptions or "{}"))
        self.networks.show(parameters.network, json.loads(parameters.networkOptions or "{}"))
        self._networkNote.say(optionNote(self._described, parameters.network))

    def _set(self, name: str, value) -> None:
        if self._parameters is not None and not self._isShowing:
            setattr(self._parameters, name, value)

    def _setTogether(self, **values) -> None:
        """Sets what belongs together; half of it is not shown."""
        self._isSetting = True
        for name, value in values.items():
            self._set(name, value)
        self._isSetting = False

    def showTimes(self, seconds: dict[Goal, float | None], isExpected: bool = False) -> None:
        """Writes behind each goal how long it will take as measured, or how long it took last time on this device."""
        pattern = _("{goal} (≈ {time})") if isExpected else _("{goal} (took {time})")
        for goal, button in self._goals.items():
            time = seconds.get(goal)
            button.text = goal.label() if time is None else pattern.format(goal=goal.label(), time=aboutText(time))

    def showDevices(self, parameters) -> None:
        """Lists the devices that are known so far."""
        box, found = self.ui.deviceComboBox, Computer.knownGpus()
        self._isShowing = True
        box.clear()
        box.addItem(_("Automatic"), "auto")
        for gpu in found:
            box.addItem(_("GPU {index}: {name}, {free} of {total} GB free").format(index=gpu.index, name=gpu.name, free=gpu.freeGb, total=gpu.totalGb), gpu.device)
        box.addItem(_("CPU"), "cpu")
        if parameters is not None:
            _choose(box, parameters.device)
        self._isShowing = False

    def _onDevice(self, index: int) -> None:
        if index >= 0:
            self._set("device", self.ui.deviceComboBox.itemData(index))

    def _onMethod(self, name: str, options: dict) -> None:
        self._setTogether(method=name, methodOptions=json.dumps(options))

    def _onNetwork(self, name: str, options: dict) -> None:
        """Options are those of one network: who changes one has chosen it, and the menu says so."""
        if options and not name:
            name = defaultNetwork(self._described).get("name", "")
            self.networks.switch(name)
        self._setTogether(network=name, networkOptions=json.dumps(options))
        self._networkNote.say(optionNote(self._described, name))

    def askEngine(self) -> None:
        """Asks the engine in a child process what methods, networks and options it has; again only while packages for some are missing."""
        if self._asking is not None or (self._described and not self._described.get("monai", {}).get("missing")):
            return
        program, *arguments = describeCommand()
        self._asking = qt.QProcess()
        self._asking.connect("finished(int,QProcess::ExitStatus)", self._onAnswer)
        self._asking.start(program, arguments)

    def discard(self) -> None:
        """The panel goes away: nobody waits for an answer of the engine any more."""
        if self._asking is not None:
            self._asking.blockSignals(True)
            self._asking.kill()
            self._asking.waitForFinished(1000)
            self._asking = None

    def _onAnswer(self, exitCode: int, _status) -> None:
        text = bytes(self._asking.readAllStandardOutput().data()).decode("utf-8", errors="replace")
        self._answered, self._asking = self._asking, None  # it must outlive its own signal
        try:
            described = json.loads(text)
            methods, networks = methodChoices(described), networkChoices(described)
        except (ValueError, KeyError, TypeError):
            return  # an engine that does not start says so on the set-up page
        if described != self._described:
            self._described = described
            self.methods.fill(methods)
            self.networks.fill(networks)
            self.refresh()


def _choose(box, data: str) -> None:
    """Chooses the item with these data; an unknown one is added, so that no setting of a scene is lost."""
    index = box.findData(data)
    if index < 0:
        box.addItem(data, data)
        index = box.findData(data)
    box.currentIndex = index
