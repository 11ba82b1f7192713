"""The numbers of all comparisons as a table node and a box plot, saved with the scene, and as CSV."""

import csv
import io
import math
import statistics

import slicer
import vtk
from slicer.i18n import tr as _

from .Counted import counted

ATTRIBUTE = "TransMedSeg.Comparison"
COLUMNS = {
    "dice": "Dice",
    "hd95_mm": "95HD [mm]",
    "asd_mm": "ASD [mm]",
    "volume_ml": "A [mL]",
    "reference_ml": "B [mL]",
    "volume_difference_percent": "difference [%]",
}
"""Metric of the engine -> column. The names of columns are not translated: other programs read them."""

CASE, WORST, NOTE = "case", "worst slice", "note"


def find():
    """The table node; None before the first comparison."""
    for node in slicer.util.getNodesByClass("vtkMRMLTableNode"):
        if node.GetAttribute(ATTRIBUTE) == "1":
            return node
    return None


def _make():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", _("Comparison"))
    node.SetAttribute(ATTRIBUTE, "1")
    kinds = [(CASE, vtk.vtkStringArray), *((title, vtk.vtkDoubleArray) for title in COLUMNS.values())]
    for title, kind in (*kinds, (WORST, vtk.vtkIntArray), (NOTE, vtk.vtkStringArray)):
        array = kind()
        array.SetName(title)
        node.AddColumn(array)
    node.SetLocked(True)
    return node


def add(scores):
    """Puts the numbers of a comparison into the table; an earlier comparison of the same case is replaced."""
    node = find() or _make()
    table = node.GetTable()
    names = [table.GetColumnByName(CASE).GetValue(row) for row in range(table.GetNumberOfRows())]
    row = names.index(scores.case) if scores.case in names else node.AddEmptyRow()
    table.GetColumnByName(CASE).SetValue(row, scores.case)
    for metric, title in COLUMNS.items():
        table.GetColumnByName(title).SetValue(row, scores.values.get(metric, math.nan))
    table.GetColumnByName(WORST).SetValue(row, scores.worstSlice)
    table.GetColumnByName(NOTE).SetValue(row, scores.note)
    table.Modified()
    node.Modified()
    return node


def rows(node):
    """[(case, {metric: number}, worst slice, note)], one for each row."""
    table = node.GetTable()
    found = []
    for row in range(table.GetNumberOfRows()):
        numbers = {metric: table.GetColumnByName(title).GetValue(row) for metric, title in COLUMNS.items()}
        get = lambda name, row=row: table.GetColumnByName(name).GetValue(row)
        found.append((get(CASE), numbers, get(WORST), get(NOTE)))
    return found


def format_(metric, value):
    """A number as the panel shows it; "–" where it is not defined."""
    if math.isnan(value):
        return "–"
    return f"{value:.4f}" if metric == "dice" else f"{value:.2f}" if metric.endswith("_mm") else f"{value:.1f}"


def quartiles(values):
    """(first quartile, median, third quartile), interpolated as numpy does."""
    if len(values) == 1:
        return (values[0],) * 3
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def summary(node):
    """{metric: "median [Q1–Q3]"} of the rows with a number; the number alone where there is one."""
    texts = {}
    for metric in COLUMNS:
        values = [numbers[metric] for _case, numbers, _worst, _note in rows(node) if not math.isnan(numbers[metric])]
        if values:
            low, middle, high = (format_(metric, one) for one in quartiles(values))
            texts[metric] = f"{middle} [{low}–{high}]" if len(values) > 1 else middle
        else:
            texts[metric] = "–"
    return texts


def toCsv(node):
    """The table with every digit, one line for each case; an undefined number is an empty field."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([CASE, *COLUMNS.values(), WORST, NOTE])
    for case, numbers, worst, note in rows(node):
        cells = ["" if math.isnan(numbers[metric]) else repr(numbers[metric]) for metric in COLUMNS]
        writer.writerow([case, *cells, worst, note])
    return stream.getvalue()


def toText(node):
    """The table as it is shown, separated by tabs, for the clipboard."""
    lines = [[_("Case"), *COLUMNS.values()]]
    for case, numbers, _worst, _note in rows(node):
        lines.append([case, *(format_(metric, numbers[metric]) for metric in COLUMNS)])
    lines.append([_("median [IQR]"), *summary(node).values()])
    return "\n".join("\t".join(line) for line in lines) + "\n"


def plot(node, metric="dice"):
    """A box plot of one number over all cases, with a point for each case.

    MRML has no box plots: box, whiskers and median are lines of a second table. Nor can an axis have words for ticks:
    so x is the row of the table, and the box is as wide as all rows.

    Returns:
        The plot chart node.
    """
    everyRow = [numbers[metric] for _case, numbers, _worst, _note in rows(node)]
    points = [(row, value) for row, value in enumerate(everyRow, start=1) if not math.isnan(value)]
    chart = _single("vtkMRMLPlotChartNode", "chart", _("Comparison plot"))
    chart.RemoveAllPlotSeriesNodeIDs()
    chart.SetTitle(counted(len(points), _("{number} of {count} case"), _("{number} of {count} cases"), number=COLUMNS[metric]))
    chart.SetXAxisTitle(_("row of the table (box: quartiles, orange: median, lines: extremes)"))
    chart.SetYAxisTitle(COLUMNS[metric])
    chart.SetLegendVisibility(False)
    if points:
        for name, line in (*_box([value for _row, value in points], len(everyRow)).items(), ("cases", points)):
            series = _series(name, line, isPoints=name == "cases")
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
        chart.SetXAxisRangeAuto(False)
        chart.SetXAxisRange(0.0, len(everyRow) + 1.0)
    return chart


def _box(values, numRows):
    """The lines of a box plot over all rows: box from quartile to quartile, whiskers to the extremes (Tukey's without outliers)."""
    low, middle, high = quartiles(values)
    left, center, right = 0.5, (numRows + 1) / 2, numRows + 0.5
    return {
        "box": [(left, low), (right, low), (right, high), (left, high), (left, low)],
        "median": [(left, middle), (right, middle)],
        "lower whisker": [(center, low), (center, min(values))],
        "upper whisker": [(center, high), (center, max(values))],
    }


def _series(name, points, isPoints):
    table = _single("vtkMRMLTableNode", f"plot {name}", f"comparison {name}")
    table.RemoveAllColumns()
    for title, place in (("x", 0), ("y", 1)):
        array = vtk.vtkDoubleArray()
        array.SetName(title)
        for point in points:
            array.InsertNextValue(point[place])
        table.AddColumn(array)
    table.HideFromEditorsOn()
    series = _single("vtkMRMLPlotSeriesNode", f"series {name}", name)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("x")
    series.SetYColumnName("y")
    series.SetPlotType(series.PlotTypeScatter)
    series.SetLineStyle(series.LineStyleNone if isPoints else series.LineStyleSolid)
    series.SetMarkerStyle(series.MarkerStyleCircle if isPoints else series.MarkerStyleNone)
    series.SetLineWidth(3.0 if name == "median" else 1.5)
    series.SetColor(*((230 / 255, 159 / 255, 0.0) if name == "median" else (0.0, 114 / 255, 178 / 255)))
    return series


def _single(kind, role, name):
    """The node of a role, made where there is none."""
    for node in slicer.util.getNodesByClass(kind):
        if node.GetAttribute(ATTRIBUTE) == role:
            return node
    node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
    node.SetAttribute(ATTRIBUTE, role)
    return node
