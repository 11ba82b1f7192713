"""Exceptions that Qt and VTK swallow.

An exception in a slot, in a Qt event handler or in a MRML observer is printed and forgotten, in Slicer too. A test
would pass although a button failed. The bed collects them; conftest.py fails the test in which they happened.
"""

import sys
import traceback

unhandled = []
"""One text per exception, with its traceback."""


def install():
    """Collects from now on. The exceptions are still printed."""
    if sys.excepthook is not _collect:
        sys.excepthook = _collect
        sys.unraisablehook = lambda one: _collect(one.exc_type, one.exc_value, one.exc_traceback)


def _collect(kind, value, trace):
    unhandled.append("".join(traceback.format_exception(kind, value, trace)))
    sys.__excepthook__(kind, value, trace)


def take():
    """Returns the texts collected so far and forgets them. For tests that expect an exception."""
    texts = list(unhandled)
    unhandled.clear()
    return texts
