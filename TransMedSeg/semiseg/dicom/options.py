"""What a person may decide about an export, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import InputError

ALGORITHM_TYPES = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")
SEGMENTATION_TYPES = ("BINARY", "LABELMAP")

HISTORIES = {"predicted": "AUTOMATIC", "corrected": "SEMIAUTOMATIC", "drawn": "MANUAL"}
"""How a segment was made, in plain words, and what DICOM calls it (PS3.3 C.8.20.4, Segment Algorithm Type)."""


@dataclass(frozen=True)
class ExportOptions:
    """Everything a person may decide.

    Args:
        series_uid: Which series, where the folder holds several.
        labels: Structure by value or by segment name; an empty one leaves the segment out.
        history: How all segments were made; None: as the file says.
        algorithm: Name of the model; None: as the file says, else this program.
        algorithm_version: Its version; None: as the file says, else that of this program.
        creator: Who answers for it, ``Family^Given``.
        kind: ``BINARY`` or ``LABELMAP``.
        resample: Allow a mask on another grid, by nearest neighbor.
        description: Series Description; None: made from structure and model.
        is_unverified: No person has approved it; the description says so.
        keep_empty_frames: Also write frames without foreground.
    """

    series_uid: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    history: str | None = None
    algorithm: str | None = None
    algorithm_version: str | None = None
    creator: str | None = None
    kind: str = "BINARY"
    resample: bool = False
    description: str | None = None
    is_unverified: bool = False
    keep_empty_frames: bool = False

    def __post_init__(self) -> None:
        if self.history is not None and self.history not in HISTORIES:
            raise InputError(f"A history is one of {', '.join(HISTORIES)}; got '{self.history}'.")
        if self.kind not in SEGMENTATION_TYPES:
            raise InputError(f"The kind of segmentation is one of {', '.join(SEGMENTATION_TYPES)}; got '{self.kind}'.")
