"""Stand-in for qSlicerApplication, the object `slicer.app`."""

import os
import tempfile
from pathlib import Path

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Signal

from . import ctk, dialogs, python_launcher
from .extensions import qSlicerExtensionsManagerModel
from .io_manager import CoreIOManager
from .modules import ModuleManager
from .pythonqt.wrapped import stand_in


class CommandOptions:
    """What the user gave on the command line. The bed plays `Slicer --testing --no-main-window`."""

    noMainWindow = True
    runPythonAndExit = False
    isTestingEnabled = True


@stand_in("startupCompleted()", "mrmlSceneChanged(vtkMRMLScene*)")
class qSlicerApplication(QtWidgets.QApplication):
    """Settings, paths, managers. Whatever it lacks raises AttributeError."""

    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object)

    _folder = None
    _temporary = None
    _modules = None
    _io = None
    _extensions = None
    _version = (5, 13)
    _logic = None
    _testing = True
    _options = None
    _language = None
    _developer = False
    _paused = 0

    def __init__(self, testing=True, developer=False, home=None, python=None):
        QtWidgets.QApplication.__init__(self, ["Slicer"])
        self._temporary = None if home else tempfile.TemporaryDirectory(prefix="slicer-bed-")
        self._folder = Path(home or self._temporary.name)
        self._testing = testing
        self._developer = developer
        self._options = CommandOptions()
        self._modules = ModuleManager()
        self._io = CoreIOManager()
        self._extensions = qSlicerExtensionsManagerModel()
        self._language = {}
        # Before the first QSettings object: the user's own settings stay untouched.
        QtCore.QCoreApplication.setOrganizationName("slicer-bed")
        QtCore.QCoreApplication.setApplicationName("Slicer")
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, str(self._folder))
        for name in ("temporary", "cache", "home", "extensions", "data", "config"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        # Where QStandardPaths points, for this process and its children.
        os.environ["XDG_DATA_HOME"] = self._subfolder("data")
        os.environ["XDG_CONFIG_HOME"] = self._subfolder("config")
        python_launcher.install(self._subfolder("home/bin"), python)
        QtCore.QSettings().setValue("Developer/DeveloperMode", "true" if developer else "false")

    # Version and place

    majorVersion = property(lambda self: self._version[0])
    minorVersion = property(lambda self: self._version[1])
    applicationVersion = property(lambda self: "{}.{}.0".format(*self._version))
    mainApplicationVersion = applicationVersion
    applicationName = property(lambda self: "Slicer")
    mainApplicationName = property(lambda self: "Slicer")
    revision = property(lambda self: "test-bed")
    repositoryRevision = property(lambda self: "test-bed")
    os = property(lambda self: "linux")
    arch = property(lambda self: "amd64")
    platform = property(lambda self: "linux-amd64")
    intDir = property(lambda self: "")

    def _subfolder(self, name):
        return str(self._folder / name)

    temporaryPath = property(lambda self: self._subfolder("temporary"))
    cachePath = property(lambda self: self._subfolder("cache"))
    slicerHome = property(lambda self: self._subfolder("home"))
    extensionsInstallPath = property(lambda self: self._subfolder("extensions"))
    defaultScenePath = property(lambda self: str(self._folder))
    slicerUserSettingsFilePath = property(lambda self: QtCore.QSettings().fileName())
    developerModeEnabled = property(lambda self: self._developer)

    def playVersion(self, major, minor):
        """For tests: what the application says its version is. Nothing else changes."""
        self._version = (major, minor)

    def isInstalled(self):
        return True

    # What runs

    def testingEnabled(self):
        return self._testing

    def commandOptions(self):
        return self._options

    def coreCommandOptions(self):
        return self._options

    def moduleManager(self):
        return self._modules

    def coreIOManager(self):
        return self._io

    ioManager = coreIOManager

    def applicationLogic(self):
        return self._logic

    def mrmlScene(self):
        return slicer.mrmlScene

    def layoutManager(self):
        """None, as in Slicer started with --no-main-window."""
        return

    def extensionsManagerModel(self):
        return self._extensions

    def openExtensionsManagerDialog(self):
        """The dialog is not shown; that it was asked for is remembered as other dialogs are."""
        dialogs.record("openExtensionsManagerDialog", "")

    def userSettings(self):
        return QtCore.QSettings()

    revisionUserSettings = userSettings

    def settings(self, *_):
        return ctk.ctkSettings()

    def startupEnvironment(self):
        return QtCore.QProcessEnvironment.systemEnvironment()

    def restart(self):
        raise RuntimeError("the module asked the application to restart")

    def pauseRender(self):
        self._paused += 1

    def resumeRender(self):
        self._paused -= 1

    def setRenderPaused(self, paused):
        self._paused += 1 if paused else -1

    def moduleDocumentationUrl(self, name):
        return f"https://slicer.readthedocs.io/en/latest/user_guide/modules/{name.lower()}.html"

    # Language

    def translate(self, context, text):
        """Returns the text in the language of `setTranslations`; English without one."""
        return self._language.get(text, text)

    def setTranslations(self, texts):
        """For tests: {English text: other text}. Shows which texts a module forgot to mark for translation."""
        self._language = dict(texts)
