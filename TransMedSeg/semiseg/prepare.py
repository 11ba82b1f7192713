"""Step 1: folders of volumes become checked cases, a split by patient, and prepared arrays."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .data.array_files import H5_SPACING_MM
from .data.atomic import write_text
from .data.cache import (
    FILES_MISSING,
    PreparedCase,
    PreparedSet,
    delete_other_arrays,
    is_cached,
    source_key,
    source_stamp,
    write_arrays,
)
from .data.cases import Case, CaseList, find_cases, with_masks
from .data.checks import OTHER_VALUES, UnnamedValues, check_volume, mask_channels, mask_on_image
from .data.countdown import Countdown
from .data.differences import differences, intensity_quantiles
from .data.duplicates import content_hash, find_duplicates, thumbnail
from .data.files import read_labels, read_volume
from .data.naming import ending
from .data.nearest import nearest_on_grid
from .data.preprocess import Preprocessing
from .data.split import Split, split_cases
from .data.volume import Volume
from .errors import InputError

Report = Callable[..., None]
"""Called as ``report(kind, **fields)`` with the kinds progress, case, warning and state of ``semiseg.protocol``."""

_STOPS_EVERYTHING = ("E807", "E809")  # the disk, not the case
_MOST_VALUES = 64
"""A mask with more values is an image, and a list of them helps nobody."""
_RESAMPLED = "Its mask was resampled to the image's grid (nearest neighbor)."


@dataclass(frozen=True)
class PrepareOptions:
    """What to prepare, and how.

    Args:
        labeled: Files and folders with images and masks. One folder alone may hold everything (see ``find_cohort``).
        unlabeled: Files and folders with images.
        held_out: Files and folders with images and masks for the final score.
        num_labeled: Only the first so many labeled cases keep their masks; the rest is used without. None: all, or
            8 where a ``train.list`` gives the published order.
        num_validation: Labeled patients set aside to watch the training.
        labels: ``{"value", "name"}`` per structure: the value in the masks and what it is. Further keys are kept.
        other_values: ``"refuse"`` masks with values that ``labels`` does not name, or take them as ``"background"``.
        preprocessing: Grid, orientation and intensities the network will see.
        assumed_spacing_mm: (slice, row, column) for files that state none.
        different_unlabeled: ``"use"`` or ``"leave_out"`` unlabeled volumes that differ strongly from the labeled ones.
        masks: Mask file by image file, in place of the one that was found by name.
        resample_masks: Image files whose masks may be resampled where they lie on another grid (nearest neighbor);
            left out or held out, such a case is scored on its image's grid, and its row says so.
        seed: Draws the validation patients.
    """

    labeled: tuple[Path, ...] = ()
    unlabeled: tuple[Path, ...] = ()
    held_out: tuple[Path, ...] = ()
    num_labeled: int | None = None
    num_validation: int = 0
    labels: tuple[dict[str, Any], ...] = ({"value": 1, "name": "left atrium"},)
    other_values: str = "refuse"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    assumed_spacing_mm: tuple[float, float, float] | None = None
    different_unlabeled: str = "use"
    masks: dict[str, str] = field(default_factory=dict)
    resample_masks: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        values = [int(label["value"]) for label in self.labels]
        names = [str(label["name"]).strip().lower() for label in self.labels]
        if not values or len(set(values)) < len(values) or len(set(names)) < len(names) or min(values) < 1:
            raise InputError(
                f"Labels need different names and different values above 0; got {list(self.labels)}.",
                code="E704",
                hint="Name every structure once; 0 is the background.",
            )
        if self.different_unlabeled not in ("use", "leave_out"):
            raise InputError(f"different_unlabeled is 'use' or 'leave_out'; got {self.different_unlabeled!r}.")
        if self.other_values not in OTHER_VALUES:
            raise InputError(f"other_values is 'refuse' or 'background'; got {self.other_values!r}.")
        if self.num_labeled is not None and self.num_labeled < 2:
            raise InputError(
                f"At least 2 labeled volumes are needed (4 or more recommended); {self.num_labeled} were asked for.",
                code="E801",
            )


def prepare(options: PrepareOptions, out_dir: Path, report: Report = lambda kind, **fields: None) -> PreparedSet:
    """Finds the cases, checks every one, and writes the usable ones as arrays.

    Cases that were prepared before and have not changed are not read again. ``out_dir`` then holds ``cases.json``,
    ``cases.csv`` (every case, used or refused, and why), ``split.json`` and two arrays a case. A refused case never
    stops the others.

    Raises:
        InputError: Fewer than two usable labeled cases (E801), a named structure in none of the masks (E704), or a
            folder that cannot be written (E809). ``cases.csv`` is there all the same.
    """
    if not options.labeled:
        raise InputError(
            "No labeled volumes were given. At least 2 are needed (4 or more recommended).",
            code="E801",
            hint="Name files or a folder with images and their masks.",
        )
    found = find_cases(options.labeled, options.unlabeled, options.held_out, options.num_labeled)
    found = with_masks(found, options.masks)
    rows = [
        PreparedCase(
            refusal.id,
            refusal.id,
            refusal.role,
            str(refusal.path),
            status="refused",
            code=refusal.code,
            reason=refusal.reason,
            stamp="" if refusal.path.exists() else FILES_MISSING,  # a file of a wrong name is not repaired in place
        )
        for refusal in found.refused
    ]
    rows = _read_all(found, options, Path(out_dir), report) + rows
    rows = _without_duplicates(rows, options, report)
    messages = list(found.notes)
    rows = _split(rows, options, Path(out_dir), messages)
    _compare_unlabeled(rows, options, messages, report)
    if any(ending(Path(row.image)) in (".h5", ".hdf5") for row in rows) and options.assumed_spacing_mm is None:
        messages.append(f"The h5 files state no spacing; {H5_SPACING_MM[0]} mm in every direction is assumed.")
    for message in messages:
        report("state", message=message)
    for row in rows:
        report("case", id=row.id, status=row.status, reason=row.reason, code=row.code, same_as=row.same_as)
    prepared = PreparedSet(Path(out_dir), tuple(rows), options.preprocessing, tuple(options.labels), tuple(messages))
    prepared.save()
    delete_other_arrays(Path(out_dir), {row.id for row in rows if row.is_used and row.role != "held_out"})
    write_text(Path(out_dir) / "cases.csv", case_table(prepared))
    _check_enough(prepared, report)
    return prepared


def case_table(prepared: PreparedSet) -> str:
    """Every case as CSV for people: what it is used for, or why not."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            "case",
            "use",
            "code",
            "reason",
            "patient",
            "size",
            "spacing_mm",
            *(f"{label['name']} (ml)" for label in prepared.labels),
            "image",
            "mask",
            "mask_values",
            "same_as",
        ]
    )
    for row in prepared.cases:
        source = row.way_back.source if row.restore else None
        volumes = [f"{count * source.voxel_volume_ml:.1f}" for count in row.label_voxels[1:]] if source else []
        volumes += [""] * (len(prepared.labels) - len(volumes))
        size, spacing = source.describe().removesuffix(" mm").split(" at ") if source else ("", "")
        use = row.role.replace("_", " ") if row.is_used else f"refused ({row.role.replace('_', ' ')})"
        values = " ".join(map(str, row.mask_values))
        files = (row.image, row.label or "")
        writer.writerow(
            [row.id, use, row.code, row.reason, row.patient, size, spacing, *volumes, *files, values, row.same_as]
        )
    return stream.getvalue()


def _read_all(found: CaseList, options: PrepareOptions, folder: Path, report: Report) -> list[PreparedCase]:
    before = _prepared_before(folder)
    todo = [(case, role) for role in ("labeled", "unlabeled", "held_out") for case in getattr(found, role)]
    rows = []
    progress = Countdown(report, "preparing cases")
    for done, (case, role) in enumerate(todo):
        progress(done, len(todo))
        try:
            rows.append(_prepare_case(case, role, options, folder, before))
        except InputError as error:
            if error.code in _STOPS_EVERYTHING:
                raise
            values = error.values if isinstance(error, UnnamedValues) and len(error.values) <= _MOST_VALUES else []
            refused = _refused(case, role, error.code, f"{error.message} {error.hint}".strip())
            rows.append(replace(refused, mask_values=values))
        except MemoryError:
            rows.append(_refused(case, role, "E310", "It does not fit the memory of this computer."))
    progress(len(todo), len(todo))
    return rows


def _prepared_before(folder: Path) -> dict[str, PreparedCase]:
    if not (folder / "cases.json").exists():
        return {}
    try:
        return {row.id: row for row in PreparedSet.load(folder).cases if row.key and row.is_used}
    except InputError:
        return {}  # of another version or damaged: everything is prepared anew


def _refused(case: Case, role: str, code: str, reason: str) -> PreparedCase:
    label = str(case.label) if case.label else None
    # Its stamp tells later that the file was replaced by a good one.
    stamp = source_stamp([path for path in (case.image, case.label) if path is not None])
    return PreparedCase(case.id, case.patient, role, str(case.image), label, "refused", code, reason, stamp=stamp)


def _prepare_case(
    case: Case, role: str, options: PrepareOptions, folder: Path, before: dict[str, PreparedCase]
) -> PreparedCase:
    stored = role != "held_out"
    sources = [path for path in (case.image, case.label) if path is not None]
    key = _key(sources, options, case)
    known = before.get(case.id)
    if known is not None and known.key == key and (not stored or is_cached(folder, known)):
        return replace(known, role=role, patient=case.patient, stamp=source_stamp(sources))
    volume = read_volume(case.image, case.id, options.assumed_spacing_mm)
    check_volume(volume, case.id)
    channels, note = (None, "") if case.label is None else _read_channels(case, volume, options)
    image, restore = options.preprocessing.apply(volume)
    if stored:
        label = None if channels is None else restore.forward_labels(channels)
        write_arrays(folder, case.id, image, label)
    counts = [] if channels is None else np.bincount(channels.ravel(), minlength=len(options.labels) + 1).tolist()
    return PreparedCase(
        case.id,
        case.patient,
        role,
        str(case.image),
        str(case.label) if case.label else None,
        reason=note,
        key=key,
        stamp=source_stamp(sources),
        content=content_hash(volume.array),
        restore=restore.to_json(),
        label_voxels=counts,
        quantiles=intensity_quantiles(image),
        thumbnail=thumbnail(volume),
        is_mask_resampled=note == _RESAMPLED,
    )


def _key(sources: list[Path], options: PrepareOptions, case: Case) -> str:
    asked = {
        "preprocessing": options.preprocessing.to_json(),
        "labels": list(options.labels),
        "assumed_spacing_mm": options.assumed_spacing_mm,
    }
    if str(case.image) in options.resample_masks:
        asked["resample_mask"] = True
    if options.other_values != "refuse":
        asked["other_values"] = options.other_values
    try:
        return source_key(sources, asked)
    except OSError as error:
        raise InputError(f"'{case.id}' cannot be read: {error.strerror}.", code="E311", path=sources[0]) from error


def _read_channels(case: Case, image: Volume, options: PrepareOptions) -> tuple[np.ndarray, str]:
    """The structures on the image's grid, and what the user must know of them."""
    mask, names = read_labels(case.label, case.id, options.assumed_spacing_mm)
    # Segmentation files of Slicer are cut to the segments; any other mask of another size is a mistake.
    note = ""
    try:
        mask = mask_on_image(mask, image, case.id, may_be_smaller=ending(case.label) == ".seg.nrrd")
    except InputError:
        if str(case.image) not in options.resample_masks:
            raise
        mask, note = nearest_on_grid(mask, image.geometry), _RESAMPLED
    return mask_channels(mask, options.labels, case.id, names, options.other_values), note


def _without_duplicates(rows: list[PreparedCase], options: PrepareOptions, report: Report) -> list[PreparedCase]:
    used = [place for place, row in enumerate(rows) if row.is_used]
    pairs = find_duplicates(
        [rows[place] for place in used],
        lambda row: read_volume(Path(row.image), row.id, options.assumed_spacing_mm),
        Countdown(report, "comparing similar cases"),
    )
    for keep, drop, correlation in pairs:
        kept, row = rows[used[keep]], rows[used[drop]]
        what = "same image content as" if correlation == 1.0 else f"same scan, exported again, as (r {correlation:.3f})"
        reason = f"{row.id} appears twice: {what} {kept.id} ({kept.role.replace('_', ' ')}). It is used only there."
        rows[used[drop]] = replace(row, status="refused", code="E804", reason=reason, same_as=kept.id)
        report("warning", code="E804", message=reason)
    return rows


def _split(rows: list[PreparedCase], options: PrepareOptions, folder: Path, messages: list[str]) -> list[PreparedCase]:
    by_role = {
        role: [row for row in rows if row.is_used and row.role == role] for role in ("labeled", "unlabeled", "held_out")
    }
    enough = len({row.patient for row in by_role["labeled"]}) >= options.num_validation + 2
    split = split_cases(
        by_role["labeled"],
        by_role["unlabeled"],
        by_role["held_out"],
        num_validation=options.num_validation if enough else 0,
        seed=options.seed,
    )
    if not enough and options.num_validation:
        messages.append("Too few labeled patients to set some aside for validation.")
    split.save(folder / "split.json")
    return [_with_role(row, split) for row in rows]


def _with_role(row: PreparedCase, split: Split) -> PreparedCase:
    if row.is_used and row.id in split.dropped:
        return replace(row, status="refused", code="E804", reason=split.dropped[row.id])
    return replace(row, role="validation") if row.is_used and row.id in split.validation else row


def _compare_unlabeled(rows: list[PreparedCase], options: PrepareOptions, messages: list[str], report: Report) -> None:
    """E805: says which unlabeled volumes look different and, where asked, leaves them out."""
    labeled = [row for row in rows if row.is_used and row.role in ("labeled", "validation")]
    unlabeled = [place for place, row in enumerate(rows) if row.is_used and row.role == "unlabeled"]
    found = differences([rows[place] for place in unlabeled], labeled)
    reasons = {place: reason for place, reason in zip(unlabeled, found, strict=True) if reason}
    if not reasons:
        return
    leave_out = options.different_unlabeled == "leave_out"
    message = (
        f"{len(reasons)} of {len(unlabeled)} unlabeled volumes differ strongly in spacing or intensity. "
        f"They are {'left out' if leave_out else 'used'}."
    )
    messages.append(message)
    report("warning", code="E805", message=message, cases=[rows[place].id for place in reasons])
    for place, reason in reasons.items():
        rows[place] = replace(rows[place], status="refused" if leave_out else "used", code="E805", reason=reason)


def _check_enough(prepared: PreparedSet, report: Report) -> None:
    labeled = [prepared.cases[index] for index in prepared.indices("labeled")]
    if len(labeled) < 2:
        refused = [f"{row.id}: {row.reason}" for row in prepared.refused if row.role == "labeled"][:5]
        why = " Refused: " + " ".join(refused) if refused else ""
        raise InputError(
            f"At least 2 labeled volumes are needed (4 or more recommended); {len(labeled)} can be used.{why}",
            code="E801",
            hint="cases.csv lists every case.",
            path=prepared.folder / "cases.csv",
        )
    total = np.sum([row.label_voxels for row in labeled], axis=0)
    for label, count in zip(prepared.labels, total[1:], strict=True):
        if count == 0:
            raise InputError(
                f"'{label['name']}' (value {label['value']}) occurs in none of the {len(labeled)} labeled masks.",
                code="E704",
                hint="Correct the job's labels or the masks.",
            )
    if not prepared.indices("unlabeled"):
        report(
            "warning",
            code="E802",
            message="No unlabeled volumes: training will use labels only. That is allowed, "
            "but adding unlabeled volumes is what this tool is for.",
        )
