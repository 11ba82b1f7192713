"""Modules as the application sees them: `slicer.modules.<name>`, their logics and panels."""

import importlib.util
import sys
from pathlib import Path

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Signal

from .pythonqt.wrapped import stand_in


@stand_in()
class qSlicerAbstractCoreModule(QtCore.QObject):
    """Any module: what it says about itself, and its logic."""

    title = None
    categories = ()
    dependencies = ()
    contributors = ()
    helpText = ""
    acknowledgementText = ""
    icon = None
    hidden = False
    index = -1
    version = ""
    associatedNodeTypes = ()
    widgetRepresentationCreationEnabled = True

    _name = ""
    _path = ""
    _logic = None
    _widget = None

    def __init__(self, name, path="", logic=None):
        QtCore.QObject.__init__(self)
        self._name, self._path, self._logic = name, str(path), logic
        self.title = name
        self.icon = QtGui.QIcon()

    # These are properties in C++, so they are assignable although the class has them.
    __setattr__ = object.__setattr__

    name = property(lambda self: self._name)
    moduleName = name
    path = property(lambda self: self._path)

    def logic(self):
        return self._logic

    def mrmlScene(self):
        return slicer.mrmlScene

    def setMRMLScene(self, scene):
        pass

    def widgetRepresentation(self):
        """The module's panel; for a C++ module an empty one."""
        if self._widget is None:
            self._widget = self.createNewWidgetRepresentation()
        return self._widget

    def createNewWidgetRepresentation(self):
        return slicer.qSlicerWidget()


@stand_in()
class qSlicerScriptedLoadableModule(qSlicerAbstractCoreModule):
    """A module written in Python."""

    def createNewWidgetRepresentation(self):
        widget = slicer.qSlicerScriptedLoadableModuleWidget()
        widget.setLayout(QtWidgets.QVBoxLayout())
        widget.setMRMLScene(slicer.mrmlScene)
        widget._make_panel = lambda: self._make_panel(widget)
        widget._panel = widget._make_panel()
        return widget

    def _make_panel(self, widget):
        panel_class = getattr(sys.modules[self._name], self._name + "Widget")
        panel = panel_class(widget)
        setattr(slicer.modules, self._name + "Widget", panel)
        panel.setup()
        return panel


@stand_in("moduleLoaded(QString)", "moduleAboutToBeUnloaded(QString)", "modulesLoaded(QStringList)")
class ModuleManager(QtCore.QObject):
    """Stand-in for qSlicerModuleManager and its factory manager in one."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)
    modulesLoaded = Signal(list)

    _modules = None

    def __init__(self):
        QtCore.QObject.__init__(self)
        self._modules = {}

    def factoryManager(self):
        return self

    def module(self, name):
        return self._modules.get(name)

    def modulesNames(self):
        return list(self._modules)

    loadedModuleNames = modulesNames
    loadedModulesNames = modulesNames

    def isLoaded(self, name):
        return name in self._modules

    def isRegistered(self, name):
        return name in self._modules

    def add(self, module):
        """For the bed: makes a module reachable as slicer.modules.<name>."""
        self._modules[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)
        setattr(slicer.moduleNames, module.name, module.name)
        self.moduleLoaded.emit(module.name)


def load_scripted_module(path):
    """Loads a scripted module as the application does at start: description only, no panel yet.

    Args:
        path: the module's file, <folder>/<ModuleName>.py.

    Returns:
        The qSlicerScriptedLoadableModule.
    """
    path = Path(path).resolve()
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    specification = importlib.util.spec_from_file_location(name, path)
    source = importlib.util.module_from_spec(specification)
    sys.modules[name] = source
    specification.loader.exec_module(source)
    module = qSlicerScriptedLoadableModule(name, path)
    # Known before the description runs: it asks for its resources by its own path.
    slicer.app.moduleManager().add(module)
    description = getattr(source, name)(module)
    setattr(slicer.modules, name + "Instance", description)
    return module
