"""Ends a process with everything it started: PythonSlicer is a launcher whose child does the work."""

from __future__ import annotations

import os
import signal
import subprocess


def endTree(pid: int) -> None:
    """Ends a process and all its children at once; one that has ended already is passed over.

    A process that leads a group of its own, as the engine does, is ended with its group. One in the group of Slicer, as
    QProcess starts it, is ended with those that descend from it, so that Slicer itself goes on.
    """
    if pid <= 0:
        return  # a QProcess that does not run; as a number, 0 means the whole group of Slicer
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(pid)], capture_output=True, check=False)
        return
    try:
        group = os.getpgid(pid)
    except ProcessLookupError:
        return  # it ended by itself meanwhile, which is what was wanted
    if group != os.getpgid(0):
        _signal(os.killpg, group, signal.SIGKILL)
    else:
        _endDescent(pid)


def _endDescent(pid: int) -> None:
    """Halts a process before its children are counted, so that none is started meanwhile; then the same with each of them."""
    halted, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        _signal(os.kill, one, signal.SIGSTOP)
        halted.append(one)
        waiting += _childrenOf(one)
    for one in halted:
        _signal(os.kill, one, signal.SIGKILL)


def _signal(send, target: int, number: int) -> None:
    try:
        send(target, number)
    except ProcessLookupError:
        pass  # it is gone already


def _childrenOf(parent: int) -> list[int]:
    """Process numbers of the children of a process, on Linux and macOS."""
    try:
        table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    except OSError:
        return []  # a system without ps: the process itself is ended at least
    rows = (line.split() for line in table.splitlines())
    return [int(pid) for pid, ppid in rows if int(ppid) == parent]
