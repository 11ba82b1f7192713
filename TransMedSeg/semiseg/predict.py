"""Step 3: a model and volumes in, label maps on each volume's own grid out."""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from . import __version__
from .data.atomic import replacing, write_json
from .data.cache import source_key
from .data.cases import Case, find_cases
from .data.files import label_files, read_volume, write_labels, write_volume
from .data.segmentation import Segment
from .data.volume import Volume
from .dicom.codes import structure_named, terminology_entry
from .distributed import World, gather
from .errors import InputError
from .inference.record import CaseResult, done_before, read_results, record_path, summary
from .inference.segmenter import Segmentation, Segmenter, SegmentOptions

Report = Callable[..., None]

_OUTPUT_CODES = ("E807", "E809")  # disk full, folder not writable: no other case can succeed
_SECONDS_BETWEEN_EVENTS = 0.5


def predict(
    model: Path,
    inputs: Path | Sequence[Path],
    out_dir: Path,
    options: SegmentOptions = SegmentOptions(),
    report: Report = lambda kind, **values: None,
    *,
    device: str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    overwrite: bool = False,
    series_uid: str | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[CaseResult]:
    """Segments files and folders with one model.

    Each volume leaves ``<id>.seg.nrrd`` and ``<id>.nii.gz`` (with the names of its values in ``<id>.json``), on request
    ``<id>.probability.nii.gz`` and ``<id>.uncertainty.nii.gz``, and last of all ``<id>.prediction.json``, which marks
    it done. A volume that fails is reported and the next one begins. Volumes done before with the same model and
    options are skipped.

    Args:
        model: A model file.
        inputs: Volume files, folders of them, DICOM series folders.
        out_dir: Made when it is not there.
        options: How to segment.
        report: Receives ``progress``, ``case`` and ``warning`` events.
        device: Where the network runs.
        rank: This process among ``world_size``; it takes every ``world_size``-th case. All find the same cases.
        world_size: Processes that share the inputs.
        overwrite: Segment again what is done.
        series_uid: Which series of a DICOM folder that holds several; the end of it becomes part of the results' names.
        should_stop: Asked after each batch of windows; True ends the work at once. The case at hand leaves nothing.

    Returns:
        One result for each case of this process, in order; fewer when it was stopped.

    Raises:
        InputError: The model (E403, E404, E405), no volume to segment (E311), the output folder (E809) or the disk
            (E807).
    """
    out_dir = Path(out_dir)
    mine = [_of_series(case, series_uid) for case in _find(inputs, out_dir, report)][rank::world_size]
    _check_writable(out_dir)  # before hours of work, not after
    segmenter = Segmenter(Path(model), device)
    identity = {**_identity(Path(model), options), **({"series_uid": series_uid} if series_uid else {})}
    run = _Run(segmenter, out_dir, options, identity, overwrite, series_uid, should_stop)
    return _all(run, mine, report, is_everything=world_size == 1)


def predict_shares(
    world: World, model: Path, inputs: Path | Sequence[Path], out_dir: Path, options: SegmentOptions, report: Report, **more: Any
) -> list[CaseResult]:
    """``predict`` on every rank, each with its share of the cases; all ranks return the results of all, and rank 0 reports them.

    Args:
        world: This process among all; alone it is ``predict``.
        model, inputs, out_dir, options, report: As for ``predict``.
        **more: Its other arguments, but for ``rank`` and ``world_size``.

    Raises:
        InputError: What ``predict`` raised on any rank, on all of them: nobody waits for a rank that is gone.
    """
    results: list[CaseResult] = []
    refusal: InputError | None = None
    try:
        results = predict(model, inputs, out_dir, options, report, rank=world.rank, world_size=world.size, **more)
    except InputError as error:
        refusal = error
    shares = gather({"results": [asdict(result) for result in results], "refusal": None if refusal is None else _as_values(refusal)})
    for share in shares:
        if share["refusal"] is not None:
            raise refusal or InputError(**share["refusal"])
    everybody = [[CaseResult(**result) for result in share["results"]] for share in shares]
    found = [result for row in itertools.zip_longest(*everybody) for result in row if result is not None]
    if world.size > 1 and world.is_main:
        for result in itertools.chain(*everybody[1:]):  # those of rank 0 were told as they came
            _tell(result, report)
        _warn_of_failures(found, report)
    return found


def _as_values(error: InputError) -> dict[str, str | None]:
    return {"message": error.message, "code": error.code, "hint": error.hint, "path": None if error.path is None else str(error.path)}


def _check_writable(out_dir: Path) -> None:
    with replacing(out_dir / ".writable") as probe:
        probe.touch()
    (out_dir / ".writable").unlink(missing_ok=True)


def _all(run: _Run, cases: list[Case], report: Report, is_everything: bool) -> list[CaseResult]:
    """One case after the other, until the last or a stop; each is reported."""
    clock = _Clock(report, len(cases))
    results: list[CaseResult] = []
    for case in cases:
        try:
            result = _one(run, case, clock)
        except _Stopped:
            break
        results.append(result)
        clock.case_done(worked=result.status != "skipped")
        _tell(result, report)
    if is_everything:  # of shares the one speaks who knows all
        _warn_of_failures(results, report)
    return results


def _tell(result: CaseResult, report: Report) -> None:
    report("case", id=result.id, status=result.status, reason=result.reason, code=result.code, files=result.files)
    for note in result.notes:
        report("warning", code=note["code"], message=f"{result.id}: {note['message']}", hint=note["hint"])


def _warn_of_failures(results: list[CaseResult], report: Report) -> None:
    if any(result.status == "failed" for result in results):
        hint = "Start again to try these again; done ones are kept."
        report("warning", code="E509", message=summary(results), hint=hint)


def _find(inputs: Path | Sequence[Path], out_dir: Path, report: Report) -> list[Case]:
    """The volumes to segment, in an order all processes find alike, without results of an earlier run."""
    paths = [Path(path) for path in ([inputs] if isinstance(inputs, (str, Path)) else inputs)]
    results = out_dir.resolve()
    if any(results == (path.parent if path.is_file() else path).resolve() for path in paths):
        raise _among_inputs(out_dir)
    found = find_cases((), paths)
    cases = list(found.unlabeled)
    folders = {path.parent for path in (*(case.image for case in cases), *(one.path for one in found.refused))}
    own = {folder.resolve() / name for folder in folders for one in read_results(folder) for name in one.files}

    def is_result(path: Path) -> bool:
        return path.parent.resolve() == results or path.resolve() in own

    for refusal in found.refused:
        if is_result(refusal.path):
            continue
        if refusal.reason.startswith("Several masks"):  # which of them is right does not matter here
            cases.append(Case(refusal.id, refusal.path))
        else:
            report("case", id=refusal.id, status="refused", reason=refusal.reason, code=refusal.code)
    cases = [case for case in cases if not is_result(case.image)]
    if not cases:
        raise InputError(
            "No volumes were found: expected NIfTI, NRRD, MHA, h5 files or DICOM series.",
            code="E311",
            hint="Choose the folder that holds them, or one above it.",
            path=paths[0] if paths else None,
        )
    return cases


def _among_inputs(out_dir: Path) -> InputError:
    return InputError(
        "The results would lie among the input volumes and could replace them.",
        code="E809",
        hint="Choose another folder for the results.",
        path=out_dir,
    )


@dataclass(frozen=True)
class _Run:
    segmenter: Segmenter
    out_dir: Path
    options: SegmentOptions
    identity: dict[str, Any]
    overwrite: bool
    series_uid: str | None
    should_stop: Callable[[], bool]


class _Stopped(Exception):
    """The user wants no more."""


class _Clock:
    """Turns windows and cases done into progress events with rate and remaining time, two a second at most."""

    def __init__(self, report: Report, num_cases: int) -> None:
        self._report, self._num_cases = report, num_cases
        self._start = self._last = time.monotonic()
        self._done = self._skipped = 0
        self._tell(0.0, "")

    def windows(self, case_id: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_EVENTS:
            self._last = now
            self._tell(done / total, case_id)

    def case_done(self, worked: bool) -> None:
        self._done += 1
        self._skipped += not worked
        self._tell(0.0, "")

    def _tell(self, part: float, case_id: str) -> None:
        done = self._done + part
        worked = done - self._skipped  # skipped cases take no time and say nothing about the rest
        rate = worked / max(time.monotonic() - self._start, 1e-9)
        eta = (self._num_cases - done) / rate if worked else None
        self._report(
            "progress",
            what="segmenting",
            done=round(done, 3),
            total=self._num_cases,
            rate_per_s=round(rate, 5),
            eta_s=None if eta is None else round(eta, 1),
            case=case_id,
        )


def _one(run: _Run, case: Case, clock: _Clock) -> CaseResult:
    """Segments one case or says why not; only what would fail every other case as well is raised."""
    try:
        result = _segmented(run, case, clock)
    except _Stopped:
        raise
    except InputError as error:
        if error.code in _OUTPUT_CODES:
            raise
        result = _failed(case, error.code, f"{error.message} {error.hint}".strip())
    except OSError as error:
        result = _failed(case, "E311", f"A file could not be read or written: {error}.")
    except MemoryError:
        result = _failed(case, "E310", "It does not fit the memory of this computer.")
    except Exception as error:
        # A defect of ours in one case must not cost the others; its traceback goes to the log.
        logging.getLogger(__name__).exception("Segmenting %s failed", case.id)
        result = _failed(case, "E502", f"An unexpected error, please report it: {type(error).__name__}: {error}")
    if result.status != "skipped":
        write_json(record_path(run.out_dir, case.id), asdict(result))
    return result


def _segmented(run: _Run, case: Case, clock: _Clock) -> CaseResult:
    started = time.monotonic()
    key = source_key([case.image], run.identity)
    before = None if run.overwrite else done_before(record_path(run.out_dir, case.id), key)
    if before is not None:
        return before

    def progress(done: int, total: int) -> None:
        if run.should_stop():
            raise _Stopped
        clock.windows(case.id, done, total)

    if run.should_stop():
        raise _Stopped
    found = run.segmenter.segment(_read(run, case), run.options, progress, case.id)
    files = _write(run, case.id, found)
    return CaseResult(
        case.id,
        "done",
        str(case.image),
        key,
        volumes_ml=found.volumes_ml,
        notes=[note._asdict() for note in found.notes],
        files=[file.name for file in files],
        time_s=round(time.monotonic() - started, 2),
    )


def _of_series(case: Case, series_uid: str | None) -> Case:
    """A case of its own for each series of a folder, so that their results do not replace each other."""
    return replace(case, id=f"{case.id}-{series_uid[-8:]}") if series_uid and case.image.is_dir() else case


def _read(run: _Run, case: Case) -> Volume:
    if run.series_uid and case.image.is_dir():
        from .dicom.series import read_series

        return read_series(case.image, run.series_uid)[0]
    return read_volume(case.image, case.id, run.segmenter.assumed_spacing_mm)


def _failed(case: Case, code: str, reason: str) -> CaseResult:
    return CaseResult(case.id, "failed", str(case.image), code=code, reason=reason)


def _write(run: _Run, case_id: str, found: Segmentation) -> list[Path]:
    record_path(run.out_dir, case_id).unlink(missing_ok=True)  # not done until it is written again
    segments = [_segment(one, run.segmenter.card, run.identity["model"]) for one in found.segments]
    files: list[Path] = []
    for ending in (".seg.nrrd", ".nii.gz"):
        path = run.out_dir / f"{case_id}{ending}"
        write_labels(path, found.labels, segments)
        files += label_files(path)
    for name, volume in (("probability", found.probability), ("uncertainty", found.uncertainty)):
        if volume is not None:
            files.append(run.out_dir / f"{case_id}.{name}.nii.gz")
            write_volume(files[-1], volume)
    return files


def _segment(label: dict[str, Any], card: dict[str, Any], digest: str) -> Segment:
    name = f"TransMedSeg {card.get('name', '')}".strip()
    structure = structure_named(str(label["name"]))
    color = label.get("color_rgb") or (
        structure and structure.color_rgb and [part / 255 for part in structure.color_rgb]
    )
    return Segment(
        int(label["value"]),
        str(label["name"]),
        tuple(color) if color else None,
        terminology_entry(structure) if structure else "",
        "AUTOMATIC",
        f"{name[:51]} sha:{digest[:8]}",  # the hash tells models of one name apart; DICOM has room for 64 characters
        str(card.get("version", card.get("semiseg_version", __version__))),
    )


def _identity(model: Path, options: SegmentOptions) -> dict[str, Any]:
    """What a result depends on beside its source."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    fields = {name: value for name, value in asdict(options).items() if name != "batch_windows"}
    return {"model": digest, "options": fields, "semiseg": __version__}


__all__ = ["CaseResult", "predict", "predict_shares", "read_results", "summary"]
