"""Shows one run: curves, progress, the worst validation slice, how it goes in a sentence, the log."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from .Messages import withCode
from .RunAdvice import RunAdvice
from .RunCurves import RunCurves, charts
from .RunOverlay import RunOverlay
from .RunProgress import RunProgress
from .RunState import logTail

_PLOT_VIEW_TAG = "TransMedSegTrain"
_PREVIEW_WIDTH = 320


class RunView:
    """Fills the section Live of the training panel.

    Args:
        ui: Widgets by name: runLabel, stateLabel, progressBar, detailLabel, chartComboBox, plotWidget, previewLabel,
            previewTextLabel, logTextEdit.
    """

    def __init__(self, ui) -> None:
        self.ui = ui
        self.runDir: Path | None = None
        self.curves: RunCurves | None = None
        self.advice = RunAdvice()
        self.overlay = RunOverlay(ui.overlayButton)
        self._memoryGb: float | None = None
        self._hasPreview = False
        self.progress = RunProgress()
        self._warnings: list[str] = []
        self._later: list[dict] = []  # numbers of curves that are not begun yet
        self._laterTimer = qt.QTimer()
        self._laterTimer.setSingleShot(True)
        self._laterTimer.interval = 0
        self._laterTimer.connect("timeout()", lambda: self.hear([], isLive=True))
        self._chartKeys = [chart.key for chart in charts()]
        ui.plotWidget.hide()  # an empty plot is a white hole in a dark panel
        ui.chartComboBox.clear()
        ui.chartComboBox.addItems([chart.title for chart in charts()])
        ui.chartComboBox.connect("currentIndexChanged(int)", self._onChart)

    def show(self, runDir: Path) -> None:
        """Empties the view for a run; its events then come through `hear`."""
        self.runDir = Path(runDir)
        self.ui.runLabel.text = self.runDir.name
        self.forget()

    def forget(self) -> None:
        """Forgets the numbers of the run, for example because the scene was closed."""
        self.curves = RunCurves(self.runDir.name) if self.runDir is not None else None
        self.advice = RunAdvice()
        self.progress = RunProgress()
        self._memoryGb, self._warnings, self._later = None, [], []
        self.ui.stateLabel.text = ""
        self.ui.detailLabel.text = ""
        self.ui.progressBar.setValue(0)
        self._hasPreview = False
        self.ui.previewTextLabel.text = ""
        self._showParts()
        self._laterTimer.stop()
        self.overlay.forget()
        self._onChart(self.ui.chartComboBox.currentIndex)

    def hear(self, events: list[dict], isLive: bool = False) -> None:
        """Takes new events of the run.

        Args:
            events: Oldest first.
            isLive: Begins at most one curve in a turn of the event loop.
        """
        scalars = self._later + [event for event in events if event["kind"] == "scalar"]
        for event in events:
            self._hearOne(event)
        if scalars and self.curves is not None:
            changed, self._later = self.curves.add(scalars, 1 if isLive else None)
            if self._later:
                self._laterTimer.start()
            if self._shownKey() in changed or self._viewNode().GetPlotChartNodeID() is None:
                self._onChart(self.ui.chartComboBox.currentIndex)
        self._showState(events)
        self._showProgress()

    def finish(self) -> None:
        """The run has ended, or nobody watches it any more: begins the curves that wait for their turn."""
        self._laterTimer.stop()
        if self._later:
            self.hear([])
        self.progress.isOver = True
        self._showProgress()

    def _hearOne(self, event: dict) -> None:
        kind = event["kind"]
        if kind == "scalar":
            name, value = str(event.get("name")), event.get("value")
            if isinstance(value, (int, float)):
                self.advice.add(name, float(value), int(event.get("step", 0)))
                if name == "gpu_memory_gb":
                    self._memoryGb = float(value)
        elif kind in ("progress", "stage"):
            self.progress.hear(event)
            if kind == "stage":
                self.advice.enter(str(event.get("name")))
        elif kind == "case" and (event.get("code"), event.get("status")) == ("E805", "used"):
            self.advice.hearOfDifferentVolumes()
        elif kind == "preview":
            self._showPreview(event)
        elif kind == "warning":
            text = " ".join(str(event[key]) for key in ("message", "hint") if event.get(key))
            self._warnings.append(withCode(str(event.get("code") or ""), text))

    def _showState(self, events: list[dict]) -> None:
        sentences = [str(event.get("message", "")) for event in events if event["kind"] == "state"]
        sentence = self.advice.sentence() or (sentences[-1] if sentences else "")
        if sentence or any(event["kind"] == "warning" for event in events):
            self.say(sentence)

    def say(self, sentence: str) -> None:
        """Shows one sentence of state, and below it the last warnings of the engine."""
        self.ui.stateLabel.text = "\n".join(part for part in (sentence, *self._warnings[-2:]) if part)

    def _showProgress(self) -> None:
        if self.progress.isKnown:
            total = max(self.progress.total, 1)
            self.ui.progressBar.setMaximum(total)
            self.ui.progressBar.setValue(min(self.progress.done, total))
            self.ui.detailLabel.text = self.progress.text(self._memoryGb)

    def _showPreview(self, event: dict) -> None:
        self.overlay.hear(event)
        pixmap = qt.QPixmap(str(event.get("path", "")))
        if not pixmap.isNull():
            self.ui.previewLabel.setPixmap(pixmap.scaledToWidth(_PREVIEW_WIDTH, qt.Qt.SmoothTransformation))
            self._hasPreview = True
        self.ui.previewTextLabel.text = _("Worst validation slice: {case}, slice {slice}, Dice {dice}, iteration {step}").format(
            case=event.get("case", "?"), slice=event.get("slice", "?"), dice=_number(event.get("dice")), step=event.get("step", "?")
        )
        self._showParts()

    def _showParts(self) -> None:
        """Only what has something in it is shown."""
        self.ui.previewLabel.setVisible(self._hasPreview)
        self.ui.previewTextLabel.setVisible(bool(self.ui.previewTextLabel.text))

    def unfolded(self) -> None:
        """The section was opened: what was hidden while it was folded has appeared with it."""
        self._showParts()
        self._onChart(self.ui.chartComboBox.currentIndex)

    def showLog(self) -> None:
        """Shows the end of the program's log."""
        self.ui.logTextEdit.setPlainText(logTail(self.runDir) if self.runDir is not None else "")

    def _shownKey(self) -> str:
        return self._chartKeys[max(0, self.ui.chartComboBox.currentIndex)]

    def _onChart(self, _index: int) -> None:
        chartNode = self.curves.chartNode(self._shownKey()) if self.curves is not None else None
        viewNode = self._viewNode()
        viewNode.SetPlotChartNodeID(chartNode.GetID() if chartNode is not None else None)
        self.ui.plotWidget.setVisible(chartNode is not None)
        if self.ui.plotWidget.mrmlPlotViewNode() is not viewNode:
            self.ui.plotWidget.setMRMLPlotViewNode(viewNode)

    def _viewNode(self):
        """The plot view of this panel; another one when the scene was closed."""
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(_PLOT_VIEW_TAG, "vtkMRMLPlotViewNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLPlotViewNode")
            node.UnRegister(None)
            node.SetSingletonTag(_PLOT_VIEW_TAG)
            node.SetLayoutName(_PLOT_VIEW_TAG)
            node.SetName(_PLOT_VIEW_TAG)
            node = scene.AddNode(node)
        return node


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else "?"
