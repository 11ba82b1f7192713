"""Starts the bed for every test in this folder, and keeps tests from passing by accident."""

import os
import sys

import pytest
from bed import boot, dialogs, errors, views
from minimum_count import MinimumCount

# SLICER_PYTHON_LAYER: Slicer's own folder Base/Python, to run the same tests over it.
boot.start(layer=os.environ.get("SLICER_PYTHON_LAYER"))


def pytest_configure(config):
    config.pluginmanager.register(MinimumCount(os.path.dirname(__file__)))


def _library():
    return {name: module for name, module in sys.modules.items() if name.split(".")[0] == "TransMedSegLib"}


@pytest.fixture(autouse=True)
def one_library():
    """Puts back the library that test files have imported where a test has reloaded it: tests may run in any order."""
    before = _library()
    yield
    after = _library()
    if any(after.get(name) is not module for name, module in before.items()):
        for name in after:
            del sys.modules[name]
        sys.modules.update(before)


@pytest.fixture(autouse=True)
def clean_bed(one_library):
    """Gives each test an empty scene, and fails it where Qt or VTK swallowed an exception."""
    import slicer

    views.close_slice_views()
    slicer.mrmlScene.Clear()
    dialogs.forget()
    errors.take()
    yield
    boot.process_events()
    swallowed = errors.take()
    assert not swallowed, "an exception was swallowed by Qt or VTK:\n" + "\n".join(swallowed)
