"""How an installation of packages ended: what its log means, what changed, what can be put back."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from dataclasses import dataclass, field
from pathlib import Path

from slicer.i18n import tr as _

from .Computer import freeDiskGb
from .InstallSize import INSTALL_DISK_GB
from .Messages import message

CORE_PACKAGES = ("numpy", "scipy", "simpleitk", "pydicom", "requests", "packaging", "pip", "setuptools", "vtk", "pyjwt", "certifi")
"""Ship with Slicer; an installation must leave their versions as they are."""

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
