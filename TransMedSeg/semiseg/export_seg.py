"""Step 5: a segmentation and the DICOM series it was drawn on become one DICOM Segmentation, read back and compared."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .data.atomic import replacing
from .data.naming import ending
from .dicom.masks import read_label_file
from .dicom.options import HISTORIES, SEGMENTATION_TYPES, ExportOptions
from .dicom.readback import verify
from .dicom.requirements import check_requirements
from .dicom.seg import Segment, SegmentationOptions, build_segmentation
from .dicom.segments import segments_of_file
from .dicom.series import Series, open_series, series_of_files
from .dicom.text import long_string
from .errors import InputError
from .job_options import options_from

Report = Callable[..., None]

_SET_HELP = (
    "algorithm (name of the model that made the mask), algorithm_version, description (Series Description), "
    f"kind ({' or '.join(SEGMENTATION_TYPES)}; default: BINARY), keep_empty_frames (true or false); can be repeated"
)
_SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


@dataclass(frozen=True)
class ExportedSegment:
    """One segment of the written file."""

    number: int
    name: str
    algorithm_type: str
    num_slices: int
    volume_ml: float
    tracking_id: str
    tracking_uid: str


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Args:
        path: The file.
        num_frames: In the file, all segments together.
        segments: In the order of their numbers.
        left_out: Names of segments without foreground.
        readers: Which programs read the file back and agreed.
    """

    path: Path
    num_frames: int
    segments: tuple[ExportedSegment, ...]
    left_out: tuple[str, ...]
    readers: tuple[str, ...]
    sop_instance_uid: str
    series_instance_uid: str

    @property
    def message(self) -> str:
        """The sentence shown to the user."""
        if len(self.segments) == 1:
            volumes = f"{self.segments[0].volume_ml:.1f} mL"
        else:
            volumes = ", ".join(f"{segment.name} {segment.volume_ml:.1f} mL" for segment in self.segments)
        return f"Written and verified: {self.num_frames} frames, {volumes}"

    def as_json(self) -> dict[str, Any]:
        """Plain values for an event or a file."""
        return {**asdict(self), "path": str(self.path), "message": self.message}


def export_seg(
    series: str | Path | list[Path],
    segmentation: str | Path,
    output: str | Path,
    options: ExportOptions | None = None,
    report: Report | None = None,
) -> ExportResult:
    """Writes one DICOM Segmentation and keeps it only if it reads back exactly.

    Args:
        series: Folder of the source series, one multi-frame file, a text file with one path per line, or the paths.
        segmentation: ``.seg.nrrd``, or a label map (NIfTI, NRRD, MetaImage).
        output: The file, or a folder to put it in.
        report: Called as ``report(kind, **values)`` with ``stage``, ``warning`` and ``saved``.

    Raises:
        InputError: The series is not one regular volume (E302 to E316), the mask does not fit (E903 to E905), or the
            file could not be written (E906, E907) or differs when read back (E908). Nothing is left behind.
    """
    options = options or ExportOptions()
    report = report or _silent
    check_requirements()
    report("stage", name="Reading the source series")
    source = _open_source(series, options)
    report("stage", name="Reading the segmentation")
    file = read_label_file(segmentation)
    segments, left_out = segments_of_file(file, Path(segmentation), source, options, report)
    report("stage", name="Writing")
    dataset = build_segmentation(source, segments, _segmentation_options(segments, options))
    path = _output_path(Path(output), dataset.SOPInstanceUID, source, Path(segmentation))
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        report("stage", name="Reading back")
        readers = verify(temporary, source, segments, report)
    result = ExportResult(
        path=path,
        num_frames=int(dataset.NumberOfFrames),
        segments=tuple(_summary(number, segment, source) for number, segment in enumerate(segments, start=1)),
        left_out=tuple(left_out),
        readers=tuple(readers),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
    )
    report("saved", path=str(path), what="DICOM Segmentation")
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``semiseg export-seg``."""
    parser.add_argument("--series", required=True, help="folder of the DICOM series, or a text file listing its files")
    parser.add_argument("--segmentation", required=True, help=".seg.nrrd, .nii.gz, .nrrd or .mha")
    parser.add_argument("--output", required=True, help="DICOM file to write, or a folder")
    parser.add_argument("--series-uid", help="which series, where the folder holds several")
    parser.add_argument("--labels", default="", help="such as '1=left atrium,2=left atrial scar'; '2=' leaves one out")
    parser.add_argument("--history", choices=list(HISTORIES), help="how the mask was made; default: as the file says")
    parser.add_argument("--creator", help="who answers for the mask: Family^Given")
    parser.add_argument("--unverified", action="store_true", help="nobody approved it; say so in the description")
    parser.add_argument("--resample", action="store_true", help="allow a mask on another grid (nearest neighbor)")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help=_SET_HELP)


def run(args: argparse.Namespace, report: Report) -> ExportResult:
    """``semiseg export-seg`` with parsed flags."""
    values = {
        "series_uid": args.series_uid,
        "labels": _parse_labels(args.labels),
        "history": args.history,
        "creator": args.creator,
        "resample": args.resample,
        "is_unverified": args.unverified,
    }
    options = options_from(ExportOptions, {**values, **_parse_settings(args.set)}, "the export")
    return export_seg(args.series, args.segmentation, args.output, options, report)


def _silent(kind: str, **values: Any) -> None:
    """Reports to nobody."""


def _parse_labels(text: str) -> dict[str, str]:
    labels = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, mark, name = part.partition("=")
        if not mark or not key.strip():
            raise InputError(f"'{part}' does not name a label; expected VALUE=STRUCTURE, such as '1=left atrium'.")
        labels[key.strip()] = name.strip()
    return labels


def _parse_settings(settings: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for setting in settings:
        name, mark, text = setting.partition("=")
        if not mark:
            raise InputError(f"--set needs OPTION=VALUE; found {setting!r}.", hint=f"The options are: {_SET_HELP}")
        values[name.strip()] = {"true": True, "false": False}.get(text.strip().lower(), text.strip())
    return values


def _open_source(series: str | Path | list[Path], options: ExportOptions) -> Series:
    if isinstance(series, list):
        return series_of_files(_existing(series))
    path = Path(series)
    if path.is_file() and path.suffix.lower() == ".txt":
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        return series_of_files(_existing([Path(line) for line in lines if line.strip()]))
    if path.is_file() and ending(path):
        raise InputError(
            f"'{path.name}' is not a DICOM series, so there is no patient and series to point to.",
            code="E901",
            hint="Choose the DICOM folder, or save the mask as .seg.nrrd or NIfTI instead.",
            path=path,
        )
    return series_of_files([path]) if path.is_file() else open_series(path, options.series_uid)


def _existing(paths: list[Path]) -> list[Path]:
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise InputError(
            f"{len(missing)} of {len(paths)} source files are no longer there (such as '{missing[0]}')."
            if missing
            else "The list of source files is empty.",
            code="E902",
            hint="Import the folder again.",
        )
    return paths


def _segmentation_options(segments: list[Segment], options: ExportOptions) -> SegmentationOptions:
    description = options.description
    if description is None:
        first = segments[0]
        what = ", ".join(dict.fromkeys(segment.structure.type.meaning for segment in segments))
        # Without the hash, which the segments have: there is room for 64 characters.
        by = "" if first.algorithm_type == "MANUAL" else f" ({first.algorithm_name.split(' sha:')[0]})"
        description = f"{what} segmentation{by}"
    if options.is_unverified:
        mark = " (unverified)"
        description = description[: 64 - len(mark)] + mark
    return SegmentationOptions(options.kind, options.keep_empty_frames, options.creator, description)


def _output_path(output: Path, sop_instance_uid: str, source: Series, segmentation: Path) -> Path:
    """Where the file goes; never onto one of its inputs, nor onto a file that is not a Segmentation."""
    if output.is_dir():
        return output / f"SEG_{sop_instance_uid}.dcm"
    if not output.exists():
        return output
    inputs = [segmentation, *(file.path for file in source.files)]
    if any(output.samefile(path) for path in inputs) or not _is_segmentation(output):
        raise InputError(
            f"'{output.name}' exists and is not a DICOM Segmentation; it was not overwritten.",
            code="E907",
            hint="Choose another name.",
            path=output,
        )
    return output


def _is_segmentation(path: Path) -> bool:
    import pydicom

    try:
        return str(pydicom.dcmread(path, specific_tags=["SOPClassUID"]).get("SOPClassUID", "")) in _SEGMENTATION_CLASSES
    except pydicom.errors.InvalidDicomError:
        return False


def _summary(number: int, segment: Segment, source: Series) -> ExportedSegment:
    return ExportedSegment(
        number=number,
        name=segment.name,
        algorithm_type=segment.algorithm_type,
        num_slices=int(segment.mask.any(axis=(1, 2)).sum()),
        volume_ml=float(np.count_nonzero(segment.mask)) * source.geometry.voxel_volume_ml,
        tracking_id=long_string(segment.tracking_id),
        tracking_uid=segment.tracking_uid,
    )
