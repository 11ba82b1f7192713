"""Time spent in training, and how much is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Time spent in steps and rounds of labeling, and the rate over the recent steps.

    Args:
        total: Steps of the whole training.
    """

    def __init__(self, total: int = 0) -> None:
        self.total, self.seconds = total, 0.0
        self._started, self._mark_s, self._mark_done = 0.0, 0.0, 0
        self._round_s = 0.0  # what the last round of labeling took

    def start_at(self, done: int) -> None:
        """Rates count from here."""
        self._mark_s, self._mark_done = self.seconds, done

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started

    @contextmanager
    def round(self) -> Iterator[None]:
        """A round of labeling between two steps: it counts as time spent, not as the time of a step."""
        started = time.perf_counter()
        yield
        self._round_s = time.perf_counter() - started
        self._mark_s += self._round_s

    def now_s(self) -> float:
        """Seconds so far, within a step as well."""
        return self.seconds + time.perf_counter() - self._started

    def rate(self, done: int, rounds_left: int = 0) -> tuple[float, float]:
        """Steps per second since the last call, and the seconds left at this rate with so many rounds like the last one."""
        now_s = self.now_s()
        steps, spent = done - self._mark_done, now_s - self._mark_s
        self._mark_s, self._mark_done = now_s, done
        per_second = steps / spent if spent > 0 and steps > 0 else 0.0
        left_s = (self.total - done) / per_second + rounds_left * self._round_s if per_second else 0.0
        return round(per_second, 4), round(left_s, 3)
