"""QUiLoader that knows Slicer's and CTK's widget classes and refuses all others.

PySide6's loader replaces a class it does not know by a plain QWidget and goes on. In Slicer the same mistake shows up
as a missing widget at run time, on the user's screen.
"""

from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools

from . import attributes, signals
from .wrapped import STAND_INS, stand_in


class UnknownWidgetClass(RuntimeError):
    """A .ui file names a class that neither Qt nor the bed has."""


@stand_in()
class QUiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file. Raises UnknownWidgetClass before anything is created."""

    def createWidget(self, className, parent=None, name=""):
        stand_in_class = STAND_INS.get(className)
        if stand_in_class is None:
            return super().createWidget(className, parent, name)
        widget = stand_in_class(parent) if parent is not None else stand_in_class()
        widget.setObjectName(name)
        return widget

    def load(self, device, parent=None):
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        self._refuse_unknown_classes(root)
        connections = root.find("connections")
        if connections is not None:
            # Our stand-ins have Python slots, which the C++ loader cannot find: connect them here.
            root.remove(connections)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.ReadOnly)
        attributes.ui_is_loading = True
        try:
            widget = super().load(buffer, parent)
        finally:
            attributes.ui_is_loading = False
        if widget is not None and connections is not None:
            for connection in connections:
                _make_connection(widget, *(connection.findtext(t) for t in ("sender", "signal", "receiver", "slot")))
        return widget

    def _refuse_unknown_classes(self, root):
        named = {element.get("class") for element in root.iter("widget")}
        unknown = sorted(named - set(self.availableWidgets()) - set(STAND_INS) - {"Line"})
        if unknown:
            raise UnknownWidgetClass(f"the .ui file names unknown widget classes: {', '.join(unknown)}")


def _make_connection(root, sender_name, signal, receiver_name, slot):
    sender, receiver = (
        root if root.objectName == name else root.findChild(QtCore.QObject, name)
        for name in (sender_name, receiver_name)
    )
    for obj, name in ((sender, sender_name), (receiver, receiver_name)):
        if obj is None:
            raise ValueError(f"the .ui file connects an object named {name}, which does not exist")
    signals.connect(sender, signal, receiver, slot)
