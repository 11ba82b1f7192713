"""The fold "ROI, device, keep files" below the button Segment."""

from slicer.i18n import tr as _

from . import RegionBox
from .Computer import knownGpus
from .Messages import message


class RegionPanel:
    """Fills the fold.

    Args:
        desk: What the sections share.
    """

    def __init__(self, desk):
        self.desk, self.ui = desk, desk.ui
        self._texts = {
            "none": message("E301"),
            "draw": _("Puts a box into the views; move its handles around the heart"),
            "remove": _("The model sees the whole image again"),
            "noBox": _("There is no box"),
            "whole": _("whole image"),
            "away": _("⚠ the box lies outside of the image and is ignored"),
        }
        self.ui.drawRegionButton.connect("clicked()", self.draw)
        self.ui.removeRegionButton.connect("clicked()", self._onRemove)

    def draw(self):
        """Puts a box around the heart of the open case and unfolds what says so."""
        if self.desk.current is not None:
            self.ui.optionsCollapsibleButton.collapsed = False
            RegionBox.makeBox(self.desk.current)
            self.desk.refresh()

    def _onRemove(self):
        RegionBox.removeBox(self.desk.current)
        self.desk.refresh()

    def refresh(self):
        """Shows the box of the open case and the devices of this computer."""
        case = self.desk.current
        node = RegionBox.nodeOf(case.volume) if case is not None else None
        self.ui.drawRegionButton.enabled = case is not None
        self.ui.drawRegionButton.toolTip = self._texts["draw" if case is not None else "none"]
        self.ui.removeRegionButton.enabled = node is not None
        self.ui.removeRegionButton.toolTip = self._texts["remove" if node is not None else "noBox"]
        self.ui.regionLabel.text = self._text(case, node)
        found = {gpu.device for gpu in knownGpus()}
        for row in range(self.ui.deviceComboBox.count):
            device = self.ui.deviceComboBox.itemText(row)
            isThere = device in found or not device.startswith("cuda") or (device == "cuda" and bool(found))
            self.ui.deviceComboBox.view().setRowHidden(row, not isThere)

    def _text(self, case, node):
        if node is None:
            return self._texts["whole"]
        region = RegionBox.regionOf(case.volume)
        return "×".join(map(str, region.inside.shape[::-1])) if region is not None else self._texts["away"]
