"""The part of section Segment that shows where the model was unsure."""

from slicer.i18n import tr as _

from .Uncertainty import doubtfulSlices, jumpTo, showMap


class DoubtPanel:
    """Fills the check box and the list of slices worth a look.

    Args:
        desk: What the sections share.
    """

    def __init__(self, desk):
        self.desk, self.ui = desk, desk.ui
        self._slices = []
        self._shown = None
        self._tip = _("Shows where the model was unsure, from dark (a little) to bright (very)")
        self._noMap = _("There is no map of doubt: segment this case first")
        self.ui.doubtList.hide()
        self.ui.doubtCheckBox.connect("toggled(bool)", lambda on: self._showMap())
        self.ui.doubtList.connect("currentRowChanged(int)", self._onRow)
        self.ui.doubtList.connect("itemClicked(QListWidgetItem*)", lambda item: self._onRow(self.ui.doubtList.currentRow))

    def refresh(self):
        """Lists the slices of the open case."""
        case = self.desk.current
        node = case.doubtMap if case is not None else None
        self.ui.doubtCheckBox.enabled = node is not None
        self.ui.doubtCheckBox.toolTip = self._tip if node is not None else self._noMap
        # Looking for the slices takes time in a large map; it is done once for each map.
        now = (node.GetID(), node.GetImageData().GetMTime()) if node is not None else None
        if now != self._shown:
            self._shown = now
            self._slices = doubtfulSlices(node) if node is not None else []
            self._fill()
        self.ui.doubtList.setVisible(bool(self._slices))
        self._showMap()

    def _fill(self):
        self.ui.doubtList.blockSignals(True)
        self.ui.doubtList.clear()
        for one in self._slices:
            self.ui.doubtList.addItem(one.text)
        self.ui.doubtList.blockSignals(False)
        self.ui.doubtLabel.text = _("slices worth a look:") if self._slices else ""

    def _showMap(self):
        case = self.desk.current
        isShown = self.ui.doubtCheckBox.checked and case is not None
        showMap(case.doubtMap if isShown else None)

    def _onRow(self, row):
        if 0 <= row < len(self._slices):
            jumpTo(self._slices[row].position)
