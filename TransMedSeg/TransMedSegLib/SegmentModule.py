"""The whole panel of the module TransMedSeg: its sections, and what happens when the user comes and goes."""

from slicer.i18n import tr as _

from . import SegmentResult
from .CasesPanel import CasesPanel
from .CaseTable import addCase
from .ComparePanel import ComparePanel
from .CorrectPanel import CorrectPanel
from .Desk import Desk
from .DoubtPanel import DoubtPanel
from .ExportPanel import ExportPanel
from .Notice import Notice
from .PanelState import PanelState, segmentingText
from .Review import Review
from .SegmentPanel import SegmentPanel
from .SegmentRun import DONE, Requests, SegmentRun
from .SetupPage import SetupPage
from .Terminology import loadOurTerminology

_SECTIONS = ("cases", "segment", "correct", "compare", "export")


class SegmentModule:
    """Makes the sections and keeps them in step.

    Args:
        ui: Widgets by name.
    """

    def __init__(self, ui):
        self.ui = ui
        self.notice = Notice()
        ui.noticePlace.layout().addWidget(self.notice)
        self.desk = Desk(ui, self.notice)
        self.cases = CasesPanel(self.desk, lambda paths: self.segment.models.addDropped(paths))
        self.segment = SegmentPanel(self.desk)
        self.doubt = DoubtPanel(self.desk)
        self.correct = CorrectPanel(self.desk, self.cases.openNext)
        self.compare = ComparePanel(self.desk)
        self.export = ExportPanel(self.desk, self.compare.saveCsv)
        self.desk.sections = [self.cases, self.segment, self.doubt, self.correct, self.compare, self.export, self]
        self.setupPage = SetupPage(self._onSetup)
        ui.setupPlace.layout().addWidget(self.setupPage)
        ui.setupButton.connect("clicked()", self._onSetupButton)
        for name in _SECTIONS:  # what was hidden while a section was folded would appear with it
            getattr(ui, f"{name}CollapsibleButton").connect("contentsCollapsed(bool)", lambda isFolded: isFolded or self.desk.refresh())
        self._isFirst = True

    @property
    def state(self):
        """The one state of the panel. It follows from what is known, so nothing can forget to change it back."""
        if self.segment.isRunning:
            return self.segment.state
        if self.setupPage.isInstalling:
            return PanelState.Installing
        return self.segment.state if self.setupPage.isReady else PanelState.NotReady

    def shortcuts(self):
        """Keys and what they do."""
        return (
            ("Ctrl+Return", self.segment.segmentThis),
            ("Ctrl+Right", self.correct.approveAndNext),
            ("Ctrl+Z", self.correct.undo),
            ("A", self.correct.promptRow.add),
            ("X", self.correct.promptRow.remove),
        )

    def enter(self, parameters):
        """The user opened the module, or another scene is there while it is open."""
        self.desk.parameters = parameters
        if self._isFirst:
            self._isFirst = False
            loadOurTerminology()
            self.cases.offerRestore()
        self.setupPage.start()
        self.segment.closing.watch()
        self.segment.models.enter()
        self.correct.enter()
        self.desk.review.follow()
        self.desk.autosave.start()
        self.desk.refresh()

    def exit(self):
        self.desk.review.checkNow()
        self.correct.exit()

    def leaveScene(self):
        """The scene is about to be closed: nothing of ours may hold on to its nodes."""
        self.desk.review.stop()
        self.segment.sceneClosing()
        self.compare.discard()
        self.export.closePage()
        self.correct.sceneClosed()
        self.desk.autosave.forget()
        self.desk.undoLater.forget()
        self.desk.parameters = None

    def cleanup(self):
        """The application ends, or the module is reloaded: inference ends with it."""
        self.desk.review.stop()
        self.desk.autosave.stop()
        self.desk.autosave.forget()
        self.segment.closing.stop()
        self.segment.discard()
        self.segment.models.discard()
        self.cases.discard()
        self.correct.discard()
        self.compare.discard()
        self.export.discard()
        self.setupPage.cleanup()

    def refresh(self):
        """The line at the top says what the panel is doing."""
        self.ui.statusLabel.text = self.setupPage.statusText(segmentingText(self.state))

    def _onSetup(self):
        """The set-up page knows more: the buttons that need the engine are gray until it can run."""
        page, before = self.setupPage, self.desk.notReady
        self.refresh()
        isMissing = self.state in (PanelState.NotReady, PanelState.Installing)
        self.desk.notReady = "" if not isMissing else _("{status} Press Check… at the top.").format(status=page.statusText())
        if self.desk.notReady != before:
            self.desk.refresh()

    def _onSetupButton(self):
        self.ui.setupPlace.visible = not self.ui.setupPlace.visible
        if self.ui.setupPlace.visible:
            self.setupPage.check()

    def refreshSoon(self):
        """Something in the scene has changed."""
        self.desk.refreshSoon()


def segmentInBackground(volumeNodes, modelPath, device, onEnded):
    """Segments volumes without a panel; see TransMedSegLogic.segment."""
    review = Review()

    def onOutcome(outcome):
        if outcome.status == DONE:
            run.take(outcome, review, lambda case: None, SegmentResult.NEW)

    requests = Requests(outcome=onOutcome, ended=lambda ending: onEnded(list(run.outcomes.values())))
    run = SegmentRun(modelPath, device, requests)
    run.start([addCase(node) for node in volumeNodes])
    return run
