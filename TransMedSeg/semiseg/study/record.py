"""What a study leaves in the folders of its runs, and what it reads there: asked for, done, failed, changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.atomic import write_json
from ..protocol import EVENTS_FILE, JOB_FILE, RESUME_FILE, read_events

ASKED_FILE = "asked.json"
"""What the study asked of a run: its options before defaults were filled in. A study whose file says something else has changed."""

NEW, DONE, INTERRUPTED, FAILED, CHANGED = "new", "done", "interrupted", "failed", "changed"

_TAIL_BYTES = 65536
_MISSING = object()


def status(folder: Path, asked: dict[str, Any], done_file: str, is_done: Callable[[Path], bool]) -> str:
    """How a folder stands to what is asked: one of new, done, interrupted, failed, changed.

    A folder that was begun for something else is new as long as nothing was made in it.

    Args:
        folder: Of a run.
        asked: What is asked of it now.
        done_file: Exists in the folder once it has been done.
        is_done: Whether what the folder holds is whole.
    """
    before = read_asked(folder)
    if before is not None and changes(before, asked):
        return CHANGED if (folder / done_file).exists() or (folder / RESUME_FILE).exists() else NEW
    if before is not None and is_done(folder):
        return DONE
    if last_failure(folder) is not None:
        return FAILED
    return INTERRUPTED if (folder / JOB_FILE).exists() else NEW


def read_asked(folder: Path) -> dict[str, Any] | None:
    """What was asked of this folder before; None when nothing was, or when the file that says so is damaged."""
    document = read_json(folder / ASKED_FILE)
    asked = None if document is None else document.get("asked")
    return asked if isinstance(asked, dict) else None


def write_asked(folder: Path, asked: dict[str, Any], version: str, side_by_side: int) -> None:
    """Keeps what is asked of a folder, by which version, and how many runs there were at a time: they slow each other."""
    write_json(folder / ASKED_FILE, {"semiseg": version, "side_by_side": side_by_side, "asked": asked})


def changes(before: Any, now: Any, name: str = "") -> list[str]:
    """Every leaf that differs, such as ``options.training.learning_rate: 0.01 → 0.02``."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = list(dict.fromkeys([*before, *now]))
        found = [changes(before.get(key, _MISSING), now.get(key, _MISSING), f"{name}.{key}" if name else key) for key in keys]
        return [one for some in found for one in some]
    if _plain(before) == _plain(now):
        return []
    return [f"{name}: {_text(before)} → {_text(now)}"]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    return "nothing" if value is _MISSING else json.dumps(value)


def last_event(folder: Path) -> dict[str, Any] | None:
    """The newest event of a folder; only the end of the file is read."""
    path = folder / EVENTS_FILE
    if not path.exists():
        return None
    events, _ = read_events(path, max(0, path.stat().st_size - _TAIL_BYTES))
    return events[-1] if events else None


def last_failure(folder: Path) -> dict[str, Any] | None:
    """The event with which the last attempt failed; None when it ended in another way."""
    event = last_event(folder)
    return event if event is not None and event["kind"] == "failed" else None


def reason_of(failure: dict[str, Any]) -> str:
    """A failure in words: code, message, the file that it is about, and what to do."""
    message, path = str(failure.get("message", "")), str(failure.get("path") or "")
    where = f"({path})" if path and path not in message else ""
    text = " ".join(filter(None, [message, where, str(failure.get("hint") or "")]))
    return f"{failure['code']}: {text}" if failure.get("code") else text


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None when there is no such file, or when it is damaged or holds something else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def num_starts(folder: Path) -> int:
    """How often work on a folder began; more than once: it was interrupted."""
    return sum(event["kind"] == "started" for event in read_events(folder / EVENTS_FILE)[0])


def put_aside(folder: Path, shelf: Path) -> Path:
    """Moves a folder that is to be made anew; nothing is deleted."""
    number = 1
    while (target := shelf / f"{folder.name}.{number}").exists():
        number += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, target)
    return target


def mean_scalars(folder: Path, names: list[str]) -> list[float] | None:
    """The means of curves over a run; None when one of them was never recorded."""
    sums: dict[str, tuple[float, int]] = {}
    for event in read_events(folder / EVENTS_FILE)[0]:
        if event["kind"] == "scalar" and event.get("name") in names:
            total, count = sums.get(event["name"], (0.0, 0))
            sums[event["name"]] = (total + float(event["value"]), count + 1)
    if set(sums) != set(names):
        return None
    return [sums[name][0] / sums[name][1] for name in names]
