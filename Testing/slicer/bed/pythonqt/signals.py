"""Signals connected by signature, as in `button.connect("clicked(bool)", self.onClicked)`.

Qt prints a warning and goes on when a signature does not exist; then a button does nothing and no test notices. The
bed raises ValueError instead. This is stricter than PythonQt on purpose.
"""

import inspect

import shiboken6
from PySide6 import QtCore

from .wrapped import cpp_class, signals_of

_connections = {}
"""(address of the sender, signal name) -> list of (receiver, adapter, PySide6 signal)."""


class BoundSignal:
    """A signal of one object. Calling it emits it, as in PythonQt."""

    def __init__(self, owner, name, native):
        self._owner, self._name, self._native = owner, name, native

    def connect(self, receiver):
        return _connect(self._owner, self._name, self._native, receiver, _most_types(self._owner, self._name))

    def disconnect(self, receiver=None):
        return _disconnect(self._owner, self._name, receiver)

    def emit(self, *args):
        self._native.emit(*args)

    __call__ = emit


def connect(sender, *args):
    """Connects a signal of `sender`: (signature, callable) or (signature, receiver object, slot signature).

    Returns:
        True. A signature that `sender` does not have raises ValueError.
    """
    if len(args) == 3 and isinstance(args[0], QtCore.QObject):
        return QtCore.QObject.connect(*args)  # PySide6 itself connects the timer of QTimer.singleShot like this
    if len(args) == 3 and isinstance(args[2], str):
        signature, receiver_object, slot = args
        receiver = getattr(receiver_object, slot.split("(")[0])
    elif len(args) == 2:
        signature, receiver = args
    else:
        raise ValueError(f"connect() takes a signature and a callable, or a signature, an object and a slot: {args!r}")
    name, types = _resolve(sender, signature)
    return _connect(sender, name, getattr(sender, name)._native, receiver, types)


def disconnect(sender, signature, *args):
    """Undoes `connect`. Returns False where there was no such connection."""
    name, _ = _resolve(sender, signature)
    receiver = args[0] if args else None
    if len(args) == 2:
        receiver = getattr(args[0], args[1].split("(")[0])
    return _disconnect(sender, name, receiver)


def _resolve(sender, signature):
    """Checks a signature such as "valueChanged(int)" and returns the signal's name and argument types."""
    if not isinstance(signature, str) or "(" not in signature:
        raise ValueError(f"a signal is named by its signature, for example 'clicked()', not by {signature!r}")
    normalized = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
    name, arguments = normalized[:-1].split("(")
    declared = getattr(type(sender), "_cpp_signatures", frozenset())
    known = normalized in declared or _is_native_signal(sender, normalized)
    if not known and not _is_python_signal(sender, name):
        raise ValueError(f"{type(sender).__name__} has no signal {normalized}")
    return name, arguments.split(",") if arguments else []


def _is_native_signal(sender, normalized):
    return any(f"{name}({','.join(types)})" == normalized for name, types in signals_of(cpp_class(type(sender))))


def _is_python_signal(sender, name):
    """True for a signal that a Python class outside the bed declares; its C++ spelling cannot be checked."""
    for base in type(sender).__mro__:
        if name in base.__dict__:
            return (
                isinstance(base.__dict__[name], QtCore.Signal)
                and not hasattr(base, "_cpp_signatures")
                and (not base.__module__.startswith("PySide6"))
            )
    return False


def _most_types(sender, name):
    """Returns the argument types of the overload of a signal that has most of them."""
    return max((types for one, types in signals_of(type(sender)) if one == name), key=len)


def _connect(sender, name, native, receiver, types):
    if isinstance(receiver, BoundSignal):
        adapter = receiver._native
    elif callable(receiver):
        adapter = _adapter(receiver, types)
    else:
        raise ValueError(f"cannot connect {name} to {receiver!r}: it cannot be called")
    native.connect(adapter)
    address = shiboken6.getCppPointer(sender)[0]
    if not any(key[0] == address for key in _connections):
        # Another object may get the same address later; it must not inherit these connections.
        sender.destroyed._native.connect(lambda *_, address=address: _forget(address))
    _connections.setdefault((address, name), []).append((receiver, adapter, native))
    return True


def _disconnect(sender, name, receiver):
    key = (shiboken6.getCppPointer(sender)[0], name)
    kept, found = [], False
    for connection in _connections.get(key, []):
        if receiver is None or connection[0] == receiver:
            connection[2].disconnect(connection[1])
            found = True
        else:
            kept.append(connection)
    _connections[key] = kept
    return found


def _forget(address):
    for key in [key for key in _connections if key[0] == address]:
        del _connections[key]


def _adapter(receiver, types):
    """Returns a function with the signature's number of arguments, which passes on as many as the receiver takes."""
    taken = _positional_arguments(receiver)
    passed = len(types) if taken is None else min(taken, len(types))

    def call(*args):
        # qMRMLNodeComboBox has currentNodeChanged(bool) beside currentNodeChanged(vtkMRMLNode*).
        return receiver(*(bool(arg) if kind == "bool" else arg for arg, kind in zip(args[:passed], types)))

    # PySide6 looks at the number of parameters to choose between overloads such as clicked() and clicked(bool).
    adapters = (
        lambda: call(),
        lambda a: call(a),
        lambda a, b: call(a, b),
        lambda a, b, c: call(a, b, c),
        lambda a, b, c, d: call(a, b, c, d),
    )
    return adapters[len(types)]


def _positional_arguments(function):
    """Counts the positional arguments a callable takes; None for any number."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
