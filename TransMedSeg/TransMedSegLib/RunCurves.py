"""Curves of a run as MRML nodes: tables, plot series and plot charts, which are saved with the scene."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import slicer
import vtk
from slicer.i18n import tr as _

RUN_ATTRIBUTE = "TransMedSeg.Run"
CHART_ATTRIBUTE = "TransMedSeg.Chart"
STEP_COLUMN = "iteration"
BASELINE = "baseline_"
"""What the names of the curves begin with that the run on the labels alone draws."""
DICE, STUDENT_DICE = "validation_dice", "validation_dice_student"
_FEW = 50
"""Up to here every number is marked: three rounds of pseudo-labels would hardly be seen as a line, and the first not at all."""

# Okabe and Ito's colors, told apart by the color blind.
_COLORS = ((0.0, 0.45, 0.7), (0.84, 0.37, 0.0), (0.0, 0.62, 0.45), (0.8, 0.47, 0.65), (0.34, 0.71, 0.91), (0.9, 0.6, 0.0))


@dataclass(frozen=True)
class Chart:
    """One chart: which scalars it shows and how it is labeled."""

    key: str
    title: str
    yTitle: str


@functools.cache
def charts() -> tuple[Chart, ...]:
    """All charts, in the order of the panel."""
    return (
        Chart("loss", _("Losses"), _("loss")),
        Chart("dice", _("Validation Dice"), _("Dice")),
        Chart("learning_rate", _("Learning rate"), _("learning rate")),
        Chart("pseudo_label", _("Pseudo-labels"), _("volume, entropy")),
        Chart("memory", _("GPU memory"), _("GB")),
        Chart("method", _("Method"), _("value")),
    )


def chartOf(scalar: str) -> str:
    """Which chart a scalar of the engine belongs to."""
    if scalar.removeprefix(BASELINE).startswith("loss"):
        return "loss"
    for word, key in (
        ("dice", "dice"),
        ("learning_rate", "learning_rate"),
        ("memory", "memory"),
        ("pseudo", "pseudo_label"),
        ("entropy", "pseudo_label"),
    ):
        if word in scalar:
            return key
    return "method"


@functools.cache
def _titles() -> dict[str, str]:
    """Names of curves in the words of a reader; any other one is called what the engine calls it."""
    return {
        "loss": _("total"),
        "loss_supervised": _("labels"),
        "loss_in": _("labels (mostly)"),
        "loss_out": _("pseudo-labels (mostly)"),
        "loss_tsa": _("TSA"),
        "loss_cross": _("cross labels"),
        DICE: _("deployed"),
        STUDENT_DICE: _("student"),
        "learning_rate": _("learning rate"),
        "pseudo_label_share": _("volume (share of the image)"),
        "pseudo_label_entropy": _("entropy"),
        "pseudo_label_refused": _("refused (share of the volumes)"),
        "gpu_memory_gb": _("GPU memory"),
    }


def curveTitle(scalar: str, hasStudent: bool = False) -> str:
    """What the legend says of a scalar.

    Args:
        scalar: Its name in the events.
        hasStudent: The deployed network is the teacher: a student is validated beside it.
    """
    name = scalar.removeprefix(BASELINE)
    if name == DICE and hasStudent:
        title = _("deployed (teacher)")
    else:
        title = _titles().get(name) or name.replace("validation_", "").replace("loss_", "").replace("_", " ")
    return title if name == scalar else _("{curve}, labels alone (dashed)").format(curve=title)


class RunCurves:
    """Adds scalars to the tables of one run. Nodes are made when the first number of a chart comes.

    Args:
        run: Name of the run; nodes of the same run that are in the scene already are filled anew.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self._rows: dict[str, dict[int, int]] = {}
        self._tables: dict[str, slicer.vtkMRMLTableNode] = {}

    def add(self, scalars: Iterable[dict], mostNew: int | None = None) -> tuple[set[str], list[dict]]:
        """Adds events of the kind scalar.

        Args:
            scalars: The events.
            mostNew: Curves to begin at once; a new node makes every view and list of the application look at the scene.

        Returns:
            The keys of the charts that changed, and the events of the curves that were not begun yet.
        """
        changed, later, numNew = set(), [], 0
        for scalar in scalars:
            try:
                name, value, step = str(scalar["name"]), float(scalar["value"]), int(scalar["step"])
            except (KeyError, TypeError, ValueError):
                continue  # a line that was cut off by a full disk
            key = chartOf(name)
            if not self._has(key, name):
                if mostNew is not None and numNew >= mostNew:
                    later.append(scalar)
                    continue
                numNew += 1
            self._set(key, name, step, value)
            changed.add(key)
        for key in changed:
            self._tables[key].GetTable().Modified()
            self._tables[key].Modified()
        return changed, later

    def _has(self, key: str, name: str) -> bool:
        return key in self._tables and self._tables[key].GetTable().GetColumnByName(name) is not None

    def _set(self, key: str, name: str, step: int, value: float) -> None:
        node = self._tables.get(key)
        if node is None:
            node = self._tables[key] = self._makeNodes(key)
            self._rows[key] = {}
        table, rows = node.GetTable(), self._rows[key]
        if table.GetColumnByName(name) is None:
            self._addColumn(key, name, len(rows))
        row = rows.get(step)
        if row is None:
            row = rows[step] = len(rows)
            if row == _FEW:
                self._hideMarkers(key)
            for index in range(table.GetNumberOfColumns()):
                table.GetColumn(index).InsertNextValue(float("nan"))
            table.GetColumnByName(STEP_COLUMN).SetValue(row, step)
        table.GetColumnByName(name).SetValue(row, value)

    def _addColumn(self, key: str, name: str, numRows: int) -> None:
        column = vtk.vtkDoubleArray()
        column.SetName(name)
        column.SetNumberOfValues(numRows)
        column.Fill(float("nan"))
        node = self._tables[key]
        node.GetTable().AddColumn(column)
        self._addSeries(node, self.chartNode(key), name)

    def _addSeries(self, tableNode, chartNode, name: str) -> None:
        title, key = curveTitle(name), tableNode.GetAttribute(CHART_ATTRIBUTE)
        series = _ownNode("vtkMRMLPlotSeriesNode", f"{self.run} {title}", self.run, f"{key}.{name}")
        series.SetAndObserveTableNodeID(tableNode.GetID())
        series.SetXColumnName(STEP_COLUMN)
        series.SetYColumnName(name)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetMarkerStyle(series.MarkerStyleCircle if len(self._rows[key]) <= _FEW else series.MarkerStyleNone)
        series.SetMarkerSize(6)
        series.SetLineWidth(2)
        series.SetName(title)
        if name.endswith(STUDENT_DICE):
            self._nameTeacher(name.removesuffix("_student"))
        if not chartNode.HasPlotSeriesNodeID(series.GetID()):
            series.SetColor(*self._colorOf(chartNode, key, name))
            if name.startswith(BASELINE):
                series.SetLineStyle(series.LineStyleDash)
            chartNode.AddAndObservePlotSeriesNodeID(series.GetID())

    def _colorOf(self, chartNode, key: str, name: str) -> tuple[float, float, float]:
        """The next color; a curve of the labels alone has that of its counterpart, and is dashed."""
        counterpart = findNode("vtkMRMLPlotSeriesNode", self.run, f"{key}.{name.removeprefix(BASELINE)}") if name.startswith(BASELINE) else None
        return counterpart.GetColor() if counterpart is not None else _COLORS[chartNode.GetNumberOfPlotSeriesNodes() % len(_COLORS)]

    def _nameTeacher(self, name: str) -> None:
        """The Dice of the deployed network is that of a teacher, as a student has one too."""
        series = findNode("vtkMRMLPlotSeriesNode", self.run, f"dice.{name}")
        if series is not None:
            series.SetName(curveTitle(name, hasStudent=True))

    def _hideMarkers(self, key: str) -> None:
        chartNode = self.chartNode(key)
        for index in range(chartNode.GetNumberOfPlotSeriesNodes()):
            series = chartNode.GetNthPlotSeriesNode(index)
            series.SetMarkerStyle(series.MarkerStyleNone)

    def _makeNodes(self, key: str):
        chart = next(one for one in charts() if one.key == key)
        tableNode = _ownNode("vtkMRMLTableNode", f"{self.run} {chart.title} {_('(numbers)')}", self.run, key)
        tableNode.RemoveAllColumns()
        step = vtk.vtkDoubleArray()
        step.SetName(STEP_COLUMN)
        tableNode.GetTable().AddColumn(step)
        tableNode.SetLocked(True)
        chartNode = _ownNode("vtkMRMLPlotChartNode", f"{self.run} {chart.title}", self.run, key)
        chartNode.SetTitle(chart.title)
        chartNode.SetXAxisTitle(_("iteration"))
        chartNode.SetYAxisTitle(chart.yTitle)
        return tableNode

    def chartNode(self, key: str):
        """The chart node of a key, or None while it has no numbers."""
        return findNode("vtkMRMLPlotChartNode", self.run, key)


def findNode(className: str, run: str, key: str):
    """A node of a run by what it shows, or None. Attributes survive saving and loading; IDs do not."""
    for node in slicer.util.getNodesByClass(className):
        if node.GetAttribute(RUN_ATTRIBUTE) == run and node.GetAttribute(CHART_ATTRIBUTE) == key:
            return node
    return None


def _ownNode(className: str, name: str, run: str, key: str):
    node = findNode(className, run, key)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass(className, name)
        node.SetAttribute(RUN_ATTRIBUTE, run)
        node.SetAttribute(CHART_ATTRIBUTE, key)
    return node
