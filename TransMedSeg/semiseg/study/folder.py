"""The folder that a study is to have: whether it may write there, and what lies there already."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..protocol import ProtocolError, read_job, read_lock

STUDY_FILE = "study.json"
"""In a study's folder: a copy of its file, and where its data are."""

_OUTPUT = (".log", ".out", ".err")
"""Endings of what a shell or a cluster may have begun to write there before the study is asked."""


def check_folder(out_dir: Path) -> None:
    """Looks before anything is written: a study overwrites nobody's job.

    Raises:
        InputError: The folder holds a run or other files, or another process works in it (E809).
    """
    if not out_dir.is_dir():
        return
    others = sorted(path.name for path in out_dir.iterdir() if path.name[0] != "." and path.suffix not in _OUTPUT and path.name != "log.txt")
    verb = _verb_in(out_dir)
    if others and verb != "study":
        what = f"holds a job of the verb {verb}" if verb else f"is not empty and holds no study: {', '.join(others[:3])}"
        raise InputError(f"The folder {what}.", code="E809", path=out_dir, hint="Choose another folder.")
    lock = read_lock(out_dir)
    if lock is not None and lock.is_alive and not lock.is_this_process:
        who = f"{lock.host}, process {lock.pid}"
        raise InputError(f"The folder is used by another study ({who}).", code="E809", path=out_dir, hint="Wait for it, or stop it.")


def _verb_in(folder: Path) -> str:
    """Of the job in a folder; of a study also where its job is damaged, but not what it left."""
    try:
        return read_job(folder).verb
    except (FileNotFoundError, ProtocolError):
        return "study" if (folder / STUDY_FILE).exists() and (folder / "runs").is_dir() else ""
