"""qMRMLPlotView and qMRMLPlotWidget: draws a plot chart node, with QPainter.

The real view uses VTK's charts. This one reads the same nodes (chart, series, table), so that a picture of the panel
shows the same curves: lines, points and bars, axes with titles, a grid and a legend.
"""

import math

import numpy as np
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Qt, Signal
from vtk.util import numpy_support

from ..pythonqt.wrapped import stand_in
from .mrml import MrmlView

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 24, 40


def series_points(series):
    """Returns the (x, y) pairs of a plot series node, without those that are not finite."""
    table = series.GetTableNode()
    y_column = table.GetTable().GetColumnByName(series.GetYColumnName()) if table else None
    if y_column is None:
        return []
    x_column = table.GetTable().GetColumnByName(series.GetXColumnName()) if series.GetXColumnName() else None
    y = _numbers(y_column)
    x = _numbers(x_column) if x_column else np.arange(len(y), dtype=float)
    good = np.isfinite(x) & np.isfinite(y)
    return list(zip(x[good].tolist(), y[good].tolist()))


def _numbers(column):
    """Returns a column as floats; a text that is no number is not finite."""
    if column.IsA("vtkDataArray"):
        return numpy_support.vtk_to_numpy(column).astype(float)
    return np.array([_number(column.GetVariantValue(row)) for row in range(column.GetNumberOfValues())], dtype=float)


def _number(variant):
    return variant.ToDouble() if variant.IsValid() and variant.ToString() else math.nan


def nice_ticks(low, high, wanted=5):
    """Returns round numbers between two limits, about as many as wanted."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    first = math.ceil(low / step)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


@stand_in("mrmlSceneChanged(vtkMRMLScene*)", "dataSelected(vtkStringArray*,vtkCollection*)")
class qMRMLPlotView(MrmlView, QtWidgets.QWidget):
    """The chart of a plot view node."""

    mrmlSceneChanged = Signal(object)
    dataSelected = Signal(object, object)

    _view_node = None

    def __init__(self, *args):
        QtWidgets.QWidget.__init__(self, *args)
        self.setMinimumSize(220, 140)

    def mrmlPlotViewNode(self):
        return self._view_node

    def setMRMLPlotViewNode(self, node):
        self._view_node = node
        self.refresh()

    def chartNode(self):
        return self._view_node.GetPlotChartNode() if self._view_node is not None else None

    def series(self):
        chart = self.chartNode()
        if chart is None:
            return []
        return [chart.GetNthPlotSeriesNode(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]

    def refresh(self):
        self.observeNothing()
        series = [one for one in self.series() if one is not None]
        tables = [one.GetTableNode() for one in series]
        for node in (self._view_node, self.chartNode(), *series, *tables):
            if node is not None:
                self.observe(node, vtk.vtkCommand.ModifiedEvent)
        self.update()

    def fitToContent(self):
        self.update()

    def sizeHint(self):
        return QtCore.QSize(360, 220)

    # Painting

    def paintEvent(self, event):
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.Antialiasing)
        painter.fillRect(self.rect, Qt.white)
        painter.setPen(Qt.black)
        curves = [(one, series_points(one)) for one in self.series() if one is not None]
        points = [point for _, found in curves for point in found]
        if points:
            chart = _Chart(self.chartNode(), points, self.rect)
            chart.draw_axes(painter)
            for series, found in curves:
                chart.draw_series(painter, series, found)
            if self.chartNode().GetLegendVisibility():
                chart.draw_legend(painter, [series for series, _ in curves], points)
        painter.end()


class _Chart:
    """Maps numbers to pixels, and draws."""

    def __init__(self, node, points, rect):
        self.node = node
        self.area = QtCore.QRectF(rect.adjusted(_LEFT, _TOP, -_RIGHT, -_BOTTOM))
        self.x = self._limits([x for x, _ in points], node.GetXAxisRangeAuto(), node.GetXAxisRange(), 0)
        self.y = self._limits([y for _, y in points], node.GetYAxisRangeAuto(), node.GetYAxisRange(), 0.05)

    def _limits(self, values, automatic, fixed, margin):
        if not automatic:
            return fixed
        low, high = min(values), max(values)
        pad = (high - low) * margin or (0.5 if low == high else 0)
        return low - pad, high + pad

    def at(self, x, y):
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return QtCore.QPointF(
            self.area.left() + across * self.area.width(), self.area.bottom() - up * self.area.height()
        )

    def places(self, points):
        """Pixels of many points at once: (count, 2)."""
        low, high = np.array([self.x[0], self.y[0]]), np.array([self.x[1], self.y[1]])
        share = (np.array(points, dtype=float) - low) / (high - low)
        return np.array([self.area.left(), self.area.bottom()]) + share * np.array([self.area.width(), -self.area.height()])

    def draw_axes(self, painter):
        node, area = self.node, self.area
        grid = QtGui.QPen(QtGui.QColor(225, 225, 225))
        for x in nice_ticks(*self.x):
            point = self.at(x, self.y[0])
            self._tick(painter, grid, point, QtCore.QPointF(point.x(), area.top()))
            self._text(painter, QtCore.QRectF(point.x() - 40, area.bottom() + 2, 80, 14), Qt.AlignCenter, f"{x:g}")
        for y in nice_ticks(*self.y):
            point = self.at(self.x[0], y)
            self._tick(painter, grid, point, QtCore.QPointF(area.right(), point.y()))
            box = QtCore.QRectF(area.left() - 48, point.y() - 8, 44, 16)
            self._text(painter, box, Qt.AlignRight | Qt.AlignVCenter, f"{y:g}")
        painter.drawRect(area)
        if node.GetTitleVisibility():
            self._text(painter, QtCore.QRectF(area.left(), 2, area.width(), 18), Qt.AlignCenter, node.GetTitle())
        if node.GetXAxisTitleVisibility():
            box = QtCore.QRectF(area.left(), area.bottom() + 16, area.width(), 18)
            self._text(painter, box, Qt.AlignCenter, node.GetXAxisTitle())
        if node.GetYAxisTitleVisibility():
            painter.save()
            painter.rotate(-90)
            box = QtCore.QRectF(-area.bottom(), 0, area.height(), 14)
            self._text(painter, box, Qt.AlignCenter, node.GetYAxisTitle())
            painter.restore()

    def _tick(self, painter, pen, start, end):
        if self.node.GetGridVisibility():
            painter.setPen(pen)
            painter.drawLine(start, end)
        painter.setPen(Qt.black)

    def _text(self, painter, box, alignment, text):
        font = painter.font()
        font.setPointSizeF(8)
        painter.setFont(font)
        painter.drawText(box, int(alignment), text or "")

    def draw_series(self, painter, series, points):
        kind = slicer.vtkMRMLPlotSeriesNode
        color = QtGui.QColor.fromRgbF(*series.GetColor())
        spots = [QtCore.QPointF(x, y) for x, y in self.places(points).tolist()] if points else []
        painter.save()
        painter.setClipRect(self.area.adjusted(-4, -4, 4, 4))
        if series.GetPlotType() in (kind.PlotTypeBar, kind.PlotTypeScatterBar):
            width = max(2.0, 0.7 * self.area.width() / len(spots))
            floor = self.at(self.x[0], max(self.y[0], min(0, self.y[1]))).y()
            for spot in spots:
                box = QtCore.QRectF(spot.x() - width / 2, spot.y(), width, floor - spot.y())
                painter.fillRect(box.normalized(), color)
        else:
            self._line(painter, series, color, spots)
            self._markers(painter, series, color, spots)
        painter.restore()

    def _line(self, painter, series, color, spots):
        styles = {
            series.LineStyleNone: Qt.NoPen,
            series.LineStyleDash: Qt.DashLine,
            series.LineStyleDot: Qt.DotLine,
            series.LineStyleDashDot: Qt.DashDotLine,
            series.LineStyleDashDotDot: Qt.DashDotDotLine,
        }
        style = styles.get(series.GetLineStyle(), Qt.SolidLine)
        if style != Qt.NoPen:
            painter.setPen(QtGui.QPen(color, max(series.GetLineWidth(), 1), style))
            painter.drawPolyline(QtGui.QPolygonF(spots))

    def _markers(self, painter, series, color, spots):
        if series.GetMarkerStyle() == series.MarkerStyleNone:
            return
        painter.setPen(Qt.NoPen)
        painter.setBrush(color)
        radius = max(series.GetMarkerSize(), 4) / 2
        for spot in spots:
            painter.drawEllipse(spot, radius, radius)
        painter.setBrush(Qt.NoBrush)

    def draw_legend(self, painter, series, points):
        """Draws the names in the corner that hides the fewest points."""
        metrics = QtGui.QFontMetricsF(painter.font())
        width = 30 + max(metrics.horizontalAdvance(one.GetName() or "") for one in series)
        area, height = self.area.adjusted(6, 6, -6, -6), 14 * len(series) + 6
        corners = [(x, y) for x in (area.right() - width, area.left()) for y in (area.top(), area.bottom() - height)]
        boxes = [QtCore.QRectF(x, y, width, height) for x, y in corners]
        x, y = self.places(points).T

        def hidden(one):
            return np.count_nonzero((x >= one.left()) & (x <= one.right()) & (y >= one.top()) & (y <= one.bottom()))

        box = min(boxes, key=hidden)
        painter.fillRect(box, QtGui.QColor(255, 255, 255, 200))
        painter.setPen(QtGui.QColor(180, 180, 180))
        painter.drawRect(box)
        for index, one in enumerate(series):
            y = box.top() + 10 + 14 * index
            painter.setPen(QtGui.QPen(QtGui.QColor.fromRgbF(*one.GetColor()), 2))
            painter.drawLine(QtCore.QPointF(box.left() + 4, y), QtCore.QPointF(box.left() + 20, y))
            painter.setPen(Qt.black)
            text_box = QtCore.QRectF(box.left() + 24, y - 8, width, 16)
            self._text(painter, text_box, Qt.AlignLeft | Qt.AlignVCenter, one.GetName())


@stand_in("mrmlSceneChanged(vtkMRMLScene*)")
class qMRMLPlotWidget(MrmlView, QtWidgets.QWidget):
    """A plot view with its controller, which the bed leaves out."""

    mrmlSceneChanged = Signal(object)

    _view = None

    def __init__(self, *args):
        QtWidgets.QWidget.__init__(self, *args)
        self._view = qMRMLPlotView()
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._view)

    def plotView(self):
        return self._view

    def setMRMLPlotViewNode(self, node):
        self._view.setMRMLPlotViewNode(node)

    def mrmlPlotViewNode(self):
        return self._view.mrmlPlotViewNode()

    def sceneChanged(self):
        self._view.setMRMLScene(self._scene)
