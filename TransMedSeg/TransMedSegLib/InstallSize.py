"""What an installation takes: bytes to download, disk, and the time at a stated rate. Figures of one computer, said as estimates."""

from __future__ import annotations

import functools
import re

from slicer.i18n import tr as _

from .Counted import counted

INSTALL_DISK_GB = {True: 6.5, False: 1.5}
"""Disk for PyTorch and the other packages, with and without CUDA: the wheels and what they unpack to."""

_UNPACKED_MB = {"numpy": 57, "scipy": 114, "h5py": 16, "simpleitk": 274, "matplotlib": 25}
"""What packages take when they are unpacked, on Linux; PyTorch depends on the driver, see `INSTALL_DISK_GB`."""

_DOWNLOAD_MB = {"numpy": 16, "scipy": 35, "h5py": 5, "simpleitk": 53, "matplotlib": 24}
"""Sizes of the wheels for Python 3.12 on Linux in November 2026, with those of the packages that they need."""

_TORCH_DOWNLOAD_MB = {True: 3000, False: 210}
"""PyTorch with torchvision and what both need, with and without CUDA: PyTorch 2.15 for CUDA 13.2, and 2.13 for the CPU, both on Linux.
Wheels for Windows hold CUDA themselves and are of about the same size."""

_ASSUMED_MBIT = 100
"""Megabits a second: no network is measured before a download, so the time is said for this one."""


def nameOf(requirement: str) -> str:
    """The package of a requirement: "torch" of "torch>=2.4"."""
    return re.split(r"[^\w\-.]", requirement, maxsplit=1)[0].lower()


def withSize(requirement: str, hasGpu: bool) -> str:
    """A requirement with about the disk space it takes, as far as that is known."""
    name = nameOf(requirement)
    if name == "torch":
        return _("{package} (up to {size} GB)").format(package=requirement, size=INSTALL_DISK_GB[hasGpu])
    return _("{package} ({size} MB)").format(package=requirement, size=_UNPACKED_MB[name]) if name in _UNPACKED_MB else requirement


def downloadBytes(requirements: list[str], hasGpu: bool) -> int:
    """About how much is downloaded for packages; 0 where that of one is not known."""
    known = {**_DOWNLOAD_MB, "torch": _TORCH_DOWNLOAD_MB[hasGpu]}
    sizes = [known.get(nameOf(one)) for one in requirements]
    return 0 if None in sizes else 1_000_000 * sum(sizes)


def installTitle(requirements: list[str], hasGpu: bool) -> str:
    """The text of the button that installs."""
    size = downloadBytes(requirements, hasGpu)
    return _("Install (about {size})").format(size=sizeText(size)) if size else _("Install")


def installTime(requirements: list[str], hasGpu: bool) -> str:
    """How long that takes and at which rate; empty where it is not known."""
    size = downloadBytes(requirements, hasGpu)
    minutes = round(size * 8 / (_ASSUMED_MBIT * 1e6) / 60)
    time = counted(minutes, _("{count} minute"), _("{count} minutes")) if minutes else _("less than a minute")
    text = _("About {size} to download: {time} at {rate} Mbit/s, and the time to unpack it.")
    return text.format(size=sizeText(size), time=time, rate=_ASSUMED_MBIT) if size else ""


def sizeText(size: int) -> str:
    """Bytes in GB with one digit, or below that in MB."""
    gigabytes, megabytes = _sizeTexts()
    return gigabytes.format(size=f"{size / 1e9:.1f}") if size >= 1e9 else megabytes.format(size=round(size / 1e6))


@functools.cache
def _sizeTexts() -> tuple[str, str]:
    """Asked for once: a translation looks at the call stack, which takes milliseconds, and a download says this several times a second."""
    return _("{size} GB"), _("{size} MB")
