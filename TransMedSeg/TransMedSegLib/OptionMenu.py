"""A menu of what the engine offers, such as its methods, with a form of the options of the chosen one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import qt

from .OptionForm import OptionForm


@dataclass(frozen=True)
class Choice:
    """One entry of a menu.

    Attributes:
        name: What a job calls it.
        title: One line for people.
        options: name, type, default and meaning of each.
        toolTip: More about it.
        isEnabled: A gray entry cannot be chosen; its tool tip says why.
    """

    name: str
    title: str
    options: list[dict] = field(default_factory=list)
    toolTip: str = ""
    isEnabled: bool = True


class OptionMenu:
    """A combo box and, below it, the options of its entry.

    Args:
        box: The combo box.
        place: Where the form goes; hidden while the chosen entry has no options.
        onChosen: Called with the name and {option: value} of what differs from the defaults, when the user changes either.
    """

    def __init__(self, box, place, onChosen: Callable[[str, dict], None]) -> None:
        self._box, self._place, self._onChosen = box, place, onChosen
        self._choices: dict[str, Choice] = {}
        self._shown: tuple[str, dict] = ("", {})
        self._isShowing = False
        self.form = OptionForm(self._onOptions)
        place.layout().addWidget(self.form)
        place.visible = False
        box.connect("currentIndexChanged(int)", self._onIndex)

    def fill(self, choices: Iterable[Choice]) -> None:
        """Replaces the entries and shows the first."""
        self._choices = {choice.name: choice for choice in choices}
        self._isShowing = True
        self._box.clear()
        for index, choice in enumerate(self._choices.values()):
            self._box.addItem(choice.title, choice.name)
            self._box.setItemData(index, choice.toolTip, qt.Qt.ToolTipRole)
            if not choice.isEnabled:
                self._box.setItemData(index, 0, qt.Qt.UserRole - 1)  # where Qt's combo boxes keep the flags of an entry
        self._isShowing = False
        for name in list(self._choices)[:1]:
            self._show(name, {})

    def show(self, name: str, options: dict) -> None:
        """Chooses an entry. An unknown one is added, so that no setting of a scene is lost.

        Args:
            name: Of the entry.
            options: What differs from its defaults.
        """
        if (name, options) != self._shown or self._box.currentIndex < 0:
            self._show(name, options)

    def switch(self, name: str) -> None:
        """Chooses an entry with the same options. Their rows stay, as the user is among them."""
        self._choose(name, self._shown[1])

    def _show(self, name: str, options: dict) -> None:
        self._choose(name, options)
        self._showOptions(name, options)

    def _choose(self, name: str, options: dict) -> None:
        self._shown = (name, options)
        self._isShowing = True
        index = self._box.findData(name)
        if index < 0:
            self._box.addItem(name, name)
            index = self._box.findData(name)
        self._box.currentIndex = index
        self._isShowing = False

    def _showOptions(self, name: str, values: dict) -> None:
        known = self._choices.get(name, Choice(name, name)).options
        self.form.showOptions(known, values)
        self._place.visible = bool(known)

    def _onIndex(self, index: int) -> None:
        if self._isShowing or index < 0:
            return
        name = self._box.itemData(index)
        self._showOptions(name, {})
        self._tell(name, {})

    def _onOptions(self, values: dict) -> None:
        self._tell(self._shown[0], values)

    def _tell(self, name: str, options: dict) -> None:
        self._shown = (name, options)
        self._onChosen(name, options)
