"""Exceptions that Qt and VTK swallow.

An exception in a slot, in a Qt event handler or in a MRML observer is printed and forgotten, in Slicer too. A test
would pass although a button failed. The bed collects them; conftest.py fails the test in which they happened.
"""

import sys
import traceback

import vtk

unhandled = []
"""One text per exception, with its traceback."""


vtk_errors = []
"""Error messages of VTK and MRML (ERR lines in the log). They do not fail a test; a test may look at them."""


def install():
    """Collects from now on. The exceptions are still printed."""
    window = vtk.vtkOutputWindow.GetInstance()
    window.AddObserver("ErrorEvent", _collect_vtk)
    if sys.excepthook is not _collect:
        sys.excepthook = _collect
        sys.unraisablehook = lambda one: _collect(one.exc_type, one.exc_value, one.exc_traceback)


def _collect(kind, value, trace):
    unhandled.append("".join(traceback.format_exception(kind, value, trace)))
    sys.__excepthook__(kind, value, trace)


@vtk.calldata_type(vtk.VTK_STRING)
def _collect_vtk(caller, event, text):
    vtk_errors.append(text)


def take():
    """Returns the exceptions collected so far and forgets them. For tests that expect one."""
    texts = list(unhandled)
    unhandled.clear()
    vtk_errors.clear()
    return texts
