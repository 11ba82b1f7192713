"""Slicer starts again after an installation. Who has unsaved changes is told so, and may save them first."""

from __future__ import annotations

from collections.abc import Callable

import slicer
from slicer.i18n import tr as _

from .Notice import Notice

_MODULE_KEY = "TransMedSeg/ContinueInModule"
"""The module that was open when Slicer was restarted."""


def comeBack() -> None:
    """Slicer has started: opens the module that was left for a restart. Its page goes on by itself."""
    settings = slicer.app.userSettings()
    name = str(settings.value(_MODULE_KEY) or "")
    settings.remove(_MODULE_KEY)
    if name and slicer.util.mainWindow() is not None:
        slicer.util.selectModule(name)


def hasUnsavedChanges() -> bool:
    """What Slicer asks itself before it closes: whether data, or the scene around them, changed since they were read."""
    scene = slicer.mrmlScene
    return bool(scene.GetStorableNodesModifiedSinceRead() or scene.GetModifiedSinceRead())


class RestartOffer:
    """Asks before Slicer restarts: `slicer.util.restart` itself asks nothing.

    Args:
        notice: Where it is said.
        onRestart: Called right before Slicer ends, or where the user puts off a restart that is needed to finish.
    """

    def __init__(self, notice: Notice, onRestart: Callable[[], None]) -> None:
        self._notice, self._onRestart = notice, onRestart
        self._text = self._code = ""
        self._isUnsaved = False

    def say(self, text: str, code: str = "") -> None:
        """Says why Slicer must start again and what would be lost, and offers the ways on.

        Args:
            text: Why.
            code: Of the message.
        """
        self._text, self._code, self._isUnsaved = text, code, hasUnsavedChanges()
        # What could not be finished goes on at the next start, whoever brings it about.
        later = self._remember if code else lambda: None
        actions = ((_("Restart"), self._onRestartButton), (_("Later"), later))
        if self._isUnsaved:
            actions = ((_("Save and restart"), self._saveAndRestart), *actions)
            text = _("{text} Your open scene has unsaved changes.").format(text=text)
        self._notice.say(text, code, actions)

    def _onRestartButton(self) -> None:
        if hasUnsavedChanges() and not self._isUnsaved:
            self.say(self._text, self._code)  # the scene was changed since it was asked
        else:
            self._restart()

    def _saveAndRestart(self) -> None:
        if slicer.util.openSaveDataDialog():
            self._restart()
        else:
            self.say(self._text, self._code)  # cancelled

    def _restart(self) -> None:
        self._remember()
        slicer.util.restart()

    def _remember(self) -> None:
        self._onRestart()
        if slicer.util.mainWindow() is not None:
            slicer.app.userSettings().setValue(_MODULE_KEY, slicer.util.selectedModule())
