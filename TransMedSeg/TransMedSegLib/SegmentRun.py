"""Asks the engine to segment one case or many, and says what became of each.

The run folder is temporary and belongs to the run. Volumes are written under neutral names (c001.nrrd), because names
of volumes may be names of patients. The run remembers the node each file came from: what is selected when the result
arrives does not matter.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from . import RegionBox, SegmentResult
from .Autosave import autosaveFolder
from .BugReport import bugReport
from .CaseTable import caseOf
from .CaseTime import CaseClock, remember
from .Computer import freeDiskGb
from .EngineProcess import EngineProcess
from .EvenGrid import EvenGrid, needsEvenGrid
from .Messages import message
from .RunState import Ending, State, logTail

DONE, FAILED = "done", "failed"
_KEY = "c{:03d}"  # what a case of a run is called in its files


@dataclass
class Outcome:
    """What became of one case.

    Attributes:
        volume: The volume node that was segmented; it may have left the scene. Its ID may belong to another node then.
        name: Of the case when the run began.
        region: The box that the model saw; None where it saw the whole image.
        grid: The even grid that the model saw it on; None where that was the volume's own.
        status: DONE, FAILED, or "" while the engine has not said.
        code: Of the message of a failed case.
        text: Why it failed.
        files: What the engine wrote.
        taken: What went into the scene; None where nothing did.
    """

    volume: object
    name: str
    region: object = None
    grid: object = None
    status: str = ""
    code: str = ""
    text: str = ""
    files: dict = field(default_factory=dict)
    taken: object = None

    @property
    def case(self):
        """The case in the scene; None where its volume was closed or taken off the list."""
        return caseOf(self.volume) if slicer.mrmlScene.IsNodePresent(self.volume) else None

    def fail(self, code, text):
        self.status, self.code, self.text = FAILED, code, text


@dataclass(frozen=True)
class Requests:
    """What a run tells its owner; each is a function.

    Attributes:
        progress: (fraction 0..1, text)
        outcome: (Outcome), when the engine has finished with a case; before the result is in the scene.
        warning: (code, text, case), the case None where it is about all
        silent: (text), "" when the engine is heard of again.
        ended: (Ending)
    """

    progress: Callable = lambda fraction, text: None
    outcome: Callable = lambda outcome: None
    warning: Callable = lambda code, text, case: None
    silent: Callable = lambda text: None
    ended: Callable = lambda ending: None


class SegmentRun:
    """One run of the verb `predict`.

    Args:
        model: Path of the model file.
        device: "auto", "cpu", "cuda" or "cuda:N".
        requests: Who is told.
        segment: Further options of the segmentation, as the engine names them.
    """

    def __init__(self, model, device="auto", requests=Requests(), segment=None):
        self._model, self._device, self._requests = str(model), device, requests
        self._segment = {"uncertainty": True, **(segment or {})}
        self._isWhole = not segment
        self._clock = CaseClock()
        self._folder = None
        self._process = None
        self._cancelled = False
        self.started = 0.0
        self.outcomes = {}

    @property
    def isRunning(self):
        return self._process is not None and self._process.ending is None

    @property
    def runDir(self):
        return Path(self._folder.name)

    @property
    def seconds(self):
        return round(time.monotonic() - self.started)

    def start(self, caseList):
        """Writes the volumes and starts the engine.

        Raises:
            OSError: A volume could not be written; nothing was started.
        """
        self.started = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="TransMedSeg-", dir=slicer.app.temporaryPath)
        inputs = []
        try:
            (self.runDir / "inputs").mkdir()
            for number, case in enumerate(caseList, start=1):
                key = _KEY.format(number)
                path = self.runDir / "inputs" / f"{key}.nrrd"
                region = RegionBox.regionOf(case.volume)
                grid = EvenGrid(case.volume, region) if needsEvenGrid(case.volume) else None
                if grid is None:
                    RegionBox.writeInside(case.volume, region, path)
                else:
                    grid.write(case.volume, path)
                inputs.append(str(path))
                self.outcomes[key] = Outcome(case.volume, case.name, region, grid)
        except OSError:
            self.discard()
            raise
        options = {
            "model": self._model,
            "inputs": inputs,
            "out_dir": str(self.runDir / "segmentations"),
            "device": self._device,
            "segment": self._segment,
        }
        self._process = EngineProcess(self.runDir, self._onEvents, self._onEnded, self._requests.silent)
        self._process.start("predict", options, detached=False)

    def note(self, case, code, text):
        """Notes a case that is left out because of its volume."""
        outcome = Outcome(case.volume, case.name)
        outcome.fail(code, text)
        self.outcomes[f"left out {len(self.outcomes)}"] = outcome

    def log(self):
        """The end of the engine's log."""
        return logTail(self.runDir) if self._folder is not None else ""

    def report(self):
        """What a bug report needs: versions and log, with no name of a case in it."""
        text = self.log()
        for key, outcome in self.outcomes.items():
            text = text.replace(outcome.name, key) if outcome.name else text
        ending = self._process.ending if self._process is not None else None
        return bugReport(text, (f"{ending.code if ending else ''} on device {self._device}",))

    @contextmanager
    def held(self):
        """While it lasts, nothing is heard of the engine, which goes on."""
        self._process.hold(True)
        try:
            yield
        finally:
            self._process.hold(False)

    def cancel(self):
        """Ends the engine at once: a segmentation has nothing worth saving."""
        self._cancelled = True
        self._process.kill()

    def discard(self):
        """Ends the engine where it still runs, and removes the run folder."""
        if self.isRunning:
            self._process.letGo()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    # What the engine says

    def _onEvents(self, events):
        for event in events:
            seconds = self._clock.hear(event)
            if seconds is not None and self._isWhole and event.get("id") in self.outcomes:
                remember(self._model, self._device, self.outcomes[event["id"]].volume, seconds)
            handler = {"progress": self._onProgress, "case": self._onCase, "warning": self._onWarning}.get(event["kind"])
            if handler:
                handler(event)

    def _onProgress(self, event):
        done, total = float(event.get("done", 0)), max(float(event.get("total", 1)), 1.0)
        number, count = min(int(done) + 1, int(total)), int(total)
        # Between two cases the engine names none; the next one is meant.
        outcome = self.outcomes.get(event.get("case") or _KEY.format(number))
        name = outcome.name if outcome else ""
        eta = event.get("eta_s")
        text = _("Segmenting {case}").format(case=name) if count == 1 else _("Case {number} of {count}: {case}").format(
            number=number, count=count, case=name
        )
        if eta is not None:
            text += _(", about {seconds:.0f} s left").format(seconds=float(eta))
        self._requests.progress(done / total, text)

    def _onCase(self, event):
        outcome = self.outcomes.get(event.get("id", ""))
        if outcome is None:
            return
        if event.get("status") in ("done", "skipped"):
            outcome.status = DONE
            folder = self.runDir / "segmentations"
            names = {"mask": f"{event['id']}.seg.nrrd", "doubt": f"{event['id']}.uncertainty.nii.gz"}
            outcome.files = {kind: folder / name for kind, name in names.items() if (folder / name).is_file()}
            self._bringBack(outcome)
            if "mask" not in outcome.files:
                outcome.fail("E505", self._noResult())
        else:
            outcome.fail(str(event.get("code") or "E502"), self._named(str(event.get("reason", "")), event["id"]))
        self._requests.outcome(outcome)

    def _bringBack(self, outcome):
        """A resampled volume gets its result on its own voxels; where it was closed, the result stays on the even grid."""
        if outcome.grid is None or outcome.case is None or "mask" not in outcome.files:
            return
        try:
            outcome.files = outcome.grid.bringBack(outcome.files, outcome.volume)
        except OSError:
            outcome.files = {}

    def _onWarning(self, event):
        code, text = str(event.get("code", "")), str(event.get("message", ""))
        # E506 and E509 are said by the window, which knows the names and offers what to do.
        if code not in ("E506", "E509"):
            hint, case = str(event.get("hint") or ""), None
            for key, outcome in self.outcomes.items():
                case = outcome.case if key in text else case
                text = self._named(text, key)
            self._requests.warning(code, f"{text} {hint}".strip(), case)

    def _named(self, text, key):
        return text.replace(key, self.outcomes[key].name)

    def _noResult(self):
        return message("E505", free_gb=freeDiskGb(self.runDir), folder=str(self.runDir))

    def _onEnded(self, ending):
        if self._cancelled:
            ending = Ending(State.Stopped, "E507", message("E507", seconds=self.seconds))
        elif ending.state is State.Finished:
            silent = [one for one in self.outcomes.values() if not one.status]
            for outcome in silent:
                outcome.fail("E505", self._noResult())
                self._requests.outcome(outcome)
        self._requests.ended(ending)

    # What the scene gets

    def take(self, outcome, review, beforeWrite, locked=SegmentResult.REFUSE):
        """Puts the result of a case into the scene; a failure is noted in the outcome, with its code.

        Returns:
            Whether it is in the scene.

        Raises:
            SegmentResult.LockedSegment: A person has edited the segment.
        """
        case = outcome.case
        if case is None:
            kept = self.keep(outcome)
            outcome.fail("E313", message("E313", file=str(kept)))
            outcome.files = {"mask": kept}
            return False
        try:
            outcome.taken = SegmentResult.take(case, outcome.files["mask"], review, beforeWrite, locked, outcome.region)
        except SegmentResult.EmptyResult:
            outcome.fail("E506", message("E506"))
        except OSError:
            outcome.fail("E505", self._noResult())
        if "doubt" in outcome.files and outcome.code in ("", "E506"):
            SegmentResult.takeDoubt(case, outcome.files["doubt"], outcome.region if outcome.grid is None else None)
        return outcome.taken is not None

    def keep(self, outcome):
        """Copies what the engine wrote to where it survives the run. Returns the path of the mask."""
        folder = autosaveFolder().parent / "Results"
        folder.mkdir(parents=True, exist_ok=True)
        safe = "".join(letter if letter.isalnum() or letter in " -_." else "_" for letter in outcome.name)
        endings = {"mask": "seg.nrrd", "doubt": "uncertainty.nii.gz"}
        for kind, source in outcome.files.items():
            ending = "uncertainty.nrrd" if kind == "doubt" and source.suffix == ".nrrd" else endings[kind]
            shutil.copyfile(source, folder / f"{safe} result.{ending}")
        return folder / f"{safe} result.{endings['mask']}"
