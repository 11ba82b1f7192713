"""Every row of every shipped study trains: its method with its options on its network, tiny, for a few steps of its last stage."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from training_cases import CPU, TINY, MemoryCases, make_batches, steps

from semiseg.job_options import options_from
from semiseg.methods import load_method
from semiseg.methods.base import AbstractMethod, Task
from semiseg.networks import MONAI
from semiseg.study.definition import read_study
from semiseg.study.grid import Run, runs_of
from semiseg.train_job import TrainJob, resolve

STUDIES = sorted((Path(__file__).resolve().parents[2] / "docs" / "studies").glob("*.json"))
ROWS = [(path, run) for path in STUDIES for run in {one.line.name: one for one in runs_of(read_study(path))}.values()]
UNETR_PATCH = (32, 32, 32)


def patch_of(network: str) -> tuple[int, int, int]:
    if network.startswith(MONAI):
        return UNETR_PATCH
    return (1, 16, 16) if network == "unet2d" else (16, 16, 16)


def method_of(run: Run, num_classes: int) -> AbstractMethod:
    """As the engine makes it of the row's job, on a network of its kind that is as small as can be."""
    options = {**run.options, "num_labeled": None, "labeled": [], "unlabeled": [], "held_out": []}
    for name in run.sources:  # measured in another row's run
        options["method_options"] = {**options["method_options"], name.partition(".")[2]: [0.3, 0.1]}
    job = options_from(TrainJob, options, "the training")
    patch = patch_of(job.network or "vnet")
    resolved = resolve(replace(job, training={**job.training, "patch_size": patch}), CPU)
    network = resolved.job.network
    small = {} if network.startswith(MONAI) else TINY["unet2d" if network == "unet2d" else "vnet"]
    network_options = {name: value for name, value in resolved.network_options.items() if name not in ("width", "depth", "coarse_stem")}
    torch.manual_seed(0)
    task = Task(num_classes, network, {**network_options, **small}, two_dimensional=patch[0] == 1)
    return load_method(run.line.method)(task, resolved.method_options)


@cache
def batches_of(num_classes: int, patch: tuple[int, int, int]):
    shape = (33, 34, 36) if patch == UNETR_PATCH else (18, 20, 25)
    return make_batches(MemoryCases(num_classes=num_classes, shape=shape), patch)


@pytest.mark.filterwarnings("ignore:::monai")
@pytest.mark.parametrize(("path", "run"), ROWS, ids=[f"{path.stem}-{run.line.name}" for path, run in ROWS])
def test_every_row_trains(path, run):
    network = run.options.get("network") or "vnet"
    if network.startswith(MONAI):
        pytest.importorskip("monai", reason="needs the optional extra monai", exc_type=ImportError)
    num_classes = {"acdc": 4, "imbalance": 3}.get(path.stem, 2)
    method = method_of(run, num_classes)
    losses = steps(method, batches_of(num_classes, patch_of(network)), 2)
    assert all(math.isfinite(value) for step in losses for value in step.values())
    has_term = run.options.get("tsa", False) or (run.line.method == "transmedseg" and method.options.tsa_weight > 0)
    assert all(("tsa" in step) == has_term for step in losses), "the term is there where the row asks for it"


def test_rows_train_on_the_networks_that_they_name():
    rows = {run.line.name: run for path, run in ROWS if path.stem == "tsa_hosts"}
    assert {run.options["network"] for run in rows.values()} == {"unet3d", "monai:UNETR"}
    assert type(method_of(rows["U-Net"], 2).student).__name__ == "UNet"
