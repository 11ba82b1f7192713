"""Stand-ins for the four base classes of a scripted module: description, panel, logic and test."""

import importlib
import logging
import os
import unittest
from pathlib import Path

import qt
import slicer

__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
]


def _module_path(name):
    return Path(getattr(slicer.modules, name.lower()).path)


class ScriptedLoadableModule:
    """Describes the module to the application: title, categories, help text, icon."""

    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories = []
        parent.dependencies = []
        parent.contributors = []
        parent.helpText = ""
        parent.acknowledgementText = ""
        self._setIcon(Path(parent.path).parent / "Resources" / "Icons")

    def _setIcon(self, folder):
        for ending in (".svg", ".png"):
            # Names are compared with their case, as on Linux: a wrong case means no icon there.
            if folder.is_dir() and self.moduleName + ending in os.listdir(folder):
                self.parent.icon = qt.QIcon(str(folder / (self.moduleName + ending)))
                return

    def resourcePath(self, filename):
        """Returns the path of a file in the module's Resources folder."""
        return str(_module_path(self.moduleName).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage=None):
        """Returns a sentence with a link to the module's page in Slicer's documentation."""
        url = slicer.app.moduleDocumentationUrl(self.moduleName)
        return f'<p>For more information see the <a href="{url}">online documentation</a>.</p>'

    def runTest(self, msec=100, **kwargs):
        """Runs the module's test class, which must be named <ModuleName>Test."""
        case = getattr(importlib.import_module(self.__module__), self.moduleName + "Test")()
        case.messageDelay = msec
        case.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """The panel. Slicer creates it with an empty parent widget and then calls setup()."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, slicer.util.toBool)
        standsAlone = parent is None
        if standsAlone:
            parent = slicer.qMRMLWidget()
            parent.setLayout(qt.QVBoxLayout())
            parent.setMRMLScene(slicer.mrmlScene)
        self.parent = parent
        self.layout = parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)
        if standsAlone:
            self.setup()
            parent.show()

    def resourcePath(self, filename):
        """Returns the path of a file in the module's Resources folder."""
        return str(_module_path(self.moduleName).parent / "Resources" / filename)

    def setup(self):
        """Called once, when the panel is needed for the first time."""
        if self.developerMode:
            self.setupDeveloperSection()

    def setupDeveloperSection(self):
        """Adds the developer's Reload and Test buttons above the panel."""
        import ctk

        self.reloadCollapsibleButton = ctk.ctkCollapsibleButton()
        self.reloadCollapsibleButton.text = "Reload && Test"
        self.reloadCollapsibleButton.collapsed = True
        self.layout.addWidget(self.reloadCollapsibleButton)
        row = qt.QHBoxLayout(self.reloadCollapsibleButton)
        for text, name, action in (
            ("Reload", "reloadButton", self.onReload),
            ("Reload and Test", "reloadAndTestButton", self.onReloadAndTest),
        ):
            button = qt.QPushButton(text)
            button.name = name
            button.connect("clicked()", action)
            row.addWidget(button)
            setattr(self, name, button)

    def enter(self):
        """Called each time the user opens the module."""

    def exit(self):
        """Called each time the user leaves the module."""

    def cleanup(self):
        """Called when the panel is thrown away: on reload and when the application closes."""

    def _onModuleAboutToBeUnloaded(self, moduleName):
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def onReload(self):
        """Loads the source file again and puts a new panel in place of this one."""
        logging.debug("Reloading %s", self.moduleName)
        slicer.util.reloadScriptedModule(self.moduleName)

    def onReloadAndTest(self, **kwargs):
        """Reloads and runs the module's test class."""
        self.onReload()
        getattr(slicer.modules, self.moduleName + "Instance").runTest(msec=0, **kwargs)


class ScriptedLoadableModuleLogic:
    """The computing half: no widgets. Owns the parameter node of the module."""

    def __init__(self, parent=None):
        self.parent = parent
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        """Returns the module's parameter node; creates it where the scene has none."""
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        else:
            node = next(iter(self.getAllParameterNodes()), None)
        return node or slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self):
        """Returns every parameter node of this module in the scene."""
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self):
        """Returns a new parameter node that is not in the scene yet."""
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        # The attribute finds the node; the module name tells Slicer which module edits it.
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetModuleName(self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of a module's own tests, started by Reload and Test or by ctest."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.messageDelay = 0

    def setUp(self):
        slicer.mrmlScene.Clear()

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        """Shows what the test is doing. In the bed it only logs."""
        logging.info(message)
        slicer.app.processEvents()

    def runTest(self, **kwargs):
        """Runs every method whose name contains "test", each after setUp. The first failure ends the run."""
        for name in [name for name in dir(self) if "test" in name.lower() and name not in _NOT_TESTS]:
            method = getattr(self, name)
            if callable(method):
                self.setUp()
                method()
                self.tearDown()


_NOT_TESTS = {"runTest", *(name for name in dir(unittest.TestCase) if "test" in name.lower())}
