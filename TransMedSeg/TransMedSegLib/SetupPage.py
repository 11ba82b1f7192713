"""The set-up page: six checks on one page, and the installation. Both modules show it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from . import Computer
from .EngineProcess import enginePython
from .EngineSetup import PROBE, Check, Level, allChecks, missingRequirements, parseProbe, requirements
from .InstallOutcome import Outcome
from .InstallProgressBox import InstallProgressBox
from .InstallSize import downloadBytes, installTime, installTitle, nameOf, withSize
from .Messages import withCode
from .Notice import Notice
from .PipInstall import TORCH_PACKAGES, PipInstall, installedVersions
from .ProcessTree import endTree
from .RestartOffer import RestartOffer
from .SetupHelp import SetupHelp
from .TorchInstall import holdsUpSlicer
from .WrappedLabel import WrappedLabel

_CONTINUE_KEY = "TransMedSeg/ContinueInstallation"
"""Set while Slicer restarts in the middle of an installation: the folder of wheels, "network", or "another PyTorch"."""

_ANOTHER_TORCH = "another PyTorch"


class SetupPage(qt.QWidget):
    """Asks in the background, never at import and never twice at a time.

    Args:
        onChanged: Called when the page knows more, and when an installation begins or ends.
    """

    def __init__(self, onChanged: Callable[[], None]) -> None:
        qt.QWidget.__init__(self)
        self._onChanged = onChanged
        self._asking: dict[str, object] = {}
        self._answered: dict[str, object] = {}
        self._probe: dict = {}
        self._checks: list[Check] = []
        self._isAsked = False
        self._install: PipInstall | None = None
        self._continueWith = ""
        self.again: Callable[[], None] = lambda: None
        """Repeats the last installation."""
        self.ways = SetupHelp(self)
        self._build()

    def _build(self) -> None:
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._grid = qt.QGridLayout()
        self._grid.setColumnStretch(2, 1)
        self._cells: list[tuple] = []
        layout.addLayout(self._grid)
        self.notice = Notice()
        layout.addWidget(self.notice)
        self.restart = RestartOffer(self.notice, self._rememberToContinue)
        row = self._row(layout)
        self.installButton = self._button(row, _("Install"), self._onInstall)
        row.addStretch(1)
        self.time = WrappedLabel()
        layout.addWidget(self.time)
        row = self._row(layout)
        self.folderButton = self._button(row, _("Install from folder…"), self.chooseFolder)
        self.cancelButton = self._button(row, _("Cancel"), self._onCancel)
        self.againButton = self._button(row, _("Check again"), self.check)
        row.addStretch(1)
        self.progress = InstallProgressBox()
        layout.addWidget(self.progress)
        self.log = qt.QPlainTextEdit()
        self.log.readOnly = True
        self.log.setMaximumHeight(120)
        self.log.hide()
        layout.addWidget(self.log)
        self._updateButtons()

    def _row(self, layout):
        row = qt.QHBoxLayout()
        layout.addLayout(row)
        return row

    def _button(self, row, title: str, call: Callable[[], None]):
        button = qt.QPushButton(title)
        button.connect("clicked()", call)
        row.addWidget(button)
        return button

    # What is known

    @property
    def isInstalling(self) -> bool:
        return self._install is not None

    @property
    def isReady(self) -> bool:
        """Whether the engine can run. A missing GPU makes it slow, not impossible."""
        return bool(self._checks) and not any(one.level == Level.Bad and one.key in ("slicer", "packages") for one in self._checks)

    @property
    def checks(self) -> list[Check]:
        return list(self._checks)

    def statusText(self, doing: str = "") -> str:
        """One line for the top of a panel.

        Args:
            doing: What the panel does; where it does nothing it is ready.
        """
        if self.isInstalling:
            return _("Installing…")
        if not self.isReady:
            passed = sum(one.level == Level.Good for one in self._checks)
            bad = next((withCode(one.code, one.text) for one in self._checks if one.level == Level.Bad and one.code), "")
            text = _("Not set up yet. {passed} of {total} checks pass.").format(passed=passed, total=len(self._checks))
            return f"{text} {bad}".strip()
        gpus = Computer.knownGpus()
        if not gpus:
            return _("{state} – CPU").format(state=doing or _("Ready"))
        return _("{state} – {name}, {free} GB free").format(state=doing or _("Ready"), name=gpus[0].name, free=gpus[0].freeGb)

    # Asking

    def start(self) -> None:
        """The panel was opened: looks at what is quick, and asks the GPU driver in the background once."""
        self._show()
        if not self._isAsked:
            self._isAsked = True
            self._ask("gpu", Computer.gpuQuery(), self._onGpus)
            self._continue()

    def check(self) -> None:
        """Asks everything again, PyTorch included."""
        self._ask("gpu", Computer.gpuQuery(), self._onGpus)
        self._ask("torch", [enginePython(), "-c", PROBE], self._onProbe)
        self._show()

    def _ask(self, key: str, command: list[str], answer: Callable[[str], None]) -> None:
        if key in self._asking:
            return
        if not command:
            answer("")
            return
        process = self._asking[key] = qt.QProcess()

        def finished(*_arguments) -> None:
            if self._asking.pop(key, None) is None:
                return
            self._answered[key] = process  # it must outlive its own signal
            answer(bytes(process.readAllStandardOutput().data()).decode("utf-8", errors="replace"))

        process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: finished())
        process.connect("errorOccurred(QProcess::ProcessError)", lambda error: finished())
        process.start(command[0], command[1:])

    def _onGpus(self, text: str) -> None:
        Computer.setGpus(Computer.parseGpus(text))
        self._show()

    def _onProbe(self, text: str) -> None:
        self._probe = parseProbe(text)
        self._show()

    def _show(self) -> None:
        self._checks = allChecks(Computer.knownGpus(), self._probe)
        for widget in [widget for row in self._cells for widget in row]:
            self._grid.removeWidget(widget)
            widget.hide()
            widget.deleteLater()
        self._cells = []
        for number, check in enumerate(self._checks):
            widgets = (qt.QLabel(check.level.value), qt.QLabel(check.title), WrappedLabel(withCode(check.code, check.text)))
            for column, widget in enumerate(widgets):
                self._grid.addWidget(widget, 2 * number, column)
            button = self._fixButton(check)
            if button:
                self._grid.addWidget(button[0], 2 * number + 1, 2)  # below the text, which needs the width
            self._cells.append(widgets + button)
        self._updateButtons()
        self._onChanged()

    def _fixButton(self, check: Check) -> tuple:
        """What can be done about a line; nothing in most."""
        action = self.ways.forCheck(check.code) if check.code and not self.isInstalling else None
        if action is None:
            return ()
        button = qt.QPushButton(action[0])
        button.connect("clicked()", action[1])
        return (button,)

    @property
    def fixButtons(self) -> dict:
        """The buttons beside the lines, by the key of the check."""
        return {check.key: cells[3] for check, cells in zip(self._checks, self._cells) if len(cells) > 3}

    def _updateButtons(self) -> None:
        blocked = next((withCode(one.code, one.text) for one in self._checks if one.level == Level.Bad and one.key in ("slicer", "disk", "writing")), "")
        isComplete = self.isReady
        reason = _("Packages are being installed.") if self.isInstalling else _("Nothing is missing.") if isComplete else blocked
        for button in (self.installButton, self.folderButton):
            button.enabled = not reason
            button.toolTip = reason or _("Adds only what is missing; what ships with Slicer stays as it is.")
        missing, hasGpu = [] if reason or not self._checks else missingRequirements(), bool(Computer.knownGpus())
        self.installButton.text = installTitle(missing, hasGpu)
        self.time.say(installTime(missing, hasGpu))
        self.time.visible = bool(self.time.text)
        self.cancelButton.visible = self.isInstalling
        self.againButton.enabled = not self.isInstalling

    # Installing

    def _onInstall(self) -> None:
        packages = missingRequirements()
        if packages and slicer.util.confirmOkCancelDisplay(self._question(packages)):
            self.install(packages)

    def _question(self, packages: list[str]) -> str:
        hasGpu = bool(Computer.knownGpus())
        time = installTime(packages, hasGpu) or _("This may take several minutes.")
        held = [_("Slicer does not react for some minutes while PyTorch is installed.")] if holdsUpSlicer(packages) else []
        sizes = [withSize(one, hasGpu) for one in packages]
        return "\n".join([_("Install these packages into Slicer's Python?"), *sizes, time, *held])

    def chooseFolder(self) -> None:
        """Installs from a folder of wheels that the user names."""
        folder = qt.QFileDialog.getExistingDirectory(None, _("Choose the folder with the wheels"))
        if folder:
            self.install(missingRequirements(), Path(folder))

    def install(self, packages: list[str], wheelFolder: Path | None = None) -> None:
        """Installs packages in the background, from the network or from a folder of wheels."""
        self._continueWith = str(wheelFolder or "network")
        self.again = lambda: self.install(packages, wheelFolder)
        self._begin().start(packages, wheelFolder, 0 if wheelFolder else downloadBytes(packages, bool(Computer.knownGpus())))

    def replaceTorch(self) -> None:
        """Removes PyTorch and installs the build that fits this computer, in the background."""
        self._continueWith, self.again = _ANOTHER_TORCH, self.replaceTorch
        torch = [one for one in requirements() if nameOf(one) == "torch"]
        self._begin().start(torch, None, downloadBytes(torch, bool(Computer.knownGpus())), TORCH_PACKAGES)

    def repair(self, packages: list[str]) -> None:
        """Brings packages back to the versions that Slicer came with."""
        self.again = lambda: self.repair(packages)
        self._begin().repair(packages)

    def sayFailed(self, outcome: Outcome) -> None:
        """Says how an installation ended, with what can be done."""
        if outcome.needsRestart:
            self.restart.say(outcome.text, outcome.code)
        else:
            self.notice.say(outcome.text, outcome.code, self.ways.forOutcome(outcome))

    def showLog(self) -> None:
        self.log.show()

    def _rememberToContinue(self) -> None:
        """Slicer starts again: the installation goes on there, once."""
        slicer.app.userSettings().setValue(_CONTINUE_KEY, self._continueWith or "network")

    def _continue(self) -> None:
        """Shows the page after a restart, and goes on with what was interrupted."""
        where = str(slicer.app.userSettings().value(_CONTINUE_KEY) or "")
        slicer.app.userSettings().remove(_CONTINUE_KEY)
        if where and self.parentWidget() is not None:
            self.parentWidget().show()
        packages = missingRequirements() if where else []
        if where == _ANOTHER_TORCH:
            self.replaceTorch()
        elif packages:
            self.install(packages, None if where == "network" else Path(where))

    def _begin(self) -> PipInstall:
        self.notice.clear()
        self.log.clear()
        self.log.show()
        self._install = PipInstall(self.log.appendPlainText, self._onInstalled, installedVersions, self.progress.follow)
        self._updateButtons()
        self._onChanged()
        return self._install

    def _onCancel(self) -> None:
        if self._install is not None:
            self._install.cancel()

    def _onInstalled(self, outcome: Outcome) -> None:
        self._install = None
        self.log.hide()
        self.progress.hide()
        if outcome.code or outcome.needsRestart:
            self.sayFailed(outcome)
        else:
            self.notice.say(_("Installed."))
        self.check()

    def cleanup(self) -> None:
        """Slicer ends or the module is reloaded: an installation is undone, questions are dropped."""
        self._onChanged = lambda: None
        asking, self._asking = self._asking, {}
        for process in asking.values():
            endTree(process.processId())
            process.waitForFinished(1000)
        if self._install is not None:
            self._install.cancel()
