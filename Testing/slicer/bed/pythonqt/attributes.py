"""What `object.name` and `object.name = value` mean for a wrapped C++ object.

Reading looks, in this order, at the Python class if there is one, the Qt properties, the methods, signals and
enumerators, the dynamic properties, and the children by object name.
Assigning is allowed for writable properties and existing dynamic properties. Anything else is refused, with one
exception: a Python class derived from a C++ class may carry attributes of its own.
(Rules and messages after PythonQtInstanceWrapper_getattro and _setattro of PythonQt.)
"""

from functools import partial

from PySide6 import QtCore
from shiboken6 import Shiboken

from . import signals
from .wrapped import cpp_class, is_cpp_class, is_pyside_class, properties_of, pyside_classes

ui_is_loading = False
"""While true, the .ui loader of PySide6 may set children as attributes of the root. PythonQt finds them by name."""

_CONVERSIONS = {"int": int, "double": float, "bool": bool, "QString": str}


class _Property:
    """One Qt property, read and written through the C++ getter and setter."""

    def __init__(self, native, name, type_name, writable):
        self.name = name
        self.type_name = type_name
        self._native = native
        self._writable = writable
        self._read = self._find_getter()
        self._write = getattr(native, "set" + self._capital(), None)

    def _capital(self):
        return self.name[0].upper() + self.name[1:]

    def _find_getter(self):
        # isX comes first: QTimer has a property singleShot (isSingleShot) and a static method of the same name.
        for name in ("is" + self._capital(), self.name, "has" + self._capital()):
            member = getattr(self._native, name, None)
            if callable(member) and not isinstance(member, QtCore.Signal):
                return member
        return None

    def read(self, obj):
        return self._read(obj) if self._read else QtCore.QObject.property(obj, self.name)

    def write(self, obj, value):
        if not self._writable:
            raise AttributeError(f"Property '{self.name}' of {type(obj).__name__} object is not writable")
        try:
            # PythonQt converts numbers and text freely where a property takes one of these four types.
            value = _CONVERSIONS.get(self.type_name, lambda unchanged: unchanged)(value)
            if self._write:
                self._write(obj, value)
            elif not QtCore.QObject.setProperty(obj, self.name, value):
                raise TypeError(value)
        except (TypeError, ValueError) as error:
            raise AttributeError(
                f"Property '{self.name}' of type '{self.type_name}' does not accept an object of type "
                f"{type(value).__name__} ({value!r})"
            ) from error


_tables = {}


def _properties(cls):
    """Returns {name: _Property} for a class, without the names that a Python class in front of it defines itself."""
    table = _tables.get(cls)
    if table is None:
        native = next(base for base in cls.__mro__ if is_pyside_class(base))
        in_front = [base for base in cls.__mro__ if not is_pyside_class(base) and base is not object]
        found = (_Property(native, *facts) for facts in properties_of(native))
        table = {p.name: p for p in found if not any(p.name in base.__dict__ for base in in_front)}
        _tables[cls] = table
    return table


def _reader(native_get):
    def read(self, name):
        if name.startswith("__"):
            return native_get(self, name)
        found = _properties(type(self)).get(name)
        if found:
            return found.read(self)
        if name == "connect":
            return partial(signals.connect, self)
        if name == "disconnect":
            return partial(signals.disconnect, self)
        try:
            value = native_get(self, name)
        except AttributeError:
            return _dynamic_property_or_child(self, native_get, name)
        return signals.BoundSignal(self, name, value) if isinstance(value, QtCore.SignalInstance) else value

    return read


def _dynamic_property_or_child(obj, native_get, name):
    if name in _dynamic_names(obj):
        return QtCore.QObject.property(obj, name)
    for child in QtCore.QObject.children(obj):
        if QtCore.QObject.objectName(child) == name:
            return child
    raise AttributeError(f"{type(obj).__name__} has no attribute named '{name}'")


def _dynamic_names(obj):
    return [bytes(name.data()).decode() for name in QtCore.QObject.dynamicPropertyNames(obj)]


def _write(self, name, value):
    cls = type(self)
    is_object = isinstance(self, QtCore.QObject)
    if isinstance(value, QtCore.SignalInstance):
        object.__setattr__(self, name, value)  # PySide6 keeps the signals of an object there; modules see BoundSignal
    elif is_object and name in _properties(cls):
        _properties(cls)[name].write(self, value)
    elif (owner := next((base for base in cls.__mro__ if name in base.__dict__), None)) is not None:
        _write_class_member(self, owner, name, value)
    elif is_object and name in _dynamic_names(self):
        QtCore.QObject.setProperty(self, name, value)
    elif ui_is_loading and isinstance(value, QtCore.QObject):
        pass
    elif is_cpp_class(cls):
        raise AttributeError(
            f"'{name}' does not exist on {cls.__name__} and creating new attributes on C++ objects is not allowed"
        )
    else:
        object.__setattr__(self, name, value)


def _write_class_member(obj, owner, name, value):
    """Assigns to a name that a class defines: a property of a stand-in, its private state, or a method (refused)."""
    member = owner.__dict__[name]
    if isinstance(member, QtCore.Property):
        if member.fset is None:
            raise AttributeError(f"Property '{name}' of {type(obj).__name__} object is not writable")
        member.fset(obj, value)
    elif (name.startswith("_") and not callable(member)) or hasattr(type(member), "__set__") or not is_cpp_class(owner):
        object.__setattr__(obj, name, value)
    else:
        kind = "Slot" if callable(member) else "EnumValue"
        raise AttributeError(f"{kind} '{name}' can not be overwritten on {cpp_class(type(obj)).__name__} object")


def install():
    """Puts these rules into every PySide6 class."""
    # Shiboken gives many classes functions of their own for reading and writing, so that changing the base class
    # alone would not reach them.
    for cls in (Shiboken.Object, *pyside_classes()):
        if not issubclass(cls, Shiboken.Object):
            continue
        if issubclass(cls, QtCore.QObject) and "__getattribute__" in cls.__dict__:
            cls.__getattribute__ = _reader(cls.__getattribute__)
        if cls is Shiboken.Object or "__setattr__" in cls.__dict__:
            cls.__setattr__ = _write
