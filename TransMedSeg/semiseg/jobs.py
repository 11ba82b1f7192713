"""The small verbs as jobs: options in, a use case called, a result for ``finished``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .data.atomic import write_json
from .distributed import World, any_rank, choose_device
from .job_options import options_from
from .protocol import RESULT_FILE, STOP_FILE

Report = Callable[..., None]


@dataclass(frozen=True)
class PredictJob:
    """Options of the verb ``predict``.

    Attributes:
        model: A model file.
        inputs: Volume files, folders of them, DICOM series folders.
        out_dir: Where results go; the run folder's ``segmentations`` when empty.
        device: "auto", "cpu", "cuda" or "cuda:N".
        segment: Fields of ``SegmentOptions``.
        overwrite: Segment again what is done.
        series_uid: Which series of a DICOM folder that holds several.
    """

    model: str = ""
    inputs: list[str] = field(default_factory=list)
    out_dir: str = ""
    device: str = "auto"
    segment: dict[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    series_uid: str | None = None


def run_predict(job: PredictJob, run_dir: Path, report: Report, world: World) -> dict[str, Any]:
    """Segments; the result lists what became of every case. A stop file ends it; the same job goes on with the cases that are left."""
    from .inference.segmenter import SegmentOptions
    from .predict import predict_shares, summary
    from .training.cpu import prepare_cpu

    device = choose_device(job.device, world)
    if device.type == "cpu":
        prepare_cpu()
    out_dir = Path(job.out_dir) if job.out_dir else run_dir / "segmentations"
    options = options_from(SegmentOptions, job.segment, "the segmentation")
    results = predict_shares(
        world,
        Path(job.model),
        [Path(path) for path in job.inputs],
        out_dir,
        options,
        report,
        device=str(device),
        overwrite=job.overwrite,
        series_uid=job.series_uid,
        should_stop=(run_dir / STOP_FILE).exists,
    )
    if any_rank((run_dir / STOP_FILE).exists()):
        return {"stopped_at": sum(result.status != "failed" for result in results)}
    return {"out_dir": str(out_dir), "summary": summary(results), "cases": [asdict(result) for result in results]}


@dataclass(frozen=True)
class EvaluateJob:
    """Options of the verb ``evaluate``.

    Attributes:
        predictions: A label map or a folder of them.
        references: The same for the references.
        labels: ``{"value", "name"}`` of each structure to score; empty scores what the references hold.
        resample: Resample predictions that lie on another grid.
    """

    predictions: str = ""
    references: str = ""
    labels: list[dict[str, Any]] = field(default_factory=list)
    resample: bool = False


def run_evaluate(job: EvaluateJob, run_dir: Path, report: Report) -> dict[str, Any]:
    """Scores; the table lies in ``dice.csv`` and ``dice.json``."""
    from .evaluate import evaluate, pair_folders

    pairs, loose = pair_folders(Path(job.predictions), Path(job.references))
    for sentence in loose:
        report("warning", code="", message=sentence, hint="")
    found = evaluate(pairs, job.labels, run_dir, report, resample=job.resample)
    result = {"scores": found.table.to_json()["summary"], "scored": len(pairs) - len(found.refused), "refused": found.refused}
    write_json(run_dir / RESULT_FILE, result)
    return result


@dataclass(frozen=True)
class ExportJob:
    """Options of the verb ``export-seg``.

    Attributes:
        series: Folder of the DICOM series, or a list of its files.
        segmentation: ``.seg.nrrd``, NIfTI, NRRD or MetaImage.
        output: DICOM file to write, or a folder.
        options: Fields of ``ExportOptions``.
    """

    series: str | list[str] = ""
    segmentation: str = ""
    output: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def run_export(job: ExportJob, run_dir: Path, report: Report) -> dict[str, Any]:
    """Writes one DICOM Segmentation and reads it back."""
    from .export_seg import ExportOptions, export_seg

    series = job.series if isinstance(job.series, str) else [Path(path) for path in job.series]
    options = options_from(ExportOptions, job.options, "the export")
    result = export_seg(series, job.segmentation, job.output, options, report).as_json()
    write_json(run_dir / RESULT_FILE, result)
    return result


@dataclass(frozen=True)
class PhantomJob:
    """Options of the verb ``phantom``.

    Attributes:
        out_dir: Where the cohort goes.
        num_labeled: Phantoms with masks.
        num_unlabeled: Phantoms without.
        num_held_out: Phantoms with masks for the score.
        seed: Of the cohort.
        size: Grid of the phantoms, see ``make_cohort``.
        full_field_of_view: The whole chest instead of a crop around the heart.
        site_mix: Sites of some of the parts: shares, such as ``{"unlabeled": {"B": 1}}``, or one after the other, the last of them
            for all that follow: ``{"labeled": ["A", "A", "B"]}``.
        appendage: Share of the phantoms of each part that have an appendage, which then is a structure of its own; see ``make_cohort``.
    """

    out_dir: str = ""
    num_labeled: int = 4
    num_unlabeled: int = 16
    num_held_out: int = 6
    seed: int = 0
    size: str = "half"
    full_field_of_view: bool = False
    site_mix: dict[str, Any] = field(default_factory=dict)
    appendage: dict[str, Any] = field(default_factory=dict)


def run_phantom(job: PhantomJob, run_dir: Path, report: Report) -> dict[str, Any]:
    """Makes a cohort of left-atrium phantoms."""
    from .phantom import make_cohort

    out_dir = Path(job.out_dir) if job.out_dir else run_dir / "cohort"
    make_cohort(
        out_dir,
        num_labeled=job.num_labeled,
        num_unlabeled=job.num_unlabeled,
        num_held_out=job.num_held_out,
        seed=job.seed,
        size=job.size,
        full_field_of_view=job.full_field_of_view,
        site_mix=job.site_mix,
        appendage=job.appendage,
        report=report,
    )
    return {"out_dir": str(out_dir)}
