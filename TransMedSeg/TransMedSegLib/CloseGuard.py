"""What is said when Slicer is closed while something computes (E508): a segmentation is waited for or ended, a training goes on."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from .Messages import message, withCode


class CloseGuard(qt.QWidget):
    """Is asked before the main window closes, and before Slicer asks about what is not saved.

    Args:
        mayClose: Returns False where the window has to stay open.
    """

    def __init__(self, mayClose: Callable[[], bool]) -> None:
        qt.QWidget.__init__(self)
        self._mayClose = mayClose

    def start(self) -> None:
        """Watches the main window from now on. Without one (`--no-main-window`) nobody could be asked."""
        window = slicer.util.mainWindow()
        if window is not None:
            window.installEventFilter(self)  # a second time does no harm

    def stop(self) -> None:
        window = slicer.util.mainWindow()
        if window is not None:
            window.removeEventFilter(self)

    def eventFilter(self, watched, event) -> bool:
        if event.type() != qt.QEvent.Close or self._mayClose():
            return False
        event.ignore()
        return True


def askToWait(consequences: str) -> bool:
    """Asks what becomes of a segmentation that runs. Returns whether the user waits for it.

    Args:
        consequences: What either answer does.
    """
    box = qt.QMessageBox(slicer.util.mainWindow())
    box.setIcon(qt.QMessageBox.Question)
    box.setWindowTitle(_("Segmentation"))
    box.setText(withCode("E508", _("A segmentation is running.")))
    box.setInformativeText(consequences)
    wait = box.addButton(_("Wait"), qt.QMessageBox.RejectRole)
    stop = box.addButton(_("Stop and close"), qt.QMessageBox.DestructiveRole)
    box.setDefaultButton(wait)
    box.setEscapeButton(wait)
    box.exec_()
    isWaiting = box.clickedButton() != stop
    box.deleteLater()
    return isWaiting


def sayTrainingContinues() -> None:
    """Told once Slicer is being closed; who knows it by heart may switch it off."""
    text = withCode("E508", message("E508"))
    slicer.util.infoDisplay(text, windowTitle=_("Training"), dontShowAgainSettingsKey="TransMedSeg/DontSayTrainingContinues")


def askToCloseBeforeStart() -> bool:
    """Asked where a training waits for the check of its volumes, or for answers to it. Returns whether Slicer is closed all the same."""
    text = _("The training has not begun: its volumes are being checked, or a question about them is open. Close Slicer all the same?")
    return slicer.util.confirmYesNoDisplay(text, windowTitle=_("Training"))
