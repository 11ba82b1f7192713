"""The models this computer knows: those in the user's models folder, and files elsewhere that were put on the list.

A model of the folder has a folder of its own with `model.pt` and `model-card.json`. Nothing is ever put into the
folder half: a new model is made under another name and renamed.
"""

import json
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

import slicer

from semiseg.protocol import BASELINE_FOLDER, JOB_FILE, MODEL_FILE, RESULT_FILE

from .ModelCard import CARD_FILE, cardOf
from .ModelFile import ModelRefused, hashOf
from .RunState import readJson

FOLDER_SETTING = "TransMedSeg/ModelsFolder"
OTHERS_SETTING = "TransMedSeg/ModelList"
LAST_SETTING = "TransMedSeg/Model"
"""The training module writes it too."""
_AGREED_SETTING = "TransMedSeg/AgreedModels"

HASH_FILE = "sha256.txt"
ARCHIVE_FILES = (MODEL_FILE, CARD_FILE, RESULT_FILE, HASH_FILE)
_MOST_BYTES = 8 * 2**30


def modelsFolder():
    """Where added models are: as the user chose, else beside Slicer's settings. It may not exist yet."""
    chosen = slicer.util.settingsValue(FOLDER_SETTING, "")
    return Path(chosen) if chosen else Path(slicer.app.slicerUserSettingsFilePath).parent / "TransMedSeg" / "Models"


def setModelsFolder(folder):
    slicer.app.userSettings().setValue(FOLDER_SETTING, str(folder))


def models():
    """Every model file of the list: those of the folder by name, then the others in the order they came."""
    folder = modelsFolder()
    own = sorted(path for path in folder.glob(f"*/{MODEL_FILE}") if not path.parent.name.startswith("."))
    return own + [path for path in _others() if path not in own]


def _others():
    return [Path(text) for text in _read(OTHERS_SETTING)]


def _read(key):
    try:
        return list(json.loads(slicer.util.settingsValue(key, "") or "[]"))
    except ValueError:
        return []


def _write(key, values):
    slicer.app.userSettings().setValue(key, json.dumps([str(one) for one in values]))


def isInFolder(path):
    """Whether a model lies in the models folder, so that removing it deletes its file."""
    return Path(path).parent.parent == modelsFolder()


def lastUsed():
    """The model that was used last; None where there was none."""
    text = slicer.util.settingsValue(LAST_SETTING, "")
    return Path(text) if text else None


def setLastUsed(path):
    slicer.app.userSettings().setValue(LAST_SETTING, str(path))


def remember(path):
    """Puts a model file on the list where it lies."""
    if path not in models():
        _write(OTHERS_SETTING, [*_others(), path])


def remove(path):
    """Takes a model off the list; in the models folder its files are deleted. Others stay where they are.

    Raises:
        OSError: The files cannot be deleted.
    """
    if isInFolder(path):
        shutil.rmtree(path.parent)
    _write(OTHERS_SETTING, [one for one in _others() if one != path])
    if lastUsed() == path:
        slicer.app.userSettings().remove(LAST_SETTING)


def hasAgreed(digest):
    """Whether the user has agreed to the terms of the model with this hash."""
    return digest in _read(_AGREED_SETTING)


def agree(digest):
    _write(_AGREED_SETTING, [*_read(_AGREED_SETTING), digest])


# Adding


def find(paths):
    """Model files and archives among files and folders, in order; what has another ending counts only when named."""
    found = []
    for path in map(Path, paths):
        inside = sorted([*path.rglob("*.pt"), *path.rglob("*.zip")]) if path.is_dir() else [path]
        # A training folder also holds the state to resume from and the model of the labels alone.
        found += [one for one in inside if one.is_file() and one.name != "resume.pt" and one.parent.name != BASELINE_FOLDER]
    return found


def add(path, **beside):
    """Copies a model file or an archive of one into the models folder. The same model is not copied twice.

    Args:
        beside: What to note on its card, such as url.

    Returns:
        The model file in the models folder.

    Raises:
        ModelRefused: It is no model of ours (E403), too new (E404), missing (E405) or damaged (E402).
        OSError: The folder cannot be written, or the disk is full.
    """
    path = Path(path)
    modelsFolder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=modelsFolder()) as folder:
        made = Path(folder) / "model"
        made.mkdir()
        if zipfile.is_zipfile(path) and _isArchive(path):
            _unpack(path, made)
        else:
            cardOf(path)  # before anything is copied
            shutil.copyfile(path, made / MODEL_FILE)
            for name in (CARD_FILE, RESULT_FILE):
                if (path.parent / name).is_file():
                    shutil.copyfile(path.parent / name, made / name)
        card = cardOf(made / MODEL_FILE)
        digest = hashOf(card.path)
        known = next((one for one in models() if isInFolder(one) and hashOf(one) == digest), None)
        if known is not None:
            return known
        scores = card.beside.get("scores")
        card.noted(**beside, sha256=digest, scores=scores)
        (made / RESULT_FILE).unlink(missing_ok=True)
        target = modelsFolder() / f"{_safe(card.name)} {digest[:8]}"
        shutil.rmtree(target, ignore_errors=True)  # a damaged copy of this very model makes room
        made.rename(target)
    if (path.parent / JOB_FILE).is_file():
        agree(digest)  # the user's own training
    _write(OTHERS_SETTING, [one for one in _others() if one != path])  # the copy takes its place
    return target / MODEL_FILE


def _safe(name):
    return "".join(letter if letter.isalnum() or letter in " -_." else "_" for letter in name).strip(" .")[:60] or "model"


def _isArchive(path):
    try:
        with zipfile.ZipFile(path) as archive:
            return MODEL_FILE in archive.namelist()
    except zipfile.BadZipFile:
        return False  # refused as a model next


def _unpack(path, folder):
    """Takes the files that we know out of an archive, and compares the hash."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(archive.getinfo(name).file_size for name in ARCHIVE_FILES if name in archive.namelist()) > _MOST_BYTES:
                raise ModelRefused("E403")
            for name in ARCHIVE_FILES:
                if name in archive.namelist():
                    with archive.open(name) as source, open(folder / name, "wb") as target:
                        shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelRefused("E402") from error
    noted = folder / HASH_FILE
    expected = noted.read_text(encoding="utf-8", errors="replace").split()[:1] if noted.is_file() else []
    noted.unlink(missing_ok=True)
    expected = expected or [readJson(folder / CARD_FILE).get("sha256") or hashOf(folder / MODEL_FILE)]
    if hashOf(folder / MODEL_FILE) != str(expected[0]).lower():
        raise ModelRefused("E402")


def export(path, target):
    """Writes one .zip with a model, what lies beside it and its hash; whole or not at all.

    Raises:
        ModelRefused: The file is not usable.
        OSError: The archive cannot be written.
    """
    card, target = cardOf(path), Path(target)
    digest = hashOf(path)
    part = target.with_name(f".{target.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            archive.write(path, MODEL_FILE)
            archive.writestr(CARD_FILE, json.dumps({**card.beside, "sha256": digest}, indent=2, ensure_ascii=False))
            archive.writestr(HASH_FILE, f"{digest}  {MODEL_FILE}\n")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def isIntact(path):
    """Whether a model file still is what was added; None where its hash was not noted (files outside of the folder).

    Raises:
        OSError: It cannot be read.
    """
    noted = readJson(Path(path).parent / CARD_FILE).get("sha256") if isInFolder(path) else None
    return None if not noted else hashOf(path) == str(noted).lower()
