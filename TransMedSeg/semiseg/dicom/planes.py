"""Headers to planes: one per file for classic images, one per frame for enhanced multi-frame images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .files import damage_in
from .stack import Plane

if TYPE_CHECKING:
    from pydicom import Dataset

    from .files import Header

# What tells repetitions at one position apart: time points, echoes, phases, diffusion weightings.
_TIMING = (
    "TemporalPositionIdentifier", "TemporalPositionIndex", "TriggerTime", "NominalCardiacTriggerDelayTime", "EchoTime",
    "EffectiveEchoTime", "AcquisitionNumber", "AcquisitionTime", "ContentTime", "FrameAcquisitionDateTime",
    "DiffusionBValue", "FlipAngle", "FrameType", "ImageType",
)  # fmt: skip


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
                pairs.append((1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)))
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


def _find(groups: list[Dataset], keyword: str) -> Any:
    for dataset in groups:
        # Asking for what is not there is the slow case in pydicom, hence the test before it.
        if keyword in dataset:
            value = dataset[keyword].value
            if value is not None and value != "":
                return value
    return None


def _plane(groups: list[Dataset], name: str, header: Header) -> Plane:
    orientation = _find(groups, "ImageOrientationPatient")
    position = _find(groups, "ImagePositionPatient")
    if orientation is None or len(orientation) != 6 or position is None or len(position) != 3:
        missing = "orientation" if orientation is None or len(orientation) != 6 else "position"
        raise InputError(
            f"{name} of the series has no {missing} in the patient (Image {missing.capitalize()} (Patient)).",
            code="E316",
            hint="Its place in the body is unknown; choose the original series.",
            path=header.path,
        )
    spacing = _find(groups, "PixelSpacing")
    if spacing is None or len(spacing) != 2 or min(float(mm) for mm in spacing) <= 0:
        raise InputError(
            f"Spacing is missing in {name} (Pixel Spacing), so milliliters and millimeters would be wrong.",
            code="E306",
            hint="Choose the original series.",
            path=header.path,
        )
    slice_spacing = _find(groups, "SpacingBetweenSlices") or _find(groups, "SliceThickness")
    return Plane(
        position_mm=np.array([float(mm) for mm in position]),
        orientation=np.array([float(cosine) for cosine in orientation]),
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        size=(int(header.dataset.Rows), int(header.dataset.Columns)),
        slice_spacing_mm=None if slice_spacing is None else abs(float(slice_spacing)),
        timing=lambda: {keyword: str(value) for keyword in _TIMING if (value := _find(groups, keyword)) is not None},
        name=name if name.startswith("frame") else f"'{name}'",
    )
