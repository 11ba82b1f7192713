"""A case to try with, for who has none at hand: a phantom that the engine makes on this computer. No patient, no download."""

import shutil
import tempfile
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from .CaseTable import addCase
from .EngineProcess import EngineProcess
from .RunState import State
from .VolumeExchange import readVolume

_OPTIONS = {"num_labeled": 0, "num_unlabeled": 0, "num_held_out": 1, "size": "half", "seed": 3}
"""A left-atrium phantom at half of the resolution of the benchmark, with its mask; the same one every time."""


class SampleCase:
    """Asks the engine for one phantom and puts it into the scene, its true mask beside it for comparing.

    Args:
        onDone: Called with the new case.
        onFailed: Called with a code and a text.
    """

    def __init__(self, onDone, onFailed):
        self._onDone, self._onFailed = onDone, onFailed
        self._process = None
        self._folder = None

    @property
    def isRunning(self):
        return self._process is not None and self._process.ending is None

    def start(self):
        self._folder = Path(tempfile.mkdtemp(prefix="TransMedSeg-", dir=slicer.app.temporaryPath))
        self._process = EngineProcess(self._folder, onEnded=self._onEnded)
        self._process.start("phantom", {**_OPTIONS, "out_dir": str(self._folder / "cohort")}, detached=False)

    def _onEnded(self, ending):
        try:
            if ending.state is not State.Finished:
                self._onFailed(ending.code or "E502", ending.text)
                return
            try:
                case = _take(self._folder / "cohort" / "heldout")
            except OSError as error:
                self._onFailed("E502", str(error))
                return
            self._onDone(case)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def discard(self):
        """Ends the engine and removes its files."""
        if self._process is not None:
            self._process.letGo()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _take(folder):
    """Loads image and mask; returns the case.

    Raises:
        OSError: They are missing or cannot be read.
    """
    image = next((folder / "images").glob("*.nii.gz"), None)
    if image is None:
        raise OSError(f"{folder} holds no phantom.")
    volume = readVolume(image, _("Phantom"))
    case = addCase(volume)  # before the mask is there: it would be taken for the work of the user
    try:
        properties = {"name": _("{case} truth").format(case=case.name), "show": False}
        slicer.util.loadLabelVolume(str(folder / "labels" / image.name), properties=properties)
    except RuntimeError as error:
        raise OSError(str(error)) from error
    return case
