"""Which classes count as wrapped C++ classes.

PythonQt is strict with wrapped C++ classes and lenient with the Python classes derived from them. In the bed the
first kind are PySide6's classes and our stand-ins for CTK and qMRML widgets, which are C++ in Slicer.
"""

import functools
import inspect

from PySide6 import QtCore, QtGui, QtNetwork, QtPrintSupport, QtSvg, QtUiTools, QtWidgets, QtXml

MODULES = (QtCore, QtGui, QtWidgets, QtUiTools, QtSvg, QtNetwork, QtPrintSupport, QtXml)

STAND_INS = {}
"""Stand-in widget classes by their C++ class name; the .ui loader creates widgets from here."""


def pyside_classes():
    """Lists every class that the PySide6 modules offer, each once."""
    found = {}
    for module in MODULES:
        for name in dir(module):
            member = getattr(module, name)
            if inspect.isclass(member) and member.__module__.startswith("PySide6"):
                found[member] = None
    return list(found)


def stand_in(*signatures):
    """Class decorator: this Python class stands for a C++ class of the same name.

    Args:
        signatures: the C++ signatures of the signals the class adds, such as "currentNodeChanged(vtkMRMLNode*)".
            PySide6 cannot know them, and `connect()` refuses any other spelling, as Qt does.
    """

    def register(cls):
        cls._cpp_class = cls
        cls._cpp_signatures = frozenset(signatures) | getattr(cls, "_cpp_signatures", frozenset())
        STAND_INS[cls.__name__] = cls
        return cls

    return register


def is_pyside_class(cls):
    """True for a class of PySide6 itself."""
    return cls.__module__.startswith("PySide6")


def is_cpp_class(cls):
    """True for a class that is C++ in Slicer: PySide6's own, or a stand-in."""
    return is_pyside_class(cls) or cls.__dict__.get("_cpp_class") is cls


def cpp_class(cls):
    """Returns the C++ class that `cls` is or derives from."""
    return next(base for base in cls.__mro__ if is_cpp_class(base))


@functools.cache
def signals_of(cls):
    """Lists (name, argument types) of every signal and overload of a class."""
    # Always asked of the class: PySide6 invalidates the meta object it gave for an object when that object dies, and
    # the class then has the invalid one.
    meta_object = cls.staticMetaObject
    methods = [meta_object.method(index) for index in range(meta_object.methodCount())]
    return [
        (bytes(method.name().data()).decode(), [bytes(kind.data()).decode() for kind in method.parameterTypes()])
        for method in methods
        if method.methodType() == QtCore.QMetaMethod.Signal
    ]


@functools.cache
def properties_of(cls):
    """Lists (name, C++ type, writable) of every Qt property of a class."""
    meta_object = cls.staticMetaObject
    found = [meta_object.property(index) for index in range(meta_object.propertyCount())]
    return [(one.name(), one.typeName(), one.isWritable()) for one in found]
