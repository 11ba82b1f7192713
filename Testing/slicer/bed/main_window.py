"""A small main window: enough for slicer.util.mainWindow(), selectModule() and a picture with a frame.

Slicer started with --no-main-window has none, and so has the bed until `open_main_window()` is called.
"""

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .pythonqt.wrapped import stand_in


@stand_in("moduleSelected(QString)")
class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    """Leaves one module and enters another."""

    moduleSelected = Signal(str)

    _selected = ""

    selectedModule = Property(str, lambda self: self._selected)

    def selectModule(self, name):
        """Shows a module's panel. An unknown name changes nothing, as in Slicer."""
        module = slicer.app.moduleManager().module(name)
        if module is None or name == self._selected:
            return
        self.leave()
        self._selected = name
        widget = module.widgetRepresentation()
        self.parent().showPanel(widget)
        if isinstance(widget, slicer.qSlicerScriptedLoadableModuleWidget):
            widget.enter()
        self.moduleSelected.emit(name)

    def leave(self):
        module = slicer.app.moduleManager().module(self._selected)
        widget = module.widgetRepresentation() if module is not None else None
        if isinstance(widget, slicer.qSlicerScriptedLoadableModuleWidget):
            widget.exit()
        self._selected = ""


@stand_in()
class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The module panel in the middle, the module selector above, a status bar below."""

    _selector = None
    _panels = None

    def __init__(self):
        QtWidgets.QMainWindow.__init__(self)
        self.objectName = "qSlicerMainWindow"
        self.windowTitle = "Test bed (not 3D Slicer)"
        self._selector = qSlicerModuleSelectorToolBar(self)
        self.addToolBar(self._selector)
        scroll = QtWidgets.QScrollArea()
        scroll.widgetResizable = True
        self._panels = QtWidgets.QStackedWidget()
        scroll.setWidget(self._panels)
        self.setCentralWidget(scroll)
        self.statusBar()

    def moduleSelector(self):
        return self._selector

    def showPanel(self, widget):
        if self._panels.indexOf(widget) < 0:
            self._panels.addWidget(widget)
        self._panels.setCurrentWidget(widget)


def open_main_window():
    """Shows the main window. Returns it; `slicer.util.mainWindow()` finds it from now on."""
    window = slicer.util.mainWindow() or qSlicerMainWindow()
    window.resize(480, 800)
    window.show()
    return window


def close_main_window():
    """Leaves the present module and closes the window. The panels of the modules live on."""
    window = slicer.util.mainWindow()
    if window is None:
        return
    window.moduleSelector().leave()
    while window._panels.count:
        panel = window._panels.widget(0)
        window._panels.removeWidget(panel)
        panel.setParent(None)
    window.close()
    window.objectName = ""
    window.deleteLater()
    QtCore.QCoreApplication.sendPostedEvents(window, int(QtCore.QEvent.DeferredDelete))
