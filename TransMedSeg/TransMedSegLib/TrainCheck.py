"""Looking at the volumes before a training: the engine says of every case whether it will be used, and why not."""

from __future__ import annotations

from pathlib import Path

from slicer.i18n import tr as _

from .CaseHelp import CaseHelp
from .Counted import counted
from .EngineProcess import EngineProcess
from .Messages import message, withCode
from .RunList import RunList
from .RunState import Ending, State
from .TrainCases import CaseRow, readCases
from .TrainJob import fingerprint, trainOptions

CHECK_FOLDER = "_check"
"""Run folder of the last check; it becomes the run's own folder when the training starts unchanged."""


class TrainCheck:
    """One check at a time. It ends with Slicer.

    Args:
        panel: Whose cases are checked.
    """

    def __init__(self, panel) -> None:
        self._panel = panel
        self.process: EngineProcess | None = None
        self.fingerprint = ""
        self._help = CaseHelp(panel)

    @property
    def isRunning(self) -> bool:
        return self.process is not None and self.process.isRunning

    @property
    def isDone(self) -> bool:
        """Whether the tables show what the engine found."""
        return bool(self.fingerprint)

    @property
    def isCurrent(self) -> bool:
        """Whether nothing has changed since the check."""
        return self.isDone and self.fingerprint == fingerprint(self._panel.parameters)

    def forget(self) -> None:
        """Something was changed: the tables show again what was dropped."""
        self.fingerprint = ""
        self._panel.cases.setRows([])
        self._panel.ui.checkLabel.text = ""

    def showKnownCases(self) -> None:
        if self.isCurrent:
            self._panel.cases.setRows(readCases(self._panel.runsFolder() / CHECK_FOLDER))

    def folder(self) -> Path:
        return self._panel.runsFolder() / CHECK_FOLDER

    def start(self) -> None:
        """Lets the engine look at every volume. The check ends with Slicer."""
        if self._panel.refuseFolder():
            return
        self._panel.notice.clear()
        folder = self.folder()
        self.fingerprint = ""
        folder.mkdir(parents=True, exist_ok=True)
        mark = self.mark()
        self.process = EngineProcess(folder, self._onEvents, lambda ending: self._onEnded(ending, mark))
        self.process.start("prepare", trainOptions(self._panel.parameters, folder))
        self._panel.ui.checkLabel.text = _("Looking at the volumes…")
        self._panel.updateButtons()

    def _onEvents(self, events: list[dict]) -> None:
        for event in events:
            if event["kind"] == "progress":
                self._panel.ui.checkLabel.text = _("{done} of {total} volumes").format(done=event.get("done", 0), total=event.get("total", 0))
            elif event["kind"] == "warning":
                self._panel.ui.checkLabel.text = withCode(str(event.get("code") or ""), str(event.get("message", "")))

    def mark(self) -> str:
        """Of the settings as they are now: a check tells of those it was started with."""
        return fingerprint(self._panel.parameters)

    def _onEnded(self, ending: Ending, mark: str) -> None:
        self.showChecked(mark)
        if ending.state != State.Finished:
            self._panel.ui.checkLabel.text = ""
        if ending.state == State.Failed and not (ending.code == "E801" and self._help.askForValue()):
            self._panel.notice.say(ending.text, ending.code, (*self._help.actions(), *self._panel.follow.helpActions(self.process.runDir, ending.code)))
        elif ending.state == State.Finished:
            self._help.offer()
        self._panel.updateButtons()

    def showChecked(self, mark: str) -> None:
        """Shows what the engine found in the folder of the check, unless the settings were changed meanwhile."""
        self.fingerprint = mark
        if not self.isCurrent:
            self.forget()
            return
        self._panel.cases.setRows(readCases(self.folder()))
        self._panel.ui.checkLabel.text = self._summary()

    def _summary(self) -> str:
        counts = {role: self._panel.cases.used(role) for role in ("labeled", "validation", "unlabeled", "held out")}
        text = _("{labeled} labeled, {validation} held out, {unlabeled} unlabeled").format(
            labeled=counts["labeled"], validation=counts["validation"] + counts["held out"], unlabeled=counts["unlabeled"]
        )
        lines = [text, _alsoLabeled(self._panel.cases.rows), "" if counts["unlabeled"] else withCode("E802", message("E802"))]
        return "\n".join(line for line in lines if line)

    def newRunDir(self) -> Path:
        """A new folder, or the one of an unchanged check with its prepared volumes."""
        runDir = RunList(self._panel.runsFolder()).newRunDir()
        folder = self._panel.runsFolder() / CHECK_FOLDER
        if self.isCurrent and folder.is_dir():
            runDir.rmdir()
            folder.rename(runDir)
            self.fingerprint = ""
        return runDir


def _alsoLabeled(rows: list[CaseRow]) -> str:
    """What happens to unlabeled volumes that are labeled ones too; empty without any."""
    labeled = {row.name for row in rows if row.isUsed and row.role in ("labeled", "validation")}
    count = sum(row.role == "unlabeled" and not row.isUsed and row.sameAs in labeled for row in rows)
    one = _("{count} volume is also in the labeled list; it is used as labeled only.")
    many = _("{count} volumes are also in the labeled list; they are used as labeled only.")
    return counted(count, one, many) if count else ""
