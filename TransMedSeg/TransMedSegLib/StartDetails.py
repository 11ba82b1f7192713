"""Behind the button Details of E501: which program could not be started, and what can be seen from here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from .EngineProcess import PYTHON_SETTING, enginePython


def startDetails() -> str:
    """The program and the likely reason, in a few lines."""
    program = enginePython()
    path = Path(shutil.which(program) or program)
    if not path.exists():
        reason = _("It is not there.")
    elif not os.access(path, os.X_OK):
        reason = _("It is there, but you may not run it.")
    else:
        reason = _("It is there and you may run it. If a virus scanner has stopped it, ask IT to allow this program.")
    lines = [_("Program: {program}").format(program=program), reason]
    if slicer.util.settingsValue(PYTHON_SETTING, ""):
        lines.append(_("It is named in the settings as {key}; empty means Slicer's own.").format(key=PYTHON_SETTING))
    return "\n".join(lines)


def detailsAction() -> tuple:
    """The button and what it does, for a notice."""
    return _("Details"), lambda: slicer.util.infoDisplay(startDetails(), windowTitle=_("Details"))
