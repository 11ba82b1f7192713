"""Lets the user drop files and folders on a widget that comes from a .ui file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import qt


class FileDrop(qt.QWidget):
    """Watches a widget for dropped files. Keep the object for as long as the widget.

    Args:
        widget: Where to drop; of a list or table the part with the rows.
        onPaths: Called with a list of the dropped files and folders.
    """

    def __init__(self, widget, onPaths: Callable[[list[Path]], None]) -> None:
        qt.QWidget.__init__(self)
        self._onPaths = onPaths
        widget.acceptDrops = True
        target = widget.viewport() if hasattr(widget, "viewport") else widget
        target.acceptDrops = True
        target.installEventFilter(self)

    def eventFilter(self, watched, event) -> bool:
        if event.type() in (qt.QEvent.DragEnter, qt.QEvent.DragMove):
            if not event.mimeData().hasUrls():
                return False
            event.acceptProposedAction()
            return True
        if event.type() == qt.QEvent.Drop:
            paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
            if paths:
                event.acceptProposedAction()
                self._onPaths(paths)
            return bool(paths)
        return False
