"""What a bug report needs: versions, GPUs, the end of a log. Nothing in it may name a patient."""

from __future__ import annotations

import platform
import re

import slicer

from semiseg import __version__

from .Computer import knownGpus

_LAST_LINES = 40


def bugReport(log: str, facts: tuple[str, ...] = ()) -> str:
    """The text to copy; in English, because developers read it.

    Args:
        log: Of the program that failed; its last lines are taken.
        facts: Lines that the caller knows, such as the code and the settings.
    """
    versions = f"TransMedSeg {__version__}, Slicer {slicer.app.applicationVersion}, {platform.platform()}, Python {platform.python_version()}"
    gpus = "; ".join(f"{gpu.name}, driver {gpu.driver}, {gpu.freeGb} of {gpu.totalGb} GB free" for gpu in knownGpus())
    lines = [versions, gpus or "no NVIDIA GPU known", *facts, *log.splitlines()[-_LAST_LINES:]]
    return "\n".join(withoutPaths(line) for line in lines)


def withoutPaths(line: str) -> str:
    """Keeps the file name of our own source files, nothing of other paths: they may hold names of patients."""
    return re.sub(r"(?:[A-Za-z]:)?[\\/](?:[^\s\"',:]+[\\/])*([^\s\"',:]+)", lambda found: found[1] if found[1].endswith(".py") else "<path>", line)
