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
from .protocol import EVENTS_FILE, LOG_FILE, ExitCode, ask_to_stop, read_events, read_lock

Report = Callable[..., None]

_ENDINGS = ("finished", "stopped", "paused", "failed")


def run_in_worker(run_dir: Path, report: Report) -> ExitCode:
    """Runs a run folder in a worker process; an interrupt from the keyboard asks it to save and stop.

    Args:
        run_dir: Holds ``job.json``; the worker's output goes to its ``log.txt``.
        report: Receives every event.

    Raises:
        InputError: Another worker has the folder (E809).
    """
    owner = read_lock(run_dir)
    if owner is not None and owner.is_alive:
        raise InputError(
            f"The run folder is used by another worker ({owner.host}, process {owner.pid}).",
            code="E809",
            path=run_dir,
            hint="Wait for it, or stop it.",
        )
    events = run_dir / EVENTS_FILE
    offset = events.stat().st_size if events.exists() else 0
    # An empty entry would put the current folder on the path.
    python_path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": python_path}
    with open(run_dir / LOG_FILE, "ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "semiseg", "run", str(run_dir), "--quiet"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # the keyboard's interrupt is ours to pass on, as a stop file
        )
    is_last, has_ended = False, False
    while True:
        try:
            found, offset = read_events(events, offset)
            for event in found:
                kind = event.pop("kind")
                event.pop("time", None)
                has_ended = has_ended or kind in _ENDINGS
                report(kind, **event)
            if is_last:
                break
            is_last = worker.poll() is not None
            if not is_last:
                time.sleep(0.2)
        except KeyboardInterrupt:
            report("state", message="Stopping: the worker finishes its step and saves. Press again to end it at once.")
            ask_to_stop(run_dir)
            try:
                worker.wait()
            except KeyboardInterrupt:
                worker.kill()
                worker.wait()
    code = worker.returncode
    if code < 0:
        report("failed", code="E503", message=_killed(-code, run_dir), hint="Run the same folder again to continue from its last saved state.")
        return ExitCode.CRASHED
    if not has_ended:
        report("failed", code="", message=f"The worker ended without a word (exit code {code}).", hint=f"{run_dir / LOG_FILE} may say why.")
    return ExitCode(code) if code in set(ExitCode) else ExitCode.CRASHED


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
