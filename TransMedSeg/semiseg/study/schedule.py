"""Works through tasks, some side by side: starts workers, follows them, obeys a stop, shares the tasks with other processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InputError
from ..follow import Worker
from ..protocol import (
    JOB_FILE,
    RESULT_FILE,
    STOP_FILE,
    ExitCode,
    HeldLock,
    Job,
    ProtocolError,
    ask_to_stop,
    read_job,
    read_lock,
    write_job,
)
from . import record
from .slots import Slot

Report = Callable[..., None]

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_BETWEEN_REPORTS = 1.0
_WHOLE = ("train", "phantoms", "preparing cases")
"""Whose progress is that of a task."""


@dataclass(frozen=True)
class Task:
    """One run folder to be brought to its end.

    Attributes:
        id: Unique in the study.
        title: For people.
        folder: Of the run.
        asked: What is asked of it; kept beside the job, to notice changes.
        verb: Of the job.
        options: Makes the options of a fresh job, when it starts.
        is_done: Whether what the folder holds is whole.
        done_file: Exists in the folder once it has been done.
        needs: Ids of tasks of the same schedule that must be done before.
        rests_on: Ids of tasks of earlier stages whose results it uses.
    """

    id: str
    title: str
    folder: Path
    asked: dict[str, Any]
    verb: str
    options: Callable[[], dict[str, Any]]
    is_done: Callable[[Path], bool]
    done_file: str = RESULT_FILE
    needs: tuple[str, ...] = ()
    rests_on: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        return record.status(self.folder, self.asked, self.done_file, self.is_done)


@dataclass
class Outcome:
    """How far the tasks are.

    Attributes:
        done: Ids, those that were done before included.
        failed: Reason by id.
        stopped: Somebody asked to stop; the rest waits for the next start.
    """

    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


@dataclass
class _Running:
    task: Task
    slot: int
    worker: Worker
    claim: HeldLock
    claim_dir: Path
    started: float
    eta_s: float | None = None
    fraction: float = 0.0
    failure: str = ""
    code: str = ""


class Schedule:
    """Brings tasks to their end.

    Processes that work on the same folder share the tasks: each takes a task by a lock in ``claims`` and leaves those of the others alone.

    Args:
        tasks: In the order in which they start.
        slots: One worker each.
        out_dir: Of the study; a file ``stop`` in it ends the work.
        report: Takes events.
        since: When this study was started (seconds since 1970): what failed before is tried again, what failed since is not.
        remaining_s: Seconds that a task which has not started will take; None when nobody knows.
        told: Called with (task, seconds) when a task is done.
        processes: That share the tasks, each with as many slots: ranks of ``torchrun``.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        slots: Sequence[Slot],
        out_dir: Path,
        report: Report,
        since: float,
        remaining_s: Callable[[Task], float | None] = lambda task: None,
        told: Callable[[Task, float], None] = lambda task, seconds: None,
        processes: int = 1,
    ) -> None:
        self._slots, self._out_dir, self._report, self._since = list(slots), out_dir, report, since
        self._remaining_s, self._told, self._num_places = remaining_s, told, len(slots) * processes
        self._waiting = list(tasks)
        self._total = len(self._waiting)
        self._running: list[_Running] = []
        self._last_report = 0.0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Until every task is done or has failed, or until a stop. An interrupt from the keyboard stops; a second one ends the workers at once."""
        while self._waiting or self._running:
            try:
                if not self.outcome.stopped and (self._out_dir / STOP_FILE).exists():
                    self._stop()
                self._look_at_running()
                if not self.outcome.stopped:
                    self._settle_waiting()
                    self._start_some()
                self._report_progress()
                if self._waiting or self._running:
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
            except KeyboardInterrupt:
                if self.outcome.stopped:
                    self._report("state", message="Ending the runs at once. They continue from their last saved states.")
                    for running in self._running:
                        running.worker.kill()
                else:
                    self._stop()
        self._report_progress(is_last=True)
        return self.outcome

    def _stop(self) -> None:
        self.outcome.stopped = True
        self._waiting.clear()
        if self._running:
            self._report("state", message=f"Stopping: {len(self._running)} running finish their step and save. Press Ctrl+C again to end them at once.")
        for running in self._running:
            ask_to_stop(running.task.folder)

    def _settle_waiting(self) -> None:
        """Takes off the list what is done (perhaps by another process), and what cannot start any more."""
        for task in list(self._waiting):
            lost = next((one for one in task.needs if one in self.outcome.failed), None)
            state = task.status
            if state == record.DONE:
                self._waiting.remove(task)
                self.outcome.done.add(task.id)
            elif lost is not None:
                self._waiting.remove(task)
                self._fail(task, f"it needs {lost}, which failed", "")
            elif state == record.FAILED and (failure := self._failure_since(task)) is not None:
                self._waiting.remove(task)
                self.outcome.failed[task.id] = record.reason_of(failure)

    def _failure_since(self, task: Task) -> dict[str, Any] | None:
        """How a task failed since this study was started, here or in another process."""
        failure = record.last_failure(task.folder)
        return failure if failure is not None and failure.get("time", 0.0) > self._since else None

    def _start_some(self) -> None:
        taken = {running.slot for running in self._running}
        free = [place for place in range(len(self._slots)) if place not in taken]
        for task in list(self._waiting):
            if not free:
                return
            if all(one in self.outcome.done for one in task.needs) and self._start(task, free[0]):
                free.pop(0)
                self._waiting.remove(task)

    def _start(self, task: Task, slot: int) -> bool:
        """False when another process has the task."""
        lock = read_lock(task.folder)
        if lock is not None and lock.is_alive:
            return False
        claim_dir = self._out_dir / "claims" / task.id.replace("/", "_")
        claim_dir.mkdir(parents=True, exist_ok=True)
        claim = HeldLock(claim_dir, self._slots[slot].device, __file__, __version__)
        try:
            claim.__enter__()
        except (BlockingIOError, FileNotFoundError):  # taken, or just given back with its folder: the next look tells
            return False
        try:
            if task.status == record.DONE or self._failure_since(task) is not None:  # between two looks another process tried it
                _release(claim, claim_dir)
                return False
            word = "continues" if task.status == record.INTERRUPTED else "starts"
            self._write_job(task, self._slots[slot])
            worker = Worker(task.folder)
        except (InputError, ProtocolError, OSError) as error:
            _release(claim, claim_dir)
            if isinstance(error, InputError) and error.code == "E809" and (lock := read_lock(task.folder)) is not None and lock.is_alive:
                return False
            self._fail(task, str(error), "")
            return True
        self._running.append(_Running(task, slot, worker, claim, claim_dir, time.monotonic()))
        self._report("state", message=f"{word}: {task.title}")
        return True

    def _write_job(self, task: Task, slot: Slot) -> None:
        """A job that was begun keeps what was filled in, such as its length; only where it computes may differ."""
        where = {"device": slot.device, "threads": slot.threads} if task.verb != "phantom" else {}
        if (task.folder / JOB_FILE).exists() and task.status in (record.INTERRUPTED, record.FAILED):
            before = read_job(task.folder)
            record.write_asked(task.folder, task.asked, __version__, self._num_places)  # it may have been damaged
            write_job(task.folder, replace(before, options={**before.options, **task.options(), **_filled(before.options), **where}))
            return
        task.folder.mkdir(parents=True, exist_ok=True)
        job = Job(task.verb, {**task.options(), **where})
        record.write_asked(task.folder, task.asked, __version__, self._num_places)
        write_job(task.folder, job)

    def _look_at_running(self) -> None:
        for running in list(self._running):
            is_over = not running.worker.is_running()

            def hear(kind: str, running: _Running = running, **values: Any) -> None:
                self._hear(running, kind, values)

            running.worker.news(hear)
            if is_over:
                self._running.remove(running)
                self._end(running, running.worker.ending(hear))

    def _hear(self, running: _Running, kind: str, values: dict[str, Any]) -> None:
        if kind == "progress" and values.get("total"):
            is_all_of_it = values.get("what") in _WHOLE
            running.eta_s = values.get("eta_s") if is_all_of_it else None
            if is_all_of_it:  # what comes beside, such as scoring, begins at zero again
                running.fraction = max(running.fraction, float(values["done"]) / float(values["total"]))
        elif kind in ("failed", "paused"):
            running.failure, running.code = record.reason_of({**values, "code": ""}), str(values.get("code", ""))
        elif kind == "warning":
            self._report("warning", code=values.get("code", ""), message=f"{running.task.title}: {values['message']}", hint=values.get("hint", ""))

    def _end(self, running: _Running, code: ExitCode) -> None:
        task = running.task
        _release(running.claim, running.claim_dir)
        if code == ExitCode.FINISHED and task.status == record.DONE:
            self.outcome.done.add(task.id)
            self._told(task, time.monotonic() - running.started)
        elif code == ExitCode.STOPPED and running.failure and not self.outcome.stopped:
            self._report("warning", code=running.code, message=f"{task.title}: {running.failure}", hint="The study stops here.")
            self._stop()
        elif code == ExitCode.STOPPED and not self.outcome.stopped:
            self._fail(task, "somebody stopped it; the next start continues it", "")
        elif not self.outcome.stopped or code not in (ExitCode.STOPPED, ExitCode.CRASHED):
            self._fail(task, running.failure or f"it ended with exit code {int(code)}; its log.txt may say why", running.code)

    def _fail(self, task: Task, reason: str, code: str) -> None:
        self.outcome.failed[task.id] = f"{code}: {reason}" if code else reason
        self._report("warning", code=code, message=f"{task.title} failed: {reason}", hint="The other runs go on.")

    def _report_progress(self, is_last: bool = False) -> None:
        now = time.monotonic()
        if not is_last and now - self._last_report < _SECONDS_BETWEEN_REPORTS:
            return
        self._last_report = now
        if self._total:
            ended = len(self.outcome.done) + len(self.outcome.failed)
            done = ended + sum(min(running.fraction, 0.99) for running in self._running)
            self._report("progress", what="study", done=round(done, 2), total=self._total, eta_s=self._eta_s())

    def _eta_s(self) -> float | None:
        """What is left, spread over the slots of all processes; never less than the longest of the running ones.

        A task that nothing is known of counts as the mean of the others. None where nothing is known of any.
        """
        parts = [running.eta_s if running.eta_s is not None else self._left_of(running) for running in self._running]
        waiting = [self._remaining_s(task) for task in self._waiting]
        known = [self._remaining_s(running.task) for running in self._running] + waiting
        known = [one for one in known if one is not None] or [time.monotonic() - running.started + running.eta_s for running in self._running if running.eta_s is not None]
        if None in parts or not known:
            return None
        waiting = [sum(known) / len(known) if one is None else one for one in waiting]
        return round(max(sum(parts + waiting) / self._num_places, max(parts, default=0.0)), 1)

    def _left_of(self, running: _Running) -> float | None:
        whole = self._remaining_s(running.task)
        return None if whole is None else max(0.0, whole - (time.monotonic() - running.started))


def _filled(options: dict[str, Any]) -> dict[str, Any]:
    """What a worker filled in, where it began: these stay as they are when it continues."""
    return {name: options[name] for name in ("preprocessing", "network_options", "method_options", "training", "augment") if name in options}


def _release(claim: HeldLock, folder: Path) -> None:
    claim.__exit__()
    with suppress(OSError):
        os.rmdir(folder)
