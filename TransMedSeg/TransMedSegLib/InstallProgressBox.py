"""A bar and a line that say how far an installation is."""

from __future__ import annotations

import qt

from .PipProgress import Phase, PipProgress
from .WrappedLabel import WrappedLabel

_STEPS = 1000


class InstallProgressBox(qt.QWidget):
    """Hidden until there is something to say. Put it into a layout of the panel."""

    def __init__(self) -> None:
        qt.QWidget.__init__(self)
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._bar = qt.QProgressBar()
        self._bar.setTextVisible(False)
        layout.addWidget(self._bar)
        self._label = WrappedLabel()
        layout.addWidget(self._label)
        self.hide()

    @property
    def text(self) -> str:
        """What is said; empty while hidden."""
        return "" if self.isHidden() else self._label.text

    @property
    def share(self) -> float | None:
        """What the bar shows, from 0 to 1; None while it only shows that something is being done."""
        return self._bar.value / _STEPS if self._bar.maximum else None

    def follow(self, progress: PipProgress) -> None:
        """Says how far it is."""
        isKnown = progress.phase == Phase.Downloading and progress.total > 0
        self._bar.setRange(0, _STEPS if isKnown else 0)
        if isKnown:
            self._bar.setValue(round(_STEPS * progress.received / progress.total))
        if progress.text() != self._label.text:
            self._label.say(progress.text())
        self.show()
