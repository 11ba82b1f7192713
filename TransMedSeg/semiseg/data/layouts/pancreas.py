"""Pancreas-CT of the NIH as CoraNet and BCP distribute it: h5 files of 1 mm, cut around the organ.

Roth et al., TCIA 2016 (data); DeepMed-Lab-ECNU/BCP (preparation and lists). Hounsfield units were cut to -125..275 and
mapped to 0..1. Axes are x, y, z.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..case_list import Case, CaseList, Layout, Refusal, structures
from ..naming import natural_order
from .lists import first_labeled, missing_part, names_in, not_there, without_masks

PANCREAS = Layout(
    "pancreas",
    "Pancreas-CT (NIH), h5 files of 1 mm",
    structures("pancreas"),
    {"intensity": "window", "window": [0.0, 1.0]},  # what -125..275 became
    assumed_spacing_mm=(1.0, 1.0, 1.0),
)
_FILE = re.compile(r"(?i)(?:image)?(\d{4})(?:_norm)?\.h5")
_NUM_LABELED = 12  # 20 % of the 62 training cases; 6 is the other published setting
_FIRST_TEST = 64  # 0064 to 0082 are the 18 test cases of the published lists


def read_pancreas(folder: Path, num_labeled: int | None = None) -> CaseList | None:
    """``train_lab.txt``, ``train_unlab.txt`` and ``test.txt`` decide where they are; else the number in the name does.

    The published labeled cases are the first 12 (or 6) numbers, the test cases those from 0064 on.
    """
    files = _files(folder)
    lists = {name: folder / name for name in ("train_lab.txt", "train_unlab.txt", "test.txt")}
    there = [name for name, path in lists.items() if path.is_file()]
    if there == ["test.txt"]:  # a name that any folder may have
        there = []
    named = "pancreas" in folder.name.lower() or any("_norm" in path.name.lower() for path in files.values())
    if not there and not (files and named):
        return None
    if there and not files:
        raise missing_part("Pancreas-CT", f"{there[0]} names h5 files, and none such as 0001.h5 lies here", folder)
    if there and len(there) < 3:
        missing = ", ".join(sorted(set(lists) - set(there)))
        raise missing_part("Pancreas-CT", f"of its three lists {missing} is missing", folder)
    refused: list[Refusal] = []
    if there:
        train = _listed(lists["train_lab.txt"], files, "labeled", refused)
        free = _listed(lists["train_unlab.txt"], files, "unlabeled", refused)
        test = _listed(lists["test.txt"], files, "held_out", refused)
        if num_labeled is None:
            notes = (f"train_lab.txt names {len(train)} labeled cases.", _SPACING)
            return CaseList(tuple(train), without_masks(free), tuple(test), notes, tuple(refused), PANCREAS)
        return first_labeled(PANCREAS, [*train, *free], test, num_labeled, [_SPACING], refused)
    cases = [Case(number, files[number], files[number], number) for number in sorted(files, key=natural_order)]
    train = [case for case in cases if int(case.id) < _FIRST_TEST]
    test = [case for case in cases if int(case.id) >= _FIRST_TEST]
    notes = [f"Cases from {_FIRST_TEST:04d} on are held out, as in the published lists.", _SPACING]
    return first_labeled(PANCREAS, train, test, _NUM_LABELED if num_labeled is None else num_labeled, notes)


_SPACING = "The files state no spacing; they were made with 1 mm in every direction, which is assumed."


def _files(folder: Path) -> dict[str, Path]:
    """Files by their four digits, in the folder or its ``Pancreas_h5``."""
    for place in (folder, folder / "Pancreas_h5", folder / "data"):
        if place.is_dir():
            found = {match[1]: path for path in sorted(place.iterdir()) if (match := _FILE.fullmatch(path.name))}
            if found:
                return found
    return {}


def _listed(path: Path, files: dict[str, Path], role: str, refused: list[Refusal]) -> list[Case]:
    cases = []
    for name in names_in(path):
        match = _FILE.fullmatch(name if name.lower().endswith(".h5") else f"{name}.h5")
        number = match[1] if match else name
        if number in files:
            cases.append(Case(number, files[number], files[number], number))
        else:
            refused.append(not_there(number, path.parent / name, role, path.name))
    return cases
