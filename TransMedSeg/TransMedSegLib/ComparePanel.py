"""Section 4 of the panel: A against B, as overlays, as numbers, as a plot."""

import math
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from . import CompareTable, Overlay
from .CaseTable import Case, cases
from .Compare import Comparison, Refused, Side
from .Counted import counted
from .EnterKey import onEnter
from .Messages import message
from .Notice import Notice
from .Uncertainty import jumpTo
from .VolumeExchange import positionRas


class ComparePanel:
    """Fills the section Compare.

    Args:
        desk: What the sections share.
    """

    def __init__(self, desk):
        self.desk, self.ui = desk, desk.ui
        self.notice = Notice()
        self.ui.compareNoticePlace.layout().addWidget(self.notice)
        self.comparison = None
        self._caseId = ""
        self._tips = {
            "running": _("A comparison is running"),
            "compare": _("Dice, distances and volumes"),
            "missing": _("Choose A and B first"),
            "nothing": _("There is no table yet: compare two masks first"),
            "one": _("{count} case: Dice {dice}, 95HD {hd95} mm, ASD {asd} mm"),
            "summary": _("{count} cases, median [IQR]: Dice {dice}, 95HD {hd95} mm, ASD {asd} mm"),
        }
        ui = self.ui
        self._tableTips = {name: getattr(ui, name).toolTip for name in ("copyButton", "csvButton", "exportCsvButton", "plotButton")}
        ui.scoreTable.setColumnCount(1 + len(CompareTable.COLUMNS))
        ui.scoreTable.setHorizontalHeaderLabels([_("Case"), *CompareTable.COLUMNS.values()])
        ui.scoreTable.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        ui.plotComboBox.addItems(list(CompareTable.COLUMNS.values()))
        for selector, box in ((ui.aSelector, ui.aPartComboBox), (ui.bSelector, ui.bPartComboBox)):
            selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node, box=box: self._onNode(node, box))
        for button in (ui.outlineRadioButton, ui.fillRadioButton, ui.errorsRadioButton):
            button.connect("clicked()", self.showOverlay)
        ui.thicknessSpinBox.connect("valueChanged(int)", lambda value: self.showOverlay())
        ui.compareButton.connect("clicked()", self.compare)
        ui.copyButton.connect("clicked()", self._onCopy)
        ui.csvButton.connect("clicked()", self.saveCsv)
        ui.plotButton.connect("toggled(bool)", lambda on: self._showPlot())
        ui.plotComboBox.connect("currentIndexChanged(int)", lambda index: self._showPlot())
        ui.scoreTable.connect("cellDoubleClicked(int,int)", lambda row, column: self._openWorst(row))
        self._keys = onEnter(ui.scoreTable, self._openWorst)

    @property
    def mode(self):
        if self.ui.fillRadioButton.checked:
            return Overlay.FILL
        return Overlay.ERRORS if self.ui.errorsRadioButton.checked else Overlay.OUTLINE

    def sides(self):
        """A and B as chosen; None for one that is not."""
        ui = self.ui
        pairs = ((ui.aSelector, ui.aPartComboBox), (ui.bSelector, ui.bPartComboBox))
        return [Side(box.currentNode(), parts.currentData or "") if box.currentNode() else None for box, parts in pairs]

    def _onNode(self, node, box):
        """Offers the segments or values of a node. Nothing is chosen where a label map has several values."""
        box.clear()
        if node is not None:
            parts = Side(node).parts()
            if len(parts) > 1 and Side(node).isLabelMap:
                box.addItem(_("choose…"), "")
            for part, name in parts.items():
                box.addItem(name, part)
        self.comparison = None
        self.refresh()

    def refresh(self):
        """Shows what can be done, and the table of the scene."""
        case = self.desk.current
        if case is not None and case.id != self._caseId:
            self._caseId = case.id
            self._followCase(case)
        for box in (self.ui.aPartComboBox, self.ui.bPartComboBox):
            box.setVisible(box.count > 1)
        hasBoth = all(self.sides())
        isRunning = self.comparison is not None and self.comparison.isRunning
        self.ui.compareButton.enabled = hasBoth and not isRunning
        self.ui.compareButton.toolTip = self._tips["running" if isRunning else "compare" if hasBoth else "missing"]
        self._showTable()

    def _followCase(self, case):
        """Another case was opened: its views must not show the masks of the case before, so A becomes its own mask."""
        node = self.ui.aSelector.currentNode()
        if node is not None and any(other.segmentation is node for other in cases() if other != case):
            self.ui.bSelector.setCurrentNode(None)
            self.ui.aSelector.setCurrentNode(case.segmentation)

    # Comparing

    def compare(self):
        """Shows the overlay and asks the engine for the numbers."""
        self.notice.clear()
        try:
            self.comparison = Comparison(*self.sides(), self._caseName())
        except Refused as refusal:
            self.comparison = None
            self.notice.say(str(refusal), refusal.code)
            return
        if self.comparison.isResampled:
            self.notice.say(message("E701"), "E701")
        if self.comparison.isEmpty:
            self.notice.say(message("E703"), "E703")
        self.showOverlay()
        self.comparison.score(self._onScores, self._onFailed)
        self.refresh()

    def _caseName(self):
        """The case that A belongs to, or the name of A."""
        node = self.ui.aSelector.currentNode()
        owner = next((case for case in cases() if case.segmentation is node), None)
        return owner.name if owner is not None else node.GetName()

    def _onScores(self, scores):
        CompareTable.add(scores)
        owner = next((case for case in cases() if case.name == scores.case), None)
        if owner is not None:
            dice = scores.values["dice"]
            owner.setNumber("Dice", None if math.isnan(dice) else dice)
        self._showPlot()
        self.desk.refresh()

    def _onFailed(self, code, text):
        self.notice.say(text, code)
        self.refresh()

    def showOverlay(self):
        """Shows A and B as the buttons say. Makes the masks where that was not done yet."""
        a, b = self.sides()
        if a is None or b is None:
            return
        if self.mode == Overlay.ERRORS:
            comparison = self._masks(a, b)
            if comparison is None:
                return
            Overlay.showErrors(comparison.maskA, comparison.maskB, comparison.grid)
        Overlay.show(self.mode, (a.node, b.node), self.ui.thicknessSpinBox.value)

    def _masks(self, a, b):
        if self.comparison is None:
            try:
                self.comparison = Comparison(a, b, self._caseName())
            except Refused as refusal:
                self.notice.say(str(refusal), refusal.code)
        return self.comparison

    # Table and plot

    def _showTable(self):
        node, table = CompareTable.find(), self.ui.scoreTable
        found = CompareTable.rows(node) if node is not None else []
        table.setRowCount(len(found))
        for row, (case, numbers, _worst, note) in enumerate(found):
            texts = [case, *(CompareTable.format_(metric, value) for metric, value in numbers.items())]
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                if note:
                    item.setToolTip(message("E703") if note == "both masks are empty" else note)
                table.setItem(row, column, item)
        for name, tip in self._tableTips.items():
            getattr(self.ui, name).enabled = bool(found)
            getattr(self.ui, name).toolTip = tip if found else self._tips["nothing"]
        self.ui.summaryLabel.text = self._summary(node, len(found)) if found else ""

    def _summary(self, node, count):
        texts = CompareTable.summary(node)
        return counted(count, self._tips["one"], self._tips["summary"], dice=texts["dice"], hd95=texts["hd95_mm"], asd=texts["asd_mm"])

    def _onCopy(self):
        qt.QApplication.clipboard().setText(CompareTable.toText(CompareTable.find()))

    def saveCsv(self):
        """Asks for a file and saves the table with every digit."""
        path = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save the table"), "comparison.csv", "CSV (*.csv)")
        path = path[0] if isinstance(path, tuple) else path
        if path:
            with slicer.util.tryWithErrorDisplay(_("The table could not be saved.")):
                Path(path).write_text(CompareTable.toCsv(CompareTable.find()), encoding="utf-8", newline="")

    def _showPlot(self):
        node, isShown = CompareTable.find(), self.ui.plotButton.checked
        self.ui.plotWidget.setVisible(isShown and node is not None)
        self.ui.plotComboBox.enabled = isShown
        if not isShown or node is None:
            return
        chart = CompareTable.plot(node, list(CompareTable.COLUMNS)[max(self.ui.plotComboBox.currentIndex, 0)])
        view = slicer.mrmlScene.GetSingletonNode("TransMedSeg", "vtkMRMLPlotViewNode")
        if view is None:
            view = slicer.mrmlScene.CreateNodeByClass("vtkMRMLPlotViewNode")
            view.UnRegister(None)
            view.SetSingletonTag("TransMedSeg")
            view = slicer.mrmlScene.AddNode(view)
        self.ui.plotWidget.setMRMLPlotViewNode(view)
        view.SetPlotChartNodeID(chart.GetID())

    def _openWorst(self, row):
        """Opens the case of a row at its worst slice."""
        name, _numbers, worst, _note = CompareTable.rows(CompareTable.find())[row]
        case = next((one for one in cases() if one.name == name), None)
        if case is None:
            return
        self.desk.open(Case(case.volume))
        columns, rows, _slices = case.volume.GetImageData().GetDimensions()
        jumpTo(positionRas(case.volume, (worst, rows / 2, columns / 2)))

    def discard(self):
        """Ends a comparison that is running."""
        if self.comparison is not None:
            self.comparison.discard()
        self.comparison = None
