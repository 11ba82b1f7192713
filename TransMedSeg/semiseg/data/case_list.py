"""What a folder turned out to hold: cases by role, refusals, and what the layout of a public data set says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .naming import patient_of


@dataclass(frozen=True)
class Case:
    """One volume and, where it may be used, its mask.

    Args:
        id: Unique, fit for a file name.
        image: Volume file, h5 file, first slice of a stack of slice files, or folder of a DICOM series.
        label: Mask file; the h5 file itself where it holds both. None when the case is used without a mask.
        patient: Cases of one patient stay in one part of the split.
    """

    id: str
    image: Path
    label: Path | None = None
    patient: str = ""

    def __post_init__(self) -> None:
        if not self.patient:
            object.__setattr__(self, "patient", patient_of(self.id))


@dataclass(frozen=True)
class Refusal:
    """A file that looks like a case and cannot be one."""

    id: str
    path: Path
    role: str
    reason: str
    code: str = ""


@dataclass(frozen=True)
class Layout:
    """What the layout of a public data set says beside the files; a job that says otherwise wins.

    Args:
        name: Short name, such as ``"acdc"``.
        title: For people.
        labels: ``{"value", "name"}`` of each structure.
        preprocessing: Fields of ``Preprocessing``: CT window, spacing.
        network: The network that suits the data; empty leaves the default.
        assumed_spacing_mm: (slice, row, column) of files that state none.
        window_from_labels: CT without a published window: the window is measured under the masks.
    """

    name: str
    title: str
    labels: tuple[dict[str, Any], ...] = ()
    preprocessing: dict[str, Any] = field(default_factory=dict)
    network: str = ""
    assumed_spacing_mm: tuple[float, float, float] | None = None
    window_from_labels: bool = False


@dataclass(frozen=True)
class CaseList:
    """What was found, in order: labeled cases first to last as published or by name.

    Args:
        notes: Sentences the user should read: which layout was recognized, which masks are left aside.
        refused: Files that look like cases and cannot be.
        layout: The public layout that was recognized; None for a folder of the user's own.
    """

    labeled: tuple[Case, ...] = ()
    unlabeled: tuple[Case, ...] = ()
    held_out: tuple[Case, ...] = ()
    notes: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    layout: Layout | None = None


def structures(*names: str) -> tuple[dict[str, Any], ...]:
    """Labels with the values 1, 2, ... in the order of the names."""
    return tuple({"value": value, "name": name} for value, name in enumerate(names, start=1))
