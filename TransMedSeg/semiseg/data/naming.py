"""What the names of files and folders say: image or mask, and which case. No file is opened here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

from .slices import slice_of

# Longest first, because ".nii.gz" also ends in ".gz".
IMAGE_ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".h5", ".hdf5")
_ARRAY_NAME = re.compile(r"(?i).+_(?:image|label)\.npy")  # as DHC writes; any other npy file may hold anything

# "laendo" and "lgemri" are the names of the 2018 Atrial Segmentation Challenge, the last ones those of LAScarQS 2022.
_MASK_WORDS = (
    "segmentations",
    "segmentation",
    "groundtruth",
    "annotations",
    "annotation",
    "labelmap",
    "labelstr",
    "labelsts",
    "labels",
    "label",
    "masks",
    "mask",
    "contour",
    "laendo",
    "seg",
    "gt",
    "atriumsegimgmo",
)
_IMAGE_WORDS = (
    "volumes",
    "volume",
    "images",
    "imagestr",
    "imagests",
    "image",
    "imgs",
    "img",
    "scans",
    "scan",
    "vol",
    "dicom",
    "lgemri",
    "mri_norm2",
    "enhanced",
)
_OTHER_WORDS = ("lawall", "scarsegimgm")  # structures beside the one of the challenge
_TEST_FOLDERS = ("imagests", "labelsts")
_GAP = r"[\s_\-.]"


@dataclass(frozen=True)
class NameParts:
    """One file name, understood.

    Args:
        key: Folders and name without the words for image and mask; equal for an image and its mask.
        is_mask: The name or a folder says so.
        is_test: Medical Segmentation Decathlon and nnU-Net keep test cases in ``imagesTs`` and ``labelsTs``.
        is_other: Belongs to a case, but is neither its image nor its mask.
        base: ``key`` without nnU-Net's four digits for the channel; None where the name does not end in such digits.
    """

    key: tuple[str, ...]
    is_mask: bool = False
    is_test: bool = False
    is_other: bool = False
    base: tuple[str, ...] | None = None


def ending(path: PurePath) -> str:
    """The ending of a volume file, lower case with the dot, or an empty string."""
    name = path.name.lower()
    if _ARRAY_NAME.fullmatch(name):
        return ".npy"
    if name.endswith(".npz") and slice_of(name) is not None:
        return ".npz"
    return next((end for end in IMAGE_ENDINGS if name.endswith(end)), "")


def stem(path: PurePath) -> str:
    """The name without its ending; of a slice file, that of its stack."""
    found = slice_of(path.name)
    if found is not None:
        return found[0]
    name = path.name[: len(path.name) - len(ending(path))]
    return name.removesuffix(".npy") if path.name.lower().endswith(".npy.h5") else name


def is_role_folder(name: str) -> bool:
    """Whether a folder name only says what lies in it: ``imagesTr``, ``masks``, ``ground_truth``, ``DICOM``."""
    return _plain(name) in _MASK_WORDS + _IMAGE_WORDS


def understand(relative: PurePath) -> NameParts:
    """Reads a path relative to the folder the user gave; a DICOM series is named by its folder."""
    is_mask, is_test = ending(relative) == ".seg.nrrd", False
    kept = []
    for folder in relative.parts[:-1]:
        is_mask |= _plain(folder) in _MASK_WORDS
        is_test |= _plain(folder) in _TEST_FOLDERS
        if not is_role_folder(folder):
            kept.append(folder)
    name = stem(relative)
    is_other = _plain(name) in _OTHER_WORDS
    bare = _without(name, _MASK_WORDS)
    is_mask |= bare != name
    bare = _without(bare, _IMAGE_WORDS)
    digits = re.fullmatch(r"(.+)_\d{4}", bare)
    base = (*kept, digits.group(1)) if digits and not is_mask else None
    return NameParts((*kept, bare) if bare else tuple(kept), is_mask, is_test, is_other, base)


def safe_id(parts: tuple[str, ...]) -> str:
    """A case id that any file system takes as a name. Letters of all scripts stay."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", "_".join(parts)).strip(" .") or "case"


def natural_order(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts ``case_2`` before ``case_10``."""
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in re.split(r"(\d+)", text) if part
    )


def patient_of(case_id: str) -> str:
    """The patient a case belongs to, as far as its name tells; the case id itself where it does not.

    BIDS names the patient ``sub-01``; ACDC and many others number a visit, frame or phase after the patient.
    """
    bids = re.match(r"(sub-[A-Za-z0-9]+)(?=[_/]|$)", case_id)
    if bids:
        return bids.group(1)
    numbered = re.match(
        r"(?i)(.*?(?:patient|subject|subj|pat|p)[_\-]?\d+)[_\-](?:frame|phase|visit|scan|time|tp|t|"
        r"ed|es|pre|post|baseline|followup|follow-up)[_\-]?\d*$",
        case_id,
    )
    return numbered.group(1) if numbered else case_id


def _plain(folder: str) -> str:
    return re.sub(r"[\s\-]|_(?!norm)", "", folder).lower()


def _without(name: str, words: tuple[str, ...]) -> str:
    """``name`` without one of ``words`` as its last or first part: ``P1_seg``, ``mask-P1`` and ``label`` all shrink."""
    choice = "|".join(words)
    for pattern in (rf"(?i)^(?:(.*?){_GAP}+)?(?:{choice})$", rf"(?i)^(?:{choice})(?:{_GAP}+(.*))?$"):
        match = re.match(pattern, name)
        if match:
            return match.group(1) or ""
    return name
