"""The dialog behind Manage…: the models of this computer, their cards, adding, removing, checking, handing on."""

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from . import ModelList
from .FileDrop import FileDrop
from .Messages import message
from .ModelCard import cardOf
from .ModelDownloadBox import ModelDownloadBox
from .ModelFile import ModelRefused, hashOf
from .ModelHelp import modelActions
from .Notice import Notice

_UI = Path(__file__).parent.parent / "Resources" / "UI" / "ModelDialog.ui"


class ModelDialog:
    """Stays open beside the panel; nothing waits for it.

    Args:
        onChanged: Called when the list is another, with the model to choose now or None.
    """

    def __init__(self, onChanged):
        self._onChanged = onChanged
        self.widget = slicer.util.loadUI(str(_UI))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.notice = Notice()
        self.ui.modelNoticePlace.layout().addWidget(self.notice)
        self.download = ModelDownloadBox(self.ui, self.notice, self._onAdded, self.addFromFile)
        self._drop = FileDrop(self.ui.modelList, self.add)
        self._paths, self._card = [], None
        self._tips = {
            "none": _("Choose a model first"),
            "remove": _("Delete this model from your models folder"),
            "forget": _("Take this model off the list; its file stays where it is"),
            "verify": _("Compare the file with the hash noted when it was added"),
            "export": _("One .zip with weights, card and hash, to be dropped here on another computer"),
            "open": _("Show the folder with this model"),
        }
        ui = self.ui
        ui.modelList.connect("currentRowChanged(int)", lambda row: self._show())
        ui.addModelButton.connect("clicked()", self.addFromFile)
        ui.removeModelButton.connect("clicked()", self._onRemove)
        ui.verifyModelButton.connect("clicked()", self.verify)
        ui.exportModelButton.connect("clicked()", self._onExport)
        ui.openModelFolderButton.connect("clicked()", self._onOpenFolder)
        ui.modelsFolderButton.connect("clicked()", self._onFolder)
        ui.closeButton.connect("clicked()", lambda: self.widget.hide())
        for edit in (ui.licenseLineEdit, ui.conventionLineEdit):
            edit.connect("editingFinished()", self._onTerms)

    @property
    def chosen(self):
        """The model whose card is shown; None where there is none."""
        row = self.ui.modelList.currentRow
        return self._paths[row] if 0 <= row < len(self._paths) else None

    def open(self, chosen=None):
        """Shows the dialog."""
        self.notice.clear()
        self.fill(chosen)
        self.widget.show()
        self.widget.raise_()

    def fill(self, chosen=None):
        """Reads the list anew and shows the card of a model."""
        self._paths = ModelList.models()
        listed = self.ui.modelList
        listed.blockSignals(True)
        listed.clear()
        for path in self._paths:
            listed.addItem(titleOf(path))
        if self._paths:
            listed.setCurrentRow(self._paths.index(chosen) if chosen in self._paths else 0)
        listed.blockSignals(False)
        self.ui.modelsFolderLabel.text = _("Added models are kept in {folder}").format(folder=ModelList.modelsFolder())
        self._show()

    def _show(self):
        """The card of the chosen model, and what can be done with it."""
        path, self._card, text = self.chosen, None, ""
        if path is not None:
            try:
                self._card = cardOf(path)
                text = "\n".join(f"{what}: {words}" for what, words in self._card.lines())
            except ModelRefused as refusal:
                text = f"{path}\n\n{refusal} [{refusal.code}]"
        ui, card = self.ui, self._card
        ui.cardText.setPlainText(text)
        ui.licenseLineEdit.text = card.license if card is not None else ""
        ui.conventionLineEdit.text = card.convention if card is not None else ""
        for edit in (ui.licenseLineEdit, ui.conventionLineEdit):
            edit.enabled = card is not None
        remove = "remove" if path is not None and ModelList.isInFolder(path) else "forget"
        buttons = ((ui.removeModelButton, remove, path), (ui.verifyModelButton, "verify", card), (ui.exportModelButton, "export", card), (ui.openModelFolderButton, "open", path))  # fmt: skip
        for button, tip, needed in buttons:
            button.enabled = needed is not None
            button.toolTip = self._tips[tip if needed is not None else "none"]

    # Adding

    def add(self, paths):
        """Copies models out of files, archives and folders into the models folder; what cannot be used is named."""
        found, added, refused = ModelList.find(paths), [], []
        for path in found:
            try:
                added.append(ModelList.add(path))
            except ModelRefused as refusal:
                refused.append((refusal.code, f"{path.name}: {refusal}"))
            except OSError as error:
                refused.append(("", f"{path.name}: {error.strerror or error}"))
        if added:
            self._onAdded(added[-1])
        if refused:
            code = refused[0][0]
            self.notice.say("\n".join(text for _code, text in refused), code, modelActions(code, self.addFromFile))
        elif not found:
            self.notice.say(_("No model was found in {names}.").format(names=", ".join(Path(path).name for path in paths)))

    def _onAdded(self, path):
        self.notice.clear()
        self.fill(path)
        self._onChanged(path)

    def addFromFile(self):
        """Asks for model files and archives, and adds them."""
        title = _("Model") + " (*.pt *.zip)"
        paths = qt.QFileDialog.getOpenFileNames(self.widget, _("Add models"), "", title)
        # PythonQt returns the list alone, PySide a pair with the filter.
        paths = paths[0] if isinstance(paths, tuple) else paths
        if paths:
            self.add(paths)

    # What can be done with a model

    def _onTerms(self):
        """Writes license and convention on the card."""
        ui, card = self.ui, self._card
        if card is None or (ui.licenseLineEdit.text, ui.conventionLineEdit.text) == (card.license, card.convention):
            return
        try:
            card.noted(license=ui.licenseLineEdit.text, convention=ui.conventionLineEdit.text)
        except OSError as error:
            self.notice.say(_("The card could not be written: {reason}").format(reason=error.strerror or error))
        self._show()
        self._onChanged(None)

    def _onRemove(self):
        path = self.chosen
        question = _("Delete this model from your models folder?\n{folder}").format(folder=path.parent)
        if ModelList.isInFolder(path) and not slicer.util.confirmYesNoDisplay(question, parent=self.widget):
            return
        try:
            ModelList.remove(path)
        except OSError as error:
            self.notice.say(_("The model could not be deleted: {reason}").format(reason=error.strerror or error))
        self.fill()
        self._onChanged(None)

    def verify(self):
        """Compares the file with its noted hash."""
        path = self.chosen
        intact = ModelList.isIntact(path)
        if intact is False:
            self.notice.say(message("E402"), "E402")
        elif intact:
            self.notice.say(_("The file is as it was added: {sha256}").format(sha256=hashOf(path)))
        else:
            self.notice.say(_("No hash was noted for a file outside of your models folder. It is {sha256}").format(sha256=hashOf(path)))

    def _onExport(self):
        path = self.chosen
        name = "".join(letter if letter.isalnum() or letter in " -_." else "_" for letter in self._card.name)
        found = qt.QFileDialog.getSaveFileName(self.widget, _("Export model"), f"{name}.zip", _("Model") + " (*.zip)")
        target = found[0] if isinstance(found, tuple) else found
        if not target:
            return
        with slicer.util.tryWithErrorDisplay(_("The model could not be exported."), waitCursor=True):
            ModelList.export(path, Path(target))
            self.notice.say(_("Exported: {file}").format(file=Path(target).name))

    def _onOpenFolder(self):
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.chosen.parent)))

    def _onFolder(self):
        folder = qt.QFileDialog.getExistingDirectory(self.widget, _("Folder for models"), str(ModelList.modelsFolder()))
        if folder:
            ModelList.setModelsFolder(folder)
            self.fill()
            self._onChanged(None)

    def discard(self):
        """The panel goes away."""
        self.download.discard()
        self.widget.hide()
        self.widget.deleteLater()


def titleOf(path):
    """What a list calls a model file, also one that is not usable."""
    try:
        return cardOf(path).title
    except ModelRefused as refusal:
        name = path.parent.name or path.name
        return _("{name} (not available)").format(name=name) if refusal.code == "E405" else _("{name} (cannot be used)").format(name=name)
