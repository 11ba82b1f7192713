"""Base classes of the widgets that look at a MRML scene."""

import weakref

import shiboken6
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Signal

from ..pythonqt.wrapped import stand_in
from . import sliders


class MrmlView:
    """The scene of a widget. Derive from it and from a Qt class, and override `sceneChanged`."""

    _scene = None
    _observations = ()

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        self._scene = scene
        self.sceneChanged()
        if hasattr(self, "mrmlSceneChanged"):
            self.mrmlSceneChanged.emit(scene)

    def sceneChanged(self):
        """Called when the widget gets another scene."""

    def observe(self, subject, *events):
        """Calls `self.refresh()` when `subject` invokes one of the events. Ends when the widget is gone."""
        widget = weakref.ref(self)
        for event in events:
            tag = subject.AddObserver(event, lambda *_: _refresh(widget))
            self._observations = [*self._observations, (subject, tag)]

    def observeNothing(self):
        """Ends every observation."""
        for subject, tag in self._observations:
            subject.RemoveObserver(tag)
        self._observations = []

    def refresh(self):
        """Shows the present state of what is observed."""


def _refresh(widget):
    widget = widget()
    if widget is None or not shiboken6.isValid(widget):
        return
    try:
        widget.refresh()
    except RuntimeError:
        # Python may collect the panel around it, a cycle of references, in the middle of this; its children go with it.
        if shiboken6.isValid(widget):
            raise


@stand_in("mrmlSceneChanged(vtkMRMLScene*)")
class qMRMLWidget(MrmlView, QtWidgets.QWidget):
    """A widget that hands its scene to the widgets inside it."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, *args):
        QtWidgets.QWidget.__init__(self, *args)


@stand_in()
class qSlicerWidget(qMRMLWidget):
    """The same, with the application around it."""


@stand_in()
class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):
    """The widget in which the application shows the panel of a scripted module. See modules.py."""

    isEntered = QtCore.Property(bool, lambda self: self._entered)

    _entered = False
    _make_panel = None
    _panel = None

    def self(self):
        """Returns the panel, an object of the module's own class."""
        return self._panel

    def reload(self):
        """Makes a new panel from the present source code."""
        wasEntered = self._entered
        self._panel = self._make_panel()
        if wasEntered:
            self.enter()

    def enter(self):
        self._entered = True
        self._panel.enter()

    def exit(self):
        self._panel.exit()
        self._entered = False


@stand_in()
class qMRMLSliderWidget(MrmlView, sliders.ctkSliderWidget):
    """A slider that can take its unit from the scene."""


@stand_in()
class qMRMLSpinBox(MrmlView, sliders.ctkDoubleSpinBox):
    """A spin box that can take its unit from the scene."""


@stand_in()
class qMRMLRangeWidget(MrmlView, sliders.ctkRangeWidget):
    """An interval that can take its unit from the scene."""
