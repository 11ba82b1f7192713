"""Segmentation files as Slicer writes them, and label maps on the grid of a synthetic series."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

LEFT_ATRIUM = (
    "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure~SCT^82471001^Left atrium~^^~"
    "Anatomic codes - DICOM master list~^^~^^"
)
SCAR = (
    "Segmentation category and type - DICOM master list~SCT^85756007^Tissue~SCT^12402003^Scar tissue~^^~"
    "Anatomic codes - DICOM master list~SCT^82471001^Left atrium~^^"
)
UNNAMED = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~"
    "Anatomic codes - DICOM master list~^^~^^"
)


def write_seg_nrrd(
    path: Path,
    layers: list[np.ndarray],
    affine: np.ndarray,
    segments: list[dict[str, object]],
    *,
    ras: bool = False,
    raw: bool = False,
) -> Path:
    """Writes a Slicer segmentation by hand.

    Args:
        layers: (slice, row, column) label maps; several make the 4D file Slicer writes for overlapping segments.
        affine: (4, 4) array index to LPS millimeters.
        segments: Each with ``name``, ``value``, ``layer``, ``color`` and ``tags``.
        ras: Slicer's writer uses LPS, other programs RAS.
    """
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine if ras else affine
    vectors = ["(" + ",".join(repr(float(v)) for v in affine[:3, axis]) + ")" for axis in (2, 1, 0)]
    sizes = list(layers[0].shape[::-1])
    kinds = ["domain"] * 3
    array = layers[0]
    if len(layers) > 1:
        array = np.stack(layers, axis=-1)
        sizes, vectors, kinds = [len(layers), *sizes], ["none", *vectors], ["list", *kinds]
    lines = [
        "NRRD0004",
        "# Complete NRRD file format specification at:",
        "type: unsigned char",
        f"dimension: {len(sizes)}",
        f"space: {'right-anterior-superior' if ras else 'left-posterior-superior'}",
        "sizes: " + " ".join(map(str, sizes)),
        "space directions: " + " ".join(vectors),
        "kinds: " + " ".join(kinds),
        "encoding: " + ("raw" if raw else "gzip"),
        "space origin: (" + ",".join(repr(float(v)) for v in affine[:3, 3]) + ")",
    ]
    for number, segment in enumerate(segments):
        tags = "".join(f"{key}:{value}|" for key, value in dict(segment.get("tags", {})).items())
        lines += [
            f"Segment{number}_ID:=Segment_{number + 1}",
            f"Segment{number}_Name:={segment['name']}",
            f"Segment{number}_Color:={segment.get('color', '0.796078 0.423529 0.317647')}",
            f"Segment{number}_LabelValue:={segment.get('value', 1)}",
            f"Segment{number}_Layer:={segment.get('layer', 0)}",
            f"Segment{number}_Tags:={tags}",
        ]
    lines += [
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_SourceRepresentation:=Binary labelmap",
    ]
    data = np.ascontiguousarray(array, dtype=np.uint8).tobytes()
    path.write_bytes(("\n".join(lines) + "\n\n").encode() + (data if raw else gzip.compress(data)))
    return path


def left_atrium(**extra: object) -> dict[str, object]:
    """The facts of one segment that a model made."""
    tags = {
        "Segmentation.Status": "inprogress",
        "TerminologyEntry": LEFT_ATRIUM,
        "DICOM.SegmentAlgorithmType": "AUTOMATIC",
        "DICOM.SegmentAlgorithmName": "TransMedSeg LA-MRI 1.2",
    }
    return {"name": "Left atrium", "value": 1, "layer": 0, "tags": tags, **extra}


def scar(**extra: object) -> dict[str, object]:
    """A segment that a person corrected."""
    tags = {
        "TerminologyEntry": SCAR,
        "DICOM.SegmentAlgorithmType": "SEMIAUTOMATIC",
        "DICOM.SegmentAlgorithmName": "TransMedSeg LA-MRI 1.2",
    }
    return {"name": "Scar", "color": "0.25 0.5 1", "value": 2, "layer": 0, "tags": tags, **extra}


def write_facts(label_map: Path, segments: list[dict[str, object]]) -> Path:
    """The JSON file beside a label map."""
    path = label_map.with_name(label_map.name.split(".")[0] + ".json")
    path.write_text(json.dumps({"segments": segments}), encoding="utf-8")
    return path
