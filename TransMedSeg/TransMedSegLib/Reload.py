"""Makes Slicer's Reload button reload the library too."""

from __future__ import annotations

import sys


def forgetLibrary() -> None:
    """Removes every file of this library from Python's memory, so that the next import reads it anew."""
    for name in [name for name in sys.modules if name == "TransMedSegLib" or name.startswith("TransMedSegLib.")]:
        del sys.modules[name]
