"""The processes of the engine that this Slicer started: their start, their exit codes, and none left behind as a zombie."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from semiseg import protocol

_children: dict[int, subprocess.Popen] = {}


def start(command: list[str], log: Path, detached: bool) -> int:
    """Starts a process as the leader of a group of its own. Returns its number.

    Args:
        log: Takes what it prints; of a run folder, in which no stop file of an earlier run may lie.
        detached: It outlives Slicer.

    Raises:
        OSError: The program or the log cannot be opened.
    """
    environment = {**os.environ, protocol.STARTED_VARIABLE: str(log.parent), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    flags: dict = {"start_new_session": True}
    if os.name == "nt":
        # No console window; out of the job object of a parent that ends its children.
        flags = {"creationflags": 0x08000000 | 0x00000200 | (0x01000000 if detached else 0)}
    with open(log, "ab") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, **flags)
    _children[process.pid] = process
    return process.pid


def exitCode(pid: int, before: int | None) -> int | None:
    """The exit code of a child; None while it runs. `before` is the answer of an earlier call."""
    child = _children.get(pid)
    if child is None:
        return -1 if before is None else before
    code = child.poll()
    if code is not None:
        del _children[pid]
    return code


def letGo(pid: int) -> None:
    """Nobody will ask for the exit code of this child: without this it would look alive after its end to those that wait for it."""
    child = _children.get(pid)
    if child is not None:
        threading.Thread(target=child.wait, daemon=True, name="reaper").start()


def exists(pid: int) -> bool:
    """Whether a process runs; a child that has ended is buried."""
    child = _children.get(pid)
    if child is not None:
        return child.poll() is None
    if os.name != "nt":
        try:
            os.waitpid(pid, os.WNOHANG)  # started before this library was reloaded, it would stay behind as a zombie
        except ChildProcessError:
            pass  # not ours, which is the usual case
    return protocol.process_exists(pid)
