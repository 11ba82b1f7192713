"""The runs in a folder: their states, who computes where, new run folders, deleting them."""

from __future__ import annotations

import functools
import re
import shutil
import time
from pathlib import Path

from slicer.i18n import tr as _

from semiseg import __version__, protocol

from .RunState import CLOSED_FILE, RunReader, RunSummary, State

_NOT_IN_NAMES = re.compile(r"[^\w\-.]+")


class RunList:
    """Reads the run folders below a folder. What has not changed is not read again.

    Args:
        folder: Holds one folder per run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._known: dict[Path, tuple[tuple, RunSummary]] = {}
        self._readers: dict[Path, RunReader] = {}

    def runs(self) -> list[RunSummary]:
        """All training runs, newest first."""
        if not self.folder.is_dir():
            return []
        folders = [path.parent for path in self.folder.glob(f"*/{protocol.JOB_FILE}")]
        found = [self.summary(folder) for folder in folders]
        return sorted((one for one in found if one.verb in ("train", "")), key=lambda one: (one.started, one.runDir.name), reverse=True)

    def summary(self, runDir: Path) -> RunSummary:
        """One run. A living one is looked at every time: its state may change without any file changing."""
        mark = _mark(runDir)
        known = self._known.get(runDir)
        if known is not None and known[0] == mark and known[1].state not in (State.Running, State.Queued):
            return known[1]
        summary = self._readers.setdefault(runDir, RunReader(runDir)).read()
        self._known[runDir] = (mark, summary)
        return summary

    def busyRuns(self, device: str) -> list[RunSummary]:
        """Runs that compute on a device now, or wait for it."""
        return [one for one in self.runs() if one.state in (State.Running, State.Queued) and one.device == device]

    def measuredSeconds(self, goal: str, device: str) -> float | None:
        """How long the newest finished run with this goal took on this device; None where none was finished."""
        for run in self.runs():
            if run.state == State.Finished and run.goal == goal and run.device == device and run.seconds > 0:
                return run.seconds
        return None

    def newRunDir(self, name: str = "") -> Path:
        """Makes an empty run folder named after the time."""
        base = _NOT_IN_NAMES.sub("_", name or time.strftime("%Y-%m-%d_%H-%M-%S"))
        for number in range(1, 1000):
            path = self.folder / (base if number == 1 else f"{base}_{number}")
            try:
                path.mkdir(parents=True)
                return path
            except FileExistsError:
                continue
        raise FileExistsError(base)

    def delete(self, runDir: Path) -> None:
        """Deletes a run folder with its model.

        Raises:
            ValueError: It is no run of this list, or somebody works in it.
            OSError: A file cannot be deleted.
        """
        runDir = Path(runDir)
        if runDir.parent.resolve() != self.folder.resolve() or not (runDir / protocol.JOB_FILE).exists():
            raise ValueError(f"{runDir} is no run folder of {self.folder}")
        if self.summary(runDir).state in (State.Running, State.Queued):
            raise ValueError(f"{runDir} is in use")
        shutil.rmtree(runDir)
        self._known.pop(runDir, None)
        self._readers.pop(runDir, None)


def _mark(runDir: Path) -> tuple:
    """Changes when something in the folder that tells of the run changes."""
    stamps = []
    for name in (protocol.JOB_FILE, protocol.EVENTS_FILE, protocol.LOCK_FILE, CLOSED_FILE):
        try:
            status = (runDir / name).stat()
            stamps.append((status.st_size, status.st_mtime_ns))
        except OSError:
            stamps.append(None)
    return tuple(stamps)


def isOlderVersion(version: str) -> bool:
    """Whether a run was made with another minor version, whose saved state this engine may not understand."""
    return bool(version) and version.split(".")[:2] != __version__.split(".")[:2]


def stateTitle(state: State) -> str:
    """The word for a state in the table."""
    return _stateTitles()[state]


@functools.cache
def _stateTitles() -> dict[State, str]:
    return {
        State.New: _("Not started"),
        State.Queued: _("Queued"),
        State.Running: _("Running"),
        State.Paused: _("Paused"),
        State.Stopped: _("Stopped"),
        State.Finished: _("Finished"),
        State.Failed: _("Failed"),
        State.Interrupted: _("Interrupted"),
    }


def deviceTitle(device: str) -> str:
    """A device as people call it."""
    match = re.fullmatch(r"cuda:(\d+)", device)
    return _("GPU {index}").format(index=match[1]) if match else _("the processor (CPU)") if device == "cpu" else device
