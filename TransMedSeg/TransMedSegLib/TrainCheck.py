"""Looking at the volumes before a training: the engine says of every case whether it will be used, and why not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from slicer.i18n import tr as _

from .CaseHelp import CaseHelp
from .Counted import counted
from .EngineProcess import EngineProcess
from .Messages import message, withCode
from .RunList import RunList
from .RunState import Ending, State
from .TrainCases import CASES_FILE, CaseRow, readCases
from .TrainJob import SCENE_CASES, fingerprint, trainOptions

_WITHOUT_CASES = ("E704", "E801")
"""How the engine ends where too few cases are left, which another value of their masks may change."""

CHECK_FOLDER = "_check"
"""Run folder of the last check; it becomes the run's own folder when the training starts unchanged."""


class TrainCheck:
    """One check at a time. It ends with Slicer.

    A training that is started without a check waits for one (`before`), and for the answers to what the check asks.

    Args:
        panel: Whose cases are checked.
    """

    def __init__(self, panel) -> None:
        self._panel = panel
        self.process: EngineProcess | None = None
        self.fingerprint = ""
        self._help = CaseHelp(panel)
        self._goOn: Callable[[], None] | None = None

    @property
    def isRunning(self) -> bool:
        return self.process is not None and self.process.isRunning

    @property
    def isAwaited(self) -> bool:
        """Whether a training begins after this check and the answers to its questions."""
        return self._goOn is not None

    @property
    def isDone(self) -> bool:
        """Whether the tables show what the engine found."""
        return bool(self.fingerprint)

    @property
    def isCurrent(self) -> bool:
        """Whether nothing has changed since the check."""
        return self.isDone and self.fingerprint == fingerprint(self._panel.parameters)

    def forget(self) -> None:
        """Something was changed: the tables show again what was dropped, and no training waits any more."""
        self.takeStart()
        self._clear()

    def _clear(self) -> None:
        self.fingerprint = ""
        self._panel.cases.setRows([])
        self._panel.ui.checkLabel.text = ""

    def showKnownCases(self) -> None:
        if self.isCurrent:
            self._panel.cases.setRows(readCases(self._panel.runsFolder() / CHECK_FOLDER))

    def folder(self) -> Path:
        return self._panel.runsFolder() / CHECK_FOLDER

    def emptyFolder(self) -> Path:
        """The folder, without what an earlier check has found: the prepared volumes alone are worth keeping."""
        folder = self.folder()
        self.fingerprint = ""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CASES_FILE).unlink(missing_ok=True)  # a check that fails early shall not seem to have found this
        shutil.rmtree(folder / SCENE_CASES, ignore_errors=True)  # they may have left the lists since
        return folder

    def start(self) -> None:
        """Lets the engine look at every volume. The check ends with Slicer."""
        self.before(None)

    def before(self, goOn: Callable[[], None] | None) -> None:
        """Checks, and goes on by itself where nothing has to be decided; else as soon as it is.

        Args:
            goOn: Begins the training.
        """
        self._help.forget()
        self.takeStart()
        self.run(goOn)

    def takeStart(self) -> Callable[[], None] | None:
        """What begins the training that waits for this check, which then waits no more."""
        goOn, self._goOn = self._goOn, None
        if goOn is not None:
            self._panel.follow.sayBeforeStart("")
        return goOn

    def goOn(self) -> None:
        """Nothing is left to decide: a training that waits begins."""
        goOn = self.takeStart()
        if goOn is None:
            return
        reason = self._panel.whyNotStart() if self.isCurrent else _("The volumes or settings were changed while they were checked. Press Start training again.")
        if reason:
            self._panel.notice.say(reason)
        else:
            goOn()

    def run(self, goOn: Callable[[], None] | None) -> None:
        """Checks, also after an answer to what a check before has asked."""
        if self._panel.refuseFolder():
            self._panel.follow.checkEnded()
            return
        self._panel.notice.clear()
        folder, mark = self.emptyFolder(), self.mark()
        self._goOn = goOn
        self.process = EngineProcess(folder, self._onEvents, lambda ending: self._onEnded(ending, mark))
        self._panel.ui.checkLabel.text = _("Looking at the volumes…")
        if goOn is not None:
            self._panel.follow.checkBegins()
        self.process.start("prepare", trainOptions(self._panel.parameters, folder))
        self._panel.updateButtons()

    def cancel(self) -> None:
        """Ends a check that a training waits for; it does not begin."""
        if self.isRunning and self.takeStart() is not None:
            self.process.kill()

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
        isSettled = self.tell(ending, mark, self.process.runDir)
        self._panel.follow.checkEnded()
        if isSettled:
            self.goOn()
        elif ending.state == State.Interrupted and self.takeStart() is not None:
            self._panel.notice.say(_("The check of the volumes was interrupted, and no training was started."))
        if self.isAwaited:
            self._panel.follow.sayBeforeStart(_("A question about the volumes is open at the top."))
        self._panel.updateButtons()

    def tell(self, ending: Ending, mark: str, runDir: Path) -> bool:
        """Shows what was found, and says or asks what has to be said or asked. Returns whether nothing is left to decide.

        Args:
            ending: Of a check, or of a measurement, which looks at the volumes too.
            mark: Of the settings that it was started with.
            runDir: Where it worked.
        """
        if ending.state == State.Finished:
            self.showChecked(mark)
            return not (self.isCurrent and self._help.offer())
        if ending.state == State.Failed and (runDir / CASES_FILE).exists():
            self.showChecked(mark)
        else:
            self._clear()
        self._panel.ui.checkLabel.text = ""
        if ending.state == State.Failed and not (ending.code in _WITHOUT_CASES and self._help.askForValue()):
            actions = self._help.actions()
            if not actions:
                self.takeStart()  # nothing that is asked here helps
            self._panel.notice.say(ending.text, ending.code, (*actions, *self._panel.follow.helpActions(runDir, ending.code)))
        return False

    def showChecked(self, mark: str) -> None:
        """Shows what the engine found in the folder of the check, unless the settings were changed meanwhile."""
        self.fingerprint = mark
        if not self.isCurrent:
            self._clear()
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
