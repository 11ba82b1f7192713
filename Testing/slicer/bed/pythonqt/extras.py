"""Methods and behavior that PythonQt has and PySide6 lacks."""

from PySide6 import QtCore, QtGui


def install():
    """Adds them to the PySide6 classes. Runs before attributes.install(), which closes the classes."""
    QtCore.QObject.name = property(QtCore.QObject.objectName, QtCore.QObject.setObjectName)
    QtCore.QObject.className = lambda self: type(self).__name__
    QtCore.QObject.delete = lambda self: self.deleteLater()
    QtCore.QObject.help = lambda self: print(f"{self.className()}: see the Qt documentation")
    _accept_integer_name_format()
    _start_detached_returns_bool()
    _find_children_by_class_name()


def _accept_integer_name_format():
    native = QtGui.QColor.name
    QtGui.QColor.name = lambda self, form=QtGui.QColor.HexRgb: native(self, QtGui.QColor.NameFormat(form))


def _start_detached_returns_bool():
    """PySide6 returns (started, process id). In PythonQt the id is an output pointer, which Python cannot pass."""
    native_static = QtCore.QProcess.startDetached
    native_get = QtCore.QProcess.__getattribute__

    def only_started(start):
        def call(*args):
            result = start(*args)
            return result[0] if isinstance(result, tuple) else result

        return call

    def read(self, name):
        value = native_get(self, name)
        return only_started(value) if name == "startDetached" else value

    QtCore.QProcess.startDetached = staticmethod(only_started(native_static))
    QtCore.QProcess.__getattribute__ = read


def _find_children_by_class_name():
    """PythonQt takes the class as an object or as a name: `window.findChildren("QToolBar")`."""
    native_all, native_one = QtCore.QObject.findChildren, QtCore.QObject.findChild

    def find_children(self, kind=QtCore.QObject, name=None, *args):
        if not isinstance(kind, str):
            return native_all(self, kind, *(() if name is None else (name,)), *args)
        found = native_all(self, QtCore.QObject, *(() if name is None else (name,)))
        return [one for one in found if kind in [cls.__name__ for cls in type(one).__mro__]]

    def find_child(self, kind=QtCore.QObject, name=None, *args):
        if not isinstance(kind, str):
            return native_one(self, kind, *(() if name is None else (name,)), *args)
        return next(iter(find_children(self, kind, name)), None)

    QtCore.QObject.findChildren = find_children
    QtCore.QObject.findChild = find_child


class BoolResult:
    """PythonQt's stand-in for a `bool*` argument: `ok = qt.BoolResult(); getText(..., ok)`, then `if ok:`."""

    def __init__(self, value=False):
        self.value = value

    def __bool__(self):
        return self.value
