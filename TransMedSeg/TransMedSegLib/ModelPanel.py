"""The model in the section Segment: which one is chosen, a line of its card, and whether it may be used now."""

import html
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from . import ModelList
from .FileDrop import FileDrop
from .InputCheck import Problem, modalityProblem
from .Messages import message
from .ModelCard import CARD_FILE, cardOf
from .ModelDialog import ModelDialog, titleOf
from .ModelFile import ModelRefused, hashOf
from .ModelHelp import modelActions
from .RunState import readJson

_FAR = 1.5
"""Spacing that differs by more than this factor from that of the training volumes is worth a question, as in the engine."""


class ModelPanel:
    """Keeps the list of models and the parameter `modelPath` of the scene in step.

    Args:
        desk: What the sections share.
        notice: Where messages of the section go.
    """

    def __init__(self, desk, notice):
        self.desk, self.ui, self.notice = desk, desk.ui, notice
        self._dialog = None
        self._shown = None
        self._short = ""
        self._none = _("no model yet: press Manage…")
        self._drop = FileDrop(self.ui.modelComboBox, self.addDropped)
        self.ui.modelComboBox.connect("activated(int)", self._onChosen)
        self.ui.manageButton.connect("clicked()", self.manage)

    @property
    def dialog(self):
        """The dialog of models, made when it is first needed."""
        if self._dialog is None:
            self._dialog = ModelDialog(self._onListChanged)
        return self._dialog

    @property
    def model(self):
        """The chosen model file; None where there is none."""
        path = self.desk.parameters.modelPath if self.desk.parameters is not None else Path()
        return None if str(path) in ("", ".") else Path(path)

    def enter(self):
        """The module was opened: the model that was used last is chosen where the scene names none."""
        if self.model is None:
            last = ModelList.lastUsed()
            found = ModelList.models()
            known = last if last is not None and last.is_file() else next(iter(found), None)
            if known is not None:
                self.desk.parameters.modelPath = known
        self._fill()

    def refresh(self):
        """Shows the model of the scene. One that the training module or a script has chosen is put on the list."""
        if self.model != self._shown:
            self._fill()

    def _fill(self):
        self._shown = self.model
        if self.model is not None and self.model.is_file():
            ModelList.remember(self.model)
        paths, box = ModelList.models(), self.ui.modelComboBox
        if self.model is not None and self.model not in paths:
            paths.append(self.model)
        box.blockSignals(True)
        box.clear()
        for path in paths:
            box.addItem(titleOf(path), str(path))
        if self.model is None:
            box.insertItem(0, self._none, "")
        box.setCurrentIndex(paths.index(self.model) if self.model is not None else 0)
        box.blockSignals(False)
        self._showCard()

    def _showCard(self):
        text = tip = ""
        if self.model is not None:
            try:
                card = cardOf(self.model)
                text, tip = card.short(), _asToolTip(f"{what}: {words}" for what, words in card.lines())
            except ModelRefused as refusal:
                text = f"{refusal} [{refusal.code}]"
        self._short = text
        self.ui.modelCardLabel.text = text
        self.ui.modelCardLabel.toolTip = tip

    def showTime(self, text):
        """Adds to the line of the card how long the open case will take; "" where nothing was measured."""
        self.ui.modelCardLabel.text = f"{self._short} · {text}" if text and self._short else self._short

    def choose(self, path):
        """Makes a model the one of the scene."""
        self.desk.parameters.modelPath = Path(path)
        self._fill()
        self.desk.refresh()

    def _onChosen(self, index):
        path = self.ui.modelComboBox.itemData(index)
        if path:
            self.choose(path)

    def manage(self):
        """Opens the dialog of models."""
        self.dialog.open(self.model)

    def addDropped(self, paths):
        """Puts dropped models on the list; the dialog opens where it has something to say of them."""
        self.dialog.add(paths)
        if self.dialog.notice.message:
            self.dialog.widget.show()
            self.dialog.widget.raise_()

    def _onListChanged(self, path):
        if self.desk.parameters is None:
            return
        gone = self.model is not None and not self.model.is_file()
        if path is not None:
            self.choose(path)
        elif gone:
            self.desk.parameters.modelPath = next(iter(ModelList.models()), Path())
        self._fill()
        self.desk.refresh()

    # May it be used

    def isUsable(self, again):
        """Whether the model may be used now; where not, says why.

        Args:
            again: Called when the user has settled what was in the way.
        """
        path = self.model
        try:
            card = cardOf(path)
            isDamaged = ModelList.isIntact(path) is False
        except ModelRefused as refusal:
            self._sayRefused(path, refusal)
            return False
        if isDamaged:
            self.notice.say(message("E402"), "E402", ((_("Manage…"), self.manage),))
            return False
        digest = hashOf(path)
        if card.isTrainedHere or ModelList.hasAgreed(digest):
            ModelList.setLastUsed(path)
            return True
        agreed = lambda: (ModelList.agree(digest), again())
        self.notice.say(message("E406"), "E406", ((_("I agree"), agreed), (_("Cancel"), lambda: None)))
        return False

    def _sayRefused(self, path, refusal):
        """The model cannot be read; where it once was downloaded from is known from its card."""
        link = readJson(path.parent / CARD_FILE).get("url")
        if refusal.code == "E405" and link:
            actions = (*modelActions("E401", self._addFromFile), (_("Download again…"), lambda: self._offer(link)))
            self.notice.say(message("E401", link=link), "E401", actions)
        elif refusal.code == "E405":
            self.notice.say(str(refusal), "E405", ((_("Choose folder…"), self._onChooseFolder),))
        else:
            actions = (*modelActions(refusal.code, self._addFromFile), (_("Manage…"), self.manage))
            self.notice.say(str(refusal), refusal.code, actions)

    def _addFromFile(self):
        self.manage()
        self.dialog.addFromFile()

    def _offer(self, link):
        self.manage()
        self.dialog.download.offer(str(link))

    def _onChooseFolder(self):
        """The models lie elsewhere now, for example on a drive with another letter; they are used where they lie."""
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder with the model"))
        found = [path for path in ModelList.find([folder]) if path.suffix == ".pt"] if folder else []
        for path in found:
            ModelList.remember(path)
        if found:
            self.choose(next((path for path in found if self.model and path.name == self.model.name), found[0]))

    @property
    def typicalSpacingMm(self):
        """(columns, rows, slices) in mm of what the chosen model was trained on; None where it is not known."""
        try:
            return cardOf(self.model).typicalSpacingMm if self.model is not None else None
        except ModelRefused:
            return None

    def mismatch(self, volumeNode, ignored=()):
        """[Problem] where a volume is far from what the model was trained on."""
        try:
            card = cardOf(self.model)
        except ModelRefused:
            return []
        found = [modalityProblem(volumeNode, card.isForCt), _spacingMismatch(volumeNode, card.spacingMm)]
        return [one for one in found if one is not None and one.code not in ignored]

    def discard(self):
        """The panel goes away."""
        if self._dialog is not None:
            self._dialog.discard()
            self._dialog = None


def _spacingMismatch(volumeNode, trained):
    spacing = volumeNode.GetSpacing()
    if trained is None or (trained[0] / _FAR <= min(spacing) and max(spacing) <= trained[1] * _FAR):
        return None
    low, high = (f"{value:.2g}" for value in trained)
    found = "×".join(f"{value:.2g}" for value in spacing)
    values = {"trained": low if low == high else f"{low}–{high}", "name": volumeNode.GetName(), "found": found}
    return Problem("E307", values, blocks=False)


def _asToolTip(lines):
    """Text of a stranger is shown as it is, never as markup."""
    return "<qt>" + "<br>".join(html.escape(line) for line in lines)
