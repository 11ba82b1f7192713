"""How far a long step is, how fast it goes and what is left of it."""

from __future__ import annotations

import time
from collections.abc import Callable


class Countdown:
    """Reports ``progress`` of a step whose parts take about as long as each other. The clock starts when it is made.

    Args:
        report: Takes events.
        what: Is being done, in words.
    """

    def __init__(self, report: Callable[..., None], what: str) -> None:
        self._report, self._what, self._started = report, what, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """So many parts of all are done; before the first one nothing is known of the rest."""
        rate = done / max(time.monotonic() - self._started, 1e-6)
        eta_s = round((total - done) / rate, 1) if done else None
        self._report("progress", what=self._what, done=done, total=total, rate_per_s=round(rate, 4), eta_s=eta_s)
