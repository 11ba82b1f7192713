"""AMOS 2022 as downloaded: ``imagesTr/amos_0001.nii.gz``; the validation part, which has masks, is held out.

Ji et al., AMOS, NeurIPS 2022. Numbers up to 500 are CT, those above MRI; this layout takes the CT scans.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..case_list import Case, CaseList, Layout, Refusal, structures
from .lists import first_labeled, hold_out_last_fifth, missing_part
from .synapse import ABDOMEN_GRID

AMOS_ORGANS = structures(
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
    "duodenum",
    "bladder",
    "prostate or uterus",
)
AMOS = Layout("amos", "AMOS 2022, CT", AMOS_ORGANS, ABDOMEN_GRID)
_NUM_LABELED = 10  # 5 % of the 200 training CT scans
_LAST_CT = 500
_FILE = re.compile(r"(?i)amos_(\d{4})(?:_0000)?\.nii(?:\.gz)?")


def read_amos(folder: Path, num_labeled: int | None = None) -> CaseList | None:
    """The first 10 (unless told) CT scans of ``imagesTr`` by number are labeled; ``imagesVa`` is held out.

    The published lists of DHC mix CT and MRI; use its npy layout for them.
    """
    train = _numbered(folder / "imagesTr")
    if not train:
        return None
    refused: list[Refusal] = []
    mine = _cases(train, folder / "labelsTr", "labeled", refused)
    if not mine:
        raise missing_part(AMOS.title, "labelsTr holds no mask of a CT scan (numbers up to 0500)", folder)
    held_out = _cases(_numbered(folder / "imagesVa"), folder / "labelsVa", "held_out", refused)
    test = _numbered(folder / "imagesTs")
    loose = [Case(f"amos_{number}", path) for number, path in test.items() if int(number) <= _LAST_CT]
    notes = ["Hounsfield units are cut to -75..275; the grid is 3 × 1.5 × 1.5 mm."]
    if not held_out:
        mine, held_out, note = hold_out_last_fifth(mine)
        notes.append(note)
    if loose:
        notes.append(f"{len(loose)} test scans without masks (imagesTs) are used as unlabeled volumes.")
    count = _NUM_LABELED if num_labeled is None else num_labeled
    return first_labeled(AMOS, mine, held_out, count, notes, refused, loose)


def _numbered(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {match[1]: path for path in sorted(folder.iterdir()) if (match := _FILE.fullmatch(path.name))}


def _cases(images: dict[str, Path], labels: Path, role: str, refused: list[Refusal]) -> list[Case]:
    masks = _numbered(labels)
    cases = []
    for number, path in images.items():
        case_id = f"amos_{number}"
        if int(number) > _LAST_CT:
            refused.append(Refusal(case_id, path, role, "MRI (a number above 500); this layout takes the CT scans."))
        elif number not in masks:
            refused.append(Refusal(case_id, path, role, f"No mask of this name is in {labels.name}.", "E311"))
        else:
            cases.append(Case(case_id, path, masks[number], case_id))
    return cases
