"""highdicom and pydicom for the export: those of Slicer where they are fit (5.12), else a folder of our own (5.10).

Slicer 5.10 brings pydicom 2, which other modules use and highdicom cannot. So nothing of Slicer's is changed: newer ones
are put into a folder that only the engine's process of an export looks into.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import slicer

from .EngineProcess import PYTHON_SETTING
from .InstallOutcome import Outcome
from .PipInstall import PipInstall

REQUIREMENTS = ("highdicom>=0.27,<0.29", "pydicom>=3.0.1")
"""As in pyproject.toml; semiseg/dicom/requirements.py says why not older."""


def ownFolder() -> Path:
    """Where packages of our own are; one for each Python, because they hold compiled code."""
    settings = Path(slicer.app.slicerUserSettingsFilePath).parent
    return settings / "TransMedSeg" / f"dicom-python{sys.version_info.major}.{sys.version_info.minor}"


def areFit() -> bool:
    """Whether an export can start. Another Python named in the settings is asked by the export itself."""
    if slicer.util.settingsValue(PYTHON_SETTING, ""):
        return True
    return _hold(None) or _hold(ownFolder())


def folderForEngine() -> Path | None:
    """The folder that the engine looks into first; None where it needs none."""
    if slicer.util.settingsValue(PYTHON_SETTING, "") or _hold(None) or not _hold(ownFolder()):
        return None
    return ownFolder()


def _hold(folder: Path | None) -> bool:
    """Whether a folder, or this Python where it is None, holds all of REQUIREMENTS."""
    from packaging.requirements import Requirement

    importlib.invalidate_caches()
    search = {} if folder is None else {"path": [str(folder)]}
    for needed in map(Requirement, REQUIREMENTS):
        found = next(iter(importlib.metadata.distributions(name=needed.name, **search)), None)
        if found is None or not needed.specifier.contains(found.version, prereleases=True):
            return False
    return True


class OwnPackages:
    """Installs them into the folder. It appears whole or not at all.

    Args:
        onLine: Called with each line of pip's log.
        onDone: Called once with the `Outcome`.
    """

    def __init__(self, onLine: Callable[[str], None], onDone: Callable[[Outcome], None]) -> None:
        self._onDone = onDone
        self._part = ownFolder().with_name(f".part-{ownFolder().name}")
        self._pip = PipInstall(onLine, self._finish)

    def start(self, wheelFolder: Path | None = None) -> None:
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._pip.startInto(self._part, list(REQUIREMENTS), wheelFolder)

    def cancel(self) -> None:
        """Ends the installation; nothing of it stays."""
        self._pip.cancel()

    def _finish(self, outcome: Outcome) -> None:
        if outcome.code:
            shutil.rmtree(self._part, ignore_errors=True)
        else:
            shutil.rmtree(ownFolder(), ignore_errors=True)
            self._part.rename(ownFolder())
        self._onDone(outcome)
