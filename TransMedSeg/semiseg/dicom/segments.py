"""What a segmentation file says and what the caller adds become complete segments on the grid of the source."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..data.geometry import Geometry
from ..errors import InputError
from .codes import STRUCTURES, Structure, structure_named
from .lattice import place_on_grid, resample_on_grid
from .masks import LabelFile, SegmentFacts
from .options import ALGORITHM_TYPES, HISTORIES, ExportOptions
from .seg import PRODUCT, Segment
from .series import Series

Report = Callable[..., None]


def segments_of_file(
    file: LabelFile, path: Path, source: Series, options: ExportOptions, report: Report
) -> tuple[list[Segment], list[str]]:
    """The segments that have foreground, on the grid of the source, and the names of those that have none.

    Args:
        path: Of the segmentation file, for messages.
        report: Called with a ``warning`` for every guess and for every segment left out.

    Raises:
        InputError: A segment has no code (E903), none has foreground (E904), or the grid is another one (E905).
    """
    if not file.layers.any():  # Slicer saves an empty segmentation as one voxel somewhere
        raise _nothing(path)
    grid = source.geometry
    is_same = Geometry(file.layers.shape[1:], file.affine).same_grid_as(grid)
    place = resample_on_grid if options.resample else place_on_grid
    layers = file.layers if is_same else [place(layer, file.affine, grid) for layer in file.layers]
    segments, left_out = [], []
    for facts in file.segments:
        chosen = options.labels.get(str(facts.value), options.labels.get(facts.name))
        if chosen == "":
            continue
        mask = layers[facts.layer] == facts.value
        if not mask.any():
            left_out.append(facts.name or f"value {facts.value}")
            report("warning", code="E904", message=f"'{left_out[-1]}' is empty and will be left out.", hint="")
            continue
        structure, name = _structure(facts, chosen, file, report)
        segments.append(_segment(facts, structure, name, mask, source, options, file.is_slicer, report))
    if not segments:
        raise _nothing(path)
    return _with_own_tracking(segments), left_out


def _nothing(path: Path) -> InputError:
    return InputError(
        f"'{path.name}' has no foreground: there is nothing to write.",
        code="E904",
        hint="Segment something first, or choose another file.",
        path=path,
    )


def _structure(facts: SegmentFacts, chosen: str | None, file: LabelFile, report: Report) -> tuple[Structure, str]:
    """What the segment is: as the caller says, as the file says, by its name, or the only unnamed mask."""
    if chosen is not None:
        structure = structure_named(chosen)
        if structure is None:
            raise InputError(
                f"'{chosen}' is not a structure known here.", code="E903", hint=f"Known are: {', '.join(STRUCTURES)}."
            )
        return structure, facts.name or chosen
    structure = facts.structure or structure_named(facts.name)
    if structure is not None:
        return structure, facts.name or structure.type.meaning
    if not facts.name and len(file.segments) == 1:
        message = "The file does not say what its mask shows; it is written as left atrium."
        report("warning", code="E903", message=message, hint=f"Say it with --labels '{facts.value}=...'.")
        return STRUCTURES["left atrium"], "Left atrium"
    raise InputError(
        f"Segment '{facts.name or facts.value}' has no medical code.",
        code="E903",
        hint=f"Set it, for example to Left atrium (SCT 82471001): --labels '{facts.name or facts.value}=left atrium'.",
    )


def _segment(
    facts: SegmentFacts,
    structure: Structure,
    name: str,
    mask: np.ndarray,
    source: Series,
    options: ExportOptions,
    is_slicer: bool,
    report: Report,
) -> Segment:
    algorithm_type = HISTORIES[options.history] if options.history else facts.algorithm_type
    if algorithm_type not in ALGORITHM_TYPES:
        # Slicer takes a segment without a tag for drawn by hand; a plain label map is a network's output.
        algorithm_type = "MANUAL" if is_slicer else "AUTOMATIC"
        message = f"The file does not say how '{name}' was made; it is marked {algorithm_type}."
        report("warning", code="", message=message, hint=f"Say it with --history {'|'.join(HISTORIES)}.")
    series_uid = str(source.headers[0].SeriesInstanceUID)
    return Segment(
        name=name,
        structure=structure if facts.color_rgb is None else replace(structure, color_rgb=facts.color_rgb),
        mask=mask,
        algorithm_type=algorithm_type,
        algorithm_name=options.algorithm or facts.algorithm_name or PRODUCT,
        algorithm_version=options.algorithm_version or facts.algorithm_version or __version__,
        tracking_id=facts.tracking_id or name,
        tracking_uid=facts.tracking_uid or _lasting_uid(series_uid, name),
    )


def _lasting_uid(series_uid: str, name: str) -> str:
    """The same UID whenever this structure of this series is exported (PS3.5 B.2, UUID as UID)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{series_uid} {name.lower()}').int}"


def _with_own_tracking(segments: list[Segment]) -> list[Segment]:
    """Two segments of one name are two things."""
    seen: dict[str, int] = {}
    result = []
    for segment in segments:
        seen[segment.tracking_uid] = count = seen.get(segment.tracking_uid, 0) + 1
        if count > 1:
            segment = replace(
                segment,
                tracking_id=f"{segment.tracking_id} {count}",
                tracking_uid=_lasting_uid(segment.tracking_uid, str(count)),
            )
        result.append(segment)
    return result
