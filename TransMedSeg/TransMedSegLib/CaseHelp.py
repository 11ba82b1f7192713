"""What a check of the volumes asks the user: masks on another grid (E803), values of masks that nobody named (E704), unlabeled volumes that look
different (E805)."""

from __future__ import annotations

import json
from pathlib import Path

import qt
from slicer.i18n import tr as _

from .Messages import message
from .TrainCases import CaseRow

_MOST_BUTTONS = 5
"""More values are offered as a menu."""
_MOST_NAMED = 12
_VALUES = range(1, 65536)
"""What a label can be."""


class CaseHelp:
    """Answers change the settings, and the volumes are checked again.

    Args:
        panel: Whose volumes were checked.
    """

    def __init__(self, panel) -> None:
        self._panel = panel

    def offer(self) -> None:
        """Asks about what the check found; says nothing where nothing is to be decided."""
        misplaced, different = self._misplaced(), self._different()
        if misplaced:
            text = misplaced[0].reason
            if len(misplaced) > 1:
                text = _("{text} (Masks on another grid in all: {count}.)").format(text=text, count=len(misplaced))
            self._panel.notice.say(text, "E803", self.actions())
        elif not self.askForValue() and different:
            total = sum(row.role == "unlabeled" for row in self._panel.cases.rows)
            self._panel.notice.say(message("E805", count=len(different), total=total), "E805", self.actions())

    def actions(self) -> tuple:
        """The buttons for what the check found."""
        misplaced = self._misplaced()
        if misplaced:
            title = _("Resample mask") if len(misplaced) == 1 else _("Resample {count} masks").format(count=len(misplaced))
            first = misplaced[0]
            other = _("Choose another mask…") if len(misplaced) == 1 else _("Choose another mask for {case}…").format(case=first.name)
            return (title, lambda: self._resample(misplaced)), (other, lambda: self._chooseMask(first))
        if self._different():
            return (_("Leave them out"), self._leaveOut), (_("Use them"), lambda: None)
        return ()

    def askForValue(self) -> bool:
        """Asks which value of the masks is the structure, where that keeps volumes from being used. Returns whether it asked."""
        values = self._openValues()
        if not values or self._misplaced():
            return False
        shown = [str(value) for value in values[:_MOST_NAMED]] + ["…"] * (len(values) > _MOST_NAMED)
        text = message("E704", structure=self._panel.parameters.structure.strip(), values=" / ".join(shown))
        if len(values) > _MOST_BUTTONS:
            actions = ((_("Choose the value…"), lambda: self._chooseValue(values)),)
        else:
            actions = tuple((str(value), lambda value=value: self._takeValue(value)) for value in values)
        self._panel.notice.say(text, "E704", actions)
        return True

    def _openValues(self) -> list[int]:
        """Values of the masks that were refused for them; none where the user has answered and the answer fits some of the masks."""
        if self._panel.parameters.otherValuesAreBackground and self._panel.cases.used("labeled"):
            return []
        return sorted({value for row in self._panel.cases.rows if row.code == "E704" for value in row.maskValues if value in _VALUES})

    def _misplaced(self) -> list[CaseRow]:
        """Labeled cases that were refused because of the grid of their mask. Held-out ones are scored on their own masks."""
        return [row for row in self._panel.cases.rows if row.code == "E803" and not row.isUsed and row.role == "labeled"]

    def _different(self) -> list[CaseRow]:
        return [row for row in self._panel.cases.rows if row.code == "E805" and row.isUsed]

    def _resample(self, rows: list[CaseRow]) -> None:
        parameters = self._panel.parameters
        parameters.resampledMasks = json.dumps(sorted({*json.loads(parameters.resampledMasks), *(row.image for row in rows)}))
        self._panel.check.start()

    def _chooseMask(self, row: CaseRow) -> None:
        found = qt.QFileDialog.getOpenFileName(None, _("Choose the mask of {case}").format(case=row.name), str(Path(row.image).parent))
        # PythonQt returns the name alone, PySide the name and the filter.
        name = found[0] if isinstance(found, tuple) else found
        if name:
            parameters = self._panel.parameters
            parameters.chosenMasks = json.dumps({**json.loads(parameters.chosenMasks), row.image: name})
            self._panel.check.start()
        else:
            self.offer()

    def _chooseValue(self, values: list[int]) -> None:
        isChosen = qt.BoolResult()
        question = _("Value of the {structure} in the masks:").format(structure=self._panel.parameters.structure.strip())
        found = qt.QInputDialog.getItem(None, _("Choose the value"), question, [str(value) for value in values], 0, False, isChosen)
        # PythonQt returns the text alone, PySide the text and whether OK was pressed.
        text = found[0] if isinstance(found, tuple) else found
        if isChosen:
            self._takeValue(int(text))
        else:
            self.offer()

    def _takeValue(self, value: int) -> None:
        self._panel.parameters.labelValue = value
        self._panel.parameters.otherValuesAreBackground = True
        self._panel.check.start()

    def _leaveOut(self) -> None:
        self._panel.parameters.leaveOutDifferent = True
        self._panel.check.start()
