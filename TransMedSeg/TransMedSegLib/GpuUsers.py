"""Who uses the GPU: the programs that hold its memory, as the driver names them. Asked in the background."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import PurePath

import qt
from slicer.i18n import tr as _

_QUERY = ["--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader,nounits"]


class GpuUsers:
    """One question at a time."""

    def __init__(self) -> None:
        self._asking = self._answered = None

    def ask(self, onAnswer: Callable[[str], None]) -> None:
        """Calls back with a text for the user, at once where there is no driver to ask."""
        program = shutil.which("nvidia-smi")
        if not program:
            onAnswer(usersText(""))
        elif self._asking is None:
            self._asking = qt.QProcess()
            self._asking.connect("finished(int,QProcess::ExitStatus)", lambda code, status: self._onFinished(onAnswer))
            self._asking.connect("errorOccurred(QProcess::ProcessError)", lambda error: self._onFinished(onAnswer))
            self._asking.start(program, _QUERY)

    def _onFinished(self, onAnswer: Callable[[str], None]) -> None:
        if self._asking is None:
            return
        self._answered, self._asking = self._asking, None  # it must outlive its own signal
        onAnswer(usersText(bytes(self._answered.readAllStandardOutput().data()).decode("utf-8", errors="replace")))


def usersText(answer: str) -> str:
    """The answer of the driver in plain words. Drivers of displays do not tell how much each program holds."""
    users = []
    for line in answer.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) < 3 or not parts[0].isdigit():
            continue
        name = PurePath(parts[1].replace("\\", "/")).name
        size = _("{size} GB").format(size=f"{float(parts[2]) / 1024:.1f}") if parts[2].isdigit() else _("memory not told")
        users.append(_("{program} (process {pid}): {size}").format(program=name, pid=parts[0], size=size))
    if not users:
        return _("The driver names no program that computes on the GPU. What draws on the screen uses it too.")
    return _("These programs use the GPU:") + "\n" + "\n".join(users)
