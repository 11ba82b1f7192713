"""What a check of the volumes asks the user: files without spacing (E306), masks on another grid (E803), values of masks that nobody named (E704),
unlabeled volumes that look different (E805)."""

from __future__ import annotations

import json
from pathlib import Path

import qt
from slicer.i18n import tr as _

from .Counted import counted
from .Messages import message
from .SpacingDialog import askForFileSpacing
from .TrainCases import CaseRow

_MOST_BUTTONS = 5
"""More values are offered as a menu."""
_MOST_NAMED = 12
_VALUES = range(1, 65536)
"""What a label can be."""


class CaseHelp:
    """Answers change the settings, and the volumes are checked again; a training that waits for the check then begins.

    Args:
        panel: Whose volumes were checked.
    """

    def __init__(self, panel) -> None:
        self._panel = panel
        self._settled: set[str] = set()

    def forget(self) -> None:
        """A new check asks everything again."""
        self._settled.clear()

    def offer(self) -> bool:
        """Asks about what the check found, one thing after another. Returns False where nothing is to be decided."""
        asks = {"E306": self._askForSpacing, "E803": self._askForMask, "E704": self.askForValue, "E805": self._askForDifferent}
        return any(ask() for code, ask in asks.items() if code not in self._settled)

    def actions(self) -> tuple:
        """The buttons for files without spacing, else for masks on another grid; none where there are none."""
        if self._unspaced():
            return ((_("Set spacing…"), self._setSpacing),)
        misplaced = self._misplaced()
        if not misplaced:
            return ()
        title = _("Resample mask") if len(misplaced) == 1 else _("Resample {count} masks").format(count=len(misplaced))
        first = misplaced[0]
        other = _("Choose another mask…") if len(misplaced) == 1 else _("Choose another mask for {case}…").format(case=first.name)
        return (title, lambda: self._resample(misplaced)), (other, lambda: self._chooseMask(first))

    def _askForSpacing(self) -> bool:
        unspaced = self._unspaced()
        if not unspaced:
            return False
        text = unspaced[0].reason
        if len(unspaced) > 1:
            text = _("{text} (Volumes without usable spacing in all: {count}.)").format(text=text, count=len(unspaced))
        self._panel.notice.say(text, "E306", (*self.actions(), *self._without("E306", unspaced)))
        return True

    def _askForMask(self) -> bool:
        misplaced = self._misplaced()
        if not misplaced:
            return False
        text = misplaced[0].reason
        if len(misplaced) > 1:
            text = _("{text} (Masks on another grid in all: {count}.)").format(text=text, count=len(misplaced))
        self._panel.notice.say(text, "E803", (*self.actions(), *self._without("E803", misplaced)))
        return True

    def _askForDifferent(self) -> bool:
        different = [row for row in self._panel.cases.rows if row.code == "E805" and row.isUsed]
        if not different:
            return False
        total = sum(row.role == "unlabeled" for row in self._panel.cases.rows)
        leaveOut = lambda: self._answer(leaveOutDifferent=True)
        self._panel.notice.say(message("E805", count=len(different), total=total), "E805", ((_("Leave them out"), leaveOut), (_("Use them"), lambda: self._settle("E805"))))
        return True

    def askForValue(self) -> bool:
        """Asks which value of the masks is the structure, where that keeps volumes from being used. Returns whether it asked."""
        values = self._openValues()
        if not values or (self._misplaced() and "E803" not in self._settled):
            return False
        shown = [str(value) for value in values[:_MOST_NAMED]] + ["…"] * (len(values) > _MOST_NAMED)
        text = message("E704", structure=self._panel.parameters.structure.strip(), values=" / ".join(shown))
        if len(values) > _MOST_BUTTONS:
            actions = ((_("Choose the value…"), lambda: self._chooseValue(values)),)
        else:
            actions = tuple((str(value), lambda value=value: self._takeValue(value)) for value in values)
        refused = [row for row in self._panel.cases.rows if row.code == "E704"]
        self._panel.notice.say(text, "E704", (*actions, *self._without("E704", refused)))
        return True

    def _without(self, code: str, refused: list[CaseRow]) -> tuple:
        """The button that starts a waiting training with the volumes that can be used; none where too few can, or none waits."""
        if not self._panel.check.isAwaited or self._panel.whyNotStart():
            return ()
        title = counted(len(refused), _("Train without {name}"), _("Train without these {count}"), name=refused[0].name)
        return ((title, lambda: self._settle(code)),)

    def _settle(self, code: str) -> None:
        """It stays as it is: the next question, or the training that waits."""
        self._settled.add(code)
        if not self.offer():
            self._panel.check.goOn()

    def _answer(self, **values) -> None:
        """Changes settings and checks again."""
        goOn = self._panel.check.takeStart()  # a changed setting makes a waiting training forgotten
        for name, value in values.items():
            setattr(self._panel.parameters, name, value)
        self._panel.check.run(goOn)

    def _openValues(self) -> list[int]:
        """Values of the masks that were refused for them; none where the user has answered and the answer fits some of the masks."""
        if self._panel.parameters.otherValuesAreBackground and self._panel.cases.used("labeled"):
            return []
        return sorted({value for row in self._panel.cases.rows if row.code == "E704" for value in row.maskValues if value in _VALUES})

    def _unspaced(self) -> list[CaseRow]:
        """Cases that were refused because their spacing is missing; none where the user has stated one, which cannot help those that are left."""
        if self._panel.parameters.assumedSpacing.strip() or "E306" in self._settled:
            return []
        return [row for row in self._panel.cases.rows if row.code == "E306" and not row.isUsed]

    def _misplaced(self) -> list[CaseRow]:
        """Labeled cases that were refused because of the grid of their mask. Held-out ones are scored on their own masks."""
        return [row for row in self._panel.cases.rows if row.code == "E803" and not row.isUsed and row.role == "labeled"]

    def _setSpacing(self) -> None:
        found = askForFileSpacing(self._unspaced()[0].name, *self._proposedSpacing())
        if found is None:
            self.offer()
        else:
            self._answer(assumedSpacing=", ".join(f"{side:g}" for side in found))

    def _proposedSpacing(self) -> tuple[tuple[float, ...], str]:
        """That of the first case that states one, and where it comes from."""
        for row in self._panel.cases.rows:
            if row.isUsed and row.spacing:
                return tuple(float(side) for side in row.spacing.replace("x", "×").split("×")), _("Proposed: that of {case}.").format(case=row.name)
        return (1.0, 1.0, 1.0), ""

    def _resample(self, rows: list[CaseRow]) -> None:
        known = json.loads(self._panel.parameters.resampledMasks)
        self._answer(resampledMasks=json.dumps(sorted({*known, *(row.image for row in rows)})))

    def _chooseMask(self, row: CaseRow) -> None:
        found = qt.QFileDialog.getOpenFileName(None, _("Choose the mask of {case}").format(case=row.name), str(Path(row.image).parent))
        # PythonQt returns the name alone, PySide the name and the filter.
        name = found[0] if isinstance(found, tuple) else found
        if name:
            known = json.loads(self._panel.parameters.chosenMasks)
            self._answer(chosenMasks=json.dumps({**known, row.image: name}))
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
        self._answer(labelValue=value, otherValuesAreBackground=True)
