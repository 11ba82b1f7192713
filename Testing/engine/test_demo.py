"""The demonstration: phantoms or the user's own folder, one run folder, the table and the report; the training is made tiny on the way to the worker."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import builders
import pytest

from semiseg import demo
from semiseg.cli import main
from semiseg.data.files import read_volume, write_labels
from semiseg.errors import InputError
from semiseg.follow import last_result
from semiseg.protocol import ExitCode, Job, read_job, write_job
from semiseg.worker import run_folder

REPOSITORY = Path(__file__).resolve().parents[2]
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


def _folder_of_ones_own(kind, folder):
    """A cohort of a kind and how many of it are labeled; 2 are unlabeled, one is held out."""
    if kind == "left-atrium h5":
        folder.mkdir()
        builders.write_left_atrium_layout(folder, num_train=10, num_test=1)
        return 8
    if kind == "DICOM series":
        pytest.importorskip("pydicom", reason="pydicom is not installed")
        import synthetic_series

        for seed, case in enumerate(("labeled/one", "labeled/two", "unlabeled/three", "unlabeled/four", "heldout/five")):
            series = synthetic_series.base(folder / case / "DICOM", seed=seed)
            if "unlabeled" not in case:
                write_labels(series.parent / "mask.seg.nrrd", read_volume(series).with_array(synthetic_series.chamber_mask()), [builders.LEFT_ATRIUM])
        return 2
    builders.write_cohort(folder, 2, 2, 1, ending=kind)
    return 2


@pytest.mark.parametrize("kind", [".nii.gz", ".mha", "left-atrium h5", "DICOM series"])
def test_a_folder_of_ones_own_is_trained_scored_and_reported(kind, asked, tmp_path, capsys):
    data = tmp_path / "data"
    num_labeled = _folder_of_ones_own(kind, data)
    before = sorted(data.rglob("*"))
    out = tmp_path / "out"
    assert main(["demo", str(out), "--length", "quick", "--data", str(data)]) == 0
    (job,) = asked
    assert (job.options["labeled"], job.options["baseline"], job.options["minutes"]) == ([str(data)], True, demo.LENGTHS["quick"].minutes)
    said = capsys.readouterr().out
    assert "transmedseg" in said and "supervised" in said and "report.html" in said
    result = last_result(out / "run")
    assert result["cases"]["labeled"] == num_labeled and result["cases"]["unlabeled"] == 2 and result["scored"] == 1
    for name in ("report.html", "model.pt", "dice.csv", "job.json"):
        assert (out / "run" / name).is_file(), name
    assert list((out / "run" / "segmentations").glob("*.seg.nrrd")) and list((out / "run" / "segmentations").glob("*.nii.gz"))
    assert not (out / "phantoms").exists() and sorted(data.rglob("*")) == before


@pytest.fixture
def stub(monkeypatch):
    """Phantoms without volumes and a worker that stops at once; gives the cohorts that were made and what was said."""
    made, told = [], []

    def make_cohort(folder, *, report, **options):
        made.append(options)
        folder.mkdir(parents=True, exist_ok=True)
        recipe = {name.removeprefix("num_"): value for name, value in options.items()}
        (folder / "cohort.json").write_text(json.dumps({"recipe": {**recipe, "full_field_of_view": False}}))

    monkeypatch.setattr("semiseg.phantom.make_cohort", make_cohort)
    monkeypatch.setattr(demo, "run_in_worker", lambda run_dir, report: ExitCode.STOPPED)
    return SimpleNamespace(made=made, told=told, report=lambda kind, **values: told.append(values.get("message", "")))


def test_phantoms_are_made_once_and_a_stopped_run_goes_on(stub, tmp_path):
    for _ in range(2):
        assert demo.run_demo(tmp_path, "quick", None, stub.report) == (ExitCode.STOPPED, {})
        (tmp_path / "run" / "of the first").touch()
    assert len(stub.made) == 1 and stub.made[0]["site_mix"] == demo.SITE_MIX and (tmp_path / "run" / "of the first").exists()
    assert any("Continuing the run" in message for message in stub.told)


def test_another_length_has_its_own_phantoms_and_continues_no_run(stub, tmp_path):
    for length in ("quick", "demo"):
        demo.run_demo(tmp_path, length, None, stub.report)
    assert [options["num_unlabeled"] for options in stub.made] == [10, 16]
    assert read_job(tmp_path / "run").options["minutes"] == demo.LENGTHS["demo"].minutes and (tmp_path / "run-before-1").is_dir()


def test_a_finished_run_on_phantoms_is_replaced(stub, tmp_path):
    demo.run_demo(tmp_path, "quick", None, stub.report)
    (tmp_path / "run" / "result.json").write_text("{}")
    demo.run_demo(tmp_path, "quick", None, stub.report)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["phantoms", "run"] and not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_run_on_ones_own_volumes_is_never_deleted(is_finished, stub, tmp_path):
    first, second, out = (tmp_path / name for name in ("a", "b", "out"))
    demo.run_demo(out, "quick", first, stub.report)
    (out / "run" / "model.pt").write_text("mine")
    if is_finished:
        (out / "run" / "result.json").write_text("{}")
    for data in (second, None):
        demo.run_demo(out, "quick", data, stub.report)
    assert (out / "run-before-1" / "model.pt").read_text() == "mine" and (out / "run-before-2").is_dir()
    assert read_job(out / "run").options["labeled"] == [str((out / "phantoms").resolve())]
    assert any(str(out / "run-before-1") in message for message in stub.told)


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(["--help"], 0, "--quick"), (["--fast"], 2, "Unknown option --fast"), (["--data", "nowhere"], 2, "no folder nowhere"), (["--out"], 1, "needs a folder")],
)
def test_the_script_says_what_it_takes_before_it_makes_anything(words, code, said, tmp_path):
    done = subprocess.run(["bash", str(REPOSITORY / "demo.sh"), *words], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == code and said in done.stdout + done.stderr and not list(tmp_path.iterdir())


def test_an_unknown_length_is_refused(tmp_path):
    with pytest.raises(InputError, match="quick, demo"):
        demo.run_demo(tmp_path, "long", None, lambda kind, **values: None)
    assert not list(tmp_path.iterdir())
