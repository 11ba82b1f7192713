"""How far an installation is, from what pip prints with ``--progress-bar raw``. No Qt, no scene."""

from __future__ import annotations

import enum
import functools
import re
import time
from collections import deque
from collections.abc import Callable

from slicer.i18n import tr as _

from .InstallSize import sizeText
from .RunState import durationText

_RAW = re.compile(r"Progress (\d+) of (\d+)")
_CACHED = re.compile(r"\s*Using cached \S+\.whl \(([\d.]+) (bytes|kB|MB|GB)\)")
_UNPACKING = re.compile(r"\s*Installing collected packages: ")
_DONE = re.compile(r"\s*Successfully installed ")
_BYTES = {"bytes": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_WINDOW_SECONDS = 20.0
"""The rate is that of the last seconds: a network is rarely even, and between two files pip does other things."""
_SURE_SECONDS = 3.0
"""A rate of less time than this says nothing yet."""


class Phase(enum.Enum):
    """What an installation is doing."""

    Looking = "looking"
    Downloading = "downloading"
    Unpacking = "unpacking"
    Undoing = "undoing"


class PipProgress:
    """Takes the lines of pip.

    Args:
        expected: Bytes that are likely to come, as `InstallSize.downloadBytes` says; 0 where nobody knows.
        clock: Seconds that never go back.
    """

    def __init__(self, expected: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.phase = Phase.Looking
        self._expected, self._clock = expected, clock
        self._cached = self._whole = self._file = self._fileSize = 0
        self._seen: deque[tuple[float, int]] = deque()

    def hear(self, line: str) -> bool:
        """Takes a line. Returns whether it tells of a download alone, so that it is none for a log."""
        raw = _RAW.fullmatch(line.strip())
        if raw:
            self._download(int(raw[1]), int(raw[2]))
            return True
        cached = _CACHED.match(line)
        if cached:
            self._cached += round(float(cached[1]) * _BYTES[cached[2]])
        elif _UNPACKING.match(line):
            self.phase = Phase.Unpacking
        elif _DONE.match(line):
            self.phase = Phase.Looking  # for the next packages
        return False

    def undo(self) -> None:
        """From now on, what was added is taken away."""
        self.phase = Phase.Undoing

    def _download(self, done: int, size: int) -> None:
        isOver = self._fileSize > 0 and self._file >= self._fileSize
        if size != self._fileSize or isOver or (size == 0 and done < self._file):
            self._whole, self._file, self._fileSize = self._whole + self._file, 0, size
        self._file = done  # may go back: a connection that broke begins again where the server lets it
        self.phase = Phase.Downloading
        now = self._clock()
        self._seen.append((now, self.received))
        while now - self._seen[0][0] > _WINDOW_SECONDS and len(self._seen) > 2:
            self._seen.popleft()

    @property
    def received(self) -> int:
        """Bytes that have come over the network."""
        return self._whole + self._file

    @property
    def total(self) -> int:
        """Bytes that come in all: what was expected, or more where more has come; 0 where nothing is known."""
        announced = self.received + max(self._fileSize - self._file, 0)
        return max(self._expected - self._cached, announced) if self._expected or self._fileSize else 0

    @property
    def secondsLeft(self) -> float | None:
        """Until all has come, at the rate of the last seconds; None while nobody can say."""
        if self.phase != Phase.Downloading or not self._seen or not self.total:
            return None
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        if last - first < _SURE_SECONDS or after <= before:
            return None
        return (self.total - self.received) * (last - first) / (after - before)

    def text(self) -> str:
        """In one line: how much has come, of how much, and the time left."""
        texts = _texts()
        if self.phase != Phase.Downloading:
            return texts[self.phase.value]
        text = texts["received" if self.total else "alone"].format(done=sizeText(self.received), total=sizeText(self.total))
        left = self.secondsLeft
        return text if left is None else ", ".join([text, texts["left"].format(time=durationText(left))])


@functools.cache
def _texts() -> dict[str, str]:
    """Asked for once: a translation looks at the call stack, which takes milliseconds, and these come four times a second."""
    return {
        Phase.Looking.value: _("Looking for the packages that fit…"),
        Phase.Unpacking.value: _("Unpacking the packages…"),
        Phase.Undoing.value: _("Removing what was added…"),
        "received": _("{done} of about {total} downloaded"),
        "alone": _("{done} downloaded"),
        "left": _("{time} left"),
    }
