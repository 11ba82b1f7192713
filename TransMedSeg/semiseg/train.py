"""Step 2: prepared arrays become model.pt, and the held-out cases get their Dice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import __version__
from .best_on_test import HeldOutLooks
from .data.atomic import write_json
from .data.cache import PreparedSet
from .distributed import World, any_rank, choose_device, wait_for_all
from .evaluate import Pair, evaluate
from .inference.model_file import write_model
from .inference.segmenter import SegmentOptions
from .labeling_budget import pace_within, words_for_patches
from .methods import load_method
from .methods.base import AbstractMethod
from .other_site import for_site, words_for_other_site
from .predict import predict_shares
from .protocol import (
    BASELINE_FOLDER,
    JOB_FILE,
    MODEL_FILE,
    RESULT_FILE,
    RESUME_FILE,
    STOP_FILE,
    Job,
    read_job,
    write_job,
)
from .train_job import Resolved, TrainJob, as_json, resolve
from .train_parts import make_batches, make_method, prepared_for, task_of
from .training.best import BEST_FILE, BestSoFar, MakeCard, write_stopped_model
from .training.case_labels import CaseLabels
from .training.cpu import prepare_cpu
from .training.first_stage import SharedFirstStage
from .training.length import FEWEST_SECONDS, Length
from .training.loop import Fit, Outcome
from .training.memory import peak_host_memory_gb
from .training.probe import Pace, measure_pace
from .training.smaller import SHRINKABLE
from .training.validate import Validation

Report = Callable[..., None]


def train(job: TrainJob, run_dir: Path, report: Report, world: World = World()) -> dict[str, Any]:
    """Prepares, trains, writes the model, and scores the held-out cases.

    Returns:
        What ``result.json`` holds; ``{"stopped_at": iteration}`` when a stop file ended the training early. The model is then that of the best
        validation so far, or of the last step where nothing was validated; its card says so.

    Raises:
        InputError: The data, an option, the memory or the disk.
    """
    device = choose_device(job.device, world)
    if device.type == "cpu":
        prepare_cpu()
        if job.threads > 0:
            torch.set_num_threads(job.threads)
    resolved = resolve(job, device)
    prepared = prepared_for(resolved, run_dir, report, world)
    if (of_site := for_site(resolved, job, prepared)) is not resolved:
        report("state", message=words_for_other_site(job))
    resolved, length = _with_length(of_site, job, prepared, device, report)
    if world.is_main:
        write_job(run_dir, Job("train", asdict(resolved.job)))
    result = _train_one(resolved, prepared, run_dir, device, report, world, run_dir / STOP_FILE, length)
    if "stopped_at" in result:
        return result
    resolved = _of_length(resolved, result["iterations"])
    if job.baseline and job.method != "supervised":
        baseline = _baseline(resolved, prepared, run_dir, device, report, world)
        if "stopped_at" in baseline:
            return baseline
        result["baseline"] = baseline
    if world.is_main:
        write_json(run_dir / RESULT_FILE, result)
    wait_for_all()
    return result


def _with_length(resolved: Resolved, stated: TrainJob, prepared: PreparedSet, device: torch.device, report: Report) -> tuple[Resolved, Length | None]:
    """Turns a budget of minutes into iterations: the job then says iterations, so that a resumed run has the same schedule."""
    options = resolved.options
    seconds = 60 * options.minutes
    if seconds <= 0:
        return resolved, None
    paces: list[Pace] = []

    def measure(one: Resolved) -> Pace:
        paces.append(measure_pace(lambda: make_method(one, prepared), make_batches(one, prepared, device, World()), options, device))
        return paces[-1]

    resolved, pace = pace_within(seconds, resolved, stated, measure)
    if len(paces) > 1:
        report("state", message=words_for_patches(paces[0].labeling_s, options.minutes))
    iterations = pace.iterations(seconds)
    report("state", message=f"A step takes {1000 * pace.step_s:.0f} ms here; {options.minutes:g} minutes are {iterations} iterations.")
    length = Length(seconds, pace) if seconds >= FEWEST_SECONDS and not stated.best_on_test else None
    return _of_length(resolved, iterations), length


def _of_length(resolved: Resolved, iterations: int) -> Resolved:
    options = replace(resolved.options, iterations=iterations, minutes=0.0)
    return replace(resolved, options=options, job=replace(resolved.job, training=as_json(options)))


def _train_one(
    resolved: Resolved, prepared: PreparedSet, run_dir: Path, device: torch.device, report: Report, world: World, stop_path: Path, length: Length | None = None
) -> dict[str, Any]:
    options = resolved.options
    method = make_method(resolved, prepared)
    facts = _facts(resolved, prepared, method)  # before a stage freezes a part of the method
    make_card = partial(_card, resolved, prepared, method, facts)
    validation = Validation(prepared, options.patch_size, report, run_dir if world.is_main else None)
    state_path = run_dir / RESUME_FILE
    best = None
    if validation.is_possible:
        best = BestSoFar(validation, run_dir / BEST_FILE if world.is_main else None, make_card, state_path.exists())
    batches = make_batches(resolved, prepared, device, world)
    looks = _looks(resolved, prepared, run_dir, device, report, world, make_card)
    fit = Fit(
        method,
        batches,
        options,
        device,
        world,
        report,
        state_path,
        _identity(resolved, prepared),
        best,
        stop_path.exists,
        CaseLabels(prepared, batches.store, batches.unlabeled, options.patch_size, run_dir, report, world) if batches.unlabeled else None,
        looks,
        length,
        None if validation.is_possible or length is not None else _shared_first_stage(resolved, prepared, method, device, world),
    )
    started = time.time()
    outcome = fit.run()
    if not outcome.is_complete:
        if world.is_main and stop_path.parent == run_dir:  # a baseline without its end measures nothing
            write_stopped_model(run_dir / MODEL_FILE, best, method, make_card, outcome.iteration, fit.iterations, report)
        return {"stopped_at": outcome.iteration}
    result = _result(facts, outcome, time.time() - started)
    if fit.took_first_stage:
        result["took_first_stage"] = True  # train_s counts its seconds as well
    if world.is_main:
        _keep_model(run_dir, resolved, outcome.iteration, make_card(result), method, report)
    wait_for_all()
    scored = _score_held_out(prepared, run_dir, device, report, world, stop_path, looks, outcome.iteration)
    if scored is None:
        return {"stopped_at": outcome.iteration}
    result.update(scored)
    if world.is_main:
        write_json(run_dir / RESULT_FILE, result)
    return result


def _keep_model(run_dir: Path, resolved: Resolved, iterations: int, card: dict[str, Any], method: AbstractMethod, report: Report) -> None:
    """Writes the model, and first the recipe where its length is another one by now."""
    if iterations != resolved.options.iterations:
        write_job(run_dir, Job("train", asdict(_of_length(resolved, iterations).job)))
    write_model(run_dir / MODEL_FILE, card, method.deployed.state_dict())
    report("saved", path=str(run_dir / MODEL_FILE), what="model", step=iterations)


def _looks(
    resolved: Resolved, prepared: PreparedSet, run_dir: Path, device: torch.device, report: Report, world: World, make_card: MakeCard
) -> HeldOutLooks | None:
    """Who scores the held-out cases in between, where the job asks for it; rank 0 alone, the others wait at their next step."""
    count = resolved.job.best_on_test
    if count < 1 or not world.is_main or not prepared.indices("held_out"):
        return None
    return HeldOutLooks(prepared, run_dir, make_card, count, resolved.options.iterations, device, report, (run_dir / RESUME_FILE).exists())


def _identity(resolved: Resolved, prepared: PreparedSet) -> dict[str, Any]:
    """What must not change between a stop and a resume."""
    job = resolved.job
    return {
        "method": job.method,
        "network": job.network,
        "network_options": resolved.network_options,
        "method_options": job.method_options,
        "training": {k: v for k, v in job.training.items() if k not in ("log_every", "save_every_s", "validate_every", "memory_gb", "compile")},
        "augment": job.augment,
        "seed": job.seed,
        "cases": [[case.id, case.role, case.key] for case in prepared.cases if case.is_used],
    }


def _shared_first_stage(
    resolved: Resolved, prepared: PreparedSet, method: AbstractMethod, device: torch.device, world: World
) -> SharedFirstStage | None:
    """Where trainings with this first stage keep its end, if the job asks for it and the method has one."""
    if not resolved.job.first_stages or resolved.job.best_on_test or method.first_stage is None:  # the same on every rank
        return None
    place = {"device": device.type, "threads": torch.get_num_threads(), "ranks": world.size, "version": __version__}  # others round differently
    identity = {**_identity(resolved, prepared), "method": "", "method_options": method.first_stage, **place}
    return SharedFirstStage(Path(resolved.job.first_stages), identity)


def _baseline(
    resolved: Resolved, prepared: PreparedSet, run_dir: Path, device: torch.device, report: Report, world: World
) -> dict[str, Any]:
    """The same data, network and budget of minutes or iterations, on the labels alone; a run folder of its own."""
    report("stage", name="baseline", iteration=0, total=0)
    folder = run_dir / BASELINE_FOLDER
    if world.is_main:
        folder.mkdir(exist_ok=True)
    wait_for_all()
    if any_rank((folder / JOB_FILE).exists()):
        begun = TrainJob(**read_job(folder).options)  # its length is settled; batch and patch may have become smaller since (E206)
        smaller = {name: resolved.job.training[name] for name in SHRINKABLE}
        other = resolve(replace(begun, training={**begun.training, **smaller}), device)
    else:
        other = resolve(_baseline_job(resolved, prepared, device), device)
        if world.is_main:
            write_job(folder, Job("train", asdict(other.job)))
    wait_for_all()
    if any_rank((run_dir / STOP_FILE).exists()):
        return {"stopped_at": 0}
    return _train_one(other, prepared, folder, device, _as_baseline(report), world, run_dir / STOP_FILE)


def _as_baseline(report: Report) -> Report:
    """Names the baseline's curves and progress as its own: they share the events of the run."""

    def named(kind: str, **values: Any) -> None:
        if kind == "preview":
            return  # the picture is of the model that is kept
        if kind == "scalar":
            values["name"] = f"baseline_{values['name']}"
        elif kind == "progress" and values.get("what") == "train":
            values["stage"] = "baseline"
        report(kind, **values)

    return named


def _baseline_job(resolved: Resolved, prepared: PreparedSet, device: torch.device) -> TrainJob:
    job = resolved.job
    steps = _equal_budget(resolved, prepared, device) if job.minutes > 0 or device.type == "cpu" else 1.0
    training = {**job.training, "iterations": max(20, round(job.training["iterations"] * steps))}
    return replace(
        job,
        method="supervised",
        preset=job.preset if job.preset in load_method("supervised").presets else "plus",
        method_options={},
        tsa=False,
        training=training,
        baseline=False,
        best_on_test=0,
        prepared=str(prepared.folder.resolve()),
    )


def _equal_budget(resolved: Resolved, prepared: PreparedSet, device: torch.device) -> float:
    """Supervised iterations that take as long as one of the method's, its share of the rounds of labeling included."""
    batches = make_batches(resolved, prepared, device, World())
    pace = measure_pace(lambda: make_method(resolved, prepared), batches, resolved.options, device)
    plain = load_method("supervised")
    task = task_of(resolved, prepared)
    plain_pace = measure_pace(lambda: plain(task, plain.Options()), batches, resolved.options, device)
    iterations = resolved.options.iterations
    return pace.seconds(iterations) / plain_pace.seconds(iterations)


def _facts(resolved: Resolved, prepared: PreparedSet, method: AbstractMethod) -> dict[str, Any]:
    """What is known of a training before it ends."""
    counts = {role: len(prepared.indices(role)) for role in ("labeled", "unlabeled", "validation", "held_out")}
    return {
        "method": resolved.job.method,
        "preset": resolved.job.preset,
        "network": resolved.job.network,
        "parameters": sum(p.numel() for p in method.deployed.parameters()),
        "trained_parameters": sum(p.numel() for p in method.parameters() if p.requires_grad),
        "seed": resolved.job.seed,
        "cases": counts,
    }


def _result(facts: dict[str, Any], outcome: Outcome, seconds: float) -> dict[str, Any]:
    return {
        **facts,
        "iterations": outcome.iteration,
        "train_s": round(outcome.seconds, 1),
        "wall_s": round(seconds, 1),
        "peak_gpu_memory_gb": round(outcome.peak_memory_gb, 2),
        "peak_host_memory_gb": round(peak_host_memory_gb(), 2),
        "checkpoint": "last",
        **({"smaller_since": list(outcome.changes)} if outcome.changes else {}),
    }


def _card(
    resolved: Resolved, prepared: PreparedSet, method: AbstractMethod, facts: dict[str, Any], ending: dict[str, Any]
) -> dict[str, Any]:
    """The model's card; ``ending`` says how its training ended."""
    network, network_options = method.deployed_network or (resolved.job.network, resolved.network_options)
    patch = resolved.options.patch_size
    # Of the volumes as they came, not as they were prepared: new volumes are compared with these (E307).
    spacings = [prepared.cases[index].way_back.source.spacing_mm for index in prepared.indices("labeled")]
    return {
        "name": f"{resolved.job.method} {'-'.join(label['name'] for label in prepared.labels)}",
        "network": {
            "name": network,
            "in_channels": 1,
            "num_classes": prepared.num_classes,
            "options": network_options,
        },
        "labels": list(prepared.labels),
        "preprocessing": prepared.preprocessing.to_json(),
        "assumed_spacing_mm": resolved.job.assumed_spacing_mm,
        "patch_size": list(patch[1:] if patch[0] == 1 else patch),
        "training": {**facts, **ending, "semiseg_version": __version__},
        "spacing_range_mm": [list(np.min(spacings, axis=0)), list(np.max(spacings, axis=0))],
        "intended_use": "research only",
    }


def _score_held_out(
    prepared: PreparedSet,
    run_dir: Path,
    device: torch.device,
    report: Report,
    world: World,
    stop_path: Path,
    looks: HeldOutLooks | None,
    iteration: int,
) -> dict[str, Any] | None:
    """Segments and scores the held-out cases; None when a stop file ended it, and segmented cases are kept."""
    indices = prepared.indices("held_out")
    if not indices:
        return {}
    cases = [prepared.cases[index] for index in indices]
    out_dir = run_dir / "segmentations"
    results = predict_shares(
        world,
        run_dir / MODEL_FILE,
        [Path(case.image) for case in cases],
        out_dir,
        SegmentOptions(),
        report,
        device=str(device),
        should_stop=stop_path.exists,
    )
    if any_rank(stop_path.exists()):
        return None
    if not world.is_main:
        return {}
    done = {result.source: result.id for result in results if result.status != "failed"}
    pairs = [
        Pair(case.id, out_dir / f"{done[case.image]}.seg.nrrd", Path(case.label), case.is_mask_resampled) for case in cases if case.image in done
    ]
    found = evaluate(pairs, prepared.labels, run_dir, report)
    scores = found.table.to_json()["summary"]
    result = {"scores": scores, "scored": len(pairs), "refused": found.refused, "failed": len(cases) - len(pairs)}
    best = looks.best(found.table, iteration) if looks is not None else {}
    return {**result, "best_on_test": best} if best else result
