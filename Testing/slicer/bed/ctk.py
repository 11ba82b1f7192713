"""The module `ctk` of Slicer: the stand-ins whose C++ class comes from CTK."""

from . import widgets  # noqa: F401
from .pythonqt.wrapped import STAND_INS

globals().update({name: cls for name, cls in STAND_INS.items() if name.startswith("ctk")})
