"""Step 4: label maps and references in, the Dice table out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .data.atomic import write_text
from .data.countdown import Countdown
from .data.files import read_labels
from .data.geometry import Geometry
from .data.naming import ending, safe_id, understand
from .data.nearest import nearest_on_grid
from .data.orientation import place_on_grid
from .data.slices import first_slices
from .data.volume import Volume
from .errors import InputError
from .metrics.table import Table

Report = Callable[..., None]

RESAMPLED = "scored on the image's grid, to which the mask was resampled (nearest neighbor)"
"""Note on a row whose reference had lain on another grid."""

_NOT_MASKS = (".probability", ".uncertainty")


@dataclass(frozen=True)
class Pair:
    """A prediction and what it is measured against.

    Args:
        case: Case id.
        prediction: Label map file.
        reference: Label map file.
        resample_reference: Where the reference lies on another grid, score on the prediction's (nearest neighbor; a note says so). For masks that a
            person has let be resampled; elsewhere what a score is measured on stays as it was drawn.
    """

    case: str
    prediction: Path
    reference: Path
    resample_reference: bool = False


@dataclass
class Evaluation:
    """What was measured.

    Args:
        table: One row a case and structure.
        refused: ``{"case", "code", "reason"}`` of each pair without numbers.
    """

    table: Table
    refused: list[dict[str, str]] = field(default_factory=list)


def evaluate(
    pairs: Sequence[Pair],
    labels: Sequence[dict[str, Any]],
    out_dir: Path | None,
    report: Report = lambda kind, **values: None,
    *,
    resample: bool = False,
) -> Evaluation:
    """Scores predictions on the grid of their references and writes ``dice.csv``, ``dice.json`` and ``dice.txt``.

    A prediction that is the reference's lattice turned, flipped or cut is put in place exactly. On any other grid it
    is refused (E701), or resampled with nearest neighbor when asked for, which a note says; or the reference is
    (``Pair.resample_reference``). Structures are matched by name where the file has names, then by value. A pair that
    is refused is reported; the others are scored.

    Args:
        pairs: See :func:`pair_folders`.
        labels: ``{"value", "name"}`` of each structure to score; the reference's own values where it is empty.
        out_dir: Where the table goes; None writes nothing.
        report: Receives ``progress``, ``case`` and ``warning`` events.
        resample: Resample predictions that lie on another grid.

    Raises:
        InputError: There is nothing to score, or the folder cannot be written to (E809).
    """
    if not pairs:
        raise InputError("There is no pair of a prediction and a reference to score.", hint="Name files or folders.")
    evaluation = Evaluation(Table())
    progress = Countdown(report, "scoring")
    for done, pair in enumerate(pairs):
        progress(done, len(pairs))
        try:
            _score(pair, labels, evaluation.table, report, resample)
        except InputError as error:
            reason = f"{error.message} {error.hint}".strip()
            evaluation.refused.append({"case": pair.case, "code": error.code, "reason": reason})
            report("case", id=pair.case, status="refused", reason=reason, code=error.code)
    progress(len(pairs), len(pairs))
    if not evaluation.table.rows:
        first = evaluation.refused[0]
        raise InputError(
            f"None of {len(pairs)} pairs could be scored. {first['case']}: {first['reason']}", code=first["code"]
        )
    if out_dir is not None:
        write_text(Path(out_dir) / "dice.csv", evaluation.table.to_csv())
        write_text(Path(out_dir) / "dice.json", evaluation.table.dumps())
        write_text(Path(out_dir) / "dice.txt", evaluation.table.to_text())
    return evaluation


def pair_folders(predictions: Path, references: Path) -> tuple[list[Pair], list[str]]:
    """Pairs the label maps of two folders by case id, or two files.

    Names count without words for mask and image (``P1_seg.nii.gz`` belongs to ``P1.seg.nrrd``). Where a case has
    several files of one stem, the first of .seg.nrrd, .nii.gz, .nii, .nrrd, .mha, .h5 counts: they are one mask in
    several formats.

    Returns:
        The pairs by case id, and a sentence for each file without a partner.

    Raises:
        InputError: A path does not exist or a folder holds no label map (E311).
    """
    predictions, references = Path(predictions), Path(references)
    if predictions.is_file() and references.is_file():
        return [Pair(safe_id(understand(Path(predictions.name)).key), predictions, references)], []
    found, wanted = _masks_by_case(predictions), _masks_by_case(references)
    pairs = [Pair(safe_id(key), found[key], wanted[key]) for key in sorted(found.keys() & wanted.keys())]
    loose = [f"The prediction {found[key].name} has no reference." for key in sorted(found.keys() - wanted.keys())]
    loose += [f"The reference {wanted[key].name} has no prediction." for key in sorted(wanted.keys() - found.keys())]
    return pairs, loose


def _masks_by_case(folder: Path) -> dict[tuple[str, ...], Path]:
    if not folder.exists():
        raise InputError("There is no file or folder of this name.", code="E311", path=folder, hint="Check the path.")
    files = [folder] if folder.is_file() else _files_below(folder)
    masks: dict[tuple[str, ...], Path] = {}
    order = [".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".h5", ".hdf5", ".npz", ".npy"]
    base = folder.parent if folder.is_file() else folder
    for path in files:
        kind = ending(path)
        is_map = path.name.lower().removesuffix(kind).endswith(_NOT_MASKS)
        if not kind or path.name.startswith(".") or is_map:
            continue
        key = understand(path.relative_to(base)).key or (base.name,)
        if key not in masks or order.index(kind) < order.index(ending(masks[key])):
            masks[key] = path
    if not masks:
        raise InputError("No label map was found.", code="E311", path=folder, hint="Choose the folder that holds them.")
    return masks


def _files_below(folder: Path) -> list[Path]:
    """Every file, in a stable order; of a stack of slice files the first stands for all."""
    by_folder: dict[Path, list[str]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        by_folder.setdefault(path.parent, []).append(path.name)
    return [parent / name for parent, names in by_folder.items() for name in first_slices(names)]


def _score(pair: Pair, labels: Sequence[dict[str, Any]], table: Table, report: Report, resample: bool) -> None:
    prediction, prediction_names = read_labels(pair.prediction, pair.case)
    # A reference that states no spacing was segmented on an assumed one: the prediction's file says which.
    reference, reference_names = read_labels(pair.reference, pair.case, prediction.geometry.spacing_mm)
    prediction, reference, note = _on_one_grid(prediction, reference, pair, report, resample)
    wanted = _structures(labels, reference, reference_names, prediction_names)
    true = _places(reference.array, wanted, reference_names, pair, is_reference=True)
    found = _places(prediction.array, wanted, prediction_names, pair, is_reference=False)
    names = {place: str(one["name"]) for place, one in enumerate(wanted, start=1)}
    rows = table.add(pair.case, found, true, reference.geometry.affine[:3, :3], names, note)
    dice = {row.label: None if math.isnan(row.values["dice"]) else row.values["dice"] for row in rows}
    report(
        "case",
        id=pair.case,
        status="scored",
        reason="; ".join(row.note for row in rows if row.note),
        code="",
        dice=dice,
    )


def _on_one_grid(prediction: Volume, reference: Volume, pair: Pair, report: Report, resample: bool) -> tuple[Volume, Volume, str]:
    """Prediction and reference on the reference's grid, or on the prediction's where the reference may be resampled; and a note.

    Raises:
        InputError: They lie in different places (E702) or on different grids that nobody allowed to resample (E701).
    """
    grid = reference.geometry
    placed = place_on_grid(prediction, grid, may_be_smaller=True)
    if placed is not None:
        return placed, reference, ""
    mine, theirs = _box_mm(prediction.geometry), _box_mm(grid)
    apart_mm = float(np.linalg.norm(mine.mean(axis=0) - theirs.mean(axis=0)))
    if (mine[0] > theirs[1]).any() or (theirs[0] > mine[1]).any():
        raise InputError(
            f"Prediction and reference lie in different places (centers {apart_mm:.0f} mm apart). Probably they belong "
            "to different patients or an orientation was lost. No numbers are shown.",
            code="E702",
            path=pair.prediction,
        )
    if pair.resample_reference:
        return prediction, nearest_on_grid(reference, prediction.geometry), RESAMPLED
    grids = f"prediction {prediction.geometry.describe()}, reference {grid.describe()}"
    if not resample:
        raise InputError(
            f"The prediction lies on another grid ({grids}).",
            code="E701",
            hint="Export it with the reference's image as reference, or allow resampling.",
            path=pair.prediction,
        )
    message = (
        f"{pair.case}: the prediction was resampled to the reference's grid for comparison (nearest neighbor; {grids})."
    )
    report("warning", code="E701", message=message, hint="")
    return nearest_on_grid(prediction, grid), reference, ""


def _box_mm(geometry: Geometry) -> np.ndarray:
    """(2, 3) lowest and highest LPS coordinates of the outer faces."""
    ends = [(-0.5, size - 0.5) for size in geometry.shape]
    corners = geometry.position_mm(np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T)
    return np.stack([corners.min(axis=0), corners.max(axis=0)])


def _structures(
    labels: Sequence[dict[str, Any]], reference: Volume, names: dict[int, str], other_names: dict[int, str]
) -> list[dict[str, Any]]:
    """What to score: the labels asked for, or each value of the reference with the best name there is."""
    if labels:
        return list(labels)
    values = [int(value) for value in np.unique(reference.array) if value != 0] or [1]
    return [
        {"value": value, "name": names.get(value) or other_names.get(value) or f"label {value}"} for value in values
    ]


def _places(
    array: np.ndarray, wanted: Sequence[dict[str, Any]], names: dict[int, str], pair: Pair, is_reference: bool
) -> np.ndarray:
    """Values to places in ``wanted`` counted from 1; a name in the file decides before a value.

    Raises:
        InputError: A reference has none of the wanted structures but others (E704).
    """
    by_name = {str(one["name"]).strip().lower(): place for place, one in enumerate(wanted, start=1)}
    by_value = {int(one["value"]): place for place, one in enumerate(wanted, start=1)}
    places = np.zeros(array.shape, np.uint8 if len(wanted) < 256 else np.uint16)
    values = [int(value) for value in np.unique(array) if value != 0]
    for value in values:
        place = by_name.get(names.get(value, "").strip().lower(), by_value.get(value))
        if place is not None:
            places[array == value] = place
    if is_reference and values and not places.any():
        titles = ", ".join(f"{one['name']} = {one['value']}" for one in wanted)
        raise InputError(
            f"The reference of {pair.case} has the values {', '.join(map(str, values[:6]))}; none of them is asked for "
            f"({titles}).",
            code="E704",
            hint=f"Which value is {wanted[0]['name']}? Name it in the labels.",
            path=pair.reference,
        )
    return places
