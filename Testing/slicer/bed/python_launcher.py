"""The program PythonSlicer, which modules look for to start Python programs of their own."""

import os
import stat
import sys
from pathlib import Path


def install(folder, python=None):
    """Writes <folder>/PythonSlicer and puts the folder first on the PATH.

    As in Slicer it is a launcher that starts Python as a child: who kills the launcher leaves the child running.

    Args:
        python: the Python to start; by default the environment variable SLICER_BED_PYTHON, or else the present one.
    """
    python = python or os.environ.get("SLICER_BED_PYTHON") or sys.executable
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    launcher = folder / "PythonSlicer"
    # Not `exec`: that would replace the launcher by Python.
    launcher.write_text(f'#!/bin/sh\n"{python}" "$@"\nexit $?\n')
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
