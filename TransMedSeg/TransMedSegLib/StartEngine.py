"""What PythonSlicer runs to start the engine.

    python StartEngine.py ENGINE_FOLDER RUN_DIR [--parent PID] [--after RUN_DIR ... [--after-pid PID]] [--packages FOLDER]
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
import sys
import threading
import time
from contextlib import ExitStack
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
    parser.add_argument("--after-pid", type=int, default=0)
    parser.add_argument("--packages")
    options = parser.parse_args(arguments)
    # The first entry is the folder of this file.
    sys.path[0] = options.engineFolder
    if options.packages:
        sys.path.insert(1, options.packages)
    if options.parent is not None:
        threading.Thread(target=endWith, args=(options.parent,), daemon=True).start()
    with ExitStack() as held:
        others = [Path(other) for other in options.after]
        if others and not waitForTurn(Path(options.runDir), others, held, options.after_pid):
            raise SystemExit(3)
        sys.argv = ["semiseg", "describe", "--json"] if options.describe else ["semiseg", "run", "--quiet", options.runDir]
        runpy.run_module("semiseg", run_name="__main__", alter_sys=True)


def endWith(parent: int) -> None:
    """Ends this process, and all it started, as soon as its parent is gone."""
    from semiseg import protocol

    while protocol.process_exists(parent):
        time.sleep(WAIT_SECONDS)
    # Slicer starts the engine as the leader of a group of its own; never end a group that is somebody else's.
    if os.name != "nt" and os.getsid(0) == os.getpgid(0) != os.getpgid(os.getppid()):
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os._exit(1)


def waitForTurn(runDir: Path, others: list[Path], held: ExitStack, starting: int = 0) -> bool:
    """Waits until no other run is alive. Returns False when the user stopped this one meanwhile.

    Args:
        held: Keeps the folder's lock until the engine takes it over, so that a third run that waits for this one goes on waiting.
        starting: Process of the first of the others, which may be too young to hold a lock; 0 where it holds one.
    """
    import semiseg
    from semiseg import protocol

    held.enter_context(protocol.HeldLock(runDir, QUEUE_DEVICE, str(Path(semiseg.__file__).parent), semiseg.__version__))
    quiet, patience = 0, time.monotonic() + _START_SECONDS
    while quiet < _QUIET_LOOKS:
        if (runDir / protocol.STOP_FILE).exists():
            report = protocol.EventWriter(runDir / protocol.EVENTS_FILE)
            report("stopped", step=0)
            report.close()
            return False
        locks = [protocol.read_lock(other) for other in others]
        if locks[0] is not None or time.monotonic() > patience:
            starting = 0
        isBusy = any(lock is not None and lock.is_alive for lock in locks) or (starting and protocol.process_exists(starting))
        quiet = 0 if isBusy else quiet + 1
        time.sleep(WAIT_SECONDS)
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
