"""A bed to run Slicer scripted modules in, without the Slicer application. Start with README.md and boot.py."""

import os

# These are read when PySide6 and VTK are imported, so they are set before anything else of the bed.
# Flags of PySide6: 2 enumerators are integers, 4 and 8 they can be reached without the name of their enumeration.
os.environ["PYSIDE6_OPTION_PYTHON_ENUM"] = "0x0e"
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# Without a display VTK would try X11 first, complain, and then use EGL anyway.
os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
