"""Headers to planes: one per file for classic images, one per frame for enhanced multi-frame images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .files import damage_in
from .stack import Plane
from .values import texts

if TYPE_CHECKING:
    from pydicom import Dataset

    from .files import Header

# What tells repetitions at one position apart: time points, echoes, phases, diffusion weightings.
_TIMING = (
    "TemporalPositionIdentifier", "TemporalPositionIndex", "TriggerTime", "NominalCardiacTriggerDelayTime", "EchoTime",
    "EffectiveEchoTime", "AcquisitionNumber", "AcquisitionTime", "ContentTime", "FrameAcquisitionDateTime",
    "DiffusionBValue", "FlipAngle", "FrameType", "ImageType",
)  # fmt: skip
_ORIGINAL = "Choose the original series."
_UNPLACED = "Its place in the body is unknown; choose the original series."


def planes_of(headers: list[Header]) -> list[Plane]:
    """One plane per file, or per frame where the series is one enhanced multi-frame file.

    Raises:
        InputError: A color image (E302), several multi-frame files (E302), or an image without position,
            orientation (E316) or pixel spacing (E306).
    """
    multiframe = []
    for header in headers:
        with damage_in(header.path):
            _refuse_color(header)
            if int(header.dataset.get("NumberOfFrames", None) or 1) > 1:
                multiframe.append(header)
    if multiframe and len(headers) > 1:
        raise InputError(
            f"The series has {len(headers)} files, {len(multiframe)} of them with several frames each; "
            "one 3D volume is needed.",
            code="E302",
            hint="Choose one of them: put it in a folder of its own.",
            path=headers[0].path.parent,
        )
    planes = []
    for header in headers:
        with damage_in(header.path):
            planes += (
                _frames(header) if multiframe else [_plane(_functional_groups(header)[0], header.path.name, header)]
            )
    _refuse_incomplete(planes, headers[0].path.parent)
    return planes


def _refuse_color(header: Header) -> None:
    kind = str(header.dataset.get("PhotometricInterpretation", "") or "MONOCHROME2")
    if int(header.dataset.get("SamplesPerPixel", None) or 1) != 1 or not kind.startswith("MONOCHROME"):
        raise InputError(
            f"'{header.path.name}' is a color image ({kind}); a 3D volume of gray values is needed.",
            code="E302",
            hint="Choose the original series.",
            path=header.path,
        )


def rescale_of(headers: list[Header]) -> tuple[np.ndarray, np.ndarray]:
    """Rescale slope and intercept of every plane, in the order of ``planes_of``."""
    pairs = []
    for header in headers:
        with damage_in(header.path):
            for groups in _functional_groups(header):
                slope, intercept = _find(groups, "RescaleSlope"), _find(groups, "RescaleIntercept")
                pairs.append((float(slope[0]) if slope else 1.0, float(intercept[0]) if intercept else 0.0))
    slopes, intercepts = zip(*pairs, strict=True)
    return np.array(slopes), np.array(intercepts)


def _frames(header: Header) -> list[Plane]:
    number = int(header.dataset.NumberOfFrames)
    groups = _functional_groups(header)
    if len(groups) != number:
        raise InputError(
            f"'{header.path.name}' has {number} frames, but its header describes the position of "
            f"{0 if len(groups) == 1 else len(groups)} of them.",
            code="E316",
            hint="Choose a series with positions (classic or enhanced MR or CT).",
            path=header.path,
        )
    return [_plane(group, f"frame {index + 1}", header) for index, group in enumerate(groups)]


def _functional_groups(header: Header) -> list[list[Dataset]]:
    """For each frame the datasets its attributes may be in: its own groups, the shared ones, the file itself."""
    dataset = header.dataset
    shared = [dataset]
    for item in dataset.get("SharedFunctionalGroupsSequence", None) or []:
        shared = _macros(item) + shared
    frames = dataset.get("PerFrameFunctionalGroupsSequence", None)
    if not frames:
        return [shared]
    return [_macros(item) + shared for item in frames]


def _macros(item: Dataset) -> list[Dataset]:
    """The first item of each functional group macro (PS3.3 C.7.6.16), private ones left alone."""
    return [element.value[0] for element in item if element.VR == "SQ" and element.value and not element.tag.is_private]


def _find(groups: list[Dataset], keyword: str) -> list[str]:
    """The values of the first dataset that has any, as text."""
    return next((found for dataset in groups if (found := texts(dataset, keyword))), [])


def _place(groups: list[Dataset]) -> tuple[list[float], list[float], list[float]]:
    """Position, orientation and pixel spacing; empty where missing or without sense."""
    position, orientation, spacing = (
        [float(number) for number in _find(groups, keyword)]
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    return (
        position if len(position) == 3 else [],
        orientation if len(orientation) == 6 else [],
        spacing if len(spacing) == 2 and min(spacing) > 0 else [],
    )


def _plane(groups: list[Dataset], name: str, header: Header) -> Plane:
    position, orientation, spacing = _place(groups)
    slice_spacing = _find(groups, "SpacingBetweenSlices") or _find(groups, "SliceThickness")
    return Plane(
        position_mm=np.array(position),
        orientation=np.array(orientation),
        spacing_mm=tuple(spacing),
        size=(int(header.dataset.Rows), int(header.dataset.Columns)),
        slice_spacing_mm=abs(float(slice_spacing[0])) if slice_spacing else None,
        timing=lambda: {keyword: shown for keyword in _TIMING if (shown := ", ".join(_find(groups, keyword)))},
        name=name if name.startswith("frame") else f"'{name}'",
    )


def _refuse_incomplete(planes: list[Plane], path: Path) -> None:
    """Every plane says where it is, how it lies and how large its pixels are."""
    for values, code, what, hint in (
        (lambda plane: plane.orientation, "E316", "orientation in the patient (Image Orientation (Patient))", _UNPLACED),
        (lambda plane: plane.position_mm, "E316", "position in the patient (Image Position (Patient))", _UNPLACED),
        (lambda plane: plane.spacing_mm, "E306", "spacing (Pixel Spacing), without which mm and mL are wrong", _ORIGINAL),
    ):
        without = [plane for plane in planes if len(values(plane)) == 0]
        if without:
            verb = "has" if len(without) == 1 else "have"
            names = ", ".join(plane.name for plane in without[:3]) + (" …" if len(without) > 3 else "")
            message = f"{len(without)} of {len(planes)} images {verb} no {what}: {names}."
            raise InputError(message, code=code, hint=hint, path=path)
