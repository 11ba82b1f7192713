"""The module `qt` of Slicer: every Qt class in one place, following PythonQt's rules."""

from .pythonqt import emulate

emulate()

from .pythonqt.extras import BoolResult  # noqa: F401
from .pythonqt.ui_loader import QUiLoader  # noqa: F401
from .pythonqt.wrapped import MODULES

for _module in MODULES:
    for _name in dir(_module):
        if not _name.startswith("_"):
            globals().setdefault(_name, getattr(_module, _name))

Qt = MODULES[0].Qt
