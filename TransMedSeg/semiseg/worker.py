"""Runs one run folder: reads the job, calls the use case it names, writes events, obeys the stop file."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

from . import __version__
from .distributed import World, any_rank, join_world, leave_world
from .errors import InputError
from .protocol import (
    EVENTS_FILE,
    LOCK_FILE,
    STOP_FILE,
    EventWriter,
    ExitCode,
    HeldLock,
    Job,
    ProtocolError,
    read_job,
    read_lock,
)

Report = Callable[..., None]


def run_folder(run_dir: Path, also: Report | None = None) -> ExitCode:
    """Works on a run folder until it is finished, stopped or failed.

    Args:
        run_dir: Holds ``job.json``.
        also: Receives every event as well (the terminal's progress bar).

    Returns:
        How it ended; ``events.jsonl`` says the same in words.
    """
    world = join_world()
    try:
        return _run(Path(run_dir), also, world)
    finally:
        leave_world()


def _run(run_dir: Path, also: Report | None, world: World) -> ExitCode:
    writer: EventWriter | None = None

    def report(kind: str, **values: Any) -> None:
        if writer is not None:
            writer(kind, **values)
        if also is not None and world.is_main:
            also(kind, **values)

    try:
        job = _read(run_dir)
        writer = _open_events(run_dir, world)
        device = str(job.options.get("device", "auto"))
        lock = HeldLock(run_dir, device, __file__, __version__) if world.is_main else nullcontext()
        with lock:
            if world.is_main:
                (run_dir / STOP_FILE).unlink(missing_ok=True)  # a stop ends one run, not the next
            any_rank(False)  # nobody looks for a stop file before it is gone
            report("started", version=__version__, engine=str(Path(__file__).parent), pid=os.getpid(), host=socket.gethostname(), device=device, verb=job.verb, ranks=world.size)  # fmt: skip
            result = _call(job, run_dir, report, world)
        if isinstance(result, dict) and "stopped_at" in result:
            report("stopped", step=result["stopped_at"])
            return ExitCode.STOPPED
        report("finished", result=result)
        return ExitCode.FINISHED
    except BlockingIOError as error:
        where = str(error.args[-1]) if error.args else "another worker"
        refusal = InputError(f"The run folder is used by another worker ({where}).", code="E809", path=run_dir, hint="Wait for it, or stop it.")
        return _refuse(refusal, report)
    except InputError as error:
        if error.code == "E807":
            report("paused", code=error.code, message=f"{error.message}", hint="Free at least 1 GB, then run it again: it continues from its last saved state.")  # fmt: skip
            return ExitCode.STOPPED
        return _refuse(error, report)
    except (ProtocolError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and not str(error.filename).endswith("job.json"):
            raise
        return _refuse(InputError(f"There is no usable job: {error}", path=run_dir, hint="`semiseg new` writes one."), report)
    except Exception as error:
        traceback.print_exc()  # into log.txt, where the one who starts us sends our output
        report("failed", code="E502", message=f"{type(error).__name__}: {error}", hint="This is a defect; log.txt has the details.")  # fmt: skip
        return ExitCode.CRASHED
    finally:
        if writer is not None:
            writer.close()


def _refuse(error: InputError, report: Report) -> ExitCode:
    report("failed", code=error.code, message=error.message, hint=error.hint, path=None if error.path is None else str(error.path))
    logging.getLogger(__name__).info("refused: %s", error)
    return ExitCode.REFUSED


def _read(run_dir: Path) -> Job:
    if not run_dir.is_dir():
        raise InputError("The run folder does not exist.", path=run_dir, hint="`semiseg new` makes one.")
    return read_job(run_dir)


def _open_events(run_dir: Path, world: World) -> EventWriter:
    try:
        owner = read_lock(run_dir)
        if world.is_main and owner is not None and owner.is_alive and owner.pid != os.getpid():
            raise BlockingIOError(11, f"{owner.host}, process {owner.pid}")
        return EventWriter(run_dir / EVENTS_FILE if world.is_main else None)
    except PermissionError as error:
        raise InputError(f"The run folder is not writable: {error.strerror}.", code="E809", path=run_dir, hint="Choose another folder.") from error


def options_from(kind: type, values: dict[str, Any], what: str) -> Any:
    """Builds an options dataclass from JSON values.

    Raises:
        InputError: An option has a name nobody knows, or a value that does not fit.
    """
    known = {entry.name for entry in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"{what} has no option {', '.join(unknown)}.", hint=f"It has {', '.join(sorted(known))}.")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise InputError(f"The options of {what} do not fit: {error}.") from error


def _call(job: Job, run_dir: Path, report: Report, world: World) -> dict[str, Any]:
    """Calls the use case of a verb. Imports are here: a phantom needs no network, a report no torch."""
    if job.verb == "train":
        from .train import TrainJob, train

        return train(options_from(TrainJob, job.options, "the verb train"), run_dir, report, world)
    if job.verb == "prepare":
        from .train import TrainJob, check_data

        return check_data(options_from(TrainJob, job.options, "the verb prepare"), run_dir, report)
    if job.verb == "predict":
        from .jobs import PredictJob, run_predict

        return run_predict(options_from(PredictJob, job.options, "the verb predict"), run_dir, report, world)
    if job.verb == "evaluate":
        from .jobs import EvaluateJob, run_evaluate

        return run_evaluate(options_from(EvaluateJob, job.options, "the verb evaluate"), run_dir, report)
    if job.verb == "phantom":
        from .jobs import PhantomJob, run_phantom

        return run_phantom(options_from(PhantomJob, job.options, "the verb phantom"), run_dir, report)
    if job.verb == "export-seg":
        from .jobs import ExportJob, run_export

        return run_export(options_from(ExportJob, job.options, "the verb export-seg"), run_dir, report)
    raise InputError(f"The verb {job.verb!r} cannot be run from a folder yet.", hint="Use its command.")


def print_log_header() -> None:
    """First lines of log.txt: what ran where, nothing about patients."""
    import platform

    print(json.dumps({"semiseg": __version__, "python": sys.version.split()[0], "system": platform.platform()}), flush=True)


__all__ = ["LOCK_FILE", "options_from", "print_log_header", "run_folder"]
