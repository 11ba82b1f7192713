"""Reads a written Segmentation back without its writer's help and compares it voxel by voxel in patient space.

Two readers: this one decodes frames and positions from the file itself; dcmqi's, which Slicer uses, runs as a second
opinion wherever it is installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.nrrd import read_nrrd
from ..errors import InputError
from .lattice import TOLERANCE_MM, place_on_grid

if TYPE_CHECKING:
    from pydicom import Dataset

    from .seg import Segment
    from .series import Series

_DCMQI_PROGRAM = "segimage2itkimage"
_DCMQI_TIMEOUT_S = 300


def verify(path: Path, series: Series, segments: list[Segment], report: Callable[..., None]) -> list[str]:
    """Compares a written file with what it should hold: voxels, positions, names, codes, references.

    Args:
        path: The file.
        series: Its source.
        segments: In the order of their numbers.
        report: Called with a ``warning`` when dcmqi is installed but does not run.

    Returns:
        The readers that agreed.

    Raises:
        InputError: Something differs (E908).
    """
    import pydicom

    try:
        dataset = pydicom.dcmread(path)
        _compare_header(dataset, series, segments)
        _compare_frames(dataset, series, segments)
    except (AttributeError, KeyError, IndexError, ValueError, EOFError, pydicom.errors.InvalidDicomError) as error:
        raise _differs(f"it cannot be read back: {error}") from error
    readers = ["pydicom"]
    program = find_dcmqi()
    if program is not None:
        try:
            _compare_with_dcmqi(program, path, series, segments)
            readers.append("dcmqi")
        except (OSError, subprocess.TimeoutExpired) as error:
            message = f"dcmqi is installed but does not run ({error}); the file was read back by one reader only."
            report("warning", code="E906", message=message, hint="Install dcmqi again.")
    return readers


def find_dcmqi() -> Path | None:
    """dcmqi's reader: on the path, beside this Python, or in the package as Slicer has it."""
    found = shutil.which(_DCMQI_PROGRAM) or shutil.which(_DCMQI_PROGRAM, path=sysconfig.get_path("scripts"))
    if found is None and (spec := find_spec("dcmqi")) is not None:
        for folder in spec.submodule_search_locations or []:
            found = found or shutil.which(_DCMQI_PROGRAM, path=str(Path(folder) / "bin"))
    return None if found is None else Path(found)


def _compare_header(dataset: Dataset, series: Series, segments: list[Segment]) -> None:
    source = series.headers[0]
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        if str(dataset.get(keyword, "") or "") != str(source.get(keyword, "") or ""):
            raise _differs(f"its {keyword} is not that of the source")
    described = [item for item in dataset.SegmentSequence if int(item.SegmentNumber) > 0]
    if len(described) != len(segments):
        raise _differs(f"it has {len(described)} segments instead of {len(segments)}")
    for number, (item, segment) in enumerate(zip(described, segments, strict=True), start=1):
        code = item.SegmentedPropertyTypeCodeSequence[0]
        expected = (number, segment.structure.type.value, segment.algorithm_type, segment.tracking_uid)
        found = (int(item.SegmentNumber), code.CodeValue, item.SegmentAlgorithmType, str(item.TrackingUID))
        if found != expected or not str(item.SegmentLabel):
            raise _differs(f"segment {number} is described as {found} instead of {expected}")


def _compare_frames(dataset: Dataset, series: Series, segments: list[Segment]) -> None:
    uids = _image_uids(series)
    written = np.zeros((len(segments), len(uids)), bool)
    wrong: set[int] = set()
    unreferenced = 0
    for groups, number, frame in _frames(dataset):
        slice_index = _slice_of(groups, frame.shape, series)
        if slice_index is None:
            raise _differs("a frame is not on a slice of the source")
        if uids[slice_index] not in _referenced(groups):
            unreferenced += 1
        numbers = [number] if number else range(1, len(segments) + 1)
        for each in numbers:
            written[each - 1, slice_index] = True
            if not np.array_equal(frame == each if number is None else frame, segments[each - 1].mask[slice_index]):
                wrong.add(slice_index)
    for segment, is_written in zip(segments, written, strict=True):
        wrong.update(np.flatnonzero(segment.mask.any(axis=(1, 2)) & ~is_written).tolist())
    if wrong:
        raise _differs(f"{len(wrong)} slices")
    if unreferenced:
        raise _differs(f"{unreferenced} frames do not refer to their source image")


def _frames(dataset: Dataset) -> Iterator[tuple[list[Dataset], int | None, np.ndarray]]:
    """Functional groups, segment number (None in a LABELMAP) and (row, column) pixels of each frame."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    is_binary = int(dataset.BitsAllocated) == 1
    labels = None if is_binary else dataset.pixel_array.reshape(-1, rows, columns)
    packed = np.frombuffer(dataset.PixelData, np.uint8) if is_binary else None
    for index, frame_groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups = [frame_groups, shared]
        if labels is not None:
            yield groups, None, labels[index]
            continue
        # Bits of all frames follow each other without a gap, lowest bit first (PS3.5 8.1.1).
        start, stop = index * rows * columns, (index + 1) * rows * columns
        bits = np.unpackbits(packed[start // 8 : -(-stop // 8)], bitorder="little")
        pixels = bits[start % 8 : start % 8 + rows * columns].view(bool).reshape(rows, columns)
        yield groups, int(_macro(groups, "SegmentIdentificationSequence").ReferencedSegmentNumber), pixels


def _slice_of(groups: list[Dataset], shape: tuple[int, int], series: Series) -> int | None:
    """Index of the source slice a frame lies on; None unless position, orientation and spacing are that slice's."""
    position = np.array(_macro(groups, "PlanePositionSequence").ImagePositionPatient, float)
    cosines = np.array(_macro(groups, "PlaneOrientationSequence").ImageOrientationPatient, float).reshape(2, 3)
    spacing = [float(mm) for mm in _macro(groups, "PixelMeasuresSequence").PixelSpacing]
    grid = series.geometry
    distances = np.linalg.norm(series.positions_mm - position, axis=1)
    nearest = int(distances.argmin())
    if shape != grid.shape[1:] or distances[nearest] > TOLERANCE_MM:
        return None
    along_row, along_column = cosines / np.linalg.norm(cosines, axis=1, keepdims=True)
    corner = along_column * spacing[0] * (shape[0] - 1) + along_row * spacing[1] * (shape[1] - 1)
    expected = grid.affine[:3, 1] * (shape[0] - 1) + grid.affine[:3, 2] * (shape[1] - 1)
    along = np.abs(np.stack([along_column, along_row], axis=1) - grid.direction[:, 1:]).max()
    return nearest if np.linalg.norm(corner - expected) <= TOLERANCE_MM and along < 1e-5 else None


def _macro(groups: list[Dataset], keyword: str) -> Dataset:
    holder = next((group for group in groups if keyword in group), None)
    if holder is None:
        raise _differs(f"a frame has no {keyword}")
    return holder[keyword].value[0]


def _referenced(groups: list[Dataset]) -> set[tuple[str, int | None]]:
    found = set()
    for derivation in groups[0].get("DerivationImageSequence", None) or []:
        for source in derivation.get("SourceImageSequence", None) or []:
            frame = source.get("ReferencedFrameNumber", None)
            found.add((str(source.ReferencedSOPInstanceUID), None if frame is None else int(frame)))
    return found


def _image_uids(series: Series) -> list[tuple[str, int | None]]:
    """For each slice the image (and frame) it came from."""
    if series.is_multiframe:
        uid = str(series.headers[0].SOPInstanceUID)
        return [(uid, frame + 1) for frame in series.frame_order]
    return [(str(header.SOPInstanceUID), None) for header in series.headers]


def _compare_with_dcmqi(program: Path, path: Path, series: Series, segments: list[Segment]) -> None:
    """What dcmqi, and so Slicer, makes of the file: the same voxels, names, numbers."""
    with tempfile.TemporaryDirectory() as folder:
        # A plain name: dcmqi on Windows opens files by the code page of the system.
        copy = Path(folder) / "segmentation.dcm"
        shutil.copyfile(path, copy)
        command = [str(program), "--inputDICOM", str(copy), "--outputDirectory", folder, "--mergeSegments"]
        run = subprocess.run(command, capture_output=True, timeout=_DCMQI_TIMEOUT_S, check=False)
        meta_path = Path(folder) / "meta.json"
        if run.returncode != 0 or not meta_path.is_file():
            lines = (run.stdout + run.stderr).decode("utf-8", errors="replace").splitlines()
            reason = next((line for line in lines if "error" in line.lower()), f"exit code {run.returncode}")
            raise _differs(f"dcmqi cannot read it: {reason.strip()}")
        meta = json.loads(meta_path.read_text(encoding="utf-8"))
        # A source with few decimals is not exactly regular, and dcmqi starts at its own first frame.
        tolerance_mm = TOLERANCE_MM + 2 * series.roughness_mm
        found: dict[int, np.ndarray] = {}
        for group, attributes in enumerate(meta["segmentAttributes"], start=1):
            volume = read_nrrd(Path(folder) / f"{group}.nrrd")
            for item in attributes:
                number = int(item["labelID"])
                if number > 0:  # the background of a LABELMAP
                    mask = volume.layers[0] == number
                    try:
                        found[number] = place_on_grid(mask, volume.affine, series.geometry, tolerance_mm)
                    except InputError as error:
                        raise _differs(f"dcmqi reads it at another place: {error.message}") from error
    wrong = set()
    for number, segment in enumerate(segments, start=1):
        if number not in found:
            raise _differs(f"dcmqi does not find segment {number}")
        wrong.update(np.flatnonzero((found.pop(number) != segment.mask).any(axis=(1, 2))).tolist())
    if wrong or found:
        raise _differs(f"dcmqi reads {len(wrong)} other slices" if wrong else "dcmqi finds more segments")


def _differs(what: str) -> InputError:
    return InputError(
        f"The written file differs from the mask ({what}). It was deleted; please report this.",
        code="E908",
        hint="Write it as BINARY, or save the mask as .seg.nrrd instead.",
    )
