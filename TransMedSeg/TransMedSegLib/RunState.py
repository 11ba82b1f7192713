"""What a run folder says about its run: its state, how far it is, how good, and how it ended. No Qt, no scene."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from slicer.i18n import tr as _

from semiseg import protocol

from .Messages import message
from .StartEngine import QUEUE_DEVICE

CLOSED_FILE = "closed"
"""Written by the window when the user stopped a run for good; without it a stopped run counts as paused."""

_ENDINGS = ("finished", "stopped", "paused", "failed")
_LOG_TAIL_BYTES = 20_000

_LOG_SIGNS = (
    (r"CUDA out of memory|OutOfMemoryError", "E206"),
    (r"no kernel image is available", "E204"),
    (r"CUDA driver version is insufficient|driver on your system is too old", "E202"),
    (r"unspecified launch failure|device-side assert|an illegal memory access|GPU is lost|\bXid\b", "E207"),
    (r"No space left on device|Disk quota exceeded", "E807"),
    (r"MemoryError|can't allocate memory|bad_alloc|Unable to allocate", "E503"),
)
"""What a crashed program leaves in its log, and the code it means."""


class State(Enum):
    """Where a run is."""

    New = "new"
    Queued = "queued"
    Running = "running"
    Paused = "paused"
    Stopped = "stopped"
    Finished = "finished"
    Failed = "failed"
    Interrupted = "interrupted"


@dataclass(frozen=True)
class Ending:
    """How a run ended, in words for the user.

    Attributes:
        state: Finished, Paused, Stopped, Failed or Interrupted.
        code: Code of the message; may be empty.
        text: What happened and what to do.
        result: What the engine handed over at the end.
        fixes: Changes of the job's options that would help, each enough alone.
    """

    state: State
    code: str = ""
    text: str = ""
    result: dict = field(default_factory=dict)
    fixes: tuple = ()


@dataclass
class RunSummary:
    """One row of the list of runs. It has worked for `seconds`, all starts together without the pauses, and was last `heard` of at that time."""

    runDir: Path
    state: State = State.New
    verb: str = ""
    goal: str = ""
    device: str = ""
    version: str = ""
    started: float = 0.0
    iteration: int = 0
    total: int = 0
    bestDice: float | None = None
    seconds: float = 0.0
    heard: float = 0.0

    @property
    def canResume(self) -> bool:
        return self.state in (State.Paused, State.Stopped, State.Interrupted, State.Failed)


def summarize(runDir: Path) -> RunSummary:
    """Reads a run folder from its beginning. A folder without a readable job gives state Failed."""
    return RunReader(runDir).read()


class RunReader:
    """Reads a run folder again and again, each time only the events that are new.

    Args:
        runDir: The run folder.
    """

    def __init__(self, runDir: Path) -> None:
        self._runDir = runDir
        self._forget()

    def _forget(self) -> None:
        self._summary, self._offset, self._ending, self._hasEvents = RunSummary(self._runDir), 0, None, False

    def read(self) -> RunSummary:
        """The run as it is now."""
        try:
            job = protocol.read_job(self._runDir)
        except (OSError, protocol.ProtocolError):
            return RunSummary(self._runDir, State.Failed)
        path = self._runDir / protocol.EVENTS_FILE
        if not path.exists() or path.stat().st_size < self._offset:
            self._forget()  # another run took the folder
        events, self._offset = protocol.read_events(path, self._offset)
        for event in events:
            _add(self._summary, event)
            if event["kind"] == "started":
                self._ending = None
            elif event["kind"] in _ENDINGS:
                self._ending = event
        self._hasEvents = self._hasEvents or bool(events)
        state = _stateOf(self._runDir, self._ending, self._hasEvents)
        return replace(self._summary, state=state, verb=job.verb, goal=str(job.options.get("goal", "")), device=str(job.options.get("device", "")))


_BEFORE_TRAINING = ("prepare", "measure")
"""Verbs of a check or a measurement, whose folder a run has taken over."""


def _add(summary: RunSummary, event: dict) -> None:
    kind, time = event["kind"], float(event.get("time", 0))
    if kind != "started" and summary.started:
        summary.seconds += max(0.0, time - summary.heard)
    summary.heard = time
    if kind == "started":
        if event.get("verb") not in _BEFORE_TRAINING:
            summary.started = summary.started or time
        summary.version = str(event.get("version", ""))
    elif kind == "progress" and event.get("what") == "train" and event.get("stage") != "baseline":
        summary.iteration, summary.total = int(event.get("done", 0)), int(event.get("total", 0))
    elif kind == "scalar" and event.get("name") == "validation_dice":
        summary.bestDice = max(float(event["value"]), summary.bestDice or 0.0)


def stateOf(runDir: Path, events: list[dict]) -> State:
    """Where a run is, from its lock and its events since it was started last."""
    return _stateOf(runDir, lastEnding(events), bool(events))


def _stateOf(runDir: Path, ending: dict | None, hasEvents: bool) -> State:
    try:
        lock = protocol.read_lock(runDir)
    except (OSError, protocol.ProtocolError):
        lock = None
    if lock is not None and lock.is_alive:
        return State.Queued if lock.device == QUEUE_DEVICE else State.Running
    if ending is not None:
        return endingOf(ending, runDir).state
    if (runDir / CLOSED_FILE).exists():
        return State.Stopped
    return State.Interrupted if hasEvents else State.New


def lastEnding(events: list[dict]) -> dict | None:
    """The event that ended the run, or None when it was started again since or never ended."""
    for event in reversed(events):
        if event["kind"] == "started":
            return None
        if event["kind"] in _ENDINGS:
            return event
    return None


def endingOf(event: dict, runDir: Path) -> Ending:
    """The words for an ending that the engine itself wrote."""
    kind, code = event["kind"], str(event.get("code") or "")
    text = " ".join(str(event[key]) for key in ("message", "hint") if event.get(key))
    if kind == "finished":
        return Ending(State.Finished, result=event.get("result") or {})
    if kind == "stopped":
        return Ending(State.Stopped if (runDir / CLOSED_FILE).exists() else State.Paused)
    if kind == "paused":
        return Ending(State.Paused, code, text or _textOf(code, runDir))
    if code in ("", "E502"):
        code = codeIn(text) or "E502"
        text = message("E502", reason=text) if code == "E502" else _textOf(code, runDir)
    return Ending(State.Failed, code, text or _textOf(code, runDir), fixes=tuple(event.get("fixes") or ()))


def endingByForce(runDir: Path) -> Ending:
    """The ending of a run that the window itself ended."""
    return Ending(State.Stopped if (runDir / CLOSED_FILE).exists() else State.Interrupted)


def endingWithoutWord(exitCode: int | None, runDir: Path) -> Ending:
    """The words for a program that is gone without an ending event: killed, or crashed before it could write."""
    tail = logTail(runDir)
    code = codeIn(tail)
    if code is None and exitCode in (-9, 137):
        code = "E503"
    if code is not None:
        return Ending(State.Failed, code, _textOf(code, runDir))
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    if exitCode in (None, 0) and not any("Error" in line for line in lines):
        return Ending(State.Interrupted)
    reason = lines[-1] if lines else f"exit code {exitCode}"
    return Ending(State.Failed, "E502", message("E502", reason=reason))


def codeIn(text: str) -> str | None:
    """The code that a log or an error text points to."""
    return next((code for pattern, code in _LOG_SIGNS if re.search(pattern, text)), None)


def logTail(runDir: Path) -> str:
    """The end of the program's log."""
    path = runDir / protocol.LOG_FILE
    if not path.exists():
        return ""
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
        return stream.read().decode("utf-8", errors="replace")


def _textOf(code: str, runDir: Path) -> str:
    """The text of a code with the values that this folder and this computer know."""
    from .Computer import gpuName, memoryGb

    values = {
        "iteration": lastIteration(runDir),
        "total_gb": memoryGb(),
        "gpu": gpuName(),
        "driver": "?",
        "cuda": "?",
        "needed": "?",
        "reason": "",
    }
    try:
        return message(code, **values)
    except KeyError:
        return ""


def lastIteration(runDir: Path) -> int:
    """The last iteration the engine saved its state at, else the last it reported."""
    done = 0
    for event in protocol.read_events(runDir / protocol.EVENTS_FILE)[0]:
        if event["kind"] == "saved" and event.get("what") == "state":
            done = int(event.get("step", done))
    return done


def savedModel(runDir: Path) -> dict | None:
    """The event that told of the run's model since it was started last; None where there was none."""
    events = protocol.read_events(runDir / protocol.EVENTS_FILE)[0]
    for event in reversed(events):
        if event["kind"] == "started":
            return None
        if event["kind"] == "saved" and event.get("what") == "model" and Path(str(event.get("path"))).parent.name == runDir.name:
            return event
    return None


def readJson(path: Path) -> dict:
    """A JSON object from a file; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def durationText(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    seconds = round(seconds)
    hours, minutes, rest = _durations()
    if seconds >= 3600:
        return hours.format(hours=seconds // 3600, minutes=seconds % 3600 // 60)
    if seconds >= 60:
        return minutes.format(minutes=seconds // 60, seconds=seconds % 60)
    return rest.format(seconds=seconds)


def aboutText(seconds: float) -> str:
    """A duration that is expected or was measured once: rounded to what it can be trusted for."""
    step = 1 if seconds < 60 else 5 if seconds < 300 else 60 if seconds < 3600 else 300
    rounded = max(step * round(seconds / step), 1)
    hours, minutes = _roundDurations()
    if rounded >= 3600 and rounded % 3600 == 0:
        return hours.format(hours=rounded // 3600)
    if 60 <= rounded < 3600 and rounded % 60 == 0:
        return minutes.format(minutes=rounded // 60)
    return durationText(rounded)


@functools.cache
def _roundDurations() -> tuple[str, str]:
    return _("{hours} h"), _("{minutes} min")


@functools.cache
def _durations() -> tuple[str, str, str]:
    """Asked for once: a translation looks at the call stack, which takes milliseconds, and this is said several times a second."""
    return _("{hours} h {minutes} min"), _("{minutes} min {seconds} s"), _("{seconds} s")
