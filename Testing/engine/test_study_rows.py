"""Every row of every shipped study trains: its method with its options, tiny, for a few steps of its last stage."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from training_cases import MemoryCases, make_batches, make_method, steps

from semiseg.study.definition import read_study
from semiseg.study.grid import lines_of

STUDIES = sorted((Path(__file__).resolve().parents[2] / "docs" / "studies").glob("*.json"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_row_trains(path):
    study = read_study(path)
    network = study.common.get("network", "vnet")
    num_classes = {"acdc": 4, "imbalance": 3}.get(path.stem, 2)
    patch = (1, 16, 16) if network == "unet2d" else (16, 16, 16)
    batches = make_batches(MemoryCases(num_classes=num_classes), patch)
    for line in lines_of(study):
        options = dict(line.job.get("method_options", {}))
        options.update({name.partition(".")[2]: (0.3, 0.1) for name in line.take})
        method = make_method(line.method, line.job.get("preset", "plus"), num_classes, network, **options)
        losses = steps(method, batches, 2)
        assert all(math.isfinite(value) for step in losses for value in step.values()), line.name
