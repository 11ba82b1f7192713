"""Starts the bed: afterwards `import slicer, qt, ctk, vtk` work as in Slicer's Python console.

    from bed import boot
    boot.start()
    module, panel = boot.load_module("MyModule", "path/to/MyModule")
    panel.parent.enter()
    boot.process_events(0.5)

One process has one application, as in Slicer. `start()` may be called again and then returns the same one.
"""

import importlib
import sys
import time
import types
from pathlib import Path

OUR_LAYER = Path(__file__).parent / "layer"
"""Our stand-ins for Slicer's Python files. Slicer's own folder Base/Python may be given to start() instead."""

_LAYER_MODULES = ("i18n", "util", "ScriptedLoadableModule", "parameterNodeWrapper", "packaging", "testing")

_kept = []
"""C++ objects that the scene uses but does not own."""


def start(layer=None, testing=True, developer=False, terminologies=None, home=None, python=None):
    """Makes `slicer`, `qt` and `ctk` importable, with an empty scene.

    Args:
        layer: folder with a folder `slicer` of Python files in it; by default our stand-ins.
        testing: what slicer.app.testingEnabled() answers. Message boxes answer themselves either way.
        developer: developer mode, which adds the Reload section to panels.
        terminologies: folder of terminology files to offer at start.
        home: folder for settings and temporary files. A second process started with the same folder finds them again,
            as a restarted Slicer does. By default a new folder that is removed at the end.
        python: what PythonSlicer starts, see python_launcher.py.

    Returns:
        slicer.app
    """
    from . import qt

    if qt.QCoreApplication.instance() is not None:
        return sys.modules["slicer"].app
    sys.modules["qt"] = qt
    import slicer

    _prepare_namespace(slicer, Path(layer or OUR_LAYER))
    from . import ctk, widgets  # noqa: F401
    from .pythonqt.wrapped import STAND_INS

    sys.modules["ctk"] = ctk
    for name, cls in STAND_INS.items():
        if name.startswith("q"):
            setattr(slicer, name, cls)
    _name_the_kits(slicer)
    _start_application(slicer, testing, developer, terminologies, home, python)
    _import_layer(slicer, Path(layer or OUR_LAYER))
    from . import dialogs, errors

    dialogs.install()
    errors.install()
    return slicer.app


def _prepare_namespace(slicer, layer):
    slicer.__path__.insert(0, str(layer / "slicer"))
    sys.path.append(str(layer))  # sitkUtils and other files beside the folder `slicer`
    if layer != OUR_LAYER:
        sys.path.append(str(OUR_LAYER))
    for name in ("modules", "moduleNames"):
        namespace = types.ModuleType(f"slicer.{name}")
        sys.modules[namespace.__name__] = namespace
        setattr(slicer, name, namespace)


def _name_the_kits(slicer):
    """Slicer's own Python files import some classes from the library that wraps them, under its name there."""
    for name, module in list(sys.modules.items()):
        if name.startswith("slicer_core."):
            sys.modules.setdefault(name.removeprefix("slicer_core.") + "Python", module)
    widgets = types.ModuleType("qSlicerSubjectHierarchyModuleWidgetsPythonQt")
    widgets.qMRMLSubjectHierarchyTreeView = slicer.qMRMLSubjectHierarchyTreeView
    sys.modules[widgets.__name__] = widgets


def _start_application(slicer, testing, developer, terminologies, home, python):
    from . import application, dicom_database, hierarchy, io_manager, logics, modules

    slicer.qSlicerApplication = application.qSlicerApplication
    slicer.qSlicerScriptedLoadableModule = modules.qSlicerScriptedLoadableModule
    slicer.app = application.qSlicerApplication(testing, developer, home, python)
    slicer.mrmlScene = _make_scene(slicer)
    logic = logics.make_application_logic(slicer.mrmlScene)
    slicer.app._logic = logic
    shared = Path(slicer.app.slicerHome) / "share"
    io_manager.copy_terminologies(terminologies or Path(__file__).parent / "resources", shared / "Terminologies")
    logics.add_module_logics(logic, slicer.mrmlScene, shared)
    hierarchy.follow(slicer.mrmlScene)
    slicer.dicomDatabase = dicom_database.ctkDICOMDatabase()


def _make_scene(slicer):
    scene = slicer.vtkMRMLScene()
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    # Reading a .mrb goes through the remote-file machinery, even for a local file.
    cache = slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(slicer.app.cachePath)
    transfers = slicer.vtkDataIOManager()
    transfers.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(transfers)
    _kept.extend((cache, transfers))
    return scene


def _import_layer(slicer, layer):
    for name in _LAYER_MODULES:
        in_layer = any((layer / "slicer" / candidate).exists() for candidate in (name, f"{name}.py"))
        if in_layer or name == "util":
            # The wheel imports its own util at once; a layer that has one comes first.
            if in_layer:
                sys.modules.pop(f"slicer.{name}", None)
            importlib.invalidate_caches()
            setattr(slicer, name, importlib.import_module(f"slicer.{name}"))


def load_module(name, folder):
    """Loads a scripted module and makes its panel.

    Args:
        name: the module's name; the file is <folder>/<name>.py.

    Returns:
        (module, panel): the module as in slicer.modules, and the object of its class <name>Widget after setup().
    """
    from .modules import load_scripted_module

    module = load_scripted_module(Path(folder) / f"{name}.py")
    return module, module.widgetRepresentation().self()


def process_events(seconds=0.0, until=None):
    """Runs the event loop for a time, or until `until()` is true.

    Returns:
        Whether `until` became true; True without it.
    """
    import slicer

    end = time.monotonic() + seconds
    while True:
        slicer.app.processEvents()
        # Objects given to deleteLater() are not deleted by processEvents() alone.
        slicer.app.sendPostedEvents(None, 52)  # QEvent::DeferredDelete
        if until is not None and until():
            return True
        if time.monotonic() >= end:
            return until is None
        time.sleep(0.002)


def complete_startup():
    """Tells the modules that the application has started, as Slicer does after loading all of them."""
    import slicer

    slicer.app.startupCompleted.emit()
    process_events()


def quit_application():
    """Closes the application as far as modules can see: aboutToQuit, then cleanup() of every panel."""
    import slicer

    slicer.app.aboutToQuit.emit()
    for name in slicer.app.moduleManager().modulesNames():
        slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(name)
    process_events()
