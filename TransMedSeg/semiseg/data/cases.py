"""Finding cases: which image, which mask, which role. Files are only looked at, not read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import InputError
from .array_files import has_mask
from .case_list import Case, CaseList, Layout, Refusal, structures
from .layouts import find_layout, refuse_parent
from .naming import NameParts, natural_order, safe_id, stem
from .scan import dicom_patient, volumes_below

_ROLE_FOLDERS = {
    "labeled": ("labeled", "labelled"),
    "unlabeled": ("unlabeled", "unlabelled"),
    "held_out": ("heldout", "test"),
}
_PUBLISHED_NUM_LABELED = 8  # 10 % of the 80 training cases, the most used setting on the left-atrium benchmark
_LEFT_ATRIUM = Layout("left_atrium", "left atrium, 2018 challenge (h5)", structures("left atrium"))


@dataclass
class _Found:
    """Cases of some folders before they get a role."""

    with_mask: list[Case] = field(default_factory=list)
    without_mask: list[Case] = field(default_factory=list)
    test_ids: set[str] = field(default_factory=set)
    refused: list[Refusal] = field(default_factory=list)


def find_cases(
    labeled: Sequence[Path],
    unlabeled: Sequence[Path] = (),
    held_out: Sequence[Path] = (),
    num_labeled: int | None = None,
) -> CaseList:
    """Finds the cases in files and folders the user sorted by role.

    Args:
        labeled: Files and folders with images and masks, paired by name. A single folder may stand alone: it is
            then sorted as :func:`find_cohort` does.
        unlabeled: Files and folders with images; masks found there are left aside.
        held_out: Files and folders with images and masks for the final score.
        num_labeled: Use only the first so many labeled cases with their masks; the rest joins the unlabeled ones.

    Raises:
        InputError: A path does not exist (E311).
    """
    if len(labeled) == 1 and not unlabeled and not held_out and Path(labeled[0]).is_dir():
        return find_cohort(Path(labeled[0]), num_labeled)
    return _sorted_cases(labeled, unlabeled, held_out, num_labeled)


def find_cohort(folder: Path, num_labeled: int | None = None, num_held_out: int | None = None) -> CaseList:
    """Finds the cases of one folder and gives each its role.

    1. A public layout (see ``layouts``) is read as published. ``train.list`` and ``test.list`` (left-atrium layout):
       the first ``num_labeled`` names of ``train.list`` (8 unless told) are labeled, its other names unlabeled,
       ``test.list`` is held out.
    2. Subfolders ``labeled``, ``unlabeled`` and ``heldout`` or ``test``: as named.
    3. Otherwise images with masks are labeled, those without are unlabeled. ``imagesTs`` with ``labelsTs`` is held
       out; where there is none, the last fifth of the labeled patients by name is.

    Args:
        num_labeled: Only the first so many cases keep their masks; the rest joins the unlabeled ones.
        num_held_out: Patients to hold out where the folder does not say (rule 3).

    Raises:
        InputError: The folder does not exist or holds no volumes (E311).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            "A folder with volumes was expected, but there is none of this name.",
            code="E311",
            path=folder,
            hint="Check the path.",
        )
    published = find_layout(folder, num_labeled)
    if published is not None:
        return published
    if (folder / "train.list").is_file():
        return _listed_cohort(folder, _PUBLISHED_NUM_LABELED if num_labeled is None else num_labeled)
    roles = {
        role: [sub for sub in sorted(folder.iterdir()) if sub.is_dir() and _folder_word(sub) in words]
        for role, words in _ROLE_FOLDERS.items()
    }
    if roles["labeled"]:
        found = _sorted_cases(roles["labeled"], roles["unlabeled"], roles["held_out"], num_labeled)
        return replace(found, notes=("The subfolders name the roles.", *found.notes))
    refuse_parent(folder)
    return _mixed_cohort(folder, num_labeled, num_held_out)


__all__ = ["Case", "CaseList", "Refusal", "find_cases", "find_cohort", "with_masks"]


def with_masks(found: CaseList, masks: Mapping[str, str]) -> CaseList:
    """Gives cases the masks that a person chose for them, in place of those that were found by name.

    Args:
        masks: Mask file by image file. An image that is no labeled or held-out case is passed over.
    """
    chosen = {Path(image): Path(mask) for image, mask in masks.items()}
    named = {
        role: tuple(replace(case, label=chosen.get(case.image, case.label)) for case in getattr(found, role))
        for role in ("labeled", "held_out")
    }
    return replace(found, **named)


def _tell_apart(parts: Sequence[_Found], notes: list[str]) -> None:
    """Gives every DICOM series a patient of its own where de-identification gave all of them one Patient ID."""
    series = [case for part in parts for case in (*part.with_mask, *part.without_mask) if case.image.is_dir()]
    if len(series) < 3 or len({case.patient for case in series}) > 1:
        return
    notes.append(f"All {len(series)} DICOM series have Patient ID '{series[0].patient}'; each is taken as a patient.")
    for part in parts:
        for cases in (part.with_mask, part.without_mask):
            cases[:] = [replace(case, patient=case.id) if case.image.is_dir() else case for case in cases]


def _sorted_cases(
    labeled: Sequence[Path], unlabeled: Sequence[Path], held_out: Sequence[Path], num_labeled: int | None
) -> CaseList:
    taken: set[str] = set()
    masked, scored, free = (
        _collect(paths, role, taken)
        for paths, role in ((labeled, "labeled"), (held_out, "held_out"), (unlabeled, "unlabeled"))
    )
    notes: list[str] = []
    _tell_apart((masked, scored, free), notes)
    if free.with_mask:
        notes.append(f"{len(free.with_mask)} masks among the unlabeled volumes are left aside.")
    chosen, rest = _first(masked.with_mask, num_labeled, notes)
    # Test images of a public data set come without masks; any other image without one is a slip to report.
    loose = [case for case in masked.without_mask if case.id in masked.test_ids]
    if loose:
        notes.append(f"{len(loose)} test images without masks (imagesTs) are used as unlabeled volumes.")
    refused = masked.refused + scored.refused + free.refused
    refused += [_no_mask(case, "labeled") for case in masked.without_mask if case.id not in masked.test_ids]
    refused += [_no_mask(case, "held_out") for case in scored.without_mask]
    pool = [*rest, *loose, *_by_name([*free.without_mask, *free.with_mask])]
    return CaseList(
        tuple(chosen),
        tuple(replace(case, label=None) for case in pool),
        tuple(scored.with_mask),
        tuple(notes),
        tuple(refused),
    )


def _listed_cohort(folder: Path, num_labeled: int) -> CaseList:
    """The layout of the left-atrium benchmark: one folder a case, lists with its names in published order."""
    refused: list[Refusal] = []
    train = _listed_cases(folder, "train.list", refused)
    test = _listed_cases(folder, "test.list", refused) if (folder / "test.list").is_file() else []
    order = f"train.list gives the order: its first {num_labeled} names are labeled."
    notes = (f"Layout: {_LEFT_ATRIUM.title}.", order)
    # The position in the list decides, also where a listed case is missing: the published protocol stays comparable.
    labeled = [case for place, case in train if place < num_labeled]
    unlabeled = [replace(case, label=None) for place, case in train if place >= num_labeled]
    return CaseList(
        tuple(labeled), tuple(unlabeled), tuple(case for _, case in test), notes, tuple(refused), _LEFT_ATRIUM
    )


def _listed_cases(folder: Path, list_name: str, refused: list[Refusal]) -> list[tuple[int, Case]]:
    text = (folder / list_name).read_text(encoding="utf-8-sig")
    names = [line.strip() for line in text.splitlines() if line.strip()]
    role = "held_out" if list_name == "test.list" else "labeled"
    cases = []
    for place, name in enumerate(names):
        path = folder / name
        if not path.exists():
            refused.append(Refusal(safe_id((name,)), path, role, f"{list_name} names it, but it is not there.", "E311"))
            continue
        taken: set[str] = set()
        found = _collect([path], role, taken)
        refused.extend(found.refused)
        if len(found.with_mask) == 1:
            cases.append((place, replace(found.with_mask[0], id=safe_id((name.removesuffix(".h5"),)), patient=name)))
        else:
            refused.append(
                Refusal(
                    safe_id((name,)),
                    path,
                    role,
                    f"One image with a mask was expected, {len(found.with_mask)} were found.",
                )
            )
    return cases


def _mixed_cohort(folder: Path, num_labeled: int | None, num_held_out: int | None) -> CaseList:
    found = _collect([folder], "labeled", set())
    if not (found.with_mask or found.without_mask or found.refused):
        raise InputError(
            "No volumes were found: expected NIfTI, NRRD, MHA, h5 files, DICOM series or a public data set.",
            code="E311",
            path=folder,
            hint="Choose the folder that holds them, or one above it; docs/datasets.md shows the public layouts.",
        )
    notes = ["Images with a mask are labeled, images without are unlabeled."]
    _tell_apart((found,), notes)
    held_out = [case for case in found.with_mask if case.id in found.test_ids]
    labeled = [case for case in found.with_mask if case.id not in found.test_ids]
    if not held_out:
        patients = list(dict.fromkeys(case.patient for case in labeled))
        count = len(patients) // 5 if num_held_out is None else num_held_out
        if num_held_out is None and len(patients) >= 3:
            count = max(1, count)
        last = set(patients[len(patients) - count :]) if count else set()
        held_out = [case for case in labeled if case.patient in last]
        labeled = [case for case in labeled if case.patient not in last]
        notes.append(f"The last {len(last)} of {len(patients)} labeled patients by name are held out.")
    chosen, rest = _first(labeled, num_labeled, notes)
    free = [replace(case, label=None) for case in (*rest, *found.without_mask)]
    return CaseList(tuple(chosen), tuple(free), tuple(held_out), tuple(notes), tuple(found.refused))


def _first(cases: list[Case], count: int | None, notes: list[str]) -> tuple[list[Case], list[Case]]:
    if count is None or count >= len(cases):
        return cases, []
    notes.append(
        f"The first {count} of {len(cases)} cases with a mask are labeled; the masks of the others are left aside."
    )
    return cases[:count], cases[count:]


def _no_mask(case: Case, role: str) -> Refusal:
    return Refusal(
        case.id,
        case.image,
        role,
        "No mask was found for this image. Name it like the image, with _seg, "
        "_label or _mask added, or put it into a folder 'labels'.",
    )


def _by_name(cases: Iterable[Case]) -> list[Case]:
    return sorted(cases, key=lambda case: natural_order(case.id))


def _folder_word(folder: Path) -> str:
    return folder.name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _collect(paths: Sequence[Path], role: str, taken: set[str]) -> _Found:
    """Pairs images and masks below some paths. ``taken`` keeps ids unique over all roles."""
    images: dict[Path, NameParts] = {}
    masks: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path, parts in volumes_below(paths):
        if parts.is_other:
            continue
        if parts.is_mask:
            masks[parts.key].append(path)
        else:
            images[path] = parts
    found, paired = _Found(), set()
    every_image_numbered = all(parts.base for parts in images.values())
    for path, parts in images.items():
        key = _key_without_channel(path, parts, masks, every_image_numbered)
        if key is None:
            found.refused.append(
                Refusal(
                    safe_id(parts.key),
                    path,
                    role,
                    "This is a further channel of a case; volumes with one channel (_0000) are supported.",
                )
            )
            continue
        paired.add(key)
        _add_case(found, path, key, parts, masks.get(key, []), role, taken)
    for key in masks.keys() - paired:
        for path in masks[key]:
            found.refused.append(Refusal(safe_id(key), path, role, "This mask has no image of the same name."))
    found.with_mask, found.without_mask = _by_name(found.with_mask), _by_name(found.without_mask)
    return found


def _key_without_channel(
    path: Path, parts: NameParts, masks: dict[tuple[str, ...], list[Path]], every_image_numbered: bool
) -> tuple[str, ...] | None:
    """Decides whether four digits at the end are nnU-Net's channel or part of the name. None: a further channel."""
    if parts.base is None or parts.key in masks:
        return parts.key
    is_channel = parts.base in masks or (every_image_numbered and path.parent.name in ("imagesTr", "imagesTs"))
    if not is_channel:
        return parts.key
    return parts.base if parts.key[-1].endswith("_0000") else None


def _add_case(
    found: _Found, path: Path, key: tuple[str, ...], parts: NameParts, masks: list[Path], role: str, taken: set[str]
) -> None:
    case_id = _unique(safe_id(key or (stem(path),)), taken)
    if len(masks) > 1:
        names = ", ".join(mask.name for mask in masks)
        found.refused.append(Refusal(case_id, path, role, f"Several masks fit this image: {names}. Leave one."))
        return
    label = masks[0] if masks else path if has_mask(path) else None
    case = Case(case_id, path, label, dicom_patient(path) if path.is_dir() else "")
    (found.with_mask if label else found.without_mask).append(case)
    if parts.is_test:
        found.test_ids.add(case_id)


def _unique(case_id: str, taken: set[str]) -> str:
    # Windows and macOS do not tell "A" from "a", so neither do we.
    chosen, number = case_id, 2
    while chosen.lower() in taken:
        chosen, number = f"{case_id}-{number}", number + 1
    taken.add(chosen.lower())
    return chosen
