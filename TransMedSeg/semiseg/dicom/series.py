"""A DICOM folder to one Volume and its headers in slice order, or a refusal that says what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.geometry import Geometry
from ..data.volume import Volume
from ..errors import InputError
from .files import FolderContents, Header, SeriesSummary, damage_in, read_header, scan
from .pixels import read_stored, rescale
from .planes import planes_of, rescale_of
from .stack import Plane, stack_planes
from .values import text

if TYPE_CHECKING:
    from pydicom import Dataset

_SAME_IN_ALL = {
    "SeriesInstanceUID": "series",
    "StudyInstanceUID": "studies",
    "PatientID": "patients",
    "SOPClassUID": "kinds of image",
}
_UIDS = ("SOPInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID", "StudyInstanceUID", "SOPClassUID")


@dataclass(frozen=True, eq=False)
class Series:
    """One regular image series: its grid and its headers, pixels left on disk.

    Args:
        geometry: The grid, slices in the order of ITK and Slicer (along row x column).
        files: In slice order; a single one when the series is an enhanced multi-frame image.
        frame_order: For each slice, the index of its frame in an enhanced file; 0, 1, 2 ... for classic series.
        planes: For each slice what its header says; its decimals may differ a little from the regular grid.
    """

    geometry: Geometry
    files: tuple[Header, ...]
    frame_order: tuple[int, ...]
    planes: tuple[Plane, ...]

    @property
    def headers(self) -> list[Dataset]:
        """Everything but the pixels, one dataset per file."""
        return [file.dataset for file in self.files]

    @property
    def is_multiframe(self) -> bool:
        return int(self.files[0].dataset.get("NumberOfFrames", None) or 1) > 1

    @property
    def positions_mm(self) -> np.ndarray:
        """(slice, 3) Image Position (Patient)."""
        return np.array([plane.position_mm for plane in self.planes])

    @property
    def roughness_mm(self) -> float:
        """How far the corners of the images, as their headers place them, are from the regular grid at most."""
        _, rows, columns = self.geometry.shape
        corners = np.array([(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)], float)
        worst = 0.0
        for index, plane in enumerate(self.planes):
            steps = np.stack([plane.orientation[3:] * plane.spacing_mm[0], plane.orientation[:3] * plane.spacing_mm[1]])
            stated = plane.position_mm + corners @ steps
            regular = self.geometry.position_mm(np.column_stack([np.full(4, index), corners]))
            worst = max(worst, float(np.linalg.norm(stated - regular, axis=1).max()))
        return worst


def read_series(folder: str | Path, series_uid: str | None = None) -> tuple[Volume, list[Dataset]]:
    """Reads one series as a volume.

    Args:
        folder: Where its files are; subfolders are searched as well.
        series_uid: Series Instance UID; needed only where the folder holds several series.

    Returns:
        The volume, rescale slope and intercept applied, and the headers in slice order (one for an enhanced file).

    Raises:
        InputError: The folder holds no series or several (E311, E314), or the series is not one regular,
            complete volume (E302, E304, E305, E306, E311, E315, E316).
    """
    series = open_series(folder, series_uid)
    stored = read_stored(series.files)
    slopes, intercepts = rescale_of(list(series.files))
    if series.is_multiframe:
        order = list(series.frame_order)
        stored, slopes, intercepts = stored[order], slopes[order], intercepts[order]
    return Volume(rescale(stored, slopes, intercepts), series.geometry), series.headers


def open_series(folder: str | Path, series_uid: str | None = None) -> Series:
    """Reads and checks the headers of one series; what a DICOM-SEG needs. Arguments and errors as ``read_series``."""
    contents = scan(folder)
    chosen = _choose(contents, Path(folder), series_uid)
    if contents.unreadable:
        path, reason = contents.unreadable[0]
        number = len(contents.unreadable)
        others = f" The same holds for {number - 1} more files." if number > 1 else ""
        raise InputError(
            f"{reason.message} It may be a slice of the series, so nothing was read.{others}",
            code=reason.code,
            hint="Remove it from the folder, or import the series again.",
            path=path,
        )
    return _series([contents.headers.get(path) or _read_image(path) for path in chosen.paths])


def series_of_files(paths: tuple[Path, ...] | list[Path]) -> Series:
    """The series that exactly these files form, for a caller who knows them (Slicer's DICOM database does).

    Raises:
        InputError: As ``read_series``, and E314 when they are of several series.
    """
    return _series([_read_image(Path(path)) for path in paths])


def _read_image(path: Path) -> Header:
    header = read_header(path)
    if header is None:
        raise InputError(
            f"'{path.name}' is not an image.", code="E311", hint="Choose the files of one image series.", path=path
        )
    return header


def _series(files: list[Header]) -> Series:
    planes = planes_of(files)
    _check_identity(files)
    geometry, order = stack_planes(planes)
    ordered = tuple(planes[index] for index in order)
    if len(files) == 1:
        return Series(geometry, tuple(files), tuple(order), ordered)
    return Series(geometry, tuple(files[index] for index in order), tuple(range(len(order))), ordered)


def _choose(contents: FolderContents, folder: Path, series_uid: str | None) -> SeriesSummary:
    series = contents.series
    if not series:
        damaged = f" {len(contents.unreadable)} files cannot be read." if contents.unreadable else ""
        raise InputError(
            f"There are no DICOM images in this folder.{damaged}",
            code="E311",
            hint="Choose the folder that holds the files of the series.",
            path=folder,
        )
    if series_uid is not None:
        for summary in series:
            if summary.series_uid == series_uid:
                return summary
        raise InputError(
            f"There is no series {series_uid} in this folder; it holds {_list(series)}.",
            code="E314",
            hint="Give one of these series UIDs.",
            path=folder,
        )
    if len(series) > 1:
        raise InputError(
            f"The folder holds {len(series)} series: {_list(series)}.",
            code="E314",
            hint="Choose one by its series UID (in a terminal: --series-uid UID).",
            path=folder,
        )
    return series[0]


def _list(series: list[SeriesSummary]) -> str:
    shown = [f"{summary.describe()} = {summary.series_uid}" for summary in series[:12]]
    return "; ".join(shown) + (f"; and {len(series) - 12} more" if len(series) > 12 else "")


def _check_identity(files: list[Header]) -> None:
    """Every file is another image of one patient, study, series and frame of reference."""
    identities = []
    for file in files:
        with damage_in(file.path):
            identity = {keyword: text(file.dataset, keyword) for keyword in _UIDS}
            identities.append({**identity, "PatientID": str(file.dataset.get("PatientID", "") or "")})
    seen: dict[str, Header] = {}
    for file, identity in zip(files, identities, strict=True):
        uid = identity["SOPInstanceUID"]
        if not uid or uid in seen:
            other = f" and '{seen[uid].path.name}'" if uid in seen else ""
            raise InputError(
                f"'{file.path.name}'{other} {'have the same' if other else 'has no'} image UID ({uid or 'none'}); "
                "every image must have its own.",
                code="E315",
                hint="Remove the copy, or import the series again.",
                path=file.path,
            )
        seen[uid] = file
    for keyword, words in _SAME_IN_ALL.items():
        values = sorted({identity[keyword] for identity in identities})
        if len(values) > 1:
            raise InputError(
                f"The files are of {len(values)} {words}: {', '.join(values[:4])}.",
                code="E314",
                hint="Choose the files of one series.",
                path=files[0].path.parent,
            )
    frames = {identity["FrameOfReferenceUID"] for identity in identities}
    without = sum(not identity["FrameOfReferenceUID"] for identity in identities)
    if without:
        raise InputError(
            f"{without} of {len(files)} images have no frame of reference (Frame of Reference UID), so nothing can be "
            "placed in the series.",
            code="E316",
            hint="Choose the original series; a converted one often has lost it.",
            path=files[0].path.parent,
        )
    if len(frames) > 1:
        raise InputError(
            f"The images of the series have {len(frames)} frames of reference: the patient moved between them.",
            code="E316",
            hint="Choose images of one frame of reference.",
            path=files[0].path.parent,
        )
