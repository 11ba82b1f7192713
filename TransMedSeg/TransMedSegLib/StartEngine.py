"""What PythonSlicer runs to start the engine.

    python StartEngine.py ENGINE_FOLDER RUN_DIR [--parent PID] [--after RUN_DIR:PID ...] [--packages FOLDER]
    python StartEngine.py ENGINE_FOLDER --describe

Puts the engine of this extension first on the path, so that no other copy of it can answer. Waits for other runs where it
is told to, so that a queued run starts without Slicer. With --parent it ends when that process is gone. Packages in the
folder after --packages go before those of this Python.
"""

from __future__ import annotations

import argparse
import os
import runpy
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

WAIT_SECONDS = 1.0
_START_SECONDS = 120.0
_QUIET_LOOKS = 2
"""So often in a row nobody may be at work: a lock that changes hands is gone for a moment."""
QUEUE_DEVICE = "queue"
"""What the lock of a waiting run names as its device."""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engineFolder")
    parser.add_argument("runDir", nargs="?")
    parser.add_argument("--describe", action="store_true")
    parser.add_argument("--parent", type=int)
    parser.add_argument("--after", action="append", default=[])
    parser.add_argument("--packages")
    options = parser.parse_args(arguments)
    # The first entry is the folder of this file.
    sys.path[0] = options.engineFolder
    if options.packages:
        sys.path.insert(1, options.packages)
    if options.parent is not None:
        threading.Thread(target=endWith, args=(options.parent,), daemon=True).start()
    with ExitStack() as held:
        earlier = [EarlierRun(Path(folder), int(pid)) for folder, _, pid in (other.rpartition(":") for other in options.after)]
        if earlier and not waitForTurn(Path(options.runDir), earlier, held):
            raise SystemExit(3)
        if options.runDir and not earlier:
            holdFolder(Path(options.runDir), held)
        sys.argv = ["semiseg", "describe", "--json"] if options.describe else ["semiseg", "run", "--quiet", options.runDir]
        runpy.run_module("semiseg", run_name="__main__", alter_sys=True)


def holdFolder(runDir: Path, held: ExitStack) -> None:
    """Takes the run folder at once; the engine does so too, but imports torch before, which takes seconds in which the run would look dead.

    Args:
        held: Keeps the folder's lock until the engine takes it over.
    """
    import semiseg
    from semiseg import protocol

    with suppress(OSError, protocol.ProtocolError):  # the engine says what is wrong here
        device = str(protocol.read_job(runDir).options.get("device", "auto"))
        held.enter_context(protocol.HeldLock(runDir, device, str(Path(semiseg.__file__).parent), semiseg.__version__))


def endWith(parent: int) -> None:
    """Ends this process, and all it started, as soon as its parent is gone."""
    from semiseg import protocol

    while protocol.process_exists(parent):
        time.sleep(WAIT_SECONDS)
    # Slicer starts the engine as the leader of a group of its own; never end a group that is somebody else's.
    if os.name != "nt" and os.getsid(0) == os.getpgid(0) != os.getpgid(os.getppid()):
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os._exit(1)


class EarlierRun:
    """A run that goes before this one.

    Its lock says that it is alive. Where there is none (yet, or between two owners), its process does, for as long as a start
    may take: the number of a process that ended may be given to another program.

    Args:
        folder: Its run folder.
        pid: Its process where it was started just now and may be too young to hold a lock; 0 otherwise.
    """

    def __init__(self, folder: Path, pid: int = 0) -> None:
        self._folder = folder
        self._pid = pid
        self._seenAt = time.monotonic()

    def isBusy(self) -> bool:
        from semiseg import protocol

        try:
            lock = protocol.read_lock(self._folder)
        except OSError:
            return True  # a folder that cannot be read says nothing; the next look may
        if lock is not None:
            self._pid = lock.pid if lock.host == socket.gethostname() else 0
            self._seenAt = time.monotonic()
            return lock.is_alive
        isYoung = time.monotonic() - self._seenAt < _START_SECONDS
        return bool(self._pid) and isYoung and protocol.process_exists(self._pid)


def waitForTurn(runDir: Path, earlier: list[EarlierRun], held: ExitStack) -> bool:
    """Waits until no earlier run is alive. Returns False when the user stopped this one meanwhile.

    Args:
        held: Keeps the folder's lock until the engine takes it over, so that a third run that waits for this one goes on waiting.
    """
    import semiseg
    from semiseg import protocol

    held.enter_context(protocol.HeldLock(runDir, QUEUE_DEVICE, str(Path(semiseg.__file__).parent), semiseg.__version__))
    quiet = 0
    while quiet < _QUIET_LOOKS:
        if (runDir / protocol.STOP_FILE).exists():
            report = protocol.EventWriter(runDir / protocol.EVENTS_FILE)
            report("stopped", step=0)
            report.close()
            return False
        quiet = 0 if any([run.isBusy() for run in earlier]) else quiet + 1  # noqa: C419 (every run is looked at: it remembers its process)
        time.sleep(WAIT_SECONDS)
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
