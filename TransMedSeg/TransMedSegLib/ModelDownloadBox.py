"""The part of the dialog of models that downloads one from an address."""

import qt
from slicer.i18n import tr as _

from .ModelDownload import ModelDownload, urlProblem
from .ModelHelp import modelActions


class ModelDownloadBox:
    """Address, hash, button, progress.

    Args:
        ui: Widgets of the dialog.
        notice: Where messages go.
        onAdded: Called with the model file that was downloaded.
        addFromFile: Asks for a model file instead.
    """

    def __init__(self, ui, notice, onAdded, addFromFile):
        self.ui, self.notice, self._onAdded, self._addFromFile = ui, notice, onAdded, addFromFile
        self.download = ModelDownload(self._onProgress, self._onDone, self._onFailed)
        self._tips = {
            "url": _("Type an address that begins with https:// first"),
            "hash": _("A SHA-256 has 64 digits from 0 to 9 and a to f"),
            "running": _("A download is running"),
            "": _("Download this model and put it on the list"),
        }
        ui.downloadButton.connect("clicked()", self.start)
        ui.cancelDownloadButton.connect("clicked()", self.download.cancel)
        for edit in (ui.urlLineEdit, ui.hashLineEdit):
            edit.connect("textChanged(QString)", lambda text: self.refresh())
        self.refresh()

    def refresh(self):
        ui, isRunning = self.ui, self.download.isRunning
        reason = "running" if isRunning else urlProblem(ui.urlLineEdit.text, ui.hashLineEdit.text)
        ui.downloadButton.enabled = not reason
        ui.downloadButton.toolTip = self._tips[reason]
        ui.cancelDownloadButton.setVisible(isRunning)
        ui.downloadProgressBar.setVisible(isRunning)

    def offer(self, url):
        """Fills in an address; nothing is downloaded before the user presses the button."""
        self.ui.urlLineEdit.text = url

    def start(self):
        if not self.ui.downloadButton.enabled:
            return
        self.notice.clear()
        self.ui.downloadLabel.text = ""
        self.ui.downloadProgressBar.setRange(0, 0)
        try:
            self.download.start(self.ui.urlLineEdit.text.strip(), self.ui.hashLineEdit.text)
        except OSError as error:
            self.notice.say(_("The models folder cannot be written: {reason}").format(reason=error.strerror or error))
        self.refresh()

    def _onProgress(self, done, total):
        if total:
            self.ui.downloadProgressBar.setRange(0, 1000)
            self.ui.downloadProgressBar.setValue(round(1000 * done / total))
        self.ui.downloadLabel.text = _("{done} MB").format(done=f"{done / 1e6:.1f}")

    def _onDone(self, path):
        self._soon()
        wasGiven = bool(self.ui.hashLineEdit.text.strip())
        self.ui.urlLineEdit.text = self.ui.hashLineEdit.text = ""
        self._onAdded(path)
        if not wasGiven:
            self.notice.say(_("Downloaded. No SHA-256 was given: compare the one on the card with what the author states."))

    def _onFailed(self, code, text):
        self._soon()
        if not code and not text:
            self.ui.downloadLabel.text = _("Cancelled.")
            return
        self.notice.say(text, code, ((_("Download again"), self.start), *modelActions(code, self._addFromFile)))

    def _soon(self):
        """The download still calls itself running inside its own call."""
        self.ui.downloadLabel.text = ""
        qt.QTimer.singleShot(0, self.refresh)

    def discard(self):
        self.download.discard()
