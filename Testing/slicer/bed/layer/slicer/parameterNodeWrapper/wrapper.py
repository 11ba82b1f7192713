"""The decorator `parameterNodeWrapper`: makes the annotated names of a class properties kept in a MRML node."""

import typing

import qt
import vtk

from .annotations import Decimals, Default, SingleStep, Validator, find
from .binding import GuiConnector, createGuiConnector
from .storage import storage_for

SlicerParameterNamePropertyName = "SlicerParameterName"
"""Dynamic property of a widget in a .ui file: the parameter it shows."""


class Parameter:
    """One annotated name of the class: its type, where it is kept, its default and what it refuses."""

    def __init__(self, name, datatype, given_default):
        annotated = typing.get_origin(datatype) is typing.Annotated
        kind, *annotations = typing.get_args(datatype) if annotated else (datatype,)
        self.name = name
        self.datatype = datatype
        self._storage = storage_for(kind)
        self._validators = [one for one in annotations if isinstance(one, Validator)]
        unknown = [one for one in annotations if not isinstance(one, (Validator, Default, Decimals, SingleStep))]
        if unknown:
            raise TypeError(f"parameter {name}: annotations {unknown} are not understood")
        self.default = given_default or find(annotations, Default) or Default(self._storage.default)

    def write(self, node, stored_name, value):
        self._storage.check(value)
        for validator in self._validators:
            validator.validate(value)
        wasModifying = node.StartModify()
        self._storage.write(node, stored_name, value)
        node.EndModify(wasModifying)

    def read(self, node, stored_name):
        if not self.is_stored(node, stored_name):
            self.write(node, stored_name, self.default.value)
        return self._storage.read(node, stored_name)

    def is_stored(self, node, stored_name):
        return self._storage.is_stored(node, stored_name)


class _Wrapper:
    """What the decorator copies into the class."""

    allParameters = {}
    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode, prefix=None):
        self.parameterNode = parameterNode
        self._prefix = prefix or ""
        self._connections = {}
        self._next_tag = 0
        self._updating_gui = False
        for name in self.allParameters:
            self.getValue(name)  # writes the default where the node has no value

    def _parameter(self, name):
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}; there are {list(self.allParameters)}")
        return self.allParameters[name]

    def getValue(self, name):
        return self._parameter(name).read(self.parameterNode, self._prefix + name)

    def setValue(self, name, value):
        self._parameter(name).write(self.parameterNode, self._prefix + name, value)

    def default(self, name):
        return self._parameter(name).default

    def isCached(self, name):
        self._parameter(name)
        return False

    @classmethod
    def dataType(cls, name):
        return cls.allParameters[name].datatype

    def StartModify(self):
        return self.parameterNode.StartModify()

    def EndModify(self, wasModifying):
        return self.parameterNode.EndModify(wasModifying)

    def AddObserver(self, event, callback, priority=0.0):
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        return self.parameterNode.RemoveObserver(tag)

    def Modified(self):
        self.parameterNode.Modified()

    def connectGui(self, gui):
        """Binds every widget that names a parameter in its property SlicerParameterName.

        Args:
            gui: a widget whose children are searched, or the object slicer.util.childWidgetVariables() returns.

        Returns:
            A tag for disconnectGui().
        """
        isWidget = isinstance(gui, qt.QWidget)
        widgets = gui.findChildren(qt.QWidget) if isWidget else gui.__dict__.values()
        named = ((widget.property(SlicerParameterNamePropertyName), widget) for widget in widgets)
        return self.connectParametersToGui({name: widget for name, widget in named if name})

    def connectParametersToGui(self, mapping):
        """Binds {parameter name: widget or connector}. Returns a tag for disconnectGui()."""
        connectors = {}
        for name, widget in mapping.items():
            datatype = self._parameter(name).datatype
            connectors[name] = widget if isinstance(widget, GuiConnector) else createGuiConnector(widget, datatype)
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._writer(name, connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._update_gui())
        self._connections[tag] = (connectors, observer)
        return tag

    def disconnectGui(self, tag):
        """Ends what connectGui() began."""
        connectors, observer = self._connections.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.onChanged(None)
        if observer is not None:
            self.RemoveObserver(observer)

    def _writer(self, name, connector):
        def write():
            if not self._updating_gui:
                self.setValue(name, connector.read())

        return write

    def _update_gui(self):
        if self._updating_gui:
            return
        self._updating_gui = True
        try:
            for connectors, _ in list(self._connections.values()):
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._updating_gui = False


def _property(name):
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def parameterNodeWrapper(cls=None):
    """Class decorator, with or without parentheses."""
    if cls is None:
        return parameterNodeWrapper
    hints = typing.get_type_hints(cls, include_extras=True)
    defaults = {name: Default(getattr(cls, name)) for name in hints if hasattr(cls, name)}
    reserved = sorted(name for name in hints if hasattr(_Wrapper, name))
    if reserved:
        raise ValueError(f"Cannot use reserved names {reserved} in a parameterNodeWrapper")
    for name in hints:
        setattr(cls, name, _property(name))
    for name, member in vars(_Wrapper).items():
        if name == "__init__" or not name.startswith("__"):
            setattr(cls, name, member)
    cls.allParameters = {name: Parameter(name, hint, defaults.get(name)) for name, hint in hints.items()}
    return cls


def isParameterNodeWrapper(classOrObject):
    """True for a class made by the decorator, and for its objects."""
    return getattr(classOrObject, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget, parameter):
    """Returns the child widget that names the parameter, or None."""
    children = widget.findChildren(qt.QWidget)
    return next((one for one in children if one.property(SlicerParameterNamePropertyName) == parameter), None)
