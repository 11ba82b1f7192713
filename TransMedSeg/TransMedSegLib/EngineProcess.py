"""The engine as another process: starts a run folder, reads its events, pauses and ends it, finds it again.

Inference is started with ``detached=False`` and ends with Slicer; training with ``detached=True`` goes on without it.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import qt
import slicer

from semiseg import protocol

from . import EngineChildren
from .Messages import message
from .ProcessTree import endTree
from .RunState import CLOSED_FILE, Ending, State, durationText, endingByForce, endingOf, endingWithoutWord, lastEnding

POLL_MS = 200
_CHUNK_BYTES = 24_000
"""Events read at once: some hundred, which take the window a few milliseconds."""
GRACE_SECONDS = 20.0
"""From asking to stop until the whole process tree is ended, beside the step it is at."""
SILENCE_SECONDS = 60.0
"""Without any event for so long, the user is told (E504)."""
SLEEP_SECONDS = 300.0
_LAST_WORDS_SECONDS = 1.0
"""A process may be gone before its last events are visible on a shared folder."""

PYTHON_SETTING = "TransMedSeg/Python"
"""Settings key of another Python to run the engine with; empty for PythonSlicer."""


def engineFolder() -> Path:
    """The folder that holds the package `semiseg` of this extension."""
    return Path(protocol.__file__).resolve().parent.parent


def enginePython() -> str:
    """The Python that runs the engine: the one in the settings, else PythonSlicer, else ours."""
    configured = slicer.util.settingsValue(PYTHON_SETTING, "")
    return configured or shutil.which("PythonSlicer") or sys.executable


def silenceText() -> str:
    """What is said of a run that was not heard of for a minute (E504)."""
    return message("E504", seconds=round(SILENCE_SECONDS))


def describeCommand() -> list[str]:
    """The command that prints as JSON what the engine can do. It imports torch: seconds, not milliseconds."""
    return [enginePython(), str(Path(__file__).with_name("StartEngine.py")), str(engineFolder()), "--describe"]


def startArguments(runDir: Path, detached: bool, after: Mapping[Path, int], packages: Path | None = None) -> list[str]:
    """Arguments for the Python that runs the engine."""
    starter = Path(__file__).with_name("StartEngine.py")
    arguments = [str(starter), str(engineFolder()), str(runDir)]
    if not detached:
        arguments += ["--parent", str(os.getpid())]
    for other, pid in after.items():
        arguments += ["--after", f"{other}:{pid}"]
    if packages is not None:
        arguments += ["--packages", str(packages)]
    return arguments


class EngineProcess:
    """One run folder and the process that works in it.

    Args:
        runDir: The run folder.
        onEvents: Called with a list of new events, oldest first.
        onEnded: Called once with the `Ending`.
        onSilent: Called once with a text when there was no event for a minute, and with "" when there is one again.
        packages: A folder of packages that go before those of the engine's Python.
    """

    def __init__(
        self,
        runDir: Path,
        onEvents: Callable[[list[dict]], None] = lambda events: None,
        onEnded: Callable[[Ending], None] = lambda ending: None,
        onSilent: Callable[[str], None] = lambda text: None,
        packages: Path | None = None,
    ) -> None:
        self.runDir = Path(runDir)
        self.ending: Ending | None = None
        self.pid = 0
        self._onEvents, self._onEnded, self._onSilent = onEvents, onEnded, onSilent
        self._packages = packages
        self._offset = 0
        self._events: list[dict] = []
        self._detached = True
        self._exitCode: int | None = None
        self._goneSince = 0.0
        self._heardAt = time.monotonic()
        self._isSilent = False
        self._polledAt = 0.0
        self._endBy = 0.0
        self._child = 0
        self._timer = qt.QTimer()
        self._timer.interval = POLL_MS
        self._timer.connect("timeout()", self.poll)

    @property
    def isRunning(self) -> bool:
        """True from the start or the re-attachment until the ending was announced."""
        return self._timer.active

    @property
    def isDetached(self) -> bool:
        return self._detached

    def start(self, verb: str, options: dict, detached: bool = False, after: Mapping[Path, int] | None = None) -> None:
        """Writes the job and starts the engine. Where it cannot start, `onEnded` gets E501.

        Args:
            verb: What to do, one of the protocol's verbs.
            options: Of the verb; the engine fills in every default.
            detached: The run outlives Slicer.
            after: Runs to wait for, each with its process where that was started just now, else with 0.
        """
        protocol.write_job(self.runDir, protocol.Job(verb, options))
        self.resume(detached, after)

    def resume(self, detached: bool = True, after: Mapping[Path, int] | None = None) -> None:
        """Starts the engine on the job that is in the folder already; a stopped training continues."""
        for name in (protocol.STOP_FILE, CLOSED_FILE):
            (self.runDir / name).unlink(missing_ok=True)
        self._offset = self._size()
        self._detached = detached
        self._begin()
        try:
            command = [enginePython(), *startArguments(self.runDir, detached, after or {}, self._packages)]
            self._child = EngineChildren.start(command, self.runDir / protocol.LOG_FILE, detached)
            self.pid = self._child
        except OSError as error:
            self._end(Ending(State.Failed, "E501", message("E501", reason=error.strerror or str(error))))

    def attach(self) -> None:
        """Follows a run that somebody started, from its first event on."""
        self._offset = 0
        self._begin()
        try:
            lock = protocol.read_lock(self.runDir)
        except (OSError, protocol.ProtocolError):
            lock = None
        self.pid = lock.pid if lock is not None and lock.is_alive else 0
        self.poll()

    def _begin(self) -> None:
        self.ending, self._events, self._goneSince, self._endBy, self._exitCode = None, [], 0.0, 0.0, None
        self._heardAt, self._isSilent, self._polledAt = time.monotonic(), False, 0.0
        self._timer.start()

    def _size(self) -> int:
        path = self.runDir / protocol.EVENTS_FILE
        return path.stat().st_size if path.exists() else 0

    def poll(self) -> None:
        """Reads what is new. Called by a timer."""
        self._noticeSleep()
        events, self._offset = protocol.read_events(self.runDir / protocol.EVENTS_FILE, self._offset, _CHUNK_BYTES)
        if events:
            self._hear(events)
        if self.ending is None and self._size() > self._offset and events:
            qt.QTimer.singleShot(0, self._readOn)  # a long run that was found again: piece by piece, so that nothing freezes
        elif self.ending is None:
            self._lookForEnd()
        if self.ending is None and self._endBy and time.monotonic() > self._endBy:
            self.kill()

    def _readOn(self) -> None:
        if self.isRunning:
            self.poll()

    def _noticeSleep(self) -> None:
        """A timer that was silent for minutes means that the computer slept."""
        now = time.time()
        gap, self._polledAt = now - (self._polledAt or now), now
        if gap > SLEEP_SECONDS:
            self._heardAt = time.monotonic()
            self._onSilent(message("E808", duration=durationText(gap)))

    def _hear(self, events: list[dict]) -> None:
        self._events = [*self._events, *events][-200:]
        self._heardAt = time.monotonic()
        if self._isSilent:
            self._isSilent = False
            self._onSilent("")
        for event in events:
            if event["kind"] == "started":
                self.pid = int(event.get("pid", self.pid))
                if self._endBy:  # stopped while torch was imported: only now it can obey
                    self._endBy = max(self._endBy, time.monotonic() + self._grace())
        self._onEvents(events)
        stranger = self._stranger(events)
        if stranger is not None:
            self.kill()
            self._end(stranger)

    def _stranger(self, events: list[dict]) -> Ending | None:
        """Refuses an engine that is not the one of this extension, for runs started here."""
        if not self._child:
            return None
        expected = str(engineFolder() / "semiseg")
        for event in events:
            found = event.get("engine") if event["kind"] == "started" else None
            if found and os.path.realpath(found) != os.path.realpath(expected):
                return Ending(State.Failed, "E510", message("E510", found=found, expected=expected))
        return None

    def _lookForEnd(self) -> None:
        if self._isAlive():
            self._goneSince = 0.0
            silent = time.monotonic() - self._heardAt > SILENCE_SECONDS
            if silent and not self._isSilent:
                self._isSilent = True
                self._onSilent(silenceText())
            return
        last = lastEnding(self._events)
        now = time.monotonic()
        self._goneSince = self._goneSince or now
        if last is not None:
            self._end(endingOf(last, self.runDir))
        elif now - self._goneSince >= _LAST_WORDS_SECONDS:
            killed = bool(self._endBy)
            self._end(endingByForce(self.runDir) if killed else endingWithoutWord(self._exitCode, self.runDir))

    def _isAlive(self) -> bool:
        if self._child:
            self._exitCode = EngineChildren.exitCode(self._child, self._exitCode)
            return self._exitCode is None
        try:
            lock = protocol.read_lock(self.runDir)
        except (OSError, protocol.ProtocolError):
            lock = None
        if lock is None:
            # Between the queue and its turn a run holds no lock for some seconds.
            return bool(self.pid) and EngineChildren.exists(self.pid)
        self.pid = lock.pid
        return EngineChildren.exists(lock.pid) and lock.is_alive if lock.host == socket.gethostname() else lock.is_alive

    def _end(self, ending: Ending) -> None:
        self._timer.stop()
        self.ending = ending
        self._onEnded(ending)

    def pause(self) -> None:
        """Asks the engine to finish its step, save and leave. It is never ended by force."""
        protocol.ask_to_stop(self.runDir)

    def stop(self) -> None:
        """Asks first; after a while ends the whole process tree."""
        protocol.ask_to_stop(self.runDir)
        self._endBy = self._endBy or time.monotonic() + self._grace()

    def _grace(self) -> float:
        """Seconds that it has to obey: on a slow computer the step it is at may take longer than the rest."""
        rates = [event.get("rate_per_s") or 0.0 for event in self._events if event["kind"] == "progress" and event.get("what") == "train"]
        return GRACE_SECONDS + (1 / rates[-1] if rates and rates[-1] > 0 else 0.0)

    def kill(self) -> None:
        """Ends the process and everything it started, at once."""
        self._endBy = self._endBy or time.monotonic()
        for pid in {self._child, self.pid} - {0}:
            endTree(pid)

    def hold(self, isHeld: bool) -> None:
        """While a run that is followed is held, nothing is announced; the process goes on."""
        self._heardAt, self._polledAt = time.monotonic(), 0.0  # the silence was ours
        self._timer.stop() if isHeld else self._timer.start()

    def letGo(self) -> None:
        """Stops following. A detached run goes on; any other is ended."""
        self._timer.stop()
        if not self._detached:
            self.kill()
        elif self._child:
            EngineChildren.letGo(self._child)
