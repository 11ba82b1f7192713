"""Synapse (BTCV) multi-organ CT as downloaded: ``img/img0001.nii.gz`` and ``label/label0001.nii.gz``.

Landman et al., MICCAI 2015 workshop "Beyond the Cranial Vault" (data). Split, lists and window: DHC, MICCAI 2023.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..case_list import Case, CaseList, Layout, Refusal, structures
from .lists import missing_part, without_masks

SYNAPSE_ORGANS = structures(
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic veins",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)
DHC_WINDOW = {"intensity": "window", "window": [-75.0, 275.0]}
# DHC resizes every scan to 80 x 160 x 160, whatever its field of view; one spacing near half the in-plane grid is ours.
ABDOMEN_GRID = {**DHC_WINDOW, "spacing_mm": [3.0, 1.5, 1.5]}
SYNAPSE = Layout("synapse", "Synapse multi-organ CT (BTCV)", SYNAPSE_ORGANS, ABDOMEN_GRID)

# splits/*.txt of xmed-lab/DHC; each share of labels was drawn anew.
_TEST = ("0004", "0007", "0010", "0033", "0035", "0036")
_LEFT_ASIDE = ("0006", "0025", "0026", "0040")
_LABELED = {
    2: ("0023", "0028"),
    4: ("0002", "0023", "0034", "0039"),
    8: ("0002", "0009", "0021", "0023", "0027", "0031", "0032", "0037"),
}
_NUM_LABELED = 4  # 20 % of the 20 training cases
_IMAGE = re.compile(r"(?i)img(\d{4})(?:_0000)?\.nii(?:\.gz)?")
_LABEL = re.compile(r"(?i)label(\d{4})\.nii(?:\.gz)?")


def read_synapse(folder: Path, num_labeled: int | None = None) -> CaseList | None:
    """DHC's test cases are held out, its validation cases left aside, its labeled cases (2, 4 or 8) labeled.

    Another number of labels takes the training cases in the order of their numbers.
    """
    images, labels = _pair(folder)
    if not images:
        return None
    if not labels:
        raise missing_part(SYNAPSE.title, "no mask such as label0001.nii.gz lies in 'label' or 'labelsTr'", folder)
    refused = [
        Refusal(number, images[number], "labeled", "No mask of this number is in the folder of masks.", "E311")
        for number in images
        if number not in labels
    ]
    refused += [
        Refusal(number, labels[number], "labeled", "This mask has no image of the same number.", "E311")
        for number in labels
        if number not in images
    ]
    cases = {number: Case(number, images[number], labels[number], number) for number in images if number in labels}
    held_out = [cases[number] for number in _TEST if number in cases]
    train = [case for number, case in cases.items() if number not in _TEST + _LEFT_ASIDE]
    count = _NUM_LABELED if num_labeled is None else num_labeled
    chosen = _LABELED.get(count) or tuple(case.id for case in train[:count])
    labeled = [cases[number] for number in chosen if number in cases]
    refused += [
        Refusal(number, folder, "labeled", "The published list names it, but it is not there.", "E311")
        for number in chosen
        if number not in cases
    ]
    source = f"DHC's list of {count}" if count in _LABELED else f"the first {count} by number, as no list has {count}"
    notes = [
        (
            f"Labeled: {source}, {', '.join(chosen)}. Held out: {', '.join(case.id for case in held_out) or 'none'}. "
            f"DHC's validation cases {', '.join(_LEFT_ASIDE)} are left aside."
        ),
        "Hounsfield units are cut to -75..275; the grid is 3 × 1.5 × 1.5 mm.",
    ]
    free = without_masks(case for case in train if case.id not in chosen)
    return CaseList(tuple(labeled), free, tuple(held_out), tuple(notes), tuple(refused), SYNAPSE)


def _pair(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    for base in (folder, folder / "Training", folder / "RawData" / "Training"):
        for images, labels in (("img", "label"), ("imagesTr", "labelsTr"), ("imgs", "labels")):
            found = _numbered(base / images, _IMAGE)
            if found:
                return found, _numbered(base / labels, _LABEL)
    return {}, {}


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {match[1]: path for path in sorted(folder.iterdir()) if (match := pattern.fullmatch(path.name))}
