"""The one exception that speaks to the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class InputError(Exception):
    """Something the user can repair: a file, a folder, an option, a full disk.

    Every other exception is a defect of ours and keeps its traceback.

    Args:
        message: What was expected, what was found and where, in one or two sentences.
        code: The code of the message in ``docs/messages.md``, such as ``"E803"``; empty when it has none.
        hint: What to do about it, one sentence.
        path: The file or folder the message is about.
        fixes: Changes of the job's options that would help, each enough alone: group of options to its new values. A window offers them as buttons.
    """

    def __init__(
        self, message: str, *, code: str = "", hint: str = "", path: str | Path | None = None, fixes: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.path = None if path is None else Path(path)
        self.fixes = list(fixes)

    def __str__(self) -> str:
        prefix = f"{self.code}: " if self.code else ""
        where = f" ({self.path})" if self.path is not None and str(self.path) not in self.message else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{prefix}{self.message}{where}{hint}"
