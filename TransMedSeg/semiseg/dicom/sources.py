"""Source headers in the exact form highdicom expects, without touching the originals.

Real headers leave out what the standard calls required but possibly empty, repeat an orientation with other decimals
in each image, or keep the orientation of enhanced frames per frame; none of that is a reason not to write.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

    from .series import Series

# Type 2 of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): present, empty when unknown.
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "StudyID", "ReferringPhysicianName",
)  # fmt: skip
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_SHARED_MACROS = ("PlaneOrientationSequence", "PixelMeasuresSequence")


def source_images(series: Series) -> list[Dataset]:
    """One dataset per file, in slice order; the first holds all attributes, the others what references need.

    Raises:
        InputError: Enhanced images in one file each, which highdicom takes as sources only one at a time (E907).
    """
    headers = series.headers
    if not series.is_multiframe and "SharedFunctionalGroupsSequence" in headers[0]:
        raise InputError(
            f"The series is {len(headers)} enhanced files of one frame each; a DICOM-SEG can refer to classic images, or "
            "to one file that holds all frames.",
            code="E907",
            hint="Ask for the series as one multi-frame file, or save the mask as .seg.nrrd instead.",
            path=series.files[0].path.parent,
        )
    first = _copy(headers[0])
    for keyword in _TYPE_2:
        if keyword not in first:
            setattr(first, keyword, "")
    if series.is_multiframe:
        _set_functional_groups(first, headers[0], series)
        return [first]
    _set_geometry(first, series, first.ImagePositionPatient)
    return [first, *(_reference(header, first, series) for header in headers[1:])]


def _reference(header: Dataset, first: Dataset, series: Series) -> Dataset:
    from pydicom import Dataset

    image = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        setattr(image, keyword, header[keyword].value)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "Rows", "Columns"):
        setattr(image, keyword, first[keyword].value)
    _set_geometry(image, series, header.ImagePositionPatient, first)
    return image


def _set_geometry(image: Dataset, series: Series, position: list, first: Dataset | None = None) -> None:
    """One orientation and spacing for all images; the positions are each image's own, digit by digit."""
    image.ImagePositionPatient = position
    for keyword in ("ImageOrientationPatient", "PixelSpacing"):
        if first is not None:
            setattr(image, keyword, first[keyword].value)
    thickness = image.get("SliceThickness", None) if first is None else first.SliceThickness
    image.SliceThickness = decimal(series.geometry.spacing_mm[0]) if thickness in (None, "") else thickness
    image.SpacingBetweenSlices = decimal(series.geometry.spacing_mm[0])


def _set_functional_groups(image: Dataset, header: Dataset, series: Series) -> None:
    """Orientation and spacing of an enhanced image in the shared groups, the positions in those of the frames."""
    from pydicom import Dataset

    frames = header.PerFrameFunctionalGroupsSequence
    groups = [*(header.get("SharedFunctionalGroupsSequence", None) or []), *frames]
    shared = Dataset()
    for keyword in _SHARED_MACROS:
        holder = next(group for group in groups if keyword in group)
        setattr(shared, keyword, [deepcopy(holder[keyword].value[0])])
    measures = shared.PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = decimal(series.geometry.spacing_mm[0])
    if measures.get("SliceThickness", None) in (None, ""):
        measures.SliceThickness = measures.SpacingBetweenSlices
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [Dataset() for _ in frames]
    for group, frame in zip(frames, image.PerFrameFunctionalGroupsSequence, strict=True):
        frame.PlanePositionSequence = [deepcopy(group.PlanePositionSequence[0])]


def decimal(value: float) -> str:
    """The closest decimal string of at most 16 characters (PS3.5 6.2)."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value))


def _copy(dataset: Dataset) -> Dataset:
    """A copy that can be changed without changing the header it came from.

    Private attributes are of no use here, and the functional groups of frames are rebuilt by the caller.
    """
    from pydicom import Dataset

    image = Dataset()
    # Raw values are decoded by the character set of the file they came from.
    image.set_original_encoding(*dataset.original_encoding, dataset.original_character_set)
    for element in dataset:
        if not element.tag.is_private and element.keyword not in _GROUPS:
            image[element.tag] = deepcopy(element)
    return image
