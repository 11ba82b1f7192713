"""Asks for the spacing of a volume whose file states none (E306), and sets it so that it can be taken back."""

import math

import qt
import slicer
from slicer.i18n import tr as _

from .VolumeExchange import maskOf, writeMask

_LEAST_MM, _MOST_MM = 0.01, 50.0


class SpacingDialog(qt.QDialog):
    """Three numbers in mm.

    Args:
        name: Of the volume.
        proposed: (columns, rows, slices) to begin with.
        reason: Where the proposal comes from.
    """

    def __init__(self, name, proposed, reason):
        qt.QDialog.__init__(self, slicer.util.mainWindow())
        self.setWindowTitle(_("Set spacing"))
        layout = qt.QVBoxLayout(self)
        text = _("Distance between voxel centers of '{name}', as the scanner's protocol or report states it. {reason}")
        label = qt.QLabel(text.format(name=name, reason=reason))
        label.wordWrap = True
        label.setTextFormat(qt.Qt.PlainText)
        layout.addWidget(label)
        form = qt.QFormLayout()
        layout.addLayout(form)
        self.boxes = []
        for title, value in zip((_("Between columns"), _("Between rows"), _("Between slices")), proposed):
            box = qt.QDoubleSpinBox()
            box.setDecimals(4)
            box.setRange(_LEAST_MM, _MOST_MM)
            box.setSingleStep(0.1)
            box.setSuffix(_(" mm"))
            box.setValue(value)
            form.addRow(title, box)
            self.boxes.append(box)
        buttons = qt.QDialogButtonBox(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
        buttons.connect("accepted()", self.accept)
        buttons.connect("rejected()", self.reject)
        layout.addWidget(buttons)

    def spacing(self):
        """(columns, rows, slices) in mm."""
        return tuple(box.value for box in self.boxes)


def proposal(volumeNode, trained):
    """What to begin with, and why.

    Args:
        volumeNode: Its spacing counts where it says anything.
        trained: (columns, rows, slices) in mm, typical of what the model was trained on; None where that is not known.
    """
    own = volumeNode.GetSpacing()
    says = [math.isfinite(value) and value > 0 for value in own]
    if all(says) and own != (1.0, 1.0, 1.0):
        return own, ""
    if trained is not None:
        found = tuple(mine if isKnown and mine != 1.0 else other for mine, isKnown, other in zip(own, says, trained))
        return found, _("Proposed: what the model was trained on.")
    return tuple(mine if isKnown else 1.0 for mine, isKnown in zip(own, says)), ""


def askForSpacing(volumeNode, trained):
    """(columns, rows, slices) in mm; None where the user gave up."""
    dialog = SpacingDialog(volumeNode.GetName(), *proposal(volumeNode, trained))
    isAccepted = bool(dialog.exec_())
    found = dialog.spacing()
    dialog.deleteLater()
    return found if isAccepted else None


def askForFileSpacing(name, proposed, reason):
    """(columns, rows, slices) in mm for all files of a training that state none; None where the user gave up.

    Args:
        name: Of one of them.
        proposed: To begin with.
        reason: Where the proposal comes from.
    """
    dialog = SpacingDialog(name, proposed, " ".join((_("It is taken for every file of the lists that states none."), reason)).strip())
    isAccepted = bool(dialog.exec_())
    found = dialog.spacing()
    dialog.deleteLater()
    return found if isAccepted else None


def setSpacing(case, spacing):
    """Gives the volume of a case another spacing. What is drawn stays on the same voxels. Returns the spacing before."""
    volume, node = case.volume, case.segmentation
    before = volume.GetSpacing()
    names = node.GetSegmentation().GetSegmentIDs() if node is not None else ()
    masks = {name: maskOf(node, name, volume) for name in names} if min(before) > 0 else {}
    volume.SetSpacing(*spacing)
    for name, mask in masks.items():
        writeMask(node, name, mask, volume)
    if node is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return before
