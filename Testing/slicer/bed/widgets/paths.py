"""Choosing a file or a folder: ctkPathLineEdit and ctkDirectoryButton."""

import os

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from ..pythonqt.wrapped import stand_in
from .kept import kept


@stand_in("currentPathChanged(QString)", "validInputChanged(bool)")
class ctkPathLineEdit(QtWidgets.QWidget):
    """A line with a history, and a button that opens a file dialog."""

    # Filters of C++: QDir::Filters. Ours are plain numbers because modules combine them with `|`.
    Dirs, Files, Drives, NoSymLinks, AllEntries, Readable, Writable, Executable = 1, 2, 4, 8, 7, 16, 32, 64

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    _box = None

    def __init__(self, *args):
        QtWidgets.QWidget.__init__(self, *[one for one in args if isinstance(one, QtWidgets.QWidget)][:1])
        self._box = QtWidgets.QComboBox()
        self._box.setEditable(True)
        self._box.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self._box.setCompleter(None)
        self._box.lineEdit().textChanged.connect(lambda text: self.currentPathChanged.emit(text))
        button = QtWidgets.QToolButton()
        button.text = "…"
        button.clicked.connect(lambda *_: self.browse())
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        layout.addWidget(button)

    def setCurrentPath(self, path):
        self._box.lineEdit().text = path

    def addCurrentPathToHistory(self):
        """Remembers the path, in the settings too where `settingKey` is set."""
        path = self.currentPath
        if not path or self._box.findText(path) >= 0:
            return
        self._box.addItem(path)
        if self.settingKey:
            history = [self._box.itemText(index) for index in range(self._box.count)]
            QtCore.QSettings().setValue(self.settingKey, history)

    def retrieveHistory(self):
        """Fills the history from the settings."""
        kept_text, history = self.currentPath, QtCore.QSettings().value(self.settingKey) or []
        self._box.clear()
        self._box.addItems([history] if isinstance(history, str) else list(history))
        self.setCurrentPath(self._box.itemText(0) if self._box.count else kept_text)

    def setSettingKey(self, key):
        self.settingKey = key

    def browse(self):
        """Opens the file dialog; see dialogs.py for the answer it gets in a test."""
        if int(self.filters) & self.Dirs and not int(self.filters) & self.Files:
            path = QtWidgets.QFileDialog.getExistingDirectory(self, self.label, self.currentPath)
        elif int(self.filters) & self.Writable:
            path = QtWidgets.QFileDialog.getSaveFileName(self, self.label, self.currentPath)
        else:
            path = QtWidgets.QFileDialog.getOpenFileName(self, self.label, self.currentPath)
        if path:
            self.setCurrentPath(path)
            self.addCurrentPathToHistory()

    currentPath = Property(str, lambda self: self._box.lineEdit().text, setCurrentPath)
    filters = kept(int, 7)
    label = kept(str, "")
    nameFilters = kept("QStringList", list)
    options = kept(int, 0)
    settingKey = kept(str, "", lambda self: self.retrieveHistory() if self.settingKey else None)
    showBrowseButton = kept(bool, True)
    showHistoryButton = kept(bool, True)
    sizeAdjustPolicy = kept(int, 0)


@stand_in("directoryChanged(QString)", "directorySelected(QString)")
class ctkDirectoryButton(QtWidgets.QWidget):
    """A button that shows a folder and opens a dialog to choose another one."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    _button = None
    _path = ""

    def __init__(self, *args):
        QtWidgets.QWidget.__init__(self, *[one for one in args if isinstance(one, QtWidgets.QWidget)][:1])
        self._button = QtWidgets.QPushButton()
        self._button.clicked.connect(lambda *_: self.browse())
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)
        self.setDirectory(os.getcwd())

    def setDirectory(self, path):
        path = os.path.abspath(path)
        if path != self._path:
            self._path = path
            self._button.text = self.text or path
            self.directoryChanged.emit(path)

    def browse(self):
        path = QtWidgets.QFileDialog.getExistingDirectory(self, self.caption, self._path)
        if path:
            self.setDirectory(path)
            self.directorySelected.emit(path)

    directory = Property(str, lambda self: self._path, setDirectory)
    text = kept(str, "")
    caption = kept(str, "")
    displayAbsolutePath = kept(bool, True)
    acceptMode = kept(int, 0)
