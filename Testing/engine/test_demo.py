"""The demonstration: phantoms or the user's own folder, one run folder, the table and the report; the training is made tiny on the way to the worker."""

from __future__ import annotations

import builders
import pytest

from semiseg import demo
from semiseg.cli import main
from semiseg.errors import InputError
from semiseg.follow import last_result
from semiseg.protocol import ExitCode, Job, read_job, write_job
from semiseg.worker import run_folder

TINY = {"device": "cpu", "minutes": 0, "network_options": {"width": 2, "depth": 3}, "training": {"patch_size": [8, 16, 16], "iterations": 4}}


@pytest.fixture
def asked(monkeypatch):
    """The jobs that were handed to a worker, each as it was written; they are run here, with a few steps."""
    jobs: list[Job] = []

    def run_in_worker(run_dir, report):
        jobs.append(read_job(run_dir))
        write_job(run_dir, Job("train", {**jobs[-1].options, **TINY}))
        code = run_folder(run_dir, report)
        write_job(run_dir, jobs[-1])
        return code

    monkeypatch.setattr(demo, "run_in_worker", run_in_worker)
    monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)
    return jobs


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_a_folder_of_ones_own_is_trained_scored_and_reported(ending, asked, tmp_path, capsys):
    data = builders.write_cohort(tmp_path / "data", 2, 2, 1, ending=ending)
    before = sorted(data.rglob("*"))
    out = tmp_path / "out"
    assert main(["demo", str(out), "--length", "quick", "--data", str(data)]) == 0
    (job,) = asked
    assert (job.options["labeled"], job.options["baseline"], job.options["minutes"]) == ([str(data)], True, demo.LENGTHS["quick"].minutes)
    said = capsys.readouterr().out
    assert "transmedseg" in said and "supervised" in said and "report.html" in said
    result = last_result(out / "run")
    assert result["cases"]["labeled"] == 2 and result["cases"]["unlabeled"] == 2 and result["scored"] == 1
    for name in ("report.html", "model.pt", "dice.csv", "job.json"):
        assert (out / "run" / name).is_file(), name
    assert list((out / "run" / "segmentations").glob("*.seg.nrrd")) and list((out / "run" / "segmentations").glob("*.nii.gz"))
    assert not (out / "phantoms").exists() and sorted(data.rglob("*")) == before


def test_phantoms_are_made_once_and_a_stopped_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(demo.LENGTHS, "quick", demo.Length(0.1, 1, 1, 1))
    made = []
    monkeypatch.setattr("semiseg.phantom.make_cohort", lambda folder, **options: made.append(options) or (folder.mkdir(parents=True), (folder / "cohort.json").write_text("{}")))
    codes = [ExitCode.STOPPED, ExitCode.STOPPED]
    monkeypatch.setattr(demo, "run_in_worker", lambda run_dir, report: codes.pop())
    told = []
    for _ in range(2):
        assert demo.run_demo(tmp_path, "quick", None, lambda kind, **values: told.append(values.get("message", ""))) == (ExitCode.STOPPED, {})
        (tmp_path / "run" / "of the first").touch()
    assert len(made) == 1 and made[0]["site_mix"] == demo.SITE_MIX and (tmp_path / "run" / "of the first").exists()
    assert any("Continuing the run" in message for message in told)


def test_an_unknown_length_is_refused(tmp_path):
    with pytest.raises(InputError, match="quick, demo"):
        demo.run_demo(tmp_path, "long", None, lambda kind, **values: None)
    assert not list(tmp_path.iterdir())
