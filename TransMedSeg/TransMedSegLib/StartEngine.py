"""What PythonSlicer runs to start the engine.

    python StartEngine.py ENGINE_FOLDER RUN_DIR [--parent PID] [--after RUN_DIR ...] [--packages FOLDER]
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
from pathlib import Path

WAIT_SECONDS = 1.0
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
    if options.after and not waitForTurn(Path(options.runDir), [Path(other) for other in options.after]):
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


def waitForTurn(runDir: Path, others: list[Path]) -> bool:
    """Waits until no other run is alive. Returns False when the user stopped this one meanwhile."""
    import semiseg
    from semiseg import protocol

    with protocol.HeldLock(runDir, QUEUE_DEVICE, str(Path(semiseg.__file__).parent), semiseg.__version__):
        while any(lock is not None and lock.is_alive for lock in map(protocol.read_lock, others)):
            if (runDir / protocol.STOP_FILE).exists():
                report = protocol.EventWriter(runDir / protocol.EVENTS_FILE)
                report("stopped", step=0)
                report.close()
                return False
            time.sleep(WAIT_SECONDS)
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
