"""The buttons of the section Segment: which can be pressed now, and why not; how long it will take."""

from slicer.i18n import tr as _

from . import CaseTime
from .CaseTable import TO_DO, cases
from .Counted import counted
from .Messages import message
from .PanelState import PanelState

_BUSY = (PanelState.Running, PanelState.Stopping)

class SegmentButtons:
    """Shows the state of the section.

    Args:
        desk: What the sections share.
        models: The model of the section.
    """

    def __init__(self, desk, models):
        self.desk, self.ui, self._models = desk, desk.ui, models
        self._tips = {
            "E301": message("E301"),
            "model": _("Choose a model first"),
            "running": _("A segmentation is running"),
            "none": _("No case is To do"),
            "one": _("Segment the open case (Ctrl+Return)"),
            "all one": _("Segment {count} case"),
            "all": _("Segment {count} cases"),
        }

    def whyNot(self, case, state):
        """Why a case cannot be segmented now; "" where it can."""
        if self.desk.notReady:
            return self.desk.notReady
        if case is None:
            return self._tips["E301"]
        if self._models.model is None:
            return self._tips["model"]
        return self._tips["running"] if state in _BUSY else ""

    def refresh(self, state):
        """Shows what can be done in a state."""
        ui, case = self.ui, self.desk.current
        reason = self.whyNot(case, state)
        ui.segmentButton.enabled = not reason
        ui.segmentButton.toolTip = reason or self._tips["one"]
        self._models.showTime(self._time([case]) if not reason else "")
        toDo = [one for one in cases() if one.status == TO_DO]
        reason = self.whyNot(toDo[0] if toDo else case, state) or ("" if toDo else self._tips["none"])
        ui.segmentAllButton.enabled = not reason
        ui.segmentAllButton.toolTip = reason or self._withTime(counted(len(toDo), self._tips["all one"], self._tips["all"]), toDo)
        ui.cancelButton.setVisible(state in _BUSY)
        ui.cancelButton.enabled = state is not PanelState.Stopping
        ui.progressBar.setVisible(state in _BUSY)

    def _withTime(self, text, caseList):
        """A tip and how long it will take."""
        time = self._time(caseList)
        return f"{text}: {time}" if time else text

    def _time(self, caseList):
        return CaseTime.estimateText(self._models.model, self.desk.parameters.device, [case.volume for case in caseList])
