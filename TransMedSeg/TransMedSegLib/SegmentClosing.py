"""A segmentation runs while the user closes Slicer or the scene: it is waited for, or it ends (E508)."""

import slicer
from slicer.i18n import tr as _

from .CloseGuard import CloseGuard, askToWait

MODULE = "TransMedSeg"


class SegmentClosing:
    """Asks, and says when Slicer can be closed.

    Args:
        panel: The section whose segmentation it is.
    """

    def __init__(self, panel):
        self._panel = panel
        self._isWaitedFor = self._isGivenUp = False
        self._guard = CloseGuard(self._mayClose)

    def watch(self):
        """The module was opened."""
        self._guard.start()

    def start(self):
        """A segmentation begins."""
        self._isWaitedFor = self._isGivenUp = False
        self._guard.start()

    def stop(self):
        """The module goes away."""
        self._guard.stop()

    def _mayClose(self):
        """Who stops lets Slicer close: the process ends with the module. Should Slicer stay open after all, nothing is lost."""
        if not self._panel.isRunning or slicer.app.testingEnabled():
            return True
        text = _(
            "Wait keeps Slicer open until it is done; then save the scene and close Slicer. Stop and close ends it without a result."
        )
        self._isGivenUp = not askToWait(text)
        self._isWaitedFor = not self._isGivenUp and self._panel.isRunning
        if self._isWaitedFor:
            slicer.util.selectModule(MODULE)  # there the progress is shown
            self._panel.notice.say(self._waiting())
        return self._isGivenUp

    def sceneCloses(self):
        """The scene cannot be kept open. The result of a segmentation that goes on is kept in a file (E313)."""
        run = self._panel.run
        if not self._panel.isRunning or self._isGivenUp or slicer.app.testingEnabled():
            return
        text = _("Wait lets it go on; its result is kept in a file that can be loaded. Stop and close ends it without a result.")
        with run.held():  # a result that came now would go into the scene that is being closed
            isWaiting = askToWait(text)
        if not isWaiting:
            self._panel.cancel()

    def ended(self):
        """The segmentation has ended."""
        isWaitedFor, self._isWaitedFor = self._isWaitedFor, False
        if isWaitedFor and self._panel.notice.message in ("", self._waiting()):
            self._panel.notice.say(_("The segmentation is done. Save the scene, then close Slicer."))

    def _waiting(self):
        return _("Slicer stays open until the segmentation is done.")
