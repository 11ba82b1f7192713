"""Plays the extension PyTorch: its module PyTorchUtils as modules of other extensions use it, in the versions that differ.

Only what is asked of it is here. What a real one would put into `slicer` is asked of the `slicer` of this file, so that a test
sees whether anything was installed while the extension was only asked.
"""

import os
import types

import slicer

VARIABLE = "SETUPTOOLS_SCM_PRETEND_VERSION_FOR_LIGHT_THE_TORCH"
ARCHIVE = "https://github.com/Slicer/light-the-torch/archive/refs/heads/main.zip"


class Extension:
    """The one that goes with Slicer 5.10. `asked` tells which of its blocking functions were called."""

    def __init__(self):
        self.asked = []

    def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None):
        self.asked.append(("install", askConfirmation, torchVersionRequirement))
        return types.ModuleType("torch")

    def uninstallTorch(self):
        self.asked.append(("uninstall",))

    @staticmethod
    def _getPipInstallArguments(forceComputationBackend=None, torchVersionRequirement=None, torchvisionVersionRequirement=None):
        words = ["install", f"torch{torchVersionRequirement or ''}", f"torchvision{torchvisionVersionRequirement or ''}"]
        return words if forceComputationBackend is None else [*words, f"--pytorch-computation-backend={forceComputationBackend}"]

    @staticmethod
    def _installLightTheTorch():
        slicer.util.pip_install("light-the-torch>=0.5")


class ExtensionOf512(Extension):
    """Since April 2026: light-the-torch from an archive, whose version must be told because an archive has none."""

    @staticmethod
    def _installLightTheTorch():
        os.environ[VARIABLE] = "0.0.0"
        slicer.util.pip_install(ARCHIVE)


class ExtensionOfPackaging(Extension):
    """One that would use what Slicer 5.12 brings for packages."""

    @staticmethod
    def _installLightTheTorch():
        slicer.packaging.pip_install(["light-the-torch>=0.8"], requester="PyTorch")


class ExtensionThatChanged:
    """A later one whose inner functions are gone. It can only be called."""

    def __init__(self):
        self.asked = []

    installTorch = Extension.installTorch
    uninstallTorch = Extension.uninstallTorch


def played(monkeypatch, extension):
    """Installs an extension for one test.

    Args:
        extension: What its logic is.

    Returns:
        The logic, which is one object however often it is made.
    """
    import sys

    # A class with the functions of this object: the real one is asked without being made.
    logic = type("PyTorchUtilsLogic", (type(extension),), {"__new__": lambda cls: extension, "__init__": lambda self: None})
    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=logic))
    return extension
