"""Looks into a model file without running anything in it: its format, its card, its hash.

The file is a zip archive as PyTorch writes it. Its instructions are read one by one and never carried out; one that
would do more than rebuild tensors and text is a reason to refuse the file. No torch is needed for this.
"""

import functools
import hashlib
import json
import pickletools
import re
import struct
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

from semiseg import __version__

from .Messages import message

FORMAT = "semiseg-model"
FORMAT_VERSION = 1
"""As in the engine's own reader, semiseg/inference/model_file.py."""

_HARMLESS = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch(\.storage)? \w*Storage")
"""What the instructions of a file of tensors name: module and name with a space between."""
_OTHER_CALLS = ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD")
_MOST_BYTES = 64 * 2**20
_DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, struct.error, zlib.error)
"""What zipfile and pickletools raise on damaged files."""


class ModelRefused(Exception):
    """A model file that cannot be used.

    Attributes:
        code: E403 not ours or with code, E404 of a newer version, E405 not there.
    """

    def __init__(self, code, **values):
        Exception.__init__(self, message(code, **values))
        self.code = code


def readCard(path):
    """The card of a model file, as the engine wrote it.

    Raises:
        ModelRefused: See there.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelRefused("E405", folder=str(path.parent))
    card = _cardIn(_instructions(path))
    if not isinstance(card, dict) or card.get("format") != FORMAT or not isinstance(card.get("format_version"), int):
        raise ModelRefused("E403")
    if card["format_version"] > FORMAT_VERSION:
        raise ModelRefused("E404", needed=card.get("semiseg_version", "?"), found=__version__)
    if not _isComplete(card):
        raise ModelRefused("E403")
    return card


def _isComplete(card):
    """Whether the parts that are shown are what they should be; a stranger may have written them."""
    training, labels = card.get("training") or {}, card.get("labels")
    known = isinstance(labels, list) and all(isinstance(one, dict) for one in labels)
    return known and isinstance(card.get("network"), dict) and isinstance(training, dict) and isinstance(training.get("cases") or {}, dict)


def _instructions(path):
    """(name, argument) of each instruction of the archive's index."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [one for one in archive.infolist() if one.filename.endswith("/data.pkl")]
            if len(found) != 1 or found[0].file_size > _MOST_BYTES:
                raise ModelRefused("E403")
            data = archive.read(found[0])
        return [(code.name, argument) for code, argument, _place in pickletools.genops(data)]
    except _DAMAGED as error:
        raise ModelRefused("E403") from error


def _cardIn(instructions):
    """The text behind the key "card", read as JSON; None where there is none.

    Raises:
        ModelRefused: An instruction would call something (E403).
    """
    texts = []
    for name, argument in instructions:
        if name in _OTHER_CALLS or (name in ("GLOBAL", "INST") and not _HARMLESS.fullmatch(argument)):
            raise ModelRefused("E403")
        if "PUT" not in name and name != "MEMOIZE":
            texts.append(argument if "UNICODE" in name else None)
    cards = [after for before, after in pairwise(texts) if before == "card" and after]
    try:
        return json.loads(cards[-1]) if cards else None
    except ValueError:
        return None


def hashOf(path):
    """SHA-256 of a file as 64 hexadecimal digits; computed again only where the file has changed.

    Raises:
        OSError: It cannot be read.
    """
    path = Path(path)
    state = path.stat()
    return _hash(str(path), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _hash(path, _size, _time):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
