"""Builds the rows of a form from the description of options that the engine gives."""

from __future__ import annotations

import json
from collections.abc import Callable

import qt
from slicer.i18n import tr as _


class OptionForm(qt.QWidget):
    """One row per option; only what differs from the engine's default is handed on.

    Args:
        onChanged: Called with {name: value} of the options that differ from their defaults.
    """

    def __init__(self, onChanged: Callable[[dict], None]) -> None:
        qt.QWidget.__init__(self)
        self._onChanged = onChanged
        self._rows = qt.QFormLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._defaults: dict[str, object] = {}
        self._editors: dict[str, object] = {}

    @property
    def editors(self) -> dict:
        """The widgets by option name."""
        return self._editors

    def showOptions(self, options: list[dict], values: dict) -> None:
        """Replaces the rows.

        Args:
            options: name, type, default and meaning of each.
            values: What differs from the defaults.
        """
        while self._rows.rowCount():
            self._rows.removeRow(0)
        self._defaults = {option["name"]: option.get("default") for option in options}
        self._editors = {}
        for option in options:
            editor = self._editor(option, values.get(option["name"], option.get("default")))
            editor.toolTip = str(option.get("meaning", ""))
            self._editors[option["name"]] = editor
            self._rows.addRow(option["name"].replace("_", " ") + ":", editor)

    def _editor(self, option: dict, value: object):
        if isinstance(option.get("default"), bool):
            editor = qt.QCheckBox()
            editor.checked = bool(value)
            editor.connect("toggled(bool)", lambda isOn: self._tell())
            return editor
        editor = qt.QLineEdit()
        editor.text = value if isinstance(value, str) else json.dumps(value)
        editor.setPlaceholderText(_("default: {value}").format(value=json.dumps(option.get("default"))))
        editor.connect("editingFinished()", self._tell)
        return editor

    def values(self) -> dict:
        """What differs from the defaults. A text that does not fit the type of the default is left out."""
        found = {}
        for name, editor in self._editors.items():
            default = self._defaults[name]
            value = editor.checked if isinstance(default, bool) else _parsed(editor.text, default)
            if value != default:
                found[name] = value
        return found

    def _tell(self) -> None:
        self._onChanged(self.values())


def _parsed(text: str, default: object) -> object:
    """The value a text stands for, in the type of the default; the default where it stands for none."""
    if isinstance(default, str):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return default
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    return value if default is None or type(value) is type(default) else default
