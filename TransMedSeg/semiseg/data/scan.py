"""Looking through folders for volume files and DICOM series; names decide, contents are only glanced at."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from .naming import NameParts, ending, is_role_folder, understand
from .slices import first_slices


def volumes_below(paths: Sequence[Path]) -> Iterator[tuple[Path, NameParts]]:
    """Volume files and DICOM series folders below some paths, each once, in a stable order."""
    seen: set[Path] = set()
    for given in map(Path, paths):
        if not given.exists():
            raise InputError(
                "There is no file or folder of this name.", code="E311", path=given, hint="Check the path."
            )
        base = given if given.is_dir() else given.parent
        # The folder named last may be the one that says "images" or "masks", or the only name an h5 case has.
        if is_role_folder(base.name) or _is_bare_case(given, base):
            base = base.parent
        for path in _below(given):
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path, understand(path.relative_to(base))


def _is_bare_case(given: Path, base: Path) -> bool:
    """Whether a given folder is itself one case: its files are named by their role alone (``img``, ``mri_norm2``)."""
    files = [path for path in sorted(base.iterdir()) if ending(path)] if given.is_dir() else [given]
    return (bool(files) and all(not understand(Path(path.name)).key for path in files)) or _is_dicom_folder(given)


def _below(given: Path) -> Iterator[Path]:
    if given.is_file():
        yield given
        return
    for folder, subfolders, names in os.walk(given, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        here = Path(folder)
        known = [name for name in map(_downloaded_name, sorted(names)) if name and ending(Path(name))]
        yield from (here / name for name in first_slices(known))
        if _is_dicom_folder(here):
            yield here


def _downloaded_name(name: str) -> str:
    """The name as it will be on this computer: iCloud keeps ``a.nii`` as ``.a.nii.icloud``. Empty for hidden files."""
    if name.startswith("."):
        return name[1:].removesuffix(".icloud") if name.endswith(".icloud") else ""
    return name


def _is_dicom_folder(folder: Path) -> bool:
    """Whether a folder holds DICOM files: named ``.dcm``, or with "DICM" after the 128-byte preamble (PS3.10, 7.1)."""
    if not folder.is_dir():
        return False
    candidates = (
        entry
        for entry in sorted(folder.iterdir())
        if entry.is_file()
        and not entry.name.startswith(".")
        and entry.name.upper() != "DICOMDIR"
        and entry.suffix.lower() in ("", ".dcm", ".ima", *(f".{n}" for n in range(10)))
        or _is_uid(entry)
    )
    for entry in itertools.islice(candidates, 3):
        if entry.suffix.lower() == ".dcm":
            return True
        with open(entry, "rb") as file:
            file.seek(128)
            if file.read(4) == b"DICM":
                return True
    return False


def _is_uid(entry: Path) -> bool:
    return entry.is_file() and entry.name.count(".") > 3 and entry.name.replace(".", "").isdecimal()


def dicom_patient(folder: Path) -> str:
    """Patient ID of a series (PS3.3, C.7.1.1), or an empty string where it is missing or says nothing."""
    try:
        import pydicom
    except ModuleNotFoundError:
        return ""  # reading the series will say what is missing

    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
        except (pydicom.errors.InvalidDicomError, OSError, EOFError):
            continue  # not DICOM or damaged: reading the series will say so
        patient = str(header.get("PatientID", "") or "").strip()
        return "" if patient.lower() in ("", "anon", "anonymous", "anonymized", "unknown", "0") else patient
    return ""
