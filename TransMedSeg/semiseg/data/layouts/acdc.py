"""ACDC as SSL4MIS distributes it: slices to train on, whole volumes to score on.

Bernard et al., IEEE TMI 2018 (data); HiLab-git/SSL4MIS (layout and lists). ``train_slices.list`` names slices, patient
after patient; its first 68, 136 and 256 lines are 3, 7 and 14 patients. Volumes lie in ``data`` and slices in
``data/slices`` or beside the volumes. The files state no spacing.
"""

from __future__ import annotations

from pathlib import Path

from ..case_list import Case, CaseList, Layout, Refusal, structures
from ..slices import slice_of
from .lists import missing_part, names_in, not_there, without_masks

ACDC = Layout(
    "acdc",
    "ACDC slices (SSL4MIS)",
    structures("right ventricle", "myocardium", "left ventricle"),
    network="unet2d",
    # Between the 1.37 to 1.68 mm in plane and 5 to 10 mm across that the challenge states.
    assumed_spacing_mm=(10.0, 1.5, 1.5),
)
_NUM_PATIENTS = 7  # 10 % of the 70 training patients, the most used setting


def read_acdc(folder: Path, num_labeled: int | None = None) -> CaseList | None:
    """The first ``num_labeled`` patients (7 unless told) of ``train_slices.list`` are labeled, the others unlabeled.

    ``test.list`` is held out where its volumes are there, else ``val.list``. A case is a frame: the slices of one
    patient at end-diastole or end-systole, stacked.
    """
    if not (folder / "train_slices.list").is_file():
        return None
    names = names_in(folder / "train_slices.list")
    stacks: dict[str, list[str]] = {}
    refused: list[Refusal] = []
    for name in names:
        found = slice_of(f"{name.removesuffix('.h5')}.h5")
        if found is None:
            refused.append(Refusal(name, folder, "labeled", "train_slices.list names it, but it is no slice.", "E311"))
        else:
            stacks.setdefault(found[0], []).append(name.removesuffix(".h5"))
    slices = _folder_of(folder, next((names[0] for names in stacks.values()), ""))
    patients = list(dict.fromkeys(_patient(frame) for frame in stacks))
    count = min(_NUM_PATIENTS if num_labeled is None else num_labeled, len(patients))
    chosen = set(patients[:count])
    frames = {}
    for frame, members in stacks.items():
        missing = [name for name in members if not (slices / f"{name}.h5").is_file()]
        if missing:
            reason = f"{len(missing)} of its {len(members)} slices are not there, such as {missing[0]}.h5."
            role = "labeled" if _patient(frame) in chosen else "unlabeled"
            refused.append(Refusal(frame, slices / f"{missing[0]}.h5", role, reason, "E311"))
            continue
        first = slices / f"{min(members, key=lambda name: slice_of(name + '.h5')[1])}.h5"
        frames[frame] = Case(frame, first, first, _patient(frame))
    labeled = [case for case in frames.values() if case.patient in chosen]
    rest = without_masks(case for case in frames.values() if case.patient not in chosen)
    held_out, list_name = _volumes(folder, refused)
    num_slices = sum(len(members) for frame, members in stacks.items() if _patient(frame) in chosen)
    notes = [
        (
            f"The first {num_slices} slices of train_slices.list are labeled: {count} of {len(patients)} patients; "
            "slices are stacked to one volume a frame."
        ),
        f"{len(held_out)} volumes of {list_name or 'no list'} are held out and scored in 3-D.",
        "The files state no spacing; 10 × 1.5 × 1.5 mm is assumed, so millimeters and milliliters are rough.",
    ]
    return CaseList(tuple(labeled), rest, tuple(held_out), tuple(notes), tuple(refused), ACDC)


def _patient(frame: str) -> str:
    return frame.split("_frame")[0]


def _folder_of(folder: Path, name: str) -> Path:
    """Where the slices lie."""
    places = [folder / "data" / "slices", folder / "data", folder / "slices", folder]
    for place in places:
        if place.is_dir() and any(slice_of(file.name) for file in place.iterdir()):
            return place
    looked = ", ".join(place.relative_to(folder.parent).as_posix() for place in places)
    raise missing_part("ACDC slices (train_slices.list)", f"no slice such as {name}.h5 lies in {looked}", folder)


def _volumes(folder: Path, refused: list[Refusal]) -> tuple[list[Case], str]:
    for list_name in ("test.list", "val.list"):
        if not (folder / list_name).is_file():
            continue
        cases, missing = [], []
        for name in names_in(folder / list_name):
            name = name.removesuffix(".h5")
            path = next((p for p in (folder / "data" / f"{name}.h5", folder / f"{name}.h5") if p.is_file()), None)
            if path is None:
                missing.append(not_there(name, folder / "data" / f"{name}.h5", "held_out", list_name))
            else:
                cases.append(Case(name, path, path, _patient(name)))
        if cases:
            refused.extend(missing)
            return cases, list_name
    return [], ""
