"""Synapse and AMOS as DHC distributes them: npy arrays resized to one shape, and lists in ``splits``.

Wang and Li, DHC, MICCAI 2023 (xmed-lab/DHC): ``npy/<id>_image.npy`` in Hounsfield units and ``npy/<id>_label.npy``,
both 80 x 160 x 160; intensities are cut to -75..275. Each share of labels has a list of its own, drawn anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import InputError
from ..case_list import Case, CaseList, Layout, Refusal
from .amos import AMOS_ORGANS
from .lists import missing_part, names_in, not_there, without_masks
from .synapse import DHC_WINDOW, SYNAPSE_ORGANS

_RESIZED = {"assumed_spacing_mm": (1.0, 1.0, 1.0), "preprocessing": DHC_WINDOW}
SYNAPSE_NPY = Layout("synapse_npy", "Synapse multi-organ CT, resized (DHC)", SYNAPSE_ORGANS, **_RESIZED)
AMOS_NPY = Layout("amos_npy", "AMOS abdominal organs, resized (DHC)", AMOS_ORGANS, **_RESIZED)
_DEFAULT_PERCENT = {"synapse_npy": "20", "amos_npy": "5"}


def read_resized_ct(folder: Path, num_labeled: int | None = None) -> CaseList | None:
    """``splits/labeled_<percent>p.txt`` and its unlabeled counterpart train, ``test.txt`` is held out.

    ``num_labeled`` chooses the list of that length (2, 4, 8 on Synapse; 4, 10, 21 on AMOS).
    """
    arrays, splits = folder / "npy", folder / "splits"
    if not arrays.is_dir() or not any(arrays.glob("*_image.npy")):
        return None
    layout = AMOS_NPY if any(arrays.glob("amos_*_image.npy")) else SYNAPSE_NPY
    lists = {
        match[1]: path
        for path in (sorted(splits.glob("labeled_*p.txt")) if splits.is_dir() else ())
        if (match := re.fullmatch(r"labeled_(\d+)p\.txt", path.name))
    }
    if not lists or not (splits / "test.txt").is_file():
        raise missing_part(layout.title, "its folder 'splits' lacks labeled_<percent>p.txt or test.txt", folder)
    percent = _percent(layout, lists, num_labeled)
    if not (splits / f"unlabeled_{percent}p.txt").is_file():
        raise missing_part(layout.title, f"splits/unlabeled_{percent}p.txt is missing", folder)
    refused: list[Refusal] = []
    labeled, free, test = (
        _listed(splits / name, arrays, role, refused)
        for name, role in (
            (f"labeled_{percent}p.txt", "labeled"),
            (f"unlabeled_{percent}p.txt", "unlabeled"),
            ("test.txt", "held_out"),
        )
    )
    notes = [
        f"splits/labeled_{percent}p.txt names {len(labeled)} labeled cases; eval.txt is left aside.",
        (
            "The arrays were resized to one shape and their spacing is lost: 1 mm is assumed, so distances are in voxels "
            "and milliliters mean nothing."
        ),
    ]
    numbers = [int(case.id[-4:]) for case in (*labeled, *free, *test) if case.id[-4:].isdecimal()]
    if layout is AMOS_NPY and max(numbers, default=0) > 500:
        notes.append("The lists also name MRI scans (numbers above 500), which the CT window does not suit.")
    return CaseList(tuple(labeled), without_masks(free), tuple(test), tuple(notes), tuple(refused), layout)


def _percent(layout: Layout, lists: dict[str, Path], num_labeled: int | None) -> str:
    if num_labeled is None:
        usual = _DEFAULT_PERCENT[layout.name]
        return usual if usual in lists else min(lists, key=int)
    lengths = {percent: len(names_in(path)) for percent, path in lists.items()}
    for percent, length in lengths.items():
        if length == num_labeled:
            return percent
    known = ", ".join(f"{length} ({percent} %)" for percent, length in sorted(lengths.items(), key=lambda one: one[1]))
    raise InputError(
        f"None of the published lists has {num_labeled} labeled cases; there are lists of {known}.",
        code="E311",
        path=lists[min(lists, key=int)].parent,
        hint="Choose one of these numbers.",
    )


def _listed(path: Path, arrays: Path, role: str, refused: list[Refusal]) -> list[Case]:
    cases = []
    for name in names_in(path):
        image, label = arrays / f"{name}_image.npy", arrays / f"{name}_label.npy"
        if image.is_file() and (label.is_file() or role == "unlabeled"):
            cases.append(Case(name, image, label if label.is_file() else None, name))
        else:
            refused.append(not_there(name, label if image.is_file() else image, role, path.name))
    return cases
