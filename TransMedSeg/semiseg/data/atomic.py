"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lends a temporary path beside ``path`` and moves it there once the block ends without an exception.

    The temporary name starts with a dot and keeps the ending, because writers choose the format by it.

    Raises:
        InputError: The folder cannot be written to (E809) or the disk is full (E807). Nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        explained = _explained(error, path)
        if explained is None:
            raise
        raise explained from error
    finally:
        with contextlib.suppress(OSError):  # gone after the move; the first error is the one to tell
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, whole or not at all. Numbers that JSON does not know (NaN) are an error of ours."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _explained(error: Exception, path: Path) -> InputError | None:
    """What the user can repair; None when neither disk nor folder had a part in it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__  # PyTorch answers a failed write with a RuntimeError of its own
    if cause is None:
        return None
    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(
            f"The disk is full: {path.name} could not be written.",
            code="E807",
            hint="Free some space and start again; finished cases are kept.",
            path=path,
        )
    if cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return InputError(
            f"'{path.parent}' is not a folder that can be written to ({cause.strerror}).",
            code="E809",
            hint="Choose another folder.",
            path=path,
        )
    return None
