"""The section with the list of runs: open, resume, delete."""

from __future__ import annotations

import time
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from . import Computer
from .EnterKey import onEnter
from .RunList import RunList, stateTitle
from .RunState import RunSummary, State
from .TrainFolds import hasLivingFolds
from .TrainMeasure import goalSeconds, known
from .TrainParameters import Goal

_REFRESH_MS = 3000


class TrainRuns:
    """Fills the table of runs while the module is open.

    Args:
        ui: Widgets by name.
        panel: Opens and resumes runs.
    """

    def __init__(self, ui, panel) -> None:
        self.ui = ui
        self._panel = panel
        self._list: RunList | None = None
        self.summaries: list[RunSummary] = []
        self._rows: list[tuple] = []
        self._timer = qt.QTimer()
        self._timer.interval = _REFRESH_MS
        self._timer.connect("timeout()", self.refresh)
        table = ui.runsTable
        table.setColumnCount(5)
        table.setHorizontalHeaderLabels([_("Run"), _("Started"), _("State"), _("Iteration"), _("Best Dice")])
        table.verticalHeader().hide()
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setStretchLastSection(True)
        table.horizontalHeader().setHighlightSections(False)  # bold headings would not fit into their columns
        table.setWordWrap(False)
        table.connect("itemSelectionChanged()", self._updateButtons)
        table.connect("cellDoubleClicked(int,int)", lambda row, column: self._onOpen())
        self._keys = onEnter(table, lambda row: self._onOpen())
        ui.openRunButton.connect("clicked()", self._onOpen)
        ui.resumeRunButton.connect("clicked()", self._onResume)
        ui.deleteRunButton.connect("clicked()", self._onDelete)
        self._updateButtons()

    def start(self) -> None:
        self.refresh()
        self._timer.start()

    def stop(self) -> None:
        self._timer.stop()

    def refresh(self) -> None:
        """Reads the runs folder again."""
        if self._panel.parameters is None:
            return
        folder = self._panel.runsFolder()
        if self._list is None or self._list.folder != folder:
            self._list = RunList(folder)
        selected = self.selected()
        self.summaries = self._list.runs()
        rows = [(_texts(summary), str(summary.runDir)) for summary in self.summaries]
        if rows != self._rows:
            self._rows = rows
            self._fill(selected)
        self._updateButtons()
        self.showTimes(self._panel.parameters)
        self._panel.result.refresh({summary.runDir.name: summary.state for summary in self.summaries})

    def _fill(self, selected: RunSummary | None) -> None:
        table = self.ui.runsTable
        table.blockSignals(True)
        table.setRowCount(len(self.summaries))
        for row, summary in enumerate(self.summaries):
            for column, text in enumerate(_texts(summary)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(str(summary.runDir))
                table.setItem(row, column, item)
            if selected is not None and selected.runDir == summary.runDir:
                table.selectRow(row)
        table.blockSignals(False)

    def showTimes(self, parameters) -> None:
        """Tells the form how long each goal takes as measured for these settings, else how long it took on the device in question."""
        if parameters is None or self._list is None:
            return
        measure = self._panel.measure
        measure.show()
        expected = goalSeconds(known(parameters), measure.trainings())
        if expected:
            self._panel.form.showTimes(expected, isExpected=True)
            return
        device = Computer.knownDevice(parameters.device)
        self._panel.form.showTimes({goal: self._list.measuredSeconds(goal.value, device) for goal in Goal})

    def selected(self) -> RunSummary | None:
        rows = self.ui.runsTable.selectionModel().selectedRows()
        row = rows[0].row() if rows else -1
        return self.summaries[row] if 0 <= row < len(self.summaries) else None

    def _updateButtons(self) -> None:
        run = self.selected()
        isAlive = run is not None and run.state in (State.Running, State.Queued)
        isUsed = isAlive or (run is not None and hasLivingFolds(run.runDir))
        nothing = _("Choose a run first")
        self.ui.openRunButton.text = _("Re-attach") if isAlive else _("Open")
        for button, isEnabled, whyNot, toolTip in (
            (self.ui.openRunButton, run is not None, nothing, _("Show its curves and its result")),
            (self.ui.resumeRunButton, run is not None and run.canResume, nothing if run is None else _("Only a run that was ended early can be resumed"), _("Continue from its last saved state")),
            (self.ui.deleteRunButton, run is not None and not isUsed, nothing if run is None else _("Stop it first"), _("Delete the run's folder with its model")),
        ):
            button.enabled = isEnabled
            button.toolTip = toolTip if isEnabled else whyNot

    def _onOpen(self) -> None:
        if self.selected() is not None:
            self._panel.follow.open(self.selected().runDir)

    def _onResume(self) -> None:
        self._panel.follow.resume(self.selected().runDir)

    def _onDelete(self) -> None:
        run = self.selected()
        question = _("Delete the run '{run}' with its model? This cannot be undone.").format(run=run.runDir.name)
        if not slicer.util.confirmYesNoDisplay(question):
            return
        with slicer.util.tryWithErrorDisplay(_("The run could not be deleted."), waitCursor=True):
            self._list.delete(run.runDir)
        self.refresh()


def _texts(summary: RunSummary) -> tuple[str, ...]:
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.started)) if summary.started else ""
    iteration = f"{summary.iteration} / {summary.total}" if summary.total else ""
    best = "" if summary.bestDice is None else f"{summary.bestDice:.3f}"
    return Path(summary.runDir).name, started, stateTitle(summary.state), iteration, best
