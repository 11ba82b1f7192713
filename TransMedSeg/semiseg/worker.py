"""Runs one run folder: reads the job, calls the use case it names, writes events, obeys the stop file."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from . import __version__
from .distributed import World, any_rank, join_world, leave_world
from .errors import InputError
from .job_options import options_from
from .protocol import (
    EVENTS_FILE,
    LOG_FILE,
    EventWriter,
    ExitCode,
    HeldLock,
    Job,
    ProtocolError,
    forget_earlier_stop,
    last_event_time,
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
        if also is not None and world.is_main:
            also(kind, **values)
        if writer is not None:
            writer(kind, **values)

    with ExitStack() as held:  # the folder is ours until the last event is written
        try:
            job = _read(run_dir)
            last_heard = last_event_time(run_dir)
            writer = _open_events(run_dir, world)
            held.callback(_close, writer)
            device = str(job.options.get("device", "auto"))
            if world.is_main:
                held.enter_context(HeldLock(run_dir, device, __file__, __version__))
                forget_earlier_stop(run_dir, last_heard)
            any_rank(False)  # nobody looks for a stop file before an earlier one is gone
            report("started", version=__version__, engine=str(Path(__file__).parent), pid=os.getpid(), host=socket.gethostname(), device=device, verb=job.verb, ranks=world.size)  # fmt: skip
            result = _call(job, run_dir, report, world)
            if isinstance(result, dict) and "stopped_at" in result:
                report("stopped", step=result["stopped_at"], **({"message": result["message"]} if "message" in result else {}))
                return ExitCode.STOPPED
            report("finished", result=result)
            return ExitCode.REFUSED if _is_in_vain(job.verb, result, world) else ExitCode.FINISHED
        except Exception as error:
            return _explain(error, run_dir, report, is_shown=also is not None)


def _is_in_vain(verb: str, result: dict[str, Any], world: World) -> bool:
    """Whether every case of a prediction or some run of a study failed: the events say why for each, and a script must not go on as if there were masks or
    a whole table."""
    if verb == "study":
        return bool(result["failed"]) and world.is_main  # another rank's code would end the first one before its report is written
    return verb == "predict" and all(case["status"] == "failed" for case in result["cases"])


def _close(writer: EventWriter) -> None:
    with suppress(OSError):  # what could not be written was told when it was written
        writer.close()


def _explain(error: Exception, run_dir: Path, report: Report, is_shown: bool) -> ExitCode:
    """Says in an event, and in the log unless a terminal shows it, how it ended; returns how the process shall end."""
    if isinstance(error, OSError):
        error = _as_input_error(error, run_dir)
    if not isinstance(error, InputError):
        traceback.print_exception(error)  # into log.txt, where the one who starts us sends our output
        if is_shown:
            _log(error, run_dir)
        last = {"code": "E502", "message": f"{type(error).__name__}: {error}", "hint": "This is a defect; log.txt has the details."}
        return _end(ExitCode.CRASHED, report, "failed", last)
    if not is_shown:
        print(f"refused: {error}", file=sys.stderr, flush=True)
    if error.code == "E807":
        hint = "Free at least 1 GB, then run it again: it continues from its last saved state."
        return _end(ExitCode.STOPPED, report, "paused", {"code": error.code, "message": error.message, "hint": hint})
    path = None if error.path is None else str(error.path)
    last = {"code": error.code, "message": error.message, "hint": error.hint, "path": path}
    return _end(ExitCode.REFUSED, report, "failed", {**last, "fixes": error.fixes} if error.fixes else last)


def _log(error: Exception, run_dir: Path) -> None:
    """Where a terminal gets our output, log.txt needs the details as well."""
    with suppress(OSError), open(run_dir / LOG_FILE, "a", encoding="utf-8") as log:
        traceback.print_exception(error, file=log)


def _end(code: ExitCode, report: Report, kind: str, values: dict[str, Any]) -> ExitCode:
    try:
        report(kind, **values)
    except OSError as error:  # the disk that is full, or gone: the exit code and the log have to do
        print(f"the last event could not be written: {error}", file=sys.stderr, flush=True)
    return code


def _as_input_error(error: OSError, run_dir: Path) -> Exception:
    """What the disk and the folder can be blamed for; any other error is a defect of ours and comes back as it is."""
    if isinstance(error, BlockingIOError):
        where = str(error.args[-1]) if error.args else "another worker"
        return InputError(f"The run folder is used by another worker ({where}).", code="E809", path=run_dir, hint="Wait for it, or stop it.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError("The disk is full.", code="E807", path=run_dir)
    at = Path(str(error.filename)) if error.filename else None
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and at is not None and run_dir in (at, *at.parents):
        return InputError(f"The run folder is not writable: {error.strerror}.", code="E809", path=run_dir, hint="Choose another folder.")
    return error


def _read(run_dir: Path) -> Job:
    if not run_dir.is_dir():
        raise InputError("The run folder does not exist.", path=run_dir, hint="`semiseg new` makes one.")
    try:
        return read_job(run_dir)
    except (ProtocolError, FileNotFoundError) as error:
        raise InputError(f"There is no usable job: {error}", path=run_dir, hint="`semiseg new` writes one.") from error


def _open_events(run_dir: Path, world: World) -> EventWriter:
    owner = read_lock(run_dir)
    if world.is_main and owner is not None and owner.is_alive and not owner.is_this_process:
        raise BlockingIOError(errno.EAGAIN, f"{owner.host}, process {owner.pid}")
    return EventWriter(run_dir / EVENTS_FILE if world.is_main else None)


def _call(job: Job, run_dir: Path, report: Report, world: World) -> dict[str, Any]:
    """Calls the use case of a verb. Imports are here: a phantom needs no network, a report no torch."""
    if job.verb == "train":
        from .train import TrainJob, train

        return train(options_from(TrainJob, job.options, "the verb train"), run_dir, report, world)
    if job.verb == "prepare":
        from .measure import check_data
        from .train_job import TrainJob

        return check_data(options_from(TrainJob, job.options, "the verb prepare"), run_dir, report)
    if job.verb == "measure":
        from .measure import measure_step
        from .train_job import TrainJob

        return measure_step(options_from(TrainJob, job.options, "the verb measure"), run_dir, report)
    if job.verb == "study":
        from .study import StudyJob, run_study

        return run_study(options_from(StudyJob, job.options, "the verb study"), run_dir, report, world)
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
