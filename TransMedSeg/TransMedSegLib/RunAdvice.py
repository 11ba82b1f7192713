"""One sentence on how a training goes, from its curves. No Qt, no scene."""

from __future__ import annotations

from slicer.i18n import tr as _

from .Messages import message, withCode

_GAIN = 0.002
"""Dice below this is no gain: repeated validations of one model differ by about as much."""
_FALL = 0.02
"""A fall of Dice that is more than noise."""
_PATIENCE = 3
"""Validations without a gain until we say so."""
_RISE = 1.3
"""Loss on unlabeled volumes, recent to earlier, that is called a rise. It rises in trainings on volumes of one site as well
(docs/benchmarks.md, "Unlabeled volumes of another site"), so it alone says nothing of them."""
_WINDOW = 20

_EARLY_STAGES = ("pretrain", "ae", "align")
"""Another stage follows, which may gain what these do not."""

_UNLABELED_WORDS = ("unlabeled", "consistency", "pseudo", "cross", "loss_out")
"""In the names of losses on unlabeled volumes. `loss_out` is that of the methods that mix volumes: mostly on pseudo-labels."""


class RunAdvice:
    """Collects scalars and says in a sentence what they mean."""

    def __init__(self) -> None:
        self._dice: list[tuple[int, float]] = []
        self._unlabeled: dict[str, list[float]] = {}
        self._isEarly = False
        self._areDifferent = False

    def hearOfDifferentVolumes(self) -> None:
        """The engine has found that unlabeled volumes in use look different (E805)."""
        self._areDifferent = True

    def enter(self, stage: str) -> None:
        """Takes the name of the stage that begins."""
        self._isEarly = stage in _EARLY_STAGES

    def add(self, name: str, value: float, step: int) -> None:
        """Takes one number of the engine."""
        if name == "validation_dice":
            self._dice.append((step, value))
        elif name.startswith("loss_") and any(word in name for word in _UNLABELED_WORDS):
            self._unlabeled.setdefault(name, []).append(value)

    @property
    def best(self) -> tuple[int, float] | None:
        """Iteration and Dice of the best validation."""
        return max(self._dice, key=lambda one: one[1]) if self._dice else None

    def sentence(self) -> str:
        """What to tell the user; empty while there is nothing to say."""
        if self._areDifferent and self._unlabeledRises():
            return _("The loss on unlabeled volumes rises: the unlabeled set may look different.")
        if len(self._dice) < 2:
            return ""
        bestStep, bestDice = self.best
        lastStep, lastDice = self._dice[-1]
        since = sum(step > bestStep for step, _dice in self._dice)
        if since >= _PATIENCE and bestDice - lastDice > _FALL and not self._isEarly:
            return withCode("E811", message("E811", iteration=bestStep, dice=f"{bestDice:.3f}"))
        gainStep = self._lastGain()
        if sum(step > gainStep for step, _dice in self._dice) >= _PATIENCE:
            if self._isEarly:
                return _("No gain for {count} iterations; the next stage is still to come.").format(count=lastStep - gainStep)
            return _("No gain for {count} iterations: stopping would be fine.").format(count=lastStep - gainStep)
        return _("Improving.")

    def _lastGain(self) -> int:
        """Iteration of the last validation that was better than all before it by more than noise."""
        best, gainStep = -1.0, self._dice[0][0]
        for step, dice in self._dice:
            if dice > best + _GAIN:
                best, gainStep = dice, step
        return gainStep

    def _unlabeledRises(self) -> bool:
        for values in self._unlabeled.values():
            if len(values) >= 2 * _WINDOW:
                recent = sum(values[-_WINDOW:]) / _WINDOW
                before = sum(values[-2 * _WINDOW : -_WINDOW]) / _WINDOW
                # Weights of these losses ramp up at first; only a rise after half of what there is counts.
                if len(values) >= 5 * _WINDOW and before > 0 and recent > _RISE * before:
                    return True
        return False
