"""The section with the result of a run: Dice table, what it is worth in a sentence, what to do with the model."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from semiseg import protocol

from . import ModelList
from .BugReport import bugReport
from .Counted import counted
from .ModelCard import FEW_CASES, runOf
from .RunCurves import CHART_ATTRIBUTE, RUN_ATTRIBUTE, findNode
from .RunState import State, lastIteration, logTail, readJson
from .TrainFolds import gainText, leaveOneOutText, meanDice

MODEL_SETTING = "TransMedSeg/Model"
"""Settings key of the model that the other module offers first."""

_FILES = ("labeled", "unlabeled", "held_out", "masks", "resample_masks", "prepared")
"""Options of a job that name files of patients."""

_TABLE_KEY = "result"
_DICE_FILE = "dice.csv"
_COLUMNS = (("case", "case"), ("label", "structure"), ("dice", "Dice"), ("hd95_mm", "95HD (mm)"), ("asd_mm", "ASD (mm)"), ("volume_ml", "volume (mL)"), ("reference_ml", "reference (mL)"), ("note", "note"))
_TEXT_COLUMNS = ("case", "label", "note")


class TrainResult:
    """Shows the scores of a finished run and hands on its model.

    Args:
        ui: Widgets by name.
        notice: Where messages go.
    """

    def __init__(self, ui, notice) -> None:
        self.ui = ui
        self._notice = notice
        self.runDir: Path | None = None
        self._result: dict = {}
        self._states: Mapping[str, State] = {}
        for title, data in ((_("With unlabeled volumes"), ""), (_("Labels only"), protocol.BASELINE_FOLDER)):
            ui.resultModelComboBox.addItem(title, data)
        ui.useModelButton.connect("clicked()", self.useModel)
        ui.exportModelButton.connect("clicked()", self._onExport)
        ui.copyReportButton.connect("clicked()", lambda: self.runDir and self.copyReport(self.runDir))
        self.clear()

    def clear(self) -> None:
        self.runDir = None
        self.ui.resultLabel.text = _("No result yet.")
        self._showTable(None)
        self._updateButtons()

    def _showTable(self, node) -> None:
        self.ui.resultTable.setMRMLTableNode(node)
        self.ui.resultTable.setVisible(node is not None)

    def show(self, runDir: Path, result: dict) -> None:
        """Shows what a run left.

        Args:
            runDir: Its folder.
            result: What the engine handed over; empty for a run that was stopped.
        """
        self.runDir, self._result = Path(runDir), result
        self._showTable(self._tableNode())
        self.refresh()
        self.ui.resultModelComboBox.setCurrentIndex(int(self._offersLabelsOnly() and isWorse(result)))
        self._updateButtons()

    @property
    def model(self) -> Path:
        """The model file that is chosen: the run's, or that of the labels alone where the gain was measured."""
        chosen = self.ui.resultModelComboBox.currentData if self._offersLabelsOnly() else ""
        return self.runDir / chosen / protocol.MODEL_FILE

    def _offersLabelsOnly(self) -> bool:
        """Whether the training on the labels alone that measured the gain was brought to its end."""
        return "baseline" in self._result and (self.runDir / protocol.BASELINE_FOLDER / protocol.MODEL_FILE).exists()

    def refresh(self, states: Mapping[str, State] | None = None) -> None:
        """Says anew what the result is worth: runs that leave one out finish one after another.

        Args:
            states: Of all runs by the name of their folder, where they have just been read.
        """
        self._states = self._states if states is None else states
        if self.runDir is not None:
            texts = (resultText(self._result), leaveOneOutText(self.runDir, self._states))
            self.ui.resultLabel.text = "\n".join(text for text in texts if text) or _("No result yet.")

    def _updateButtons(self) -> None:
        hasModel = self.runDir is not None and (self.runDir / protocol.MODEL_FILE).exists()
        hasTwo = hasModel and self._offersLabelsOnly()
        self.ui.resultModelLabel.setVisible(hasTwo)
        self.ui.resultModelComboBox.setVisible(hasTwo)
        for button, toolTip in ((self.ui.useModelButton, _("Segment with it in the module TransMedSeg")), (self.ui.exportModelButton, _("One .zip for another computer"))):
            button.enabled = hasModel
            button.toolTip = toolTip if hasModel else _("Finish a training first")

    def _tableNode(self):
        """The scores of the run as a table of the scene; None where none were measured."""
        path = self.runDir / _DICE_FILE
        if not path.exists():
            return None
        with open(path, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        run = self.runDir.name
        node = findNode("vtkMRMLTableNode", run, _TABLE_KEY)
        if node is None:
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", f"{run} {_('result')}")
            node.SetAttribute(RUN_ATTRIBUTE, run)
            node.SetAttribute(CHART_ATTRIBUTE, _TABLE_KEY)
        node.RemoveAllColumns()
        for key, title in _COLUMNS:
            column = vtk.vtkStringArray() if key in _TEXT_COLUMNS else vtk.vtkDoubleArray()
            column.SetName(title)
            for row in rows:
                text = row.get(key) or ""
                column.InsertNextValue(text if key in _TEXT_COLUMNS else _numberIn(text))
            node.AddColumn(column)
        if hasattr(node, "SetUseColumnTitleAsColumnHeader"):
            node.SetUseColumnTitleAsColumnHeader(True)
        else:
            node.SetUseColumnNameAsColumnHeader(True)  # the name of the same setting in older Slicer versions
        node.SetLocked(True)
        return node

    def useModel(self) -> None:
        """Makes the model the one that the other module segments with."""
        path = str(self.model)
        slicer.app.userSettings().setValue(MODEL_SETTING, path)
        if hasattr(slicer.modules, "transmedseg"):
            slicer.util.getModuleLogic("TransMedSeg").getParameterNode().modelPath = Path(path)
        self._notice.say(_("The module TransMedSeg now segments with this model."))

    def _onExport(self) -> None:
        found = qt.QFileDialog.getSaveFileName(None, _("Export model"), f"{runOf(self.model)}.zip", _("Model") + " (*.zip)")
        name = found[0] if isinstance(found, tuple) else found
        if name:
            with slicer.util.tryWithErrorDisplay(_("The model could not be exported."), waitCursor=True):
                ModelList.export(self.model, Path(name))
                self._notice.say(_("Exported: {file}").format(file=Path(name).name))

    def copyReport(self, runDir: Path) -> None:
        """Copies what a bug report needs."""
        slicer.app.clipboard().setText(runReport(runDir))
        self._notice.say(_("Copied."))


def resultText(result: dict) -> str:
    """The scores in a sentence, with the number of cases in the same line."""
    lines = []
    for title, part in ((_("With unlabeled volumes"), result), (_("Labels only"), result.get("baseline") or {})):
        for label, metrics in (part.get("scores") or {}).items():
            dice = metrics.get("dice") or {}
            if not dice.get("count"):
                continue
            count = int(dice["count"])
            one, many = _("{title}: {label} Dice {mean} on {count} case"), _("{title}: {label} Dice {mean} on {count} cases")
            text = counted(count, one, many, title=title, label=label, mean=f"{dice['mean']:.3f}")
            lines.append(text + (_(": too few to be sure") if count < FEW_CASES else ""))
    lines += [gainText([(with_, without)], count) for with_, without, count in _compared(result)]
    if not lines and "iterations" in result and "goals" not in result:  # a check or a measurement leaves its own in the folder
        lines.append(_("Finished without held-out volumes: only the validation curve tells how good it is."))
    return "\n".join(lines)


def isWorse(result: dict) -> bool:
    """Whether the labels alone did better, on enough cases to go by."""
    compared = _compared(result)
    return bool(compared) and all(count >= FEW_CASES for _with, _without, count in compared) and sum(with_ - without for with_, without, _count in compared) < 0


def _compared(result: dict) -> list[tuple[float, float, int]]:
    """Dice with unlabeled volumes and on the labels alone, and the number of cases, of every structure that both have."""
    found = [(meanDice(result, label), meanDice(result.get("baseline") or {}, label), label) for label in result.get("scores") or {}]
    return [(with_, without, int(result["scores"][label]["dice"]["count"])) for with_, without, label in found if None not in (with_, without)]


def runReport(runDir: Path) -> str:
    """Versions, settings and the end of the log. Paths are left out: they may hold names of patients."""
    job = readJson(runDir / protocol.JOB_FILE)
    options = {key: value for key, value in (job.get("options") or {}).items() if key not in _FILES}
    return bugReport(logTail(runDir), (f"iteration {lastIteration(runDir)}", json.dumps(options)))


def _numberIn(text: str) -> float:
    """A number of the engine's table in full precision; an empty field is an undefined number."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
