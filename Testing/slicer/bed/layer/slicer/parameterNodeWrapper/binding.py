"""Which widget shows which type of parameter, and how a value travels between them.

Slicer accepts only certain pairs of widget class and type, by exact class; the table at the end lists ours. A pair
that is missing raises RuntimeError, in Slicer too.
"""

import enum
import pathlib
import typing

import ctk
import qt
import slicer

from .annotations import Choice, Decimals, FloatRange, Maximum, Minimum, RangeBounds, SingleStep, WithinRange, find


class GuiConnector:
    """Binds one widget to one parameter. A subclass says how to read and write the widget, and which signal tells.

    `changed` is the signature of the widget's signal.
    """

    changed = ""

    def __init__(self, widget, kind, annotations):
        self._widget, self._kind, self._annotations = widget, kind, annotations
        self._callback = None
        self.prepare()

    def prepare(self):
        """Applies ranges, steps and choices to the widget."""

    def read(self):
        raise NotImplementedError

    def write(self, value):
        raise NotImplementedError

    def widget(self):
        return self._widget

    def onChanged(self, callback):
        """Calls `callback` when the user changes the widget; None ends it."""
        if self._callback:
            self._widget.disconnect(self.changed, self._notify)
        self._callback = callback
        if callback:
            self._widget.connect(self.changed, self._notify)

    def _notify(self):
        if self._callback:
            self._callback()


class CheckedConnector(GuiConnector):
    changed = "toggled(bool)"

    def prepare(self):
        self._widget.checkable = True

    def read(self):
        return self._widget.checked

    def write(self, value):
        self._widget.checked = value


class NumberConnector(GuiConnector):
    """Spin boxes and sliders."""

    @property
    def changed(self):
        return "valueChanged(int)" if self._kind is int else "valueChanged(double)"

    def prepare(self):
        low, high = self._limits()
        if None in (low, high) and type(self._widget) in (qt.QSlider, ctk.ctkSliderWidget, ctk.ctkDoubleSlider):
            raise RuntimeError("a slider needs a parameter with a minimum and a maximum")
        unlimited = 2**31 - 1 if self._kind is int else float("inf")
        self._widget.minimum = -unlimited if low is None else low
        self._widget.maximum = unlimited if high is None else high
        if (decimals := find(self._annotations, Decimals)) is not None:
            self._widget.decimals = decimals.value
        if (step := find(self._annotations, SingleStep)) is not None:
            self._widget.singleStep = step.value

    def _limits(self):
        within = find(self._annotations, WithinRange)
        if within:
            return within.minimum, within.maximum
        low, high = find(self._annotations, Minimum), find(self._annotations, Maximum)
        return low and low.minimum, high and high.maximum

    def read(self):
        return self._widget.value

    def write(self, value):
        self._widget.value = value


class ComboBoxConnector(GuiConnector):
    """A combo box that offers the choices of a parameter, or the members of an enumeration."""

    changed = "currentIndexChanged(int)"

    def prepare(self):
        if isinstance(self._kind, type) and issubclass(self._kind, enum.Enum):
            label = getattr(self._kind, "label", lambda member: member.name)
            self._choices = list(self._kind)
            labels = [label(member) for member in self._choices]
        else:
            choice = find(self._annotations, Choice)
            if choice is None:
                raise RuntimeError("a combo box needs a parameter with the annotation Choice")
            self._choices = list(choice.choices)
            labels = [str(one) for one in self._choices]
        self._widget.clear()
        self._widget.addItems(labels)

    def read(self):
        return self._choices[self._widget.currentIndex]

    def write(self, value):
        self._widget.currentIndex = self._choices.index(value)


class TextConnector(GuiConnector):
    changed = "textChanged(QString)"

    def read(self):
        return self._widget.text

    def write(self, value):
        # Setting an equal text would move the user's cursor to the end.
        if self._widget.text != value:
            self._widget.text = value


class PlainTextConnector(GuiConnector):
    changed = "textChanged()"

    def read(self):
        return self._widget.toPlainText()

    def write(self, value):
        if self._widget.toPlainText() != value:
            self._widget.setPlainText(value)


class LabelConnector(GuiConnector):
    """A label only shows."""

    def onChanged(self, callback):
        pass

    def read(self):
        return self._widget.text

    def write(self, value):
        self._widget.text = value


class RangeConnector(GuiConnector):
    changed = "valuesChanged(double,double)"

    def prepare(self):
        bounds = find(self._annotations, RangeBounds)
        if bounds is None:
            raise RuntimeError("a range widget needs a parameter with the annotation RangeBounds")
        self._widget.setRange(bounds.minimum, bounds.maximum)
        if (decimals := find(self._annotations, Decimals)) is not None:
            self._widget.decimals = decimals.value
        if (step := find(self._annotations, SingleStep)) is not None:
            self._widget.singleStep = step.value

    def read(self):
        return FloatRange(self._widget.minimumValue, self._widget.maximumValue)

    def write(self, value):
        self._widget.setValues(value.minimum, value.maximum)


class ColorConnector(GuiConnector):
    changed = "colorChanged(QColor)"

    def read(self):
        return self._widget.color

    def write(self, value):
        self._widget.color = value


class PathConnector(GuiConnector):
    """An empty path is shown as ".", in Slicer too: that is the text of pathlib.Path()."""

    changed = "currentPathChanged(QString)"

    def read(self):
        return self._kind(self._widget.currentPath)

    def write(self, value):
        self._widget.currentPath = str(value)


class DirectoryConnector(GuiConnector):
    changed = "directoryChanged(QString)"

    def read(self):
        return self._kind(self._widget.directory)

    def write(self, value):
        self._widget.directory = str(value)


class NodeConnector(GuiConnector):
    changed = "currentNodeChanged(vtkMRMLNode*)"

    def prepare(self):
        # The type of the parameter decides what is offered, whatever the .ui file says.
        self._widget.nodeTypes = [self._kind.__name__]

    def read(self):
        return self._widget.currentNode()

    def write(self, value):
        self._widget.setCurrentNode(value)


class ItemNodeConnector(GuiConnector):
    """A subject hierarchy view shows the node as an item."""

    changed = "currentItemChanged(vtkIdType)"

    def read(self):
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        item = self._widget.currentItem()
        return hierarchy.GetItemDataNode(item) if item else None

    def write(self, value):
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        self._widget.setCurrentItem(hierarchy.GetItemByDataNode(value) if value else 0)


_registered = []


def parameterNodeGuiConnector(cls):
    """Class decorator for a module's own connector, which answers `canRepresent(widget, datatype)` and `create`."""
    _registered.append(cls)
    return cls


def _table():
    """The pairs that Slicer's documentation lists under "Available connectors", and those added in 5.10."""
    choices = (str, int, float, bool, enum.Enum)
    return (
        (qt.QCheckBox, bool, CheckedConnector),
        (ctk.ctkCheckBox, bool, CheckedConnector),
        (qt.QPushButton, bool, CheckedConnector),
        (ctk.ctkCheckablePushButton, bool, CheckedConnector),
        (qt.QSpinBox, int, NumberConnector),
        (qt.QSlider, int, NumberConnector),
        (qt.QDoubleSpinBox, float, NumberConnector),
        (ctk.ctkSliderWidget, float, NumberConnector),
        (ctk.ctkDoubleSlider, float, NumberConnector),
        (ctk.ctkDoubleSpinBox, float, NumberConnector),
        (ctk.ctkRangeWidget, FloatRange, RangeConnector),
        (qt.QComboBox, choices, ComboBoxConnector),
        (ctk.ctkComboBox, choices, ComboBoxConnector),
        (qt.QLineEdit, str, TextConnector),
        (qt.QTextEdit, str, PlainTextConnector),
        (qt.QLabel, str, LabelConnector),
        (ctk.ctkPathLineEdit, pathlib.PurePath, PathConnector),
        (ctk.ctkDirectoryButton, pathlib.PurePath, DirectoryConnector),
        (ctk.ctkColorPickerButton, qt.QColor, ColorConnector),
        (slicer.qMRMLNodeComboBox, slicer.vtkMRMLNode, NodeConnector),
        (slicer.qMRMLSubjectHierarchyComboBox, slicer.vtkMRMLNode, ItemNodeConnector),
        (slicer.qMRMLSubjectHierarchyTreeView, slicer.vtkMRMLNode, ItemNodeConnector),
    )


def createGuiConnector(widget, datatype):
    """Returns the connector for a widget and a possibly annotated type.

    Raises:
        RuntimeError: this widget cannot show this type.
    """
    for cls in _registered:
        if cls.canRepresent(widget, datatype):
            return cls.create(widget, datatype)
    annotated = typing.get_origin(datatype) is typing.Annotated
    kind = typing.get_args(datatype)[0] if annotated else datatype
    for widget_class, kinds, connector in _table():
        # issubclass(bool, int) holds in Python; a check mark in a spin box would not.
        is_kind = isinstance(kind, type) and issubclass(kind, kinds) and not (kind is bool and kinds is int)
        if type(widget) is widget_class and is_kind:
            return connector(widget, kind, typing.get_args(datatype)[1:] if annotated else ())
    raise RuntimeError(f"Unable to create GUI connector from datatype '{datatype}' to widget type '{type(widget)}'")
