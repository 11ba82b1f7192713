"""Segmentation files with what they say of their segments: names, codes, how they were made.

``.seg.nrrd`` says it in its header, segment by segment. Any other label map may have a JSON file of the same name
beside it: ``{"segments": [{"value": 1, "name": "left atrium", "color_rgb": [0.8, 0.4, 0.3], "terminology": "...",
"algorithm_type": "AUTOMATIC", "algorithm_name": "...", "algorithm_version": "...", "tracking_id": "...",
"tracking_uid": "..."}]}``, where only the value is required; ``labels`` is accepted in place of ``segments``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.files import read_labels
from ..data.naming import ending
from ..data.nrrd import read_nrrd
from ..data.segmentation import json_beside
from ..errors import InputError
from .codes import Structure, parse_terminology_entry

_MAX_VALUES = 256
# Tags of Slicer's segments; the first two are its own, the others are ours.
TAG_TERMINOLOGY = "TerminologyEntry"
TAG_ALGORITHM_TYPE = "DICOM.SegmentAlgorithmType"
TAG_ALGORITHM_NAME = "DICOM.SegmentAlgorithmName"
TAG_ALGORITHM_VERSION = "DICOM.SegmentAlgorithmVersion"
TAG_TRACKING_ID = "DICOM.TrackingID"
TAG_TRACKING_UID = "DICOM.TrackingUID"


@dataclass(frozen=True)
class SegmentFacts:
    """What a file says of one segment; None where it says nothing.

    Args:
        name: As shown to the user, empty when the file has none.
        value: Its value in its layer.
        layer: Overlapping segments are in different layers.
        color_rgb: 0 to 255.
    """

    name: str
    value: int
    layer: int = 0
    structure: Structure | None = None
    color_rgb: tuple[int, int, int] | None = None
    algorithm_type: str | None = None
    algorithm_name: str | None = None
    algorithm_version: str | None = None
    tracking_id: str | None = None
    tracking_uid: str | None = None


@dataclass(frozen=True, eq=False)
class LabelFile:
    """A segmentation file.

    Args:
        layers: (layer, slice, row, column) integers.
        affine: (4, 4) array index to LPS millimeters.
        segments: In the order of the file.
        is_slicer: Written as a Slicer segmentation.
    """

    layers: np.ndarray
    affine: np.ndarray
    segments: list[SegmentFacts]
    is_slicer: bool


def read_label_file(path: str | Path) -> LabelFile:
    """Reads ``.seg.nrrd``, or any label map the engine reads (NIfTI, NRRD, MetaImage).

    Raises:
        InputError: It cannot be read (E311) or is not a label map (E302).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("There is no such segmentation file.", code="E311", hint="Choose another file.", path=path)
    if ending(path) in (".seg.nrrd", ".nrrd"):
        with open(path, "rb") as file:
            is_slicer = b"Segment0_ID" in file.read(1 << 20)
        if is_slicer or ending(path) == ".seg.nrrd":
            return _read_slicer(path)
    volume, names = read_labels(path)
    array = _as_integers(volume.array, path)
    facts = _beside(path)
    values = _values(array, path)
    segments = [facts.get(value, SegmentFacts(names.get(value, ""), value)) for value in values]
    missing = [fact for value, fact in facts.items() if value not in values]
    return LabelFile(array[None], volume.geometry.affine, [*segments, *missing], is_slicer=False)


def _read_slicer(path: Path) -> LabelFile:
    file = read_nrrd(path)
    if file.affine is None or abs(np.linalg.det(file.affine)) < 1e-12:
        raise InputError(
            f"'{path.name}' has no geometry (space directions).",
            code="E306",
            hint="Save the segmentation again with its reference volume.",
            path=path,
        )
    layers = _as_integers(file.layers, path)
    numbers = sorted(int(match.group(1)) for key in file.fields if (match := re.fullmatch(r"Segment(\d+)_ID", key)))
    segments = [_slicer_facts(file.fields, number) for number in numbers]
    wrong = next((segment for segment in segments if segment.layer >= len(layers)), None)
    if wrong is not None:
        raise InputError(
            f"Segment '{wrong.name}' is in layer {wrong.layer}, but '{path.name}' has {len(layers)} layers.",
            code="E311",
            hint="Save the segmentation again.",
            path=path,
        )
    if not segments:
        segments = [SegmentFacts("", value) for value in _values(layers, path)]
    return LabelFile(layers, file.affine, segments, is_slicer=True)


def _slicer_facts(fields: dict[str, str], number: int) -> SegmentFacts:
    def field(key: str, default: str) -> str:
        return fields.get(f"Segment{number}_{key}", default)

    pairs = (tag.partition(":") for tag in field("Tags", "").split("|"))
    tags = {key.strip(): value.strip() for key, mark, value in pairs if mark}
    return SegmentFacts(
        name=field("Name", ""),
        value=int(field("LabelValue", "1")),
        layer=int(field("Layer", "0")),
        structure=parse_terminology_entry(tags.get(TAG_TERMINOLOGY, "")),
        color_rgb=_color(field("Color", "").split()),
        algorithm_type=tags.get(TAG_ALGORITHM_TYPE, "").upper() or None,
        algorithm_name=tags.get(TAG_ALGORITHM_NAME) or None,
        algorithm_version=tags.get(TAG_ALGORITHM_VERSION) or None,
        tracking_id=tags.get(TAG_TRACKING_ID) or None,
        tracking_uid=tags.get(TAG_TRACKING_UID) or None,
    )


def _beside(path: Path) -> dict[int, SegmentFacts]:
    """Facts from the JSON file beside a label map, by value."""
    side = json_beside(path)
    if not side.is_file():
        return {}
    try:
        document: Any = json.loads(side.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or not ("segments" in document or "labels" in document):
            return {}  # such as the acquisition facts that BIDS keeps beside its images
        entries = document.get("segments", document.get("labels"))
        facts = [
            SegmentFacts(
                name=str(entry.get("name", "")),
                value=int(entry["value"]),
                structure=parse_terminology_entry(str(entry.get("terminology", ""))),
                color_rgb=_color(entry.get("color_rgb") or []),
                algorithm_type=entry.get("algorithm_type"),
                algorithm_name=entry.get("algorithm_name"),
                algorithm_version=entry.get("algorithm_version"),
                tracking_id=entry.get("tracking_id"),
                tracking_uid=entry.get("tracking_uid"),
            )
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"'{side.name}' does not describe the segments of '{path.name}' ({error}).",
            code="E311",
            hint="Correct or remove it.",
            path=side,
        ) from error
    return {fact.value: fact for fact in facts}


def _color(parts: Sequence[str | float]) -> tuple[int, int, int] | None:
    """Three numbers 0..1 as 0..255."""
    if len(parts) != 3:
        return None
    red, green, blue = (round(255 * min(max(float(part), 0.0), 1.0)) for part in parts)
    return red, green, blue


def _as_integers(array: np.ndarray, path: Path) -> np.ndarray:
    """Label maps saved as floating point become integers; anything between two integers is no label."""
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind == "f" and np.isfinite(array).all():
        whole = array.astype(np.int32)
        if np.array_equal(whole, array):
            return whole
    raise InputError(
        f"'{path.name}' is not a label map: it holds values such as {array.flat[np.argmax(array % 1 != 0)]:.4g}.",
        code="E302",
        hint="Choose a segmentation, not an image or a probability map.",
        path=path,
    )


def _values(array: np.ndarray, path: Path) -> list[int]:
    values = [int(value) for value in np.unique(array) if value != 0]
    if len(values) > _MAX_VALUES or any(value < 0 for value in values):
        raise InputError(
            f"'{path.name}' holds {len(values)} different values from {values[0]} to {values[-1]}; "
            "it looks like an image.",
            code="E302",
            hint="Choose a segmentation.",
            path=path,
        )
    return values
