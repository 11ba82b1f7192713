"""Section 1 of the panel: the list of cases, and which one comes next."""

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from . import CaseTable, NextCase
from .Autosave import leftovers, restore
from .EnterKey import onEnter
from .FileDrop import FileDrop
from .Messages import message
from .Notice import Notice
from .SampleCase import SampleCase

_MODEL_ENDINGS = (".pt", ".zip")


class CasesPanel:
    """Fills the section Cases.

    Args:
        desk: What the sections share.
        addModels: Gets model files that were dropped on the list of cases.
    """

    def __init__(self, desk, addModels):
        self.desk, self.ui, self._addModels = desk, desk.ui, addModels
        self.notice = Notice()
        self.ui.casesNoticePlace.layout().addWidget(self.notice)
        self._drops = [FileDrop(widget, self.add) for widget in (self.ui.caseTable, self.ui.casesHintLabel)]
        self._ids = []
        # Asking for a translation walks up the stack; texts that are shown often are asked for once.
        self._tips = {
            "remove": _("Take the selected cases from the list. Nothing is deleted."),
            "noRow": _("Select a row first"),
            "add": _("Put this volume of the scene on the list"),
            "noVolume": _("Choose a volume that is not on the list yet"),
            "next": _("Open the case that is most useful to label next"),
            "noNext": _("Every case was looked at by a person."),
            "noCase": _("There are no cases yet: add a volume first"),
            "labeled": _("On the list of labeled volumes of TransMedSegTrain"),
            "sample": _("Make a phantom of a left atrium on this computer and put it on the list. No patient, no download."),
            "making": _("Making a phantom…"),
        }
        table = self.ui.caseTable
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("name"), _("status"), _("volume mL"), _("Dice")])
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in range(1, 4):  # as wide as the language needs; the name gets the rest
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setHighlightSections(False)  # bold headings would not fit into their columns
        table.setWordWrap(False)
        table.setTextElideMode(qt.Qt.ElideMiddle)  # names of one study often differ only at their ends
        table.verticalHeader().hide()
        table.connect("cellDoubleClicked(int,int)", lambda row, column: self._open(row))
        self._keys = onEnter(table, self._open)
        table.connect("itemSelectionChanged()", self._showButtons)
        self.ui.addSceneButton.connect("clicked()", self._onAddScene)
        self.ui.addFilesButton.connect("clicked()", self._onAddFiles)
        self.ui.addFolderButton.connect("clicked()", self._onAddFolder)
        self.ui.removeButton.connect("clicked()", self._onRemove)
        self.ui.nextButton.connect("clicked()", self.openNext)
        self._sample = SampleCase(self._onSample, self._onNoSample)
        self.ui.sampleButton.connect("clicked()", self.trySample)
        self.ui.sceneVolumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._showButtons())

    def refresh(self):
        """Shows the cases of the scene."""
        found, current = CaseTable.cases(), self.desk.current
        selected = self.selected()
        table = self.ui.caseTable
        table.blockSignals(True)
        table.setRowCount(len(found))
        self._ids = [case.id for case in found]
        texts = CaseTable.statusTexts()
        for row, case in enumerate(found):
            status = texts[case.status] + (" ✓" if case.isLabeled else "")
            numbers = [_number(case.number("VolumeMl"), 1), _number(case.number("Dice"), 2)]
            for column, text in enumerate([case.name, status, *numbers]):
                item = qt.QTableWidgetItem(text)
                font = item.font()
                font.setBold(case == current)
                item.setFont(font)
                if column == 0:
                    item.setToolTip(text)
                elif case.isLabeled and column == 1:
                    item.setToolTip(self._tips["labeled"])
                table.setItem(row, column, item)
        for row, case in enumerate(found):
            if case in selected:
                table.selectRow(row)
        table.blockSignals(False)
        self._showButtons()

    def selected(self):
        """The cases whose rows are selected."""
        rows = sorted({item.row() for item in self.ui.caseTable.selectedItems()})
        nodes = [slicer.mrmlScene.GetNodeByID(self._ids[row]) for row in rows if row < len(self._ids)]
        return [CaseTable.Case(node) for node in nodes if node is not None]

    def _showButtons(self):
        tips, ui = self._tips, self.ui
        ui.removeButton.enabled = bool(self.selected())
        ui.removeButton.toolTip = tips["remove" if ui.removeButton.enabled else "noRow"]
        volume = ui.sceneVolumeSelector.currentNode()
        ui.addSceneButton.enabled = volume is not None and CaseTable.caseOf(volume) is None
        ui.addSceneButton.toolTip = tips["add" if ui.addSceneButton.enabled else "noVolume"]
        found = CaseTable.cases()
        isOpen = any(case.status in (CaseTable.TO_DO, CaseTable.PREDICTED) for case in found)
        ui.nextButton.enabled = isOpen
        ui.nextButton.toolTip = tips["next" if isOpen else "noNext" if found else "noCase"]
        reason = self.desk.notReady or (tips["making"] if self._sample.isRunning else "")
        ui.sampleButton.enabled = not reason
        ui.sampleButton.toolTip = reason or tips["sample"]

    # Adding and removing

    def add(self, paths):
        """Loads files and folders and puts them on the list. What cannot be read is named and skipped.

        Models go where models are, and masks of their own are loaded, to be compared with.
        """
        models = [path for path in map(Path, paths) if path.suffix.lower() in _MODEL_ENDINGS and path.is_file()]
        if models:
            self._addModels(models)
        paths = [path for path in map(Path, paths) if path not in models]
        if paths:
            self._addVolumes(paths)

    def _addVolumes(self, paths):
        files, folders = CaseTable.findFiles(paths)
        unread, added, masks = [], [], []
        for path in files:
            try:
                if CaseTable.isMaskFile(path):
                    masks.append(CaseTable.loadMask(path))
                else:
                    added.append(CaseTable.loadFile(path))
            except OSError:
                unread.append(path)
        for folder in folders:
            added += CaseTable.loadDicomFolder(folder)
        if unread:
            self.notice.say("\n".join(_unread(path) for path in unread), "E311")
        elif masks:
            names = ", ".join(node.GetName() for node in masks)
            self.notice.say(_("Loaded as a mask, to be chosen as A or B under Compare: {names}").format(names=names))
        elif not added:
            names = ", ".join(Path(path).name for path in paths)
            self.notice.say(_("No volume was found in {names}.").format(names=names))
        else:
            self.notice.clear()
        if added and self.desk.current is None:
            self.desk.open(added[0])
        self.desk.refresh()

    def _onAddScene(self):
        case = CaseTable.addCase(self.ui.sceneVolumeSelector.currentNode())
        if case.segmentation is not None:
            self.desk.review.judge(case)  # a mask that the user has already: its volume is shown, and it is locked
        if self.desk.current is None:
            self.desk.open(case)
        self.desk.refresh()

    def _onAddFiles(self):
        paths = qt.QFileDialog.getOpenFileNames(slicer.util.mainWindow(), _("Add volumes"))
        # PythonQt returns the list alone, PySide a pair with the filter.
        paths = paths[0] if isinstance(paths, tuple) else paths
        if paths:
            self.add(paths)

    def _onAddFolder(self):
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Add a folder"))
        if folder:
            self.add([folder])

    def trySample(self):
        """Lets the engine make a phantom; it is opened when it is there."""
        self.notice.say(self._tips["making"])
        self._sample.start()
        self._showButtons()

    def _onSample(self, case):
        self.notice.say(_("'{name}' is a phantom, made by this computer; it shows how things work, not how good a model is.").format(name=case.name))
        self.desk.open(case)

    def _onNoSample(self, code, text):
        self.notice.say(text, code)
        self._showButtons()

    def discard(self):
        """The panel goes away."""
        self._sample.discard()

    def _onRemove(self):
        for case in self.selected():
            if case == self.desk.current:
                self.desk.parameters.inputVolume = None
            CaseTable.removeCase(case)
        self.desk.refresh()

    # Opening

    def _open(self, row):
        node = slicer.mrmlScene.GetNodeByID(self._ids[row])
        if node is not None:
            self.desk.open(CaseTable.Case(node))

    def openNext(self):
        """Opens the case that is most useful to label next, and says why."""
        suggestions = NextCase.suggest(CaseTable.cases(), self.desk.current)
        if not suggestions:
            self.ui.whyLabel.text = self._tips["noNext"]
            return
        self.desk.open(suggestions[0].case)
        self.ui.whyLabel.text = suggestions[0].reason

    # Work that a crash left behind

    def offerRestore(self):
        """Asks what to do with the newest autosave that a crash left behind."""
        found = leftovers()
        if not found:
            return
        one = found[0]
        text = _("We found unsaved work on {case} from {time}.").format(case=one.case, time=one.clock)
        actions = (
            (_("Restore"), lambda: self._onRestore(one)),
            (_("Ignore"), lambda: None),
            (_("Delete"), lambda: self._onDelete(one)),
        )
        self.notice.say(text, "", actions)

    def _onRestore(self, leftover):
        try:
            case = restore(leftover, CaseTable.cases())
        except OSError:
            self.notice.say(_unread(leftover.path), "E311")
            return
        if case is None:
            text = _("The work is in the segmentation '{case}'. Load its volume and put it on the list to go on.")
            self.notice.say(text.format(case=leftover.case))
        else:
            leftover.delete()
            self.desk.open(case)
            self.offerRestore()

    def _onDelete(self, leftover):
        leftover.delete()
        self.offerRestore()


def _unread(path):
    """E311 of a file, with the likely reason."""
    return message("E311", name=path.name, reason=CaseTable.unreadableReason(path))


def _number(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"
