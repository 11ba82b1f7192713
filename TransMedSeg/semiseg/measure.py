"""Looking before training: which cases will be used, and what a training will take of this computer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .data.atomic import write_json
from .distributed import World, choose_device
from .other_site import plan_for_site
from .protocol import RESULT_FILE
from .train_job import Resolved, TrainJob, resolve
from .train_parts import make_batches, make_method, prepared_for
from .training.cpu import prepare_cpu
from .training.expectation import demands, lengths
from .training.plan import GOALS
from .training.probe import Pace, measure_pace

Report = Callable[..., None]


def measure_step(job: TrainJob, run_dir: Path, report: Report) -> dict[str, Any]:
    """Only measures how long a step takes here, with the probe that turns minutes into iterations.

    Returns:
        ``step_s``, ``labeling_s`` (all rounds of labels of whole cases) and, for a job with minutes, the ``iterations`` they are; device and threads of the measurement; ``goals`` with the length of
        each; memory and disk, needed and free.
    """
    device = choose_device(job.device, World())
    if device.type == "cpu":
        prepare_cpu()
        if job.threads > 0:
            torch.set_num_threads(job.threads)
    resolved = resolve(job, device)
    prepared = prepared_for(resolved, run_dir, report, World())

    def plan(one: Resolved) -> tuple[int, tuple[Pace, int]]:
        pace = measure_pace(lambda: make_method(one, prepared), make_batches(one, prepared, device, World()), one.options, device)
        minutes = one.options.minutes
        iterations = pace.iterations(60 * minutes) if minutes > 0 else one.options.iterations
        return iterations, (pace, iterations)

    resolved, (pace, iterations) = plan_for_site(resolved, job, prepared, plan)
    minutes = resolved.options.minutes
    threads = torch.get_num_threads()
    result = {"step_s": pace.step_s, "labeling_s": pace.labeling_s, "iterations": iterations, "minutes": minutes, "device": str(device), "threads": threads}
    jobs = {goal: replace(job, goal=goal, prepared=str(prepared.folder)) for goal in GOALS}
    result["goals"] = lengths({goal: resolve(one, device).options for goal, one in jobs.items()}, pace)
    result.update(demands(make_method(resolved, prepared), prepared, device, run_dir))
    write_json(run_dir / RESULT_FILE, result)
    return result


def check_data(job: TrainJob, run_dir: Path, report: Report) -> dict[str, Any]:
    """Only looks at the data: prepares the cases and says of every one whether it will be used, and why not."""
    resolved = resolve(job, choose_device(job.device, World()))
    prepared = prepared_for(resolved, run_dir, report, World())
    result = {
        "cases": {role: len(prepared.indices(role)) for role in ("labeled", "unlabeled", "validation", "held_out")},
        "refused": [{"id": case.id, "code": case.code, "reason": case.reason} for case in prepared.refused],
    }
    write_json(run_dir / RESULT_FILE, result)
    return result
