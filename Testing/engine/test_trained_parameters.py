"""What a result says of the size of a method counts every part that learns in any stage."""

from __future__ import annotations

import json

import builders
import torch

from semiseg.methods import load_method
from semiseg.methods.base import Task
from semiseg.protocol import RESULT_FILE, ExitCode, Job, read_job, write_job
from semiseg.train_job import TrainJob, resolve
from semiseg.worker import run_folder


def test_parts_that_the_last_stage_freezes_are_counted(tmp_path, monkeypatch):
    """SemiGDA's autoencoder learns in the first stage alone."""
    monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)
    cohort = builders.write_cohort(tmp_path / "data", 3, 2, 0, ending=".nrrd")
    folder = tmp_path / "run"
    write_job(folder, Job("train", builders.tiny_train_job(cohort, {"iterations": 10}, method="semigda")))
    assert run_folder(folder) == ExitCode.FINISHED
    resolved = resolve(TrainJob(**read_job(folder).options), torch.device("cpu"))
    kind = load_method("semigda")
    method = kind(Task(2, resolved.job.network, resolved.network_options), kind.Options(**resolved.job.method_options))
    everything = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
    assert json.loads((folder / RESULT_FILE).read_text())["trained_parameters"] == everything
