"""What a user does that is more than a click: drops files, presses keys."""

from PySide6 import QtCore, QtGui, QtTest, QtWidgets

from . import boot


def drop_files(widget, paths):
    """Drags files over a widget and lets go.

    Returns:
        Whether the widget accepted the drag; only then it got the drop.
    """
    data = QtCore.QMimeData()
    data.setUrls([QtCore.QUrl.fromLocalFile(str(path)) for path in paths])
    return drop(widget, data)


def drop(widget, mime_data):
    """The same with any data, for example a node dragged from the subject hierarchy."""
    middle = QtCore.QPointF(widget.width / 2, widget.height / 2)
    common = (QtCore.Qt.CopyAction, mime_data, QtCore.Qt.LeftButton, QtCore.Qt.NoModifier)
    # A list or table receives what happens over its viewport.
    target = widget.viewport() if isinstance(widget, QtWidgets.QAbstractScrollArea) else widget
    enter = QtGui.QDragEnterEvent(middle, *common)
    enter.ignore()
    QtWidgets.QApplication.sendEvent(target, enter)
    if not (widget.acceptDrops and enter.isAccepted()):
        QtWidgets.QApplication.sendEvent(target, QtGui.QDragLeaveEvent())
        return False
    QtWidgets.QApplication.sendEvent(target, QtGui.QDropEvent(middle, *common))
    boot.process_events()
    return True


def press(widget, keys):
    """Presses keys such as "Ctrl+Return" with the focus in `widget`. Shortcuts of its window answer too."""
    window = widget.window()
    window.show()
    window.activateWindow()
    widget.setFocus()
    boot.process_events(0.05)
    combination = QtGui.QKeySequence(keys)[0]
    QtTest.QTest.keyClick(window.windowHandle(), combination.key(), combination.keyboardModifiers())
    boot.process_events()
