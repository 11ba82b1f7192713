"""One place in a panel for what the user must know: a text, its code, and buttons for what can be done."""

from __future__ import annotations

from collections.abc import Callable

import qt

from .Messages import withCode
from .WrappedLabel import WrappedLabel

Action = tuple[str, Callable[[], None]]
"""Text of a button, and what it does."""


class Notice(qt.QFrame):
    """Hidden until there is something to say. Put it into a layout of the panel."""

    def __init__(self, parent=None) -> None:
        qt.QFrame.__init__(self, parent) if parent is not None else qt.QFrame.__init__(self)
        self.setFrameShape(qt.QFrame.StyledPanel)
        layout = qt.QVBoxLayout(self)
        self._label = WrappedLabel()
        self._label.setTextInteractionFlags(qt.Qt.TextSelectableByMouse)
        layout.addWidget(self._label)
        self._row = qt.QHBoxLayout()
        layout.addLayout(self._row)
        self._buttons: list = []
        self.hide()

    @property
    def message(self) -> str:
        """What is shown; empty while hidden."""
        return "" if self.isHidden() else self._label.text

    @property
    def buttons(self) -> dict:
        """The buttons by their texts."""
        return {button.text: button for button in self._buttons}

    def say(self, text: str, code: str = "", actions: tuple[Action, ...] = ()) -> None:
        """Shows a text and its buttons instead of what was shown before."""
        self.clear()
        self._label.say(withCode(code, text))
        for title, call in actions:
            button = qt.QPushButton(title)
            button.connect("clicked()", lambda call=call: self._do(call))
            self._row.addWidget(button)
            self._buttons.append(button)
        self.show()

    def _do(self, call: Callable[[], None]) -> None:
        self.clear()
        call()

    def clear(self) -> None:
        """Says nothing any more."""
        for button in self._buttons:
            self._row.removeWidget(button)
            button.hide()
            button.deleteLater()
        self._buttons = []
        self.hide()
