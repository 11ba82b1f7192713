"""What this computer has: memory, disk, processors of NVIDIA. Asked of the system, never of torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_QUERY = "index,name,memory.total,memory.free,driver_version,compute_cap"
_QUERY_SECONDS = 10


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as its driver describes it; memory in GB."""

    index: int
    name: str
    totalGb: float
    freeGb: float
    driver: str
    capability: str

    @property
    def device(self) -> str:
        return f"cuda:{self.index}"


_known: list[Gpu] | None = None


def gpuQuery() -> list[str]:
    """The command that lists the GPUs; empty where there is no NVIDIA driver."""
    program = shutil.which("nvidia-smi")
    return [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"] if program else []


def parseGpus(text: str) -> list[Gpu]:
    """Reads the answer of `gpuQuery`. A line that is no GPU (an error message of the driver) is left out."""
    gpus = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 6 or not parts[0].isdigit():
            continue
        total, free = (float(part) / 1024 if part.replace(".", "").isdigit() else 0.0 for part in parts[2:4])
        gpus.append(Gpu(int(parts[0]), parts[1], round(total, 1), round(free, 1), parts[4], parts[5]))
    return gpus


def setGpus(gpus: list[Gpu] | None) -> None:
    """Keeps what the driver answered; None asks again next time."""
    global _known
    _known = gpus


def knownGpus() -> list[Gpu]:
    """The GPUs as far as they were asked for; never waits."""
    return list(_known or [])


def knownDevice(device: str) -> str:
    """What "auto" means as far as the GPUs were asked for; never waits."""
    if device != "auto":
        return device
    return knownGpus()[0].device if knownGpus() else "cpu"


def gpus() -> list[Gpu]:
    """The GPUs, asked once. The first call may take a second where there is an NVIDIA driver."""
    if _known is None:
        command = gpuQuery()
        text = ""
        if command:
            try:
                text = subprocess.run(command, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=False).stdout
            except (OSError, subprocess.TimeoutExpired):
                text = ""  # a driver that does not answer is no GPU for us; the set-up page shows it
        setGpus(parseGpus(text))
    return list(_known or [])


def gpuName() -> str:
    return gpus()[0].name if gpus() else "GPU"


def resolveDevice(device: str) -> str:
    """What "auto" means on this computer."""
    if device != "auto":
        return device
    return gpus()[0].device if gpus() else "cpu"


def memoryGb() -> float:
    """Memory of this computer; 0 where the system does not tell."""
    if os.name == "nt":
        return _windowsMemoryGb()
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (OSError, ValueError):
        return 0.0


def _windowsMemoryGb() -> float:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong), *[(f"n{i}", ctypes.c_ulonglong) for i in range(7)]]

    status = Status()
    status.length = ctypes.sizeof(Status)
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return round(status.n0 / 2**30, 1)


def freeDiskGb(folder: Path) -> float:
    """Free space where a folder is or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return round(shutil.disk_usage(folder).free / 2**30, 1)


def isWritable(folder: Path) -> bool:
    """Whether files can be made in a folder, or where it will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)
