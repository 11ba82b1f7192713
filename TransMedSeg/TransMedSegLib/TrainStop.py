"""Ending a training early: what is asked before, what becomes of the best model so far, and what is said afterward."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from semiseg import protocol

from .RunState import lastIteration, savedModel

BEST_FILE = "best.pt"


class TrainStop:
    """Remembers for one run what the user wants to keep of it."""

    def __init__(self) -> None:
        self._unwanted: Path | None = None

    def ask(self, runDir: Path, bestDice: float | None) -> bool:
        """Asks whether to stop, and what to keep. Returns False when the training shall go on.

        Args:
            runDir: Of the running training.
            bestDice: Of the best validation so far; None where there was none.
        """
        self._unwanted = None
        if _isFinished(savedModel(runDir)):
            return slicer.util.confirmYesNoDisplay(_("The model is finished. Stop the rest of this run?"))
        if bestDice is None:
            return slicer.util.confirmYesNoDisplay(_("Stop this training?"))
        box = qt.QMessageBox
        answer = slicer.util.messageBox(
            _("Keep best model so far (Dice {dice})?").format(dice=f"{bestDice:.2f}"),
            windowTitle=_("Stop training"),
            informativeText=_("Either way the run ends and can be resumed later. Cancel lets it go on."),
            standardButtons=box.Yes | box.No | box.Cancel,
        )
        if answer == box.No:
            self._unwanted = Path(runDir)
        return answer in (box.Yes, box.No)

    def ended(self, runDir: Path) -> str:
        """Removes a model that nobody wanted. Returns what to say of the run."""
        saved = savedModel(runDir)
        if self._unwanted == runDir and not _isFinished(saved):
            for name in (protocol.MODEL_FILE, BEST_FILE):
                (runDir / name).unlink(missing_ok=True)
        self._unwanted = None
        return stoppedText(runDir, saved)


def stoppedText(runDir: Path, saved: dict | None) -> str:
    """One sentence on a stopped run and its model.

    Args:
        saved: The last event that told of a model, or None.
    """
    text = _("Stopped at iteration {iteration}.").format(iteration=lastIteration(runDir))
    if saved is None or not (runDir / protocol.MODEL_FILE).exists():
        return f"{text} {_('No model was kept.')}"
    if _isFinished(saved):
        return f"{text} {_('The finished model is kept.')}"
    if saved["dice"] is None:
        kept = _("The model of iteration {step} is kept.").format(step=saved["step"])
        return f"{text} {kept}"
    dice = f"{saved['dice']:.3f}"
    kept = _("The model of iteration {step} (validation Dice {dice}) is kept.").format(step=saved["step"], dice=dice)
    return f"{text} {kept}"


def _isFinished(saved: dict | None) -> bool:
    """Whether a model is that of a training which came to its end: only the others are told with the Dice they were chosen by."""
    return saved is not None and "dice" not in saved
