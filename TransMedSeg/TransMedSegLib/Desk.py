"""What the sections of the panel share: the case that is open, its review, its autosave, and the undo history."""

import qt
import slicer
from slicer.i18n import tr as _

from . import Overlay
from .Autosave import Autosave, setAutosaveFolder
from .CaseTable import caseOf, cases
from .Messages import message
from .Review import Review
from .UndoLater import UndoLater


class Desk:
    """The case on the desk and the others in the pile.

    Args:
        ui: Widgets of the panel by name.
        notice: Where messages go that belong to no section.
    """

    def __init__(self, ui, notice):
        self.ui = ui
        self.notice = notice
        self.parameters = None
        self.sections = []
        self.notReady = ""
        """Why the engine cannot run; empty where it can."""
        self._isRefreshing = False
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self.refresh)
        self.review = Review(self._onReviewed)
        self.autosave = Autosave(self._onAutosaveFailed)
        self.undoLater = UndoLater(self.review)

    @property
    def current(self):
        """The open case; None where there is none."""
        return caseOf(self.parameters.inputVolume) if self.parameters is not None else None

    def cases(self):
        return cases()

    def open(self, case):
        """Shows a case in the slice views and gives it to the Segment Editor. The scene is not cleared."""
        self.review.checkNow()
        self.parameters.inputVolume = case.volume
        application = slicer.app.applicationLogic()
        selection = application.GetSelectionNode()
        selection.SetActiveVolumeID(case.volume.GetID())
        application.PropagateVolumeSelection()
        Overlay.hide()
        for other in cases():
            if other.segmentation is not None and other.segmentation.GetDisplayNode() is not None:
                other.segmentation.GetDisplayNode().SetVisibility(other == case)
        self.review.follow()
        self.refresh()

    def refresh(self):
        """Every section shows the present state. What a section does on the way does not begin it again."""
        if self._isRefreshing or self.parameters is None:
            return
        self._isRefreshing = True
        try:
            for section in self.sections:
                section.refresh()
        finally:
            self._isRefreshing = False

    def refreshSoon(self):
        """Once, after all that happens now: many nodes may come and go at the same time."""
        self._timer.start()

    def beforeWrite(self, case):
        """Call before the AI writes voxels: autosaves what a person has drawn, and makes one undo step of the write, also of a case that is not open."""
        self.autosave.save(case)
        editor = self.ui.segmentEditor
        if editor.mrmlSegmentEditorNode() is None:
            self.undoLater.remember(case)
        elif case == self.current or editor.segmentationNode() is case.segmentation:
            self.giveToEditor(case)
            editor.saveStateForUndo()
        else:
            self.undoLater.remember(case)

    def giveToEditor(self, case):
        """Lets the Segment Editor work on a case; None takes the last one away."""
        editor = self.ui.segmentEditor
        if editor.mrmlSegmentEditorNode() is None:
            return
        node = case.segmentation if case is not None else None
        if editor.segmentationNode() is not node:
            editor.setSegmentationNode(node)
            if node is not None:
                self.undoLater.handOver(case, editor)
        volume = case.volume if case is not None else None
        if editor.sourceVolumeNode() is not volume:
            editor.setSourceVolumeNode(volume)

    def _onReviewed(self, case):
        self.refresh()

    def _onAutosaveFailed(self, folder, reason):
        self.notice.say(message("E606", folder=str(folder)), "E606", ((_("Choose folder…"), self._chooseAutosaveFolder),))

    def _chooseAutosaveFolder(self):
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder for autosaves"))
        if folder:
            setAutosaveFolder(folder)
            self.autosave.saveAll()
