"""Folders with a ``dataset.json``: the Medical Segmentation Decathlon, and nnU-Net's raw data sets.

Decathlon (Antonelli et al., Nature Communications 2022): ``labels`` maps value to name, ``training`` lists the cases,
channels are a fourth axis. nnU-Net (Isensee et al., Nature Methods 2021): version 2 maps name to value, images end in
``_0000`` for the channel.
"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import InputError
from ..case_list import Case, CaseList, Layout, Refusal
from ..naming import ending, natural_order, patient_of, stem
from .lists import first_labeled, hold_out_last_fifth, missing_part, not_there

_CHANNEL = re.compile(r"(.+)_(\d{4})")


def read_dataset_json(folder: Path, num_labeled: int | None = None) -> CaseList | None:
    """Every labeled case is used unless told; ``imagesTs`` is held out where it has masks, else unlabeled.

    Raises:
        InputError: ``dataset.json`` cannot be read, or images or masks are missing (E311); several channels (E302);
            regions, or a label to ignore (E704).
    """
    if not (folder / "dataset.json").is_file():
        return None
    about = _load(folder / "dataset.json")
    if not isinstance(about.get("labels"), dict):
        return None  # some other file of this name
    is_nnunet = "channel_names" in about or "file_ending" in about or _has_channels(folder / "imagesTr")
    kind = "nnU-Net raw data" if is_nnunet else "Medical Segmentation Decathlon"
    title = f"{kind}, {about.get('name') or folder.name}"
    channels = about.get("channel_names") or about.get("modality") or {}
    if len(channels) > 1:
        named = ", ".join(map(str, channels.values()))
        raise InputError(
            f"The images of {title} have {len(channels)} channels ({named}); one is supported.",
            code="E302",
            path=folder / "dataset.json",
            hint="Make a data set of one of the channels.",
        )
    for name in ("imagesTr", "labelsTr"):
        if not (folder / name).is_dir():
            raise missing_part(title, f"the folder {name} is missing", folder)
    is_ct = any(str(one).strip().upper() == "CT" for one in channels.values())
    labels = _labels(about["labels"], folder / "dataset.json")
    layout = Layout("nnunet" if is_nnunet else "decathlon", title, labels, window_from_labels=is_ct)
    refused: list[Refusal] = []
    train = _cases(folder, "Tr", "labeled", is_nnunet, refused)
    if not is_nnunet:
        train = _in_listed_order(train, about, folder, refused)
    if not train:
        raise missing_part(title, "no image of imagesTr has a mask of the same name in labelsTr", folder)
    notes = [f"Structures: {', '.join(one['name'] for one in labels)}."]
    test, loose = _test_cases(folder, is_nnunet, refused)
    if not test:
        train, test, note = hold_out_last_fifth(train)
        notes.append(note)
    if loose:
        notes.append(f"{len(loose)} test images without masks (imagesTs) are used as unlabeled volumes.")
    if is_ct:
        notes.append("CT: the window is measured under the masks of labeled cases (0.5 to 99.5 %, as in nnU-Net).")
    return first_labeled(layout, train, test, num_labeled, notes, refused, loose)


def _load(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"dataset.json cannot be read: {error}.", code="E311", path=path, hint="Copy it again from the data set."
        ) from error
    return about if isinstance(about, dict) else {}


def _labels(stated: dict[str, Any], path: Path) -> tuple[dict[str, Any], ...]:
    """Names by value, from either direction: ``{"1": "liver"}`` (Decathlon) or ``{"liver": 1}`` (nnU-Net 2)."""
    found: dict[int, str] = {}
    for key, other in stated.items():
        if isinstance(other, (list, tuple)):
            raise InputError(
                f"'{key}' is a region of several values ({other}); structures with one value each are supported.",
                code="E704",
                path=path,
                hint="Give every structure a value of its own in the masks and in dataset.json.",
            )
        value, name = (key, other) if str(key).lstrip("-").isdecimal() else (other, key)
        if str(name).strip().lower() == "ignore":
            raise InputError(
                f"The masks have a label to ignore (value {value}), which is not supported.",
                code="E704",
                path=path,
                hint="Leave out cases that are labeled in part, or use them without their masks.",
            )
        if not str(value).lstrip("-").isdecimal():
            raise InputError(f"The label '{name}' has no whole number: {value!r}.", code="E704", path=path)
        if int(value) != 0:
            found[int(value)] = str(name)
    if not found:
        raise InputError("dataset.json names no structure beside the background.", code="E704", path=path)
    return tuple({"value": value, "name": found[value]} for value in sorted(found))


def _volumes(folder: Path) -> dict[str, Path]:
    """Volume files by name without ending. macOS leaves ``._name`` files in the archives."""
    if not folder.is_dir():
        return {}
    found = [path for path in folder.iterdir() if ending(path) and not path.name.startswith(".")]
    return {stem(path): path for path in sorted(found, key=lambda path: natural_order(path.name))}


def _has_channels(folder: Path) -> bool:
    names = list(_volumes(folder))
    return bool(names) and all(_CHANNEL.fullmatch(name) for name in names)


def _images(folder: Path, role: str, is_nnunet: bool, refused: list[Refusal]) -> dict[str, Path]:
    images = {}
    for name, path in _volumes(folder).items():
        match = _CHANNEL.fullmatch(name) if is_nnunet else None
        if is_nnunet and match is None:
            refused.append(Refusal(name, path, role, "Its name does not end in a channel such as _0000.", "E311"))
        elif match is not None and match[2] != "0000":
            reason = f"Channel {match[2]}; volumes with one channel (_0000) are supported."
            refused.append(Refusal(match[1], path, role, reason))
        else:
            images[match[1] if match else name] = path
    return images


def _cases(folder: Path, part: str, role: str, is_nnunet: bool, refused: list[Refusal]) -> list[Case]:
    images, masks = _images(folder / f"images{part}", role, is_nnunet, refused), _volumes(folder / f"labels{part}")
    for name in images.keys() - masks.keys():
        refused.append(Refusal(name, images[name], role, f"No mask of this name is in labels{part}.", "E311"))
    for name in masks.keys() - images.keys():
        refused.append(Refusal(name, masks[name], role, f"This mask has no image in images{part}.", "E311"))
    return [Case(name, path, masks[name], patient_of(name)) for name, path in images.items() if name in masks]


def _test_cases(folder: Path, is_nnunet: bool, refused: list[Refusal]) -> tuple[list[Case], list[Case]]:
    """(cases of ``imagesTs`` with masks, cases without)."""
    if _volumes(folder / "labelsTs"):
        return _cases(folder, "Ts", "held_out", is_nnunet, refused), []
    images = _images(folder / "imagesTs", "unlabeled", is_nnunet, refused)
    return [], [Case(name, path, None, patient_of(name)) for name, path in images.items()]


def _in_listed_order(cases: list[Case], about: dict[str, Any], folder: Path, refused: list[Refusal]) -> list[Case]:
    """The order of ``training`` where dataset.json has such a list."""
    listed = [one.get("image", "") if isinstance(one, dict) else str(one) for one in about.get("training") or []]
    names = [stem(PurePosixPath(text)) for text in listed if text]
    if not names:
        return cases
    by_name, known = {case.id: case for case in cases}, {one.id for one in refused}
    for name in names:
        if name not in by_name and name not in known:
            refused.append(not_there(name, folder / "imagesTr" / name, "labeled", "dataset.json"))
    for name in by_name.keys() - set(names):
        refused.append(Refusal(name, by_name[name].image, "labeled", "dataset.json does not list it.", "E311"))
    return [by_name[name] for name in dict.fromkeys(names) if name in by_name]
