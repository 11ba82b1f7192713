"""Installs packages in a child process: with a log, a way back, and a look at what changed.

`slicer.packaging` installs without blocking too, but gives no handle to cancel, and Slicer 5.10 has none; so this
class starts pip itself on both. It waits while `slicer.packaging` is busy.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import qt
from slicer.i18n import tr as _

from .EngineProcess import enginePython
from .InstallOutcome import CORE_PACKAGES, Outcome, cancelOutcome, changeOutcome, failureOutcome
from .InstallSize import nameOf
from .InstallTorch import rawProgress
from .Messages import message
from .PipProgress import PipProgress
from .ProcessTree import endTree
from .TorchInstall import torchPlan

TORCH_PACKAGES = ("torch", "torchvision")
"""What the extension PyTorch installs, and what goes before another build of PyTorch comes."""

_TORCH_INDEX = "https://download.pytorch.org/whl/"
"""Builds for one kind of device are in a folder named after their label, as cu130 of 2.12.1+cu130."""

_WAIT_MS = 1000
_QUIET = "--disable-pip-version-check"


def installedVersions() -> dict[str, str]:
    """All packages of this Python, by lower-case name. What pip had put aside when it was ended counts as gone."""
    importlib.invalidate_caches()
    found = (one for one in importlib.metadata.distributions() if one.metadata["Name"] and not _isPutAside(one))
    return {str(one.metadata["Name"]).lower(): one.version for one in found}


def _isPutAside(distribution: importlib.metadata.Distribution) -> bool:
    """pip renames "numpy-2.4.6.dist-info" to "~umpy-2.4.6.dist-info" until the new version is in its place."""
    return Path(str(getattr(distribution, "_path", ""))).name.startswith("~")


class PipInstall:
    """One installation. Its callbacks come from the event loop.

    Args:
        onLine: Called with each line of the log.
        onDone: Called once with the `Outcome`.
        versions: Tells what is installed.
        onProgress: Called with the `PipProgress` whenever it may say something else.
    """

    def __init__(
        self,
        onLine: Callable[[str], None],
        onDone: Callable[[Outcome], None],
        versions: Callable[[], dict[str, str]] = installedVersions,
        onProgress: Callable[[PipProgress], None] = lambda progress: None,
    ) -> None:
        self._onLine, self._onDone, self._versions, self._onProgress = onLine, onDone, versions, onProgress
        self._process = self._retired = None
        self._steps: list[Callable[[], None]] = []
        self._before: dict[str, str] = {}
        self._loaded: frozenset[str] = frozenset()
        self._progress = PipProgress()
        self._lines: list[str] = []
        self._rest = b""
        self._isCancelled = False
        self._undoing: list[list[str]] | None = None
        self._toRestore: dict[str, str] = {}
        self._wheelFolder: Path | None = None
        self._folder = None
        self._wait = None

    def start(self, requirements: list[str], wheelFolder: Path | None = None, expected: int = 0, remove: tuple[str, ...] = ()) -> None:
        """Installs packages; PyTorch as its own extension would, unless a folder of wheels is given.

        Args:
            requirements: As pip understands them.
            wheelFolder: Where all of them are; None for the network.
            expected: Bytes that are likely to be downloaded; 0 where nobody knows.
            remove: Packages to take away before.
        """
        if _otherInstallRuns():
            self._say(message("E110"))
            self._wait = qt.QTimer()
            self._wait.setSingleShot(True)
            self._wait.connect("timeout()", lambda: self._isCancelled or self.start(requirements, wheelFolder, expected, remove))
            self._wait.start(_WAIT_MS)
            return
        self._before, self._wheelFolder = self._versions(), wheelFolder
        self._loaded = frozenset(sys.modules)  # before PyTorch's extension may import what it has just installed
        self._folder = tempfile.TemporaryDirectory(prefix="TransMedSeg-", ignore_cleanup_errors=True)
        self._progress = PipProgress(expected)
        self._onProgress(self._progress)
        try:
            self._steps = self._plan(requirements, remove)
        except ImportError:
            self._end(Outcome("E102", message("E102")))
        else:
            self._next()

    def _plan(self, requirements: list[str], remove: tuple[str, ...]) -> list[Callable[[], None]]:
        """What is to be done, in order. Raises ImportError where the extension PyTorch is needed and missing."""
        steps, others = [], list(requirements)
        if remove:
            steps.append(lambda: self._run(["-m", "pip", "uninstall", "--yes", _QUIET, *remove]))
        torch = next((one for one in requirements if nameOf(one) == "torch"), "") if self._wheelFolder is None else ""
        if torch:
            import PyTorchUtils

            others.remove(torch)
            steps.append(lambda: self._installTorch(PyTorchUtils, torch))
        if others:
            steps.append(lambda: self._installOthers(others))
        return steps

    def startInto(self, folder: Path, requirements: list[str], wheelFolder: Path | None = None) -> None:
        """Installs packages and all they need into a folder of its own; Slicer's stay as they are and are not used."""
        self._before = {}  # so there is nothing to put back
        arguments = ["-m", "pip", "install", _QUIET, "--target", str(folder)]
        if wheelFolder is not None:
            arguments += ["--no-index", "--find-links", str(wheelFolder)]
        self._run([*arguments, *requirements])

    def repair(self, packages: list[str]) -> None:
        """Brings packages back to the versions that Slicer came with."""
        self._before = {}
        self._run(["-m", "pip", "install", _QUIET, "--no-deps", "--force-reinstall", *_links(packages), *packages])

    def cancel(self) -> None:
        """Ends the installation, removes what it added and puts back what it changed."""
        if self._isCancelled:
            return
        self._isCancelled = True
        if self._process is None:
            self._undo()
        else:
            endTree(self._process.processId())

    # Steps

    def _next(self) -> None:
        if self._steps:
            self._steps.pop(0)()
        else:
            self._finish(0)

    def _installTorch(self, extension, requirement: str) -> None:
        """What the extension would do, in a process of its own; where it cannot be asked, it has to do it."""
        plan = torchPlan(extension, requirement)
        if plan is None:
            self._callExtension(extension, requirement)
            return
        file = Path(self._folder.name) / "plan.json"
        plan = dataclasses.replace(plan, arguments=[*plan.arguments, _QUIET, "--constraint", self._writeConstraints()])
        file.write_text(json.dumps(dataclasses.asdict(plan)), encoding="utf-8")
        self._run([str(Path(__file__).with_name("InstallTorch.py")), str(file)])

    def _callExtension(self, extension, requirement: str) -> None:
        self._say(_("Installing PyTorch through its extension. Slicer does not react for some minutes."))
        qt.QApplication.processEvents()
        if self._isCancelled:
            return
        try:
            torch = extension.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=requirement.removeprefix("torch"))
        except Exception as error:  # whatever it raises is shown to the user
            self._lines.append(str(error))
            torch = None
        if torch is None:
            self._finish(1)
        else:
            self._next()

    def _installOthers(self, requirements: list[str]) -> None:
        arguments = ["-m", "pip", "install", _QUIET, *rawProgress(self._before.get("pip", "")), "--constraint", self._writeConstraints()]
        if self._wheelFolder is not None:
            arguments += ["--no-index", "--find-links", str(self._wheelFolder)]
        self._run([*arguments, *requirements])

    def _writeConstraints(self) -> str:
        lines = [f"{name}=={self._before[name]}" for name in CORE_PACKAGES if name in self._before]
        path = Path(self._folder.name) / "constraints.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    # The process

    def _run(self, arguments: list[str]) -> None:
        self._rest = b""
        self._process = qt.QProcess()
        self._process.setProcessChannelMode(qt.QProcess.MergedChannels)
        self._process.connect("readyReadStandardOutput()", self._onOutput)
        self._process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: self._onFinished(code))
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._onError)
        self._process.start(enginePython(), arguments)

    def _onOutput(self) -> None:
        *lines, self._rest = (self._rest + bytes(self._process.readAllStandardOutput().data())).split(b"\n")
        for line in lines:
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        text = line.decode("utf-8", errors="replace").rstrip("\r")
        if not self._progress.hear(text):
            self._say(text)
        self._onProgress(self._progress)

    def _say(self, line: str) -> None:
        self._lines.append(line)
        self._onLine(line)

    def _onError(self, error: int) -> None:
        if int(error) == int(qt.QProcess.FailedToStart):
            reason = self._process.errorString()
            self._retire()
            self._end(Outcome("E501", message("E501", reason=reason)))

    def _onFinished(self, exitCode: int) -> None:
        self._onOutput()
        if self._rest:
            self._hear(self._rest)
        self._retire()
        if self._undoing is not None:
            self._undoNext()
        elif self._isCancelled:
            self._undo()
        elif exitCode == 0:
            self._next()
        else:
            self._finish(exitCode)

    def _retire(self) -> None:
        """Lets go of a process inside its own signal: the object must live until the signal is over."""
        self._retired, self._process = self._process, None

    # The way back

    def _undo(self) -> None:
        """Takes away what this installation added, and puts back what it replaced or had just taken away."""
        self._progress.undo()
        self._onProgress(self._progress)
        now = self._versions() if self._before else {}
        added = sorted(set(now) - set(self._before))
        self._toRestore = self._differing()
        pip, self._undoing = ["-m", "pip"], []
        if added:
            self._undoing.append([*pip, "uninstall", "--yes", _QUIET, *added])
        if self._toRestore:
            packages = [f"{name}=={version}" for name, version in self._toRestore.items()]
            # Not only from the folder of wheels: the version before need not be in it.
            links = ["--find-links", str(self._wheelFolder)] if self._wheelFolder is not None else []
            self._undoing.append([*pip, "install", _QUIET, "--no-deps", "--force-reinstall", *links, *_links(packages), *packages])
        self._undoNext()

    def _differing(self) -> dict[str, str]:
        """Packages that were there before and are not as they were, with the versions they had."""
        now = self._versions() if self._before else {}
        return {name: version for name, version in sorted(self._before.items()) if now.get(name) != version}

    def _undoNext(self) -> None:
        if self._undoing:
            self._run(self._undoing.pop(0))
        else:
            self._end(cancelOutcome(self._toRestore, self._differing()))

    def _finish(self, exitCode: int) -> None:
        if exitCode != 0:
            self._end(failureOutcome(self._lines))
            return
        self._end(changeOutcome(self._before, self._versions(), self._loaded))

    def _end(self, outcome: Outcome) -> None:
        if self._folder is not None:
            self._folder.cleanup()
        self._onDone(outcome)


def _links(packages: list[str]) -> list[str]:
    """Where builds of PyTorch for one kind of device are; what others there are is on the index that pip asks anyway."""
    labels = {one.partition("+")[2] for one in packages if nameOf(one) in TORCH_PACKAGES and "+" in one}
    return [word for label in sorted(labels) for word in ("--extra-index-url", f"{_TORCH_INDEX}{label}")]


def _otherInstallRuns() -> bool:
    try:
        from slicer import packaging
    except ImportError:
        return False  # Slicer 5.10
    return bool(packaging.isPipInstallInProgress())
