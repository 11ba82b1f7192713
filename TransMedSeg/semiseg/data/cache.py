"""Prepared cases on disk: compact, memory-mapped, thrown away when the source or an option changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .atomic import replacing, write_json
from .preprocess import Preprocessing, Restore
from .slices import files_of

FORMAT = 1  # raise it when the meaning of a prepared array changes

ROLES = ("labeled", "unlabeled", "validation", "held_out")

FILES_MISSING = "missing"
"""Stamp of a case with a file that is not there or cannot be looked at."""


@dataclass(frozen=True)
class PreparedCase:
    """One row of ``cases.json``: what became of a case, and all that is needed to undo its preprocessing.

    Args:
        id: Name of the case, fit for a file name.
        patient: Cases of one patient never lie in two parts of the split.
        role: One of ``ROLES``.
        image: Source file or DICOM folder.
        label: Its mask; None for an unlabeled case.
        status: ``"used"`` or ``"refused"``.
        code: Code of the message that refused it, such as ``"E803"``.
        reason: Why it was refused, in one sentence.
        key: Changes with the source files and the options; equal keys mean the arrays can be reused.
        stamp: Changes with the source files alone; ``FILES_MISSING`` where one of them was not there; empty in sets of an older version and for
            files that were refused by their names.
        content: Hash of the source voxels and their shape.
        restore: :class:`Restore` as JSON.
        label_voxels: Voxels on the source grid per channel, background first; empty without a mask.
        quantiles: Intensities of the prepared image at evenly spaced ranks, to compare cases.
        thumbnail: 8 x 8 x 8 box means of the source, canonical, z-scored, to find duplicates.
        is_mask_resampled: The mask lay on another grid and was brought to the image's, as a person has asked.
        mask_values: Of a mask that was refused because nobody named some of its values: what to choose the structure from; else empty.
        same_as: Id of the case that shows the same scan and is used in place of this one (E804); else empty.
    """

    id: str
    patient: str
    role: str
    image: str
    label: str | None = None
    status: str = "used"
    code: str = ""
    reason: str = ""
    key: str = ""
    stamp: str = ""
    content: str = ""
    restore: dict[str, Any] = field(default_factory=dict)
    label_voxels: list[int] = field(default_factory=list)
    quantiles: list[float] = field(default_factory=list)
    thumbnail: list[float] = field(default_factory=list)
    is_mask_resampled: bool = False
    mask_values: list[int] = field(default_factory=list)
    same_as: str = ""

    @property
    def is_used(self) -> bool:
        return self.status == "used"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slice, row, column) of the prepared array."""
        return tuple(self.restore["shape"])

    @property
    def way_back(self) -> Restore:
        return Restore.from_json(self.restore)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Of the prepared array, along (slice, row, column)."""
        return self.way_back.prepared.spacing_mm


@dataclass(frozen=True)
class PreparedSet:
    """The prepared folder.

    Args:
        folder: Where ``cases.json`` and the arrays lie.
        cases: Used and refused ones, in their published or alphabetical order.
        preprocessing: What was done to each image.
        labels: ``{"value", "name", ...}`` per structure; the channel is the place in this list, counted from 1.
        messages: What the user should know of the set: the layout found, assumptions, warnings.
    """

    folder: Path
    cases: tuple[PreparedCase, ...]
    preprocessing: Preprocessing
    labels: tuple[dict[str, Any], ...]
    messages: tuple[str, ...] = ()

    def indices(self, role: str) -> list[int]:
        """Places in ``cases`` of the used cases of one role, in order.

        Those of ``"held_out"`` were checked but have no arrays: they are read from their source when segmented.
        """
        return [index for index, case in enumerate(self.cases) if case.is_used and case.role == role]

    @property
    def refused(self) -> list[PreparedCase]:
        return [case for case in self.cases if not case.is_used]

    @property
    def num_classes(self) -> int:
        """Structures and the background."""
        return len(self.labels) + 1

    def shape(self, index: int) -> tuple[int, int, int]:
        """(slice, row, column) of a case's arrays."""
        return self.cases[index].shape

    def num_bytes(self, index: int) -> int:
        """Size of a case's arrays as stored: 2 bytes a voxel for the image, 1 for the mask."""
        voxels = int(np.prod(self.shape(index)))
        return 3 * voxels if self.cases[index].label else 2 * voxels

    def arrays(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Memory-mapped image (float16) and channels (uint8; None without a mask), (slice, row, column)."""
        case = self.cases[index]
        return _open(image_path(self.folder, case.id)), _open(label_path(self.folder, case.id)) if case.label else None

    def changed_sources(self) -> list[str]:
        """Names of the cases whose files have changed (size or time of change) since they were read.

        Refused cases are among them: with other files they may be of use. Files that are gone are not named: what needs
        them says so, and what is done does not.
        """
        return [case.id for case in self.cases if case.stamp and _stamp_now(case) not in (FILES_MISSING, case.stamp)]

    def save(self) -> None:
        write_json(
            self.folder / "cases.json",
            {
                "format": FORMAT,
                "preprocessing": self.preprocessing.to_json(),
                "labels": list(self.labels),
                "messages": list(self.messages),
                "cases": [asdict(case) for case in self.cases],
            },
        )

    @classmethod
    def load(cls, folder: Path) -> PreparedSet:
        """Opens a prepared folder.

        Raises:
            InputError: There is none, it is damaged, or another version made it.
        """
        path = Path(folder) / "cases.json"
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["format"] != FORMAT:
                raise InputError(
                    f"The prepared cases have format {fields['format']}, this version reads {FORMAT}.",
                    code="E404",
                    hint="Prepare the cases again.",
                    path=path,
                )
            return cls(
                Path(folder),
                tuple(PreparedCase(**case) for case in fields["cases"]),
                Preprocessing.from_json(fields["preprocessing"]),
                tuple(fields["labels"]),
                tuple(fields["messages"]),
            )
        except FileNotFoundError as error:
            raise InputError(
                "This folder holds no prepared cases.", code="E311", path=path, hint="Prepare the cases first."
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"The list of prepared cases cannot be read: {error}.",
                code="E311",
                path=path,
                hint="Delete it and prepare the cases again.",
            ) from error


def image_path(folder: Path, case_id: str) -> Path:
    return Path(folder) / f"{case_id}.image.npy"


def label_path(folder: Path, case_id: str) -> Path:
    return Path(folder) / f"{case_id}.label.npy"


def write_arrays(folder: Path, case_id: str, image: np.ndarray, label: np.ndarray | None) -> None:
    """Stores one case: the image as float16 (z-scores need no more), the label as uint8; each whole or not at all."""
    _save(image_path(folder, case_id), np.clip(image, -65504, 65504).astype(np.float16))
    if label is None:
        label_path(folder, case_id).unlink(missing_ok=True)
    else:
        _save(label_path(folder, case_id), label.astype(np.uint8, copy=False))


def delete_other_arrays(folder: Path, keep: Collection[str]) -> None:
    """Removes arrays of cases that are no longer used, from a run before."""
    for suffix in (".image.npy", ".label.npy"):
        for path in Path(folder).glob(f"*{suffix}"):
            if path.name.removesuffix(suffix) not in keep:
                path.unlink(missing_ok=True)


def is_cached(folder: Path, case: PreparedCase) -> bool:
    """Whether the arrays of a case are there, whole and of the shape its record says."""
    paths = [image_path(folder, case.id)] + ([label_path(folder, case.id)] if case.label else [])
    try:
        return all(_open(path).shape == case.shape for path in paths)
    except InputError:
        return False


def source_key(paths: Sequence[Path], options: dict[str, Any]) -> str:
    """Changes when a source file changes (path, size or time of change), or an option, or our format."""
    stamps = []
    for path in paths:
        files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else files_of(path)
        stamps += [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    text = json.dumps([FORMAT, options, stamps], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def source_stamp(paths: Sequence[Path]) -> str:
    """Changes when a source file changes (path, size or time of change); ``FILES_MISSING`` where one is not there."""
    try:
        return source_key(paths, {})
    except (OSError, InputError):
        return FILES_MISSING


def _stamp_now(case: PreparedCase) -> str:
    return source_stamp([Path(path) for path in (case.image, case.label) if path is not None])


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array)


def _open(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"The prepared array {path.name} is missing or damaged.",
            code="E311",
            path=path,
            hint="Prepare the cases again.",
        ) from error
