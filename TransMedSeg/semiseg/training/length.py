"""Keeps a training within its minutes: the few steps of the probe may have met a busy computer, or a quiet one."""

from __future__ import annotations

import math

from .probe import MOST_LABELING, Pace

FEWEST_SECONDS = 30.0
"""Shorter budgets are not looked after: a look would say less than the probe."""
_LOOKS = (0.05, 0.1, 0.2, 0.4)
"""Shares of the budget, or of the planned steps where these come first, after which the length is looked at."""
_FEWEST_STEPS = 5
_TOLERANCE = 0.2
"""Lengths that differ by less stay: schedules are better left alone."""


class Length:
    """How many steps a budget of seconds holds, looked at again while the first stage trains.

    Later stages are not looked at: a new length would move their beginning, which has passed.

    Args:
        seconds: The budget.
        pace: As the probe found it.
    """

    def __init__(self, seconds: float, pace: Pace) -> None:
        self._seconds, self._pace = seconds, pace
        self._looks = list(_LOOKS)
        self._mark = (0, 0.0)

    def look(self, iteration: int, spent_s: float, total: int, first_share: float) -> int:
        """The number of steps that fits now.

        Args:
            iteration: Steps taken, all of them in the first stage.
            spent_s: Seconds they took.
            total: Steps planned so far.
            first_share: Of the first stage in all steps.

        Returns:
            ``total``, or a number that differs from it by more than a fifth and leaves the first stage unfinished.
        """
        steps, seconds = iteration - self._mark[0], spent_s - self._mark[1]
        done = max(spent_s / self._seconds, iteration / total)  # a length that is far too short ends before much of the time has passed
        if not self._looks or done < self._looks[0] or steps < _FEWEST_STEPS:
            return total
        self._mark = (iteration, spent_s)
        slowness = seconds / steps / self._pace.first_s
        left_s = max(0.0, self._seconds - spent_s) / slowness  # in seconds as the probe knew them
        left_s = max(left_s - self._pace.labeling_s, (1 - MOST_LABELING) * left_s)  # as Pace.iterations counts
        fits = int((left_s + iteration * self._pace.first_s) / self._pace.step_s)
        fits = max(fits, math.ceil((iteration + 1) / first_share))
        found = fits if abs(fits - total) > _TOLERANCE * total else total
        done = max(spent_s / self._seconds, iteration / max(found, total))
        self._looks = [at for at in self._looks if at > done]
        return found
