"""The mailbox between a window and the engine: a run folder with a job, its events and a stop file.

Only the standard library is imported here, so that a window may import this file and nothing else of the engine.
Fields of jobs and events are listed in docs/protocol.md.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

PROTOCOL_VERSION = 1

JOB_FILE = "job.json"
EVENTS_FILE = "events.jsonl"
STOP_FILE = "stop"
LOG_FILE = "log.txt"
LOCK_FILE = "run.lock"
MODEL_FILE = "model.pt"
RESUME_FILE = "resume.pt"
RESULT_FILE = "result.json"
BASELINE_FOLDER = "baseline"
"""In a run folder: the training on the labels alone that the run is compared with, a run folder of its own."""

STARTED_VARIABLE = "SEMISEG_STARTED"
"""In the environment of a worker: the run folder whose earlier stop file its starter has removed. Any other is meant for this worker."""

_BEGAN = time.time()
"""When this process began, near enough: this file is the first of the engine to be imported."""

VERBS = ("prepare", "measure", "train", "predict", "evaluate", "phantom", "report", "export-seg", "study")

HEARTBEAT_SECONDS = 5.0
"""How often a running worker renews its lock; a lock older than 12 times this belongs to nobody."""

EVENT_KINDS = {
    "started": "engine version and file, process id, host, device, verb",
    "stage": "a new part of the work: name, total iterations",
    "progress": "what, done, total, rate_per_s, eta_s",
    "scalar": "name, value, step",
    "case": "id, status, reason, code, same_as",
    "warning": "code, message, hint",
    "saved": "path and what it is",
    "preview": "path of a picture, image, labels, position_mm, step, case, slice, dice",
    "state": "one sentence about how it goes",
    "finished": "result",
    "stopped": "step, message; the run can be resumed",
    "paused": "code, message, hint; the run can be resumed",
    "failed": "code, message, hint, fixes: changes of the job's options that would help",
}


class ExitCode(IntEnum):
    """How a worker process ends."""

    FINISHED = 0
    CRASHED = 1
    REFUSED = 2
    STOPPED = 3


class ProtocolError(ValueError):
    """A job file or an event that cannot be understood."""


@dataclass(frozen=True)
class Job:
    """What a run folder asks for.

    Attributes:
        verb: One of ``VERBS``.
        options: The verb's options, JSON values only. The worker fills in every default and writes the file again.
        protocol: Version of this file format.
    """

    verb: str
    options: dict[str, Any] = field(default_factory=dict)
    protocol: int = PROTOCOL_VERSION

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise ProtocolError(f"A job's verb is one of {', '.join(VERBS)}; found {self.verb!r}.")
        if self.protocol != PROTOCOL_VERSION:
            raise ProtocolError(
                f"The job has protocol version {self.protocol}; this engine reads {PROTOCOL_VERSION}. Update the older of the two."
            )


def write_text_atomically(path: Path, text: str) -> None:
    """Writes a whole text file or none: a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_job(run_dir: Path, job: Job) -> Path:
    """Writes ``job.json`` into a run folder, which is made when it is not there."""
    run_dir.mkdir(parents=True, exist_ok=True)
    document = {"protocol": job.protocol, "verb": job.verb, "options": job.options}
    write_text_atomically(run_dir / JOB_FILE, json.dumps(document, indent=2) + "\n")
    return run_dir / JOB_FILE


def read_job(run_dir: Path) -> Job:
    """Reads ``job.json``.

    Raises:
        FileNotFoundError: There is none.
        ProtocolError: It is not JSON, not an object, or of another protocol.
    """
    path = run_dir / JOB_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Job(document["verb"], dict(document.get("options", {})), int(document.get("protocol", 0)))
    except ProtocolError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(f"{path} is not a job: {type(error).__name__}: {error}") from error


class EventWriter:
    """Appends events to ``events.jsonl``; safe from several threads of one process.

    Args:
        path: The file; None swallows every event (ranks above 0 of a distributed run).
    """

    def __init__(self, path: Path | None) -> None:
        self._stream = None if path is None else open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (until close)
        self._lock = threading.Lock()
        if path is not None and _ends_within_a_line(path):
            self._stream.write("\n")  # a run that was cut off must not swallow our first event

    def __call__(self, kind: str, **values: Any) -> None:
        if kind not in EVENT_KINDS:
            raise ProtocolError(f"{kind!r} is not a kind of event; known: {', '.join(EVENT_KINDS)}.")
        if self._stream is None:
            return
        line = json.dumps({"kind": kind, "time": round(time.time(), 3), **values}, default=str)
        with self._lock:
            self._stream.write(line + "\n")

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _ends_within_a_line(path: Path) -> bool:
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(size - 1, 0))
        return size > 0 and stream.read(1) != b"\n"


def read_events(path: Path, offset: int = 0, most_bytes: int = -1) -> tuple[list[dict[str, Any]], int]:
    """Reads the whole lines from a byte offset on.

    A line that is still being written stays for the next call. A line that is no JSON object (a disk that was full) is skipped.

    Args:
        path: The file of the events.
        offset: Where to begin.
        most_bytes: About how much to read at once, always to the end of a line; -1 reads all.

    Returns:
        The events and the offset for the next call.
    """
    if not path.exists():
        return [], offset
    with open(path, "rb") as stream:
        stream.seek(offset)
        data = stream.read(most_bytes)
        if most_bytes >= 0 and not data.endswith(b"\n"):
            data += stream.readline()
    end = data.rfind(b"\n") + 1
    events = []
    for line in data[:end].splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "kind" in event:
            events.append(event)
    return events, offset + end


def ask_to_stop(run_dir: Path) -> None:
    """Asks a worker to finish its step, save and leave."""
    (run_dir / STOP_FILE).touch()


def last_event_time(run_dir: Path) -> float:
    """When something was last heard of this folder, in seconds as its file system counts them; 0 if never."""
    try:
        return (run_dir / EVENTS_FILE).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def forget_earlier_stop(run_dir: Path, last_heard: float) -> None:
    """Removes a stop file that was meant for an earlier run: a stop ends one run, not the next.

    Where the starter of this process has removed it (`STARTED_VARIABLE`), one that is there is meant for this run. Elsewhere, one made
    since this process began stays: the engine takes seconds to start and a user may be quicker.

    Args:
        last_heard: `last_event_time` before this run wrote its first event.
    """
    if os.environ.get(STARTED_VARIABLE) == str(run_dir):
        return
    path = run_dir / STOP_FILE
    try:
        made = path.stat().st_mtime
    except FileNotFoundError:
        return
    if made < _BEGAN or made <= last_heard:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Lock:
    """Who works in a run folder.

    Attributes:
        pid: Process id on ``host``.
        host: Name of the computer.
        device: What it computes on, such as ``"cuda:0"``.
        engine: Path of the engine's package.
        version: Version of the engine.
        age_s: Seconds since the last sign of life.
    """

    pid: int
    host: str
    device: str
    engine: str
    version: str
    age_s: float

    @property
    def is_alive(self) -> bool:
        """True while the owner shows signs of life; on this computer a vanished process counts at once."""
        if self.host == socket.gethostname() and not process_exists(self.pid):
            return False
        return self.age_s < 12 * HEARTBEAT_SECONDS

    @property
    def is_this_process(self) -> bool:
        """Process ids repeat from computer to computer (containers count from 1)."""
        return self.pid == os.getpid() and self.host == socket.gethostname()


def process_exists(pid: int) -> bool:
    """True when a process with this id runs on this computer."""
    if os.name == "nt":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if not handle:
            return False
        code = ctypes.c_ulong()
        ctypes.windll.kernel32.GetExitCodeProcess(handle, ctypes.byref(code))
        ctypes.windll.kernel32.CloseHandle(handle)
        return code.value == 259  # STILL_ACTIVE
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_lock(run_dir: Path) -> Lock | None:
    """Who works in this folder; None when nobody holds a lock.

    A lock that cannot be read (its writer is just at it, or died of a full disk) belongs to an unknown owner until it is stale.
    """
    path = run_dir / LOCK_FILE
    try:
        age_s = time.time() - path.stat().st_mtime
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    try:
        document = json.loads(text)
        return Lock(
            int(document["pid"]),
            str(document["host"]),
            str(document.get("device", "")),
            str(document.get("engine", "")),
            str(document.get("version", "")),
            age_s,
        )
    except (ValueError, KeyError, TypeError):
        return Lock(0, "an unknown computer", "", "", "", age_s)


class HeldLock:
    """Holds a run folder: writes the lock, renews it in a thread, removes it at the end. A context manager.

    Raises:
        BlockingIOError: A living worker holds the folder; its ``args[1]`` says which.
        OSError: The folder cannot be written.
    """

    def __init__(self, run_dir: Path, device: str, engine: str, version: str) -> None:
        self._path = run_dir / LOCK_FILE
        self._run_dir = run_dir
        self._document = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "device": device,
            "engine": engine,
            "version": version,
            "since": round(time.time(), 3),
        }
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="heartbeat")

    def __enter__(self) -> HeldLock:
        owner = read_lock(self._run_dir)
        try:
            if owner is not None and owner.is_this_process:
                if owner.device != self._document["device"]:
                    self._rewrite()  # its own, handed on without a moment in which nobody holds it
            else:
                if owner is not None:
                    if owner.is_alive:
                        raise BlockingIOError(11, f"{owner.host}, process {owner.pid}")
                    self._path.unlink(missing_ok=True)
                self._create()
        except FileExistsError as error:
            raise BlockingIOError(11, "a worker that has just started") from error
        self._thread.start()
        return self

    def _rewrite(self) -> None:
        """Changes what the lock says. Windows replaces no file that somebody reads, and windows look at locks all the time."""
        for _try in range(20):
            with suppress(PermissionError):
                return write_text_atomically(self._path, json.dumps(self._document))
            time.sleep(0.05)
        return write_text_atomically(self._path, json.dumps(self._document))

    def _create(self) -> None:
        """Makes the lock with its text already in it, so that no reader takes a waiting run for a working one."""
        text = json.dumps(self._document)
        # With the host: process ids repeat from computer to computer.
        draft = self._path.with_name(f"{LOCK_FILE}.{socket.gethostname()}.{os.getpid()}.part")
        try:
            draft.write_text(text, encoding="utf-8")
            try:
                os.link(draft, self._path)
            except FileExistsError:
                raise
            except OSError:  # a file system without links: its readers see an empty lock for a moment
                with os.fdopen(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "w", encoding="utf-8") as stream:
                    stream.write(text)
        finally:
            with suppress(OSError):  # Windows removes no file that somebody reads, and a reader of the lock reads the draft
                draft.unlink()

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._thread.join()
        owner = read_lock(self._run_dir)
        if owner is not None and (owner.is_this_process or not owner.pid):  # who took it over may have released it, and another taken it since
            self._path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self._path)
            except OSError:
                return  # the folder is gone; the worker finds out at its next write
