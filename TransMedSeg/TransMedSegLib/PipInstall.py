"""Installs packages in a child process: with a log, a way back, and a look at what changed.

`slicer.packaging` installs without blocking too, but gives no handle to cancel, and Slicer 5.10 has none; so this
class starts pip itself on both. It waits while `slicer.packaging` is busy.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import qt
from slicer.i18n import tr as _

from .EngineProcess import enginePython
from .Messages import message
from .ProcessTree import endTree

CORE_PACKAGES = ("numpy", "scipy", "simpleitk", "pydicom", "requests", "packaging", "pip", "setuptools", "vtk", "pyjwt", "certifi")
"""Ship with Slicer; an installation must leave their versions as they are."""

_TORCH_REQUIREMENT = ">=2.4"
_WAIT_MS = 1000

_LOG_SIGNS = (
    (r"CERTIFICATE_VERIFY_FAILED|SSLError|certificate verify failed", "E104"),
    (r"Failed to establish a new connection|Temporary failure in name resolution|NewConnectionError|ProxyError|ConnectTimeout|getaddrinfo", "E103"),
    (r"No space left on device|not enough space on the disk", "E105"),
    (r"WinError 5\b|WinError 32\b|being used by another process|Access is denied", "E109"),
    (r"Permission denied|Read-only file system", "E106"),
)
"""What pip says when it fails, and the code it means; the first that fits counts."""


@dataclass(frozen=True)
class Outcome:
    """How an installation ended.

    Attributes:
        code: Of the message; empty when all went well.
        text: What to tell the user.
        repair: Packages to install again, as "name==version".
        needsRestart: Slicer holds files, or has loaded packages, that were to change.
    """

    code: str = ""
    text: str = ""
    repair: list[str] = field(default_factory=list)
    needsRestart: bool = False


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
    """

    def __init__(
        self,
        onLine: Callable[[str], None],
        onDone: Callable[[Outcome], None],
        versions: Callable[[], dict[str, str]] = installedVersions,
    ) -> None:
        self._onLine, self._onDone, self._versions = onLine, onDone, versions
        self._process = self._retired = None
        self._before: dict[str, str] = {}
        self._loaded: frozenset[str] = frozenset()
        self._lines: list[str] = []
        self._isCancelled = False
        self._undoing: list[list[str]] | None = None
        self._toRestore: dict[str, str] = {}
        self._wheelFolder: Path | None = None
        self._constraints = None
        self._wait = None

    def start(self, requirements: list[str], wheelFolder: Path | None = None) -> None:
        """Installs packages; PyTorch through its own extension unless a folder of wheels is given."""
        if _otherInstallRuns():
            self._say(message("E110"))
            self._wait = qt.QTimer()
            self._wait.setSingleShot(True)
            self._wait.connect("timeout()", lambda: self._isCancelled or self.start(requirements, wheelFolder))
            self._wait.start(_WAIT_MS)
            return
        self._before, self._wheelFolder = self._versions(), wheelFolder
        self._loaded = frozenset(sys.modules)  # before PyTorch's extension imports what it has just installed
        others = list(requirements)
        if wheelFolder is None:
            others = [one for one in requirements if _nameOf(one) != "torch"]
            if len(others) < len(requirements) and not self._installTorch():
                return
        if not others:
            self._finish(0)
            return
        arguments = ["-m", "pip", "install", "--disable-pip-version-check", "--constraint", self._writeConstraints()]
        if wheelFolder is not None:
            arguments += ["--no-index", "--find-links", str(wheelFolder)]
        self._run([*arguments, *others])

    def startInto(self, folder: Path, requirements: list[str], wheelFolder: Path | None = None) -> None:
        """Installs packages and all they need into a folder of its own; Slicer's stay as they are and are not used."""
        self._before = {}  # so there is nothing to put back
        arguments = ["-m", "pip", "install", "--disable-pip-version-check", "--target", str(folder)]
        if wheelFolder is not None:
            arguments += ["--no-index", "--find-links", str(wheelFolder)]
        self._run([*arguments, *requirements])

    def repair(self, packages: list[str]) -> None:
        """Brings packages back to the versions that Slicer came with."""
        self._before = {}
        self._run(["-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--force-reinstall", *packages])

    def cancel(self) -> None:
        """Ends the installation, removes what it added and puts back what it changed."""
        if self._isCancelled:
            return
        self._isCancelled = True
        if self._process is None:
            self._undo()
        else:
            endTree(self._process.processId())

    def _installTorch(self) -> bool:
        """The extension's own installer knows which build fits the driver. It holds up Slicer while it works."""
        try:
            import PyTorchUtils
        except ImportError:
            self._onDone(Outcome("E102", message("E102")))
            return False
        self._say(_("Installing PyTorch; Slicer does not answer meanwhile."))
        qt.QApplication.processEvents()
        try:
            torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=_TORCH_REQUIREMENT)
        except Exception as error:  # whatever it raises is shown to the user
            self._lines.append(str(error))
            self._finish(1)
            return False
        if torch is None:
            self._finish(1)
            return False
        return True

    def _writeConstraints(self) -> str:
        lines = [f"{name}=={self._before[name]}" for name in CORE_PACKAGES if name in self._before]
        self._constraints = tempfile.TemporaryDirectory(prefix="TransMedSeg-")
        path = Path(self._constraints.name) / "constraints.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    def _run(self, arguments: list[str]) -> None:
        self._process = qt.QProcess()
        self._process.setProcessChannelMode(qt.QProcess.MergedChannels)
        self._process.connect("readyReadStandardOutput()", self._onOutput)
        self._process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: self._onFinished(code))
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._onError)
        self._process.start(enginePython(), arguments)

    def _onOutput(self) -> None:
        text = bytes(self._process.readAllStandardOutput().data()).decode("utf-8", errors="replace")
        for line in text.splitlines():
            self._say(line)

    def _say(self, line: str) -> None:
        self._lines.append(line)
        self._onLine(line)

    def _onError(self, error: int) -> None:
        if int(error) == int(qt.QProcess.FailedToStart):
            reason = self._process.errorString()
            self._retire()
            self._onDone(Outcome("E501", message("E501", reason=reason)))

    def _onFinished(self, exitCode: int) -> None:
        self._onOutput()
        self._retire()
        if self._undoing is not None:
            self._undoNext()
        elif self._isCancelled:
            self._undo()
        else:
            self._finish(exitCode)

    def _retire(self) -> None:
        """Lets go of a process inside its own signal: the object must live until the signal is over."""
        self._retired, self._process = self._process, None
        if self._constraints is not None:
            self._constraints.cleanup()
            self._constraints = None

    def _undo(self) -> None:
        """Takes away what this installation added, and puts back what it replaced or had just taken away."""
        now = self._versions() if self._before else {}
        added = sorted(set(now) - set(self._before))
        self._toRestore = self._differing()
        pip, self._undoing = ["-m", "pip"], []
        if added:
            self._undoing.append([*pip, "uninstall", "--yes", "--disable-pip-version-check", *added])
        if self._toRestore:
            # Not only from the folder of wheels: the version before need not be in it.
            links = ["--find-links", str(self._wheelFolder)] if self._wheelFolder is not None else []
            packages = [f"{name}=={version}" for name, version in self._toRestore.items()]
            self._undoing.append([*pip, "install", "--disable-pip-version-check", "--no-deps", "--force-reinstall", *links, *packages])
        self._undoNext()

    def _differing(self) -> dict[str, str]:
        """Packages that were there before and are not as they were, with the versions they had."""
        now = self._versions() if self._before else {}
        return {name: version for name, version in sorted(self._before.items()) if now.get(name) != version}

    def _undoNext(self) -> None:
        if self._undoing:
            self._run(self._undoing.pop(0))
        else:
            self._onDone(cancelOutcome(self._toRestore, self._differing()))

    def _finish(self, exitCode: int) -> None:
        if exitCode != 0:
            self._onDone(failureOutcome(self._lines))
            return
        self._onDone(changeOutcome(self._before, self._versions(), self._loaded))


def changeOutcome(before: dict[str, str], after: dict[str, str], loaded: frozenset[str] = frozenset()) -> Outcome:
    """Says when an installation changed a package that ships with Slicer, or one of which a `loaded` module is at work in it."""
    changed = [name for name in CORE_PACKAGES if name in before and after.get(name) != before[name]]
    if not changed:
        others = {name for name in {*before, *after} if before and before.get(name) != after.get(name)}
        needsRestart = bool(others) and _areLoaded(others, loaded)
        return Outcome(text=_("Installed. Restart now?") if needsRestart else "", needsRestart=needsRestart)
    name = changed[0]
    text = message("E108", package=name, before=before[name], after=after.get(name) or _("nothing"))
    return Outcome("E108", text, [f"{one}=={before[one]}" for one in changed])


def _areLoaded(packages: set[str], loaded: frozenset[str]) -> bool:
    """Whether a module of one of the packages is imported: it stays what it was until Slicer starts again."""
    owners = importlib.metadata.packages_distributions()
    return any(module in loaded and packages & {one.lower() for one in names} for module, names in owners.items())


def cancelOutcome(restored: dict[str, str], missing: dict[str, str]) -> Outcome:
    """What a cancelled installation has left behind.

    Args:
        restored: Packages that were put back, with their versions.
        missing: Those of them that are not back.
    """
    text = message("E111")
    back = ", ".join(f"{name} {version}" for name, version in restored.items() if name not in missing)
    if back:
        text = _("{text} Put back: {packages}.").format(text=text, packages=back)
    if missing:
        away = ", ".join(f"{name} {version}" for name, version in missing.items())
        text = _("{text} Not put back: {packages}. Repair tries it again.").format(text=text, packages=away)
    return Outcome("E111", text, [f"{name}=={version}" for name, version in missing.items()])


def failureOutcome(lines: list[str]) -> Outcome:
    """What pip's log means."""
    from .Computer import freeDiskGb
    from .EngineSetup import INSTALL_DISK_GB

    log = "\n".join(lines)
    code = next((code for pattern, code in _LOG_SIGNS if re.search(pattern, log)), "E107")
    folder = Path(importlib.__file__).parent
    values = {"reason": _lastMeaningful(lines), "needed_gb": INSTALL_DISK_GB[True], "free_gb": freeDiskGb(folder), "folder": folder}
    return Outcome(code, message(code, **values), needsRestart=code == "E109")


def _lastMeaningful(lines: list[str]) -> str:
    """The last line that says what went wrong, rather than what pip advises."""
    texts = [line.strip() for line in lines if line.strip() and not line.lower().startswith(("notice", "[notice", "hint", "warning"))]
    errors = [text for text in texts if text.upper().startswith("ERROR")]
    return (errors or texts or [_("no answer")])[-1].removeprefix("ERROR: ")


def _nameOf(requirement: str) -> str:
    return re.split(r"[^\w\-.]", requirement, maxsplit=1)[0].lower()


def _otherInstallRuns() -> bool:
    try:
        from slicer import packaging
    except ImportError:
        return False  # Slicer 5.10
    return bool(packaging.isPipInstallInProgress())
