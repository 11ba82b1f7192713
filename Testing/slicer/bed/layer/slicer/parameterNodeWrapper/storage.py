"""How a value is kept in a vtkMRMLScriptedModuleNode: as text, or as a node reference.

Text and node references are what MRML saves with the scene. Enumerators are kept by name, so that renaming one
loses the value of old scenes, in Slicer too.
"""

import enum
import pathlib
import typing
from collections.abc import MutableSequence

import qt
import slicer

from .annotations import FloatRange


class TextStorage:
    """Keeps a value as text."""

    def __init__(self, kind, to_text=str, from_text=None, default=None):
        self.kind = kind
        self._to_text = to_text
        self._from_text = from_text or kind
        self.default = default if default is not None else kind()

    def check(self, value):
        # Python counts True as an integer and an integer as no float; Slicer takes both.
        allowed = (int, float) if self.kind is float else self.kind
        if not isinstance(value, allowed):
            raise TypeError(f"expected {self.kind.__name__}, found {value!r}")

    def is_stored(self, node, name):
        return node.HasParameter(name)

    def write(self, node, name, value):
        node.SetParameter(name, self._to_text(value))

    def read(self, node, name):
        return self._from_text(node.GetParameter(name))

    def remove(self, node, name):
        node.UnsetParameter(name)


class NodeStorage:
    """Keeps a MRML node as a node reference, which survives that the node gets another ID on loading."""

    default = None

    def __init__(self, kind):
        self.kind = kind

    def check(self, value):
        if value is not None and not isinstance(value, self.kind):
            raise TypeError(f"expected {self.kind.__name__} or None, found {value!r}")

    def is_stored(self, node, name):
        return node.HasParameter(name)

    def write(self, node, name, value):
        # A reference to nothing leaves no trace in the node; the empty parameter tells that it was written.
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name):
        return node.GetNodeReference(name)

    def remove(self, node, name):
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class ListStorage:
    """Keeps a list as its length and its items, each under a name of its own."""

    def __init__(self, item):
        self._item = item
        self.default = []

    def check(self, value):
        for one in value:
            self._item.check(one)

    def is_stored(self, node, name):
        return node.HasParameter(f"{name}_len")

    def write(self, node, name, value):
        value = list(value)
        old_length = self._length(node, name)
        node.SetParameter(f"{name}_len", str(len(value)))
        for index, one in enumerate(value):
            self._item.write(node, f"{name}_{index}", one)
        for index in range(len(value), old_length):
            self._item.remove(node, f"{name}_{index}")

    def read(self, node, name):
        items = [self._item.read(node, f"{name}_{index}") for index in range(self._length(node, name))]
        return StoredList(self, node, name, items)

    def remove(self, node, name):
        self.write(node, name, [])
        node.UnsetParameter(f"{name}_len")

    def _length(self, node, name):
        return int(node.GetParameter(f"{name}_len") or 0)


class StoredList(MutableSequence):
    """A list that writes itself back to its node when it is changed."""

    def __init__(self, storage, node, name, items):
        self._storage, self._node, self._name, self._items = storage, node, name, items

    def _changed(self):
        self._storage.check(self._items)
        wasModifying = self._node.StartModify()
        self._storage.write(self._node, self._name, self._items)
        self._node.EndModify(wasModifying)

    def __len__(self):
        return len(self._items)

    def __getitem__(self, index):
        return self._items[index]

    def __setitem__(self, index, value):
        self._items[index] = value
        self._changed()

    def __delitem__(self, index):
        del self._items[index]
        self._changed()

    def insert(self, index, value):
        self._items.insert(index, value)
        self._changed()

    def __eq__(self, other):
        return self._items == (other._items if isinstance(other, StoredList) else other)

    def __repr__(self):
        return f"StoredList({self._items!r})"


def storage_for(kind):
    """Returns the storage of a type such as `int`, `vtkMRMLVolumeNode` or `list[Path]`.

    Raises:
        TypeError: the stand-in does not keep this type.
    """
    if typing.get_origin(kind) is list or kind is list:
        (item,) = typing.get_args(kind) or (str,)
        return ListStorage(storage_for(item))
    if kind is bool:
        return TextStorage(bool, from_text=lambda text: text == "True")
    if kind in (int, float, str):
        return TextStorage(kind)
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return TextStorage(kind)
    if kind is FloatRange:
        return TextStorage(
            FloatRange,
            lambda value: f"{value.minimum!r} {value.maximum!r}",
            lambda text: FloatRange(*map(float, text.split())),
            FloatRange(0.0, 1.0),
        )
    if kind is qt.QColor:
        return TextStorage(qt.QColor, lambda color: color.name())
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return TextStorage(kind, lambda one: one.name, lambda text: kind[text], default=next(iter(kind)))
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return NodeStorage(kind)
    raise TypeError(f"the test bed's parameterNodeWrapper cannot keep a parameter of type {kind}")
