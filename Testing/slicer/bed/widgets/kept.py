"""A Qt property that only keeps its value."""

from PySide6.QtCore import Property


def kept(type_name, default, changed=None):
    """Returns a Qt property that remembers what was assigned.

    Args:
        type_name: a Python type or the name of a C++ type, such as "QStringList".
        default: the value before the first assignment, or a function that makes it.
        changed: called as changed(self) after each assignment.
    """
    slot = f"_kept_{kept.count}"
    kept.count += 1

    def read(self):
        return self.__dict__.get(slot, default() if callable(default) else default)

    def write(self, value):
        object.__setattr__(self, slot, value)
        if changed:
            changed(self)

    return Property(type_name, read, write)


kept.count = 0
