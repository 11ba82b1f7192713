"""What the engine needs and what this computer has: six checks, each with its number. Nothing is installed here."""

from __future__ import annotations

import enum
import importlib.metadata
import json
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from .Computer import Gpu, freeDiskGb, isWritable, memoryGb
from .EngineProcess import PYTHON_SETTING, enginePython
from .InstallSize import INSTALL_DISK_GB, withSize
from .Messages import message

NEEDED_SLICER = (5, 10)
NEEDED_MEMORY_GB = 8.0
_LOWEST_DRIVER = {11: 450, 12: 525, 13: 580}
"""Lowest NVIDIA driver per CUDA major version on Linux (NVIDIA, CUDA Compatibility); Windows differs by little."""

PROBE = """
import json
found = {}
try:
    import torch
    found = {"torch": torch.__version__, "cuda": torch.version.cuda, "available": torch.cuda.is_available(),
             "archs": torch.cuda.get_arch_list() if torch.cuda.is_available() else []}
except Exception as error:
    found = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps(found))
"""
"""Asked of the engine's Python in a child process: importing torch into Slicer costs seconds and locks its files."""


class Level(enum.Enum):
    """How a check went."""

    Good = "✓"
    Doubtful = "⚠"
    Bad = "✗"


@dataclass(frozen=True)
class Check:
    """One line of the set-up page."""

    key: str
    title: str
    level: Level
    text: str
    code: str = ""


def requirementsPath() -> Path:
    """The list of packages that the engine's wheel and this page share."""
    return Path(__file__).resolve().parent.parent / "Resources" / "requirements.txt"


def requirements() -> list[str]:
    """The engine's packages as pip understands them."""
    lines = (line.split("#")[0].strip() for line in requirementsPath().read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def missingRequirements() -> list[str]:
    """Packages that are absent or too old for the engine. Fast: only their metadata are read."""
    from packaging.requirements import Requirement

    importlib.invalidate_caches()
    missing = []
    for text in requirements():
        needed = Requirement(text)
        try:
            version = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(text)
            continue
        if not needed.specifier.contains(version, prereleases=True):
            missing.append(text)
    return missing


def hasOwnPython() -> bool:
    """Whether the settings name another Python than Slicer's; its packages are not ours to install."""
    return bool(slicer.util.settingsValue(PYTHON_SETTING, ""))


def checkSlicer() -> Check:
    found = (slicer.app.majorVersion, slicer.app.minorVersion)
    title = _("Slicer")
    if found < NEEDED_SLICER:
        needed = ".".join(map(str, NEEDED_SLICER))
        return Check("slicer", title, Level.Bad, message("E101", needed=needed, found=slicer.app.applicationVersion), "E101")
    return Check("slicer", title, Level.Good, str(slicer.app.applicationVersion))


def checkGpu(gpus: list[Gpu], probe: dict) -> Check:
    """The GPU, its driver, and whether the installed PyTorch can use it.

    Args:
        gpus: As the driver names them.
        probe: The answer to `PROBE`; empty where it was not asked.
    """
    title = _("GPU")
    if not gpus:
        return Check("gpu", title, Level.Doubtful, message("E201"), "E201")
    gpu = gpus[0]
    text = _("{name}, {free} of {total} GB free, driver {driver}").format(name=gpu.name, free=gpu.freeGb, total=gpu.totalGb, driver=gpu.driver)
    if not probe.get("torch"):
        return Check("gpu", title, Level.Good, text)
    if not probe.get("cuda"):
        return Check("gpu", title, Level.Bad, message("E203", gpu=gpu.name), "E203")
    needed = _LOWEST_DRIVER.get(int(str(probe["cuda"]).split(".")[0]), 0)
    if int(gpu.driver.split(".")[0] or 0) < needed:
        return Check("gpu", title, Level.Bad, message("E202", driver=gpu.driver, cuda=probe["cuda"], needed=needed), "E202")
    if probe.get("archs") and not _hasCodeFor(gpu.capability, probe["archs"]):
        return Check("gpu", title, Level.Bad, message("E204", gpu=gpu.name), "E204")
    used = round(gpu.totalGb - gpu.freeGb, 1)
    if gpu.freeGb < 0.5 * gpu.totalGb:
        return Check("gpu", title, Level.Doubtful, message("E208", used_gb=used, gpu=gpu.name, free_gb=gpu.freeGb), "E208")
    return Check("gpu", title, Level.Good, text)


def _hasCodeFor(capability: str, archs: list[str]) -> bool:
    """Code for an older card of the same generation runs on a newer one."""
    major, minor = (int(part) for part in capability.split("."))
    numbers = [int("".join(filter(str.isdigit, arch))) for arch in archs if arch.startswith("sm_")]
    return any(number // 10 == major and number % 10 <= minor for number in numbers)


def checkMemory() -> Check:
    total = memoryGb()
    level = Level.Good if total >= NEEDED_MEMORY_GB or total == 0 else Level.Doubtful
    return Check("memory", _("Memory"), level, _("{total} GB ({needed} GB or more is good)").format(total=total, needed=NEEDED_MEMORY_GB))


def checkDisk(isInstalled: bool, hasGpu: bool) -> Check:
    """Free space where the packages go; once they are there, none is needed."""
    folder = Path(sysconfig.get_paths()["purelib"])
    free, needed = freeDiskGb(folder), INSTALL_DISK_GB[hasGpu]
    if not isInstalled and free < needed:
        return Check("disk", _("Disk"), Level.Bad, message("E105", needed_gb=needed, free_gb=free, folder=folder), "E105")
    return Check("disk", _("Disk"), Level.Good, _("{free} GB free").format(free=free))


def checkWriting(isInstalled: bool) -> Check:
    folder = Path(sysconfig.get_paths()["purelib"])
    if not isInstalled and not isWritable(folder):
        return Check("writing", _("Write permission"), Level.Bad, message("E106", folder=folder), "E106")
    return Check("writing", _("Write permission"), Level.Good, _("yes"))


def checkPackages(missing: list[str], probe: dict, hasGpu: bool = False) -> Check:
    """Packages of the engine, and whether PyTorch starts.

    Args:
        missing: What `missingRequirements` found.
        probe: The answer to `PROBE`; empty where it was not asked.
        hasGpu: PyTorch comes with CUDA, which is larger.
    """
    title = _("Packages")
    if hasOwnPython():
        text = _("those of {python}").format(python=enginePython())
        if probe.get("error"):
            return Check("packages", title, Level.Bad, message("E112", reason=probe["error"]), "E112")
        return Check("packages", title, Level.Good, text)
    if missing:
        packages = ", ".join(withSize(one, hasGpu) for one in missing)
        text = _("to be installed: {packages}. Nothing that ships with Slicer is changed.").format(packages=packages)
        return Check("packages", title, Level.Bad, text)
    if probe.get("error"):
        return Check("packages", title, Level.Bad, message("E112", reason=probe["error"]), "E112")
    return Check("packages", title, Level.Good, _("all there"))


def allChecks(gpus: list[Gpu], probe: dict) -> list[Check]:
    """The six lines of the set-up page. Takes milliseconds; what takes longer is handed in."""
    missing = [] if hasOwnPython() else missingRequirements()
    isInstalled = not missing
    return [
        checkSlicer(),
        checkGpu(gpus, probe),
        checkMemory(),
        checkDisk(isInstalled, bool(gpus)),
        checkWriting(isInstalled),
        checkPackages(missing, probe, bool(gpus)),
    ]


def parseProbe(text: str) -> dict:
    """Reads the answer to `PROBE`; other lines that a package prints on import are skipped."""
    for line in reversed(text.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {"error": text.strip().splitlines()[-1] if text.strip() else "no answer"}
