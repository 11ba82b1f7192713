"""Looking before training: which cases will be used, and what a training will take of this computer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .data.atomic import write_json
from .distributed import World, choose_device
from .labeling_budget import pace_within
from .methods import load_method
from .other_site import for_site
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
        ``step_s``, ``labeling_s`` (all rounds of labels of whole cases) and, for a job with minutes, the ``iterations`` they are; device and threads of
        the measurement; ``goals`` with the length of each; memory and disk, needed and free; ``method_options`` where some must change to keep to the
        minutes (``labeling_budget.py``).
    """
    device = choose_device(job.device, World())
    if device.type == "cpu":
        prepare_cpu()
        if job.threads > 0:
            torch.set_num_threads(job.threads)
    resolved = resolve(job, device)
    prepared = prepared_for(resolved, run_dir, report, World())

    paces: dict[str, Pace] = {}

    def pace_of(one: Resolved) -> Pace:
        key = json.dumps([one.job.method_options, one.job.augment])
        if key not in paces:
            paces[key] = measure_pace(lambda: make_method(one, prepared), make_batches(one, prepared, device, World()), one.options, device)
        return paces[key]

    def fitting(one: Resolved, minutes: float) -> tuple[Resolved, Pace]:
        return pace_within(60 * minutes, one, job, pace_of) if minutes > 0 else (one, pace_of(one))

    used = for_site(resolved, job, prepared)
    minutes = used.options.minutes
    planned, pace = fitting(used, minutes)
    iterations = pace.iterations(60 * minutes) if minutes > 0 else used.options.iterations
    threads = torch.get_num_threads()
    result = {"step_s": pace.step_s, "labeling_s": pace.labeling_s, "iterations": iterations, "minutes": minutes, "device": str(device), "threads": threads}
    if planned is not used:
        result["method_options"] = dict(load_method(job.method).labels_of_patches)
    of_goal = {goal: resolve(replace(job, goal=goal, prepared=str(prepared.folder)), device).options for goal in GOALS}
    result["goals"] = lengths({goal: (one, fitting(used, one.minutes)[1]) for goal, one in of_goal.items()})
    result.update(demands(make_method(planned, prepared), prepared, device, run_dir))
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
