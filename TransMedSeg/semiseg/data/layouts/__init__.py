"""Layouts of public data sets: who recognizes a folder reads it. A new layout is one file and one line here.

A reader takes a folder and says None where the folder is none of its kind, a :class:`CaseList` where it is, and raises
:class:`InputError` where it is half of one. Readers look at names and lists; volumes are read later, case by case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...errors import InputError
from ..case_list import CaseList
from .acdc import read_acdc
from .amos import read_amos
from .dataset_json import read_dataset_json
from .pancreas import read_pancreas
from .resized_ct import read_resized_ct
from .synapse import read_synapse
from .synapse_slices import read_synapse_slices

Reader = Callable[[Path, int | None], CaseList | None]

LAYOUTS: tuple[Reader, ...] = (
    read_acdc,
    read_pancreas,
    read_resized_ct,
    read_synapse_slices,
    read_synapse,
    read_amos,
    read_dataset_json,  # last: AMOS has a dataset.json too
)


def find_layout(folder: Path, num_labeled: int | None = None) -> CaseList | None:
    """The cases of a folder in a public layout, with the name of the layout as the first note; None for any other.

    Args:
        folder: The folder itself, not one above it.
        num_labeled: How many labeled cases to use; of ACDC, patients. None takes what is most published.

    Raises:
        InputError: The folder is a layout's, but something it needs is missing or unreadable (E311), or holds what
            cannot be trained on: several channels (E302), regions instead of labels (E704).
    """
    for reader in LAYOUTS:
        found = reader(Path(folder), num_labeled)
        if found is not None:
            return replace(found, notes=(f"Layout: {found.layout.title}.", *found.notes))
    return None


def refuse_parent(folder: Path) -> None:
    """Refuses a folder whose subfolders are public data sets: sorting them by file names would mix them.

    Raises:
        InputError: A subfolder has a known layout (E311).
    """
    known = []
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            if (inner / "train.list").is_file() or find_layout(inner) is not None:
                known.append(inner)
        except InputError:
            known.append(inner)  # half a layout is one too; reading it will say what is missing
    if known:
        raise InputError(
            f"This folder is above a data set: {', '.join(path.name for path in known[:5])}.",
            code="E311",
            path=folder,
            hint=f"Name the data set's own folder, such as {known[0].name}.",
        )
