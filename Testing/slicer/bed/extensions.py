"""Stand-in for the extensions manager: which extensions are there, and what was asked to be installed."""

from PySide6 import QtCore
from PySide6.QtCore import Signal

from .pythonqt.wrapped import stand_in
from .widgets.kept import kept


@stand_in("extensionInstalled(QString)")
class qSlicerExtensionsManagerModel(QtCore.QObject):
    """No extension is installed at first. Installing succeeds at once, unless a test forbids it."""

    extensionInstalled = Signal(str)
    interactive = kept(bool, True)

    _installed = None
    _reachable = True

    def __init__(self):
        QtCore.QObject.__init__(self)
        self._installed = []

    @property
    def installedExtensions(self):
        return list(self._installed)

    def isExtensionInstalled(self, name):
        return name in self._installed

    def installExtensionFromServer(self, name, restart=True, update=True):
        """Returns False where the server is out of reach."""
        if self._reachable and name not in self._installed:
            self._installed.append(name)
            self.extensionInstalled.emit(name)
        return self._reachable

    def play(self, installed=(), reachable=True):
        """For tests: the extensions that are installed, and whether the server answers."""
        self._installed, self._reachable = list(installed), reachable
