"""Lets the keyboard do on the row of a table what a double-click does."""

from __future__ import annotations

from collections.abc import Callable

import qt


def onEnter(table, call: Callable[[int], None]) -> list:
    """Calls with the number of the current row when Enter is pressed while the table, and nothing else, has the focus.

    Returns:
        The shortcuts; they live as long as the table.
    """
    shortcuts = []
    for key in (qt.Qt.Key_Return, qt.Qt.Key_Enter):
        shortcut = qt.QShortcut(qt.QKeySequence(key), table)
        shortcut.setContext(qt.Qt.WidgetShortcut)
        shortcut.connect("activated()", lambda: table.currentRow() >= 0 and call(table.currentRow()))
        shortcuts.append(shortcut)
    return shortcuts
