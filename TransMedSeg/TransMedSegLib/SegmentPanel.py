"""Section 2 of the panel: the model segments the open case or all that nobody has looked at."""

import qt
import slicer
from slicer.i18n import tr as _

from . import CaseTime, SegmentResult
from .CaseTable import TO_DO, cases
from .Counted import counted
from .GpuUsers import GpuUsers
from .Messages import message, withCode
from .ModelPanel import ModelPanel
from .Notice import Notice
from .PanelState import PanelState
from .Plausibility import look
from .PlausibilityLine import PlausibilityLine
from .RegionPanel import RegionPanel
from .RunState import State
from .SegmentButtons import SegmentButtons
from .SegmentClosing import SegmentClosing
from .SegmentQuestions import SegmentQuestions
from .SegmentRun import DONE, FAILED, Requests, SegmentRun
from .StartDetails import detailsAction
from .VolumeExchange import maskOf, readSegmentation, voxelVolumeMl

_MOST_NAMED = 5
"""Failed cases that a message names; the button Show names all."""


class SegmentPanel:
    """Fills the section Segment.

    Args:
        desk: What the sections share.
    """

    def __init__(self, desk):
        self.desk, self.ui = desk, desk.ui
        self.notice = Notice()
        self.ui.segmentNoticePlace.layout().addWidget(self.notice)
        self.run = None
        self.isStopping = self.hasFailed = False
        self._gpuUsers = GpuUsers()
        self._leftOut, self._warnings = [], []
        self.line = PlausibilityLine(desk)
        self.region = RegionPanel(desk)
        self.models = ModelPanel(desk, self.notice)
        self.buttons = SegmentButtons(desk, self.models)
        self.questions = SegmentQuestions(self)
        self.closing = SegmentClosing(self)
        self.ui.segmentButton.connect("clicked()", self.segmentThis)
        self.ui.segmentAllButton.connect("clicked()", self.segmentAll)
        self.ui.cancelButton.connect("clicked()", self.cancel)

    @property
    def isRunning(self):
        return self.run is not None and self.run.isRunning

    @property
    def state(self):
        """What the section is doing, apart from what the set-up page knows."""
        if self.isRunning:
            return PanelState.Stopping if self.isStopping else PanelState.Running
        return PanelState.Failed if self.hasFailed else PanelState.Ready

    @property
    def model(self):
        """The chosen model file; None where there is none."""
        return self.models.model

    # What can be done now

    def whyNot(self, case):
        """Why a case cannot be segmented now; "" where it can."""
        return self.buttons.whyNot(case, self.state)

    def refresh(self):
        """Shows what can be done."""
        self.models.refresh()
        self.region.refresh()
        self.buttons.refresh(self.state)
        self.line.refresh()

    # Running

    def segmentThis(self):
        """Segments the open case, after a look at its volume."""
        case = self.desk.current
        if self.whyNot(case):
            return
        if not self.questions.isOpen(case):
            self.start([case])

    def segmentAll(self):
        """Segments every case that is To do, after a look at the volumes; what cannot be used is named at the end."""
        self.questions.askAll([case for case in cases() if case.status == TO_DO], self.start)

    def start(self, caseList, blocked=None, leftOut=()):
        """Starts the engine on some cases.

        Args:
            caseList: The cases.
            blocked: The problems of those that cannot be used.
            leftOut: Those that the user wants left out.
        """
        self.notice.clear()
        self._leftOut, self._warnings = [case.name for case in leftOut], []
        self.hasFailed = False
        self.discard()
        if not self.models.isUsable(lambda: self.start(caseList, blocked, leftOut)):
            return
        requests = Requests(self._onProgress, self._onOutcome, self._onWarning, self._onSilent, self._onEnded)
        self.run = SegmentRun(self.model, self.desk.parameters.device, requests)
        for case, problem in (blocked or {}).items():
            self.run.note(case, problem.code, problem.text)
        if not caseList:
            self._sayBatch()
            return
        self.closing.start()
        self._onProgress(0.0, _("Starting…"))  # loading the engine takes some seconds
        try:
            self.run.start(caseList)
        except OSError as error:
            self.ui.progressLabel.text = ""
            self.notice.say(message("E502", reason=str(error)), "E502")
        self.desk.refresh()

    def cancel(self):
        if self.isRunning:
            self.isStopping = True
            self.run.cancel()
            self.desk.refresh()

    def discard(self):
        """Ends the engine and removes its files: the results are in the scene."""
        if self.run is not None:
            self.run.discard()
        self.run = None
        self.isStopping = False

    def sceneClosing(self):
        """The volumes go away. A result that still comes is kept in a file (E313)."""
        self.closing.sceneCloses()
        self.line.forget()
        self.questions.forget()

    def _onProgress(self, fraction, text):
        self.ui.progressBar.setValue(round(1000 * fraction))
        self.ui.progressLabel.text = text

    def _onWarning(self, code, text, case):
        """What the engine noticed, of all cases of the run; not what the user was asked about before it began."""
        if case is None or not self.questions.isSettled(case, code):
            self._warnings.append(withCode(code, text))
            self.notice.say("\n".join(self._warnings[-_MOST_NAMED:]))

    def _onSilent(self, text):
        if text:
            self.notice.say(text, "E504", ((_("Wait"), lambda: None), (_("Stop"), self.cancel)))
        else:
            self.notice.clear()

    def _onOutcome(self, outcome):
        if outcome.status == DONE:
            self._take(outcome)
        elif len(self.run.outcomes) == 1:
            self._sayFailure(outcome)
        self.desk.refresh()

    def _take(self, outcome, locked=SegmentResult.REFUSE):
        try:
            isTaken = self.run.take(outcome, self.desk.review, self.desk.beforeWrite, locked)
        except SegmentResult.LockedSegment:
            self._sayLocked(outcome)
            return
        current = self.desk.current
        if isTaken:
            self.line.note(outcome.case, outcome.taken.segmentIds[0], outcome.taken.plausibility)
        if isTaken and self.desk.parameters.keepFiles:
            self.run.keep(outcome)
        if isTaken and current == outcome.case:
            self.desk.giveToEditor(current)
            self._sayTaken(current, outcome)
        elif outcome.status == FAILED and len(self.run.outcomes) == 1:
            self._sayFailure(outcome)
        self.desk.refresh()

    def _onEnded(self, ending):
        self.isStopping = False
        self.hasFailed = ending.state is State.Failed
        self.ui.progressLabel.text = ""
        if ending.state is State.Stopped:
            self.ui.progressLabel.text = ending.text
        elif ending.state is not State.Finished:
            actions = ((_("Show log"), self._showLog), (_("Copy for bug report"), self._copyReport))
            if ending.code == "E501":
                actions = (detailsAction(), *actions)
            if ending.code == "E503":
                actions = ((_("Draw a box around the heart"), self.region.draw), *actions)
            self.notice.say(ending.text or message("E502", reason=ending.state.value), ending.code or "E502", actions)
        elif len(self.run.outcomes) > 1 or self._leftOut:
            self._sayBatch()
        self.closing.ended()
        self.desk.refresh()

    # Saying what happened

    def _sayTaken(self, case, outcome):
        if outcome.taken.overlaps:
            overlap = outcome.taken.overlaps[0]
            text = message("E604", segment=overlap.otherName, volume_ml=f"{overlap.volumeMl:.1f}")
            take = lambda: self._onTakeOverlap(case, outcome, overlap)
            self.notice.say(text, "E604", ((_("Leave it"), lambda: None), (_("Take it"), take)))

    def _onTakeOverlap(self, case, outcome, overlap):
        with readSegmentation(outcome.files["mask"]) as stored:
            full = maskOf(stored, stored.GetSegmentation().GetNthSegmentID(0), case.volume)
        full = full if outcome.region is None else outcome.region.clip(full)
        SegmentResult.takeOver(case, overlap, full, self.desk.review, self.desk.beforeWrite)
        self.line.note(case, overlap.segmentId, look(full, voxelVolumeMl(case.volume)))
        self.desk.refresh()

    def _sayLocked(self, outcome):
        actions = (
            (_("Unlock once"), lambda: self._take(outcome, SegmentResult.ONCE)),
            (_("Write to a new segment"), lambda: self._take(outcome, SegmentResult.NEW)),
        )
        self.notice.say(message("E603"), "E603", actions)

    def _sayFailure(self, outcome):
        actions = ()
        if outcome.code == "E506":
            actions = (
                (_("Show doubt map"), lambda: setattr(self.ui.doubtCheckBox, "checked", True)),
                (_("Draw a box and try again"), self.region.draw),
                (_("Segment by hand"), self._segmentByHand),
            )
        elif outcome.code == "E205" and outcome.case is not None:
            actions = self._memoryActions(outcome)
        elif outcome.code == "E313":
            path = outcome.files["mask"]
            actions = ((_("Load"), lambda: slicer.util.loadSegmentation(str(path))),)
        self.notice.say(outcome.text, outcome.code, actions)

    def _memoryActions(self, outcome):
        """Ways on for a GPU that is too small (E205)."""
        time = CaseTime.estimateText(self.model, "cpu", [outcome.case.volume])
        title = _("Run on the CPU ({time})").format(time=time) if time else _("Run on the CPU")
        onCpu = (title, lambda: self._runOnCpu(outcome.case))
        say = lambda users: self.notice.say(f"{outcome.text}\n{users}", outcome.code, (onCpu,))
        return onCpu, (_("Who uses the GPU?"), lambda: self._gpuUsers.ask(say))

    def _runOnCpu(self, case):
        self.desk.parameters.device = "cpu"
        self.start([case])

    def _sayBatch(self):
        outcomes = list(self.run.outcomes.values())
        failed = [one for one in outcomes if one.status == FAILED]
        if not failed:
            text = counted(len(outcomes), _("{count} case done"), _("{count} cases done"))
            if self._leftOut:
                text = _("{text}, {count} left out ({names})").format(text=text, count=len(self._leftOut), names=", ".join(self._leftOut))
            self.ui.progressLabel.text = text
            return
        which = ", ".join(f"{one.name}: {one.code}" for one in failed[:_MOST_NAMED])
        if len(failed) > _MOST_NAMED:
            which = _("{names} and {count} more").format(names=which, count=len(failed) - _MOST_NAMED)
        text = message("E509", done=len(outcomes) - len(failed), failed=len(failed), which=which)
        again = [one.case for one in failed if one.case is not None]
        tryAgain = (_("Try these again"), lambda: self.questions.askAll(again, self.start))
        everything = "\n".join(f"{one.name}: {one.text} [{one.code}]" for one in failed)
        self.notice.say(text, "E509", ((_("Show"), lambda: self.notice.say(everything, "", (tryAgain,))), tryAgain))

    def _segmentByHand(self):
        case = self.desk.current
        node = case.makeSegmentation()
        if not node.GetSegmentation().GetNumberOfSegments():
            SegmentResult.addLeftAtrium(node)
        self.ui.correctCollapsibleButton.collapsed = False
        self.desk.review.follow()
        self.desk.giveToEditor(case)

    def _showLog(self):
        text = self.run.log() if self.run is not None else ""
        slicer.util.infoDisplay(text or _("The log is empty."), windowTitle=_("Log of the engine"))

    def _copyReport(self):
        report = self.run.report() if self.run is not None else ""
        qt.QApplication.clipboard().setText(report)
