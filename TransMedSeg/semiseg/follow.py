"""Starts a worker of its own process for a run folder and follows its events until it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import InputError
from .protocol import EVENTS_FILE, LOG_FILE, STARTED_VARIABLE, STOP_FILE, ExitCode, ask_to_stop, read_events, read_lock

Report = Callable[..., None]

_ENDINGS = ("finished", "stopped", "paused", "failed")


_LAUNCHER_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What ``torchrun`` tells its processes. A worker started here is one process of its own, also when its starter is a rank."""


class Worker:
    """A worker process and what it tells.

    Args:
        run_dir: Holds ``job.json``; the worker's output goes to its ``log.txt``.

    Raises:
        InputError: Another worker has the folder (E809).
    """

    def __init__(self, run_dir: Path) -> None:
        owner = read_lock(run_dir)
        if owner is not None and owner.is_alive:
            raise InputError(
                f"The run folder is used by another worker ({owner.host}, process {owner.pid}).",
                code="E809",
                path=run_dir,
                hint="Wait for it, or stop it.",
            )
        self.run_dir = run_dir
        self._events = run_dir / EVENTS_FILE
        self._offset = self._events.stat().st_size if self._events.exists() else 0
        self._has_ended = False
        (run_dir / STOP_FILE).unlink(missing_ok=True)
        with open(run_dir / LOG_FILE, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "semiseg", "run", str(run_dir), "--quiet"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(run_dir),
                start_new_session=True,  # the keyboard's interrupt is ours to pass on, as a stop file
            )

    def is_running(self) -> bool:
        return self._process.poll() is None

    def news(self, report: Report) -> None:
        """Reports the events since the last call."""
        found, self._offset = read_events(self._events, self._offset)
        for event in found:
            kind = event.pop("kind")
            event.pop("time", None)
            self._has_ended = self._has_ended or kind in _ENDINGS
            report(kind, **event)

    def wait(self) -> None:
        self._process.wait()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def ending(self, report: Report) -> ExitCode:
        """How the process ended, once it has; says what its own events do not."""
        code = self._process.returncode
        if code < 0:
            message = _killed(-code, self.run_dir)
            report("failed", code="E503", message=message, hint="Run the same folder again to continue from its last saved state.")
            return ExitCode.CRASHED
        if not self._has_ended:
            message = f"The worker ended without a word (exit code {code})."
            report("failed", code="", message=message, hint=f"{self.run_dir / LOG_FILE} may say why.")
        return ExitCode(code) if code in set(ExitCode) else ExitCode.CRASHED


def _environment(run_dir: Path) -> dict[str, str]:
    # An empty entry would put the current folder on the path.
    python_path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    inherited = {name: value for name, value in os.environ.items() if name not in _LAUNCHER_NAMES and not name.startswith("TORCHELASTIC")}
    return {**inherited, "PYTHONPATH": python_path, STARTED_VARIABLE: str(run_dir)}


def run_in_worker(run_dir: Path, report: Report) -> ExitCode:
    """Runs a run folder in a worker process; an interrupt from the keyboard asks it to save and stop.

    Args:
        run_dir: Holds ``job.json``; the worker's output goes to its ``log.txt``.
        report: Receives every event.

    Raises:
        InputError: Another worker has the folder (E809).
    """
    worker = Worker(run_dir)
    is_last = False
    while True:
        try:
            worker.news(report)
            if is_last:
                break
            is_last = not worker.is_running()
            if not is_last:
                time.sleep(0.2)
        except KeyboardInterrupt:
            report("state", message="Stopping: the worker finishes its step and saves. Press again to end it at once.")
            ask_to_stop(run_dir)
            try:
                worker.wait()
            except KeyboardInterrupt:
                worker.kill()
    return worker.ending(report)


def _killed(signal: int, run_dir: Path) -> str:
    if signal == 9:
        return "The system ended the program, most likely because memory ran out."
    return f"The program was ended by signal {signal}; {run_dir / LOG_FILE} may say why."


def last_result(run_dir: Path) -> dict[str, Any]:
    """The result of the newest ``finished`` event; empty when there is none."""
    events, _ = read_events(run_dir / EVENTS_FILE)
    for event in reversed(events):
        if event["kind"] == "finished":
            return event.get("result") or {}
    return {}
