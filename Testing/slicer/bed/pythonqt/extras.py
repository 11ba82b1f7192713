"""Methods and behavior that PythonQt has and PySide6 lacks."""

from PySide6 import QtCore, QtGui

from .wrapped import cpp_class


def install():
    """Adds them to the PySide6 classes. Runs before attributes.install(), which closes the classes."""
    QtCore.QObject.name = property(QtCore.QObject.objectName, QtCore.QObject.setObjectName)
    QtCore.QObject.className = _class_name
    QtCore.QObject.delete = lambda self: self.deleteLater()
    QtCore.QObject.help = lambda self: print(f"{self.className()}: see the Qt documentation")
    _accept_integer_name_format()
    _start_detached_returns_bool()


def _class_name(self):
    return cpp_class(type(self)).__name__


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
