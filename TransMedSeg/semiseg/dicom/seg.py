"""Masks and source headers to one DICOM Segmentation object, written by highdicom.

BINARY by default, because every PACS and viewer knows it; LABELMAP (Supplement 243) is smaller and younger. Frames
without foreground are left out, and a segment without foreground is never written: viewers then give its name, color
and code to the next segment.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..errors import InputError
from .codes import Concept, Structure
from .options import ALGORITHM_TYPES, SEGMENTATION_TYPES
from .sources import decimal, source_images
from .text import fits_character_set, long_string, person_name, to_utf8

if TYPE_CHECKING:
    import highdicom
    from pydicom import Dataset

    from .series import Series

PRODUCT = "TransMedSeg"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_RLE_LOSSLESS = "1.2.840.10008.1.2.5"
_SERIES_NUMBER_STEP = 100


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment on the grid of the source images.

    Args:
        name: Segment Label.
        structure: Its codes.
        mask: (slice, row, column) bool, in the slice order of the series.
        algorithm_type: AUTOMATIC for untouched network output, SEMIAUTOMATIC once a person corrected it, MANUAL when
            drawn by hand (PS3.3 C.8.20.4).
        algorithm_name: Required unless MANUAL.
        algorithm_version: Of the model, or of this program.
        tracking_id: Name of the thing over time.
        tracking_uid: The same in every export of this segment.
    """

    name: str
    structure: Structure
    mask: np.ndarray
    algorithm_type: str
    algorithm_name: str
    algorithm_version: str
    tracking_id: str
    tracking_uid: str

    def __post_init__(self) -> None:
        if self.algorithm_type not in ALGORITHM_TYPES:
            raise ValueError(f"The algorithm type is one of {ALGORITHM_TYPES}; got {self.algorithm_type!r}.")


@dataclass(frozen=True)
class SegmentationOptions:
    """How the object is written.

    Args:
        kind: ``BINARY`` or ``LABELMAP``.
        keep_empty_frames: Also write frames without foreground (BINARY only).
        creator: The person who answers for it, ``Family^Given``. None: nobody, or "Anonymous^Reviewer" in
            de-identified data.
        series_description: Seen in every list of series.
    """

    kind: str = "BINARY"
    keep_empty_frames: bool = False
    creator: str | None = None
    series_description: str = "Left atrium segmentation"

    def __post_init__(self) -> None:
        if self.kind not in SEGMENTATION_TYPES:
            raise ValueError(f"The kind of segmentation is one of {SEGMENTATION_TYPES}; got {self.kind!r}.")


def build_segmentation(series: Series, segments: list[Segment], options: SegmentationOptions) -> Dataset:
    """Makes the Segmentation of these segments, one frame per slice and segment, each referring to its source image.

    Args:
        series: The source; every mask has its grid and slice order.

    Raises:
        InputError: A segment is empty (E904), segments overlap in a LABELMAP, or highdicom refuses the headers (E907).
    """
    _check(segments, series)
    images = source_images(series)
    if not fits_character_set(_texts(segments, options), images[0]):
        to_utf8(images[0])
    labelmap = options.kind == "LABELMAP"
    is_used = np.any([segment.mask.any(axis=(1, 2)) for segment in segments], axis=0)
    slices = np.flatnonzero(is_used | options.keep_empty_frames)
    frames = _stack(segments, slices, labelmap), _positions(series, slices)
    try:
        with warnings.catch_warnings():
            # De-identified patients are called "A001"; highdicom asks whether such a name is meant.
            warnings.filterwarnings("ignore", message="The string .* is unlikely to represent the intended person name")
            dataset = _assemble(images, *frames, segments, options)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f"DICOM-SEG could not be written: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            code="E907",
            hint="The headers of the source series are not complete; save the mask as .seg.nrrd instead.",
        ) from error
    if "SpecificCharacterSet" in images[0]:  # highdicom 0.27 leaves it out
        dataset.SpecificCharacterSet = images[0].SpecificCharacterSet
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = decimal(series.geometry.spacing_mm[0])
    if labelmap:
        dataset.PatientOrientation = None  # required, empty is allowed (PS3.3 C.7.6.1, type 2C)
    return dataset


def _check(segments: list[Segment], series: Series) -> None:
    for segment in segments:
        if segment.mask.shape != series.geometry.shape:
            raise ValueError(f"Mask {segment.mask.shape} does not fit the series {series.geometry.shape}.")
        if not segment.mask.any():
            raise InputError(f"Segment '{segment.name}' is empty.", code="E904", hint="Leave it out.")


def _assemble(
    images: list[Dataset], pixels: np.ndarray, positions: list, segments: list[Segment], options: SegmentationOptions
) -> Dataset:
    """Hands everything to highdicom.

    Args:
        pixels: The frames as :func:`_stack` makes them.
        positions: Of the planes.
    """
    import highdicom as hd

    number = images[0].get("SeriesNumber", None)
    return hd.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        plane_positions=positions,
        segmentation_type=options.kind,
        segment_descriptions=[_describe(segment, place) for place, segment in enumerate(segments, start=1)],
        series_instance_uid=hd.UID(),
        series_number=(int(number) if number not in (None, "") else 0) + _SERIES_NUMBER_STEP,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name="semiseg",
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description=long_string(", ".join(segment.name for segment in segments)),
        content_creator_name=_creator(options, images[0]),
        series_description=long_string(options.series_description),
        transfer_syntax_uid=_RLE_LOSSLESS if options.kind == "LABELMAP" else _EXPLICIT_LITTLE_ENDIAN,
        omit_empty_frames=not options.keep_empty_frames,
    )


def _texts(segments: list[Segment], options: SegmentationOptions) -> list[str]:
    """All text that does not come from the source."""
    texts = [options.creator or "", options.series_description]
    for segment in segments:
        structure = segment.structure
        texts += [segment.name, segment.algorithm_name, segment.algorithm_version, segment.tracking_id]
        concepts = (structure.category, structure.type, structure.type_modifier, structure.region)
        texts += [concept.meaning for concept in (*concepts, structure.region_modifier) if concept is not None]
    return texts


def _stack(segments: list[Segment], slices: np.ndarray, labelmap: bool) -> np.ndarray:
    """(slice, row, column) label map where segments are disjoint, else (slice, row, column, segment)."""
    masks = [segment.mask[slices] for segment in segments]
    if len(masks) == 1:
        return masks[0].view(np.uint8)
    labels = np.zeros(masks[0].shape, np.uint8 if len(masks) < 256 else np.uint16)
    for number, mask in enumerate(masks, start=1):
        both = (labels > 0) & mask
        if both.any():
            if not labelmap:
                return np.stack([mask.view(np.uint8) for mask in masks], axis=-1)
            first = segments[int(labels[both][0]) - 1].name
            raise InputError(
                f"Segments '{first}' and '{segments[number - 1].name}' overlap in {np.count_nonzero(both)} voxels; "
                "a LABELMAP holds one segment per voxel.",
                code="E907",
                hint="Write it as BINARY.",
            )
        labels[mask] = number
    return labels


def _positions(series: Series, slices: np.ndarray) -> list[highdicom.PlanePositionSequence]:
    """Where the source images are, not where a regular grid would put them.

    highdicom recognizes its source images by these and refers every frame to its own, with the position digit by
    digit; positions from a grid would lose the references wherever the source is rounded.
    """
    import highdicom as hd

    return [hd.PlanePositionSequence("PATIENT", image_position=series.planes[index].position_mm) for index in slices]


def _describe(segment: Segment, number: int) -> highdicom.seg.SegmentDescription:
    import highdicom as hd

    identification = None
    if segment.algorithm_type != "MANUAL":
        identification = hd.AlgorithmIdentificationSequence(
            name=long_string(segment.algorithm_name),
            family=hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
            version=long_string(segment.algorithm_version),
        )
    structure = segment.structure
    color = structure.color_rgb
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=long_string(segment.name) or f"Segment {number}",
        segmented_property_category=_code(structure.category),
        segmented_property_type=_code(structure.type),
        algorithm_type=segment.algorithm_type,
        algorithm_identification=identification,
        tracking_uid=segment.tracking_uid,
        tracking_id=long_string(segment.tracking_id),
        anatomic_regions=None if structure.region is None else [_code(structure.region)],
        display_color=None if color is None else hd.color.CIELabColor.from_rgb(*color),
    )
    if structure.type_modifier is not None:
        type_item = description.SegmentedPropertyTypeCodeSequence[0]
        type_item.SegmentedPropertyTypeModifierCodeSequence = [_code(structure.type_modifier)]
    if structure.region is not None and structure.region_modifier is not None:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_code(structure.region_modifier)]
    return description


def _code(concept: Concept) -> highdicom.sr.CodedConcept:
    import highdicom as hd

    return hd.sr.CodedConcept(concept.value, concept.scheme, long_string(concept.meaning))


def _creator(options: SegmentationOptions, source: Dataset) -> str | None:
    if options.creator:
        return person_name(options.creator)
    return "Anonymous^Reviewer" if str(source.get("PatientIdentityRemoved", "")) == "YES" else None
