"""docs/walk.md as a test: balls on disk, one command, Dice above 0.9, and a folder that says how it came about."""

from __future__ import annotations

import csv
import json
import re
import time
from pathlib import Path

import builders
import numpy as np
import pytest

from semiseg.cli import main
from semiseg.data.files import read_labels, read_volume, write_labels, write_volume
from semiseg.data.volume import Volume
from semiseg.inference.segmenter import Segmenter
from semiseg.protocol import read_events, read_job

SHAPE = (16, 24, 32)
TINY = [
    "network_options.width=4", "network_options.depth=3", "network_options.coarse_stem=false", "training.patch_size=[16,16,16]",
    "training.iterations=60", "training.log_every=10", "training.learning_rate=0.02", "training.warmup_iterations=5", "num_validation=1",
    "augment.rotation_deg=0", "augment.scale=0", "threads=1",
]  # fmt: skip
"""A network for balls: the real job, in seconds."""


def write_ball(folder: Path, name: str, seed: int, with_mask: bool) -> None:
    """A bright ball in an oblique NIfTI volume with three different sides and spacings."""
    rng = np.random.default_rng(seed)
    grid = builders.geometry(SHAPE, (1.5, 1.2, 0.9), (15.0, -10.0, 20.0))
    center = grid.position_mm((rng.uniform(0.35, 0.65, 3)) * (np.array(SHAPE) - 1))
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    mask = np.linalg.norm(grid.position_mm(index) - center, axis=-1) < rng.uniform(5.5, 7.5)
    image = 100 + 60 * mask + rng.normal(0, 15, SHAPE)
    write_volume(folder / f"{name}.nii.gz", Volume(image.astype(np.float32), grid))
    if with_mask:
        write_labels(folder / f"{name}_seg.nii.gz", Volume(mask.astype(np.uint8), grid), [builders.LEFT_ATRIUM])


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """(run folder, seconds): ``semiseg train`` on three labeled, three unlabeled and two held-out balls."""
    data, run = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs") / "run"
    seed = 0
    for role, count in (("labeled", 4), ("unlabeled", 3), ("heldout", 2)):
        (data / role).mkdir()
        for number in range(count):
            seed += 1
            write_ball(data / role, f"{role}_{number}", seed, with_mask=role != "unlabeled")
    words = ["train", str(run), "--labeled", str(data / "labeled"), "--unlabeled", str(data / "unlabeled")]
    words += ["--held-out", str(data / "heldout"), "--device", "cpu", "--baseline"]
    for setting in TINY:
        words += ["--set", setting]
    started = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        assert main(words) == 0, (run / "log.txt").read_text()
    return run, time.monotonic() - started


def result_of(walk) -> dict:
    return json.loads((walk[0] / "result.json").read_text())


def test_files_become_a_dice_above_090_in_under_a_minute(walk):
    result = result_of(walk)
    score = result["scores"]["left atrium"]["dice"]
    assert score["count"] == 2 and score["mean"] > 0.9
    assert result["train_s"] < 60
    assert result["cases"] == {"labeled": 3, "unlabeled": 3, "validation": 1, "held_out": 2}


def test_the_baseline_stands_beside_it(walk):
    baseline = result_of(walk)["baseline"]
    assert baseline["method"] == "supervised" and baseline["scores"]["left atrium"]["dice"]["count"] == 2
    assert baseline["parameters"] == result_of(walk)["parameters"] or baseline["parameters"] > 0


def test_the_preview_is_of_the_model_that_is_kept(walk):
    """Not of the baseline, which is validated after it."""
    previews = [event for event in read_events(walk[0] / "events.jsonl")[0] if event["kind"] == "preview"]
    assert previews and all(Path(event["labels"]).parent == walk[0] / "preview" for event in previews)


def test_the_table_agrees_with_the_masks_on_disk(walk):
    """Computed anew from the files: what is printed is what is there."""
    table = (walk[0] / "dice.csv").read_text().splitlines()
    rows = {row["case"]: float(row["dice"]) for row in csv.DictReader(table) if row["case"].startswith("heldout")}
    assert set(rows) == {"heldout_0", "heldout_1"}
    cases = {case["id"]: case for case in json.loads((walk[0] / "prepared" / "cases.json").read_text())["cases"]}
    for name, dice in rows.items():
        found = read_labels(walk[0] / "segmentations" / f"{name}.nii.gz")[0]
        truth = read_labels(Path(cases[name]["label"]))[0]
        assert found.geometry.describe() == truth.geometry.describe()
        overlap = 2 * np.sum((found.array == 1) & (truth.array == 1)) / (np.sum(found.array == 1) + np.sum(truth.array == 1))
        assert dice == pytest.approx(overlap, abs=1e-3)


def test_masks_come_in_both_formats_on_the_grid_of_the_source(walk):
    names = {path.name for path in (walk[0] / "segmentations").iterdir()}
    assert {"heldout_0.seg.nrrd", "heldout_0.nii.gz", "heldout_1.seg.nrrd", "heldout_1.nii.gz"} <= names
    cases = {case["id"]: case for case in json.loads((walk[0] / "prepared" / "cases.json").read_text())["cases"]}
    source = read_volume(Path(cases["heldout_0"]["image"])).geometry
    np.testing.assert_allclose(read_labels(walk[0] / "segmentations" / "heldout_0.nii.gz")[0].geometry.affine, source.affine, atol=1e-4)


def test_the_model_works_without_its_run_folder(walk, tmp_path):
    model = tmp_path / "moved.pt"
    model.write_bytes((walk[0] / "model.pt").read_bytes())
    segmenter = Segmenter(model)
    card = segmenter.card
    assert card["network"]["name"] == "vnet" and card["labels"][0]["name"] == "left atrium"
    assert card["training"]["method"] == "transmedseg" and card["training"]["checkpoint"] == "last" and card["intended_use"]
    assert card["preprocessing"]["intensity"] == "zscore" and card["patch_size"] == [16, 16, 16]


def test_the_resolved_job_has_every_number(walk):
    job = read_job(walk[0]).options
    assert job["training"]["iterations"] == 60 and job["training"]["schedule"] and job["method_options"]["tsa_weight"] > 0
    assert job["preprocessing"]["intensity"] == "zscore"


def test_events_tell_the_whole_story(walk):
    events, _ = read_events(walk[0] / "events.jsonl")
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "started" and kinds[-1] == "finished"
    assert {"stage", "progress", "scalar", "case", "saved"} <= set(kinds) and "failed" not in kinds
    names = {event["name"] for event in events if event["kind"] == "scalar"}
    assert {"loss", "learning_rate", "validation_dice", "pseudo_label_share", "pseudo_label_entropy", "tsa_alpha", "negative_affinity_share"} <= names
    stages = [event["name"] for event in events if event["kind"] == "stage"]
    assert stages[:2] == ["pretrain", "self_train"] and "baseline" in stages
    used = {event["id"] for event in events if event["kind"] == "case" and event["status"] == "used"}
    assert len(used) >= 9


def test_the_log_names_versions_and_no_patient(walk):
    text = (walk[0] / "log.txt").read_text()
    assert json.loads(text.splitlines()[0])["semiseg"] and "labeled_0" not in text


def test_the_report_needs_no_other_file_and_no_network(walk):
    page = (walk[0] / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["']?(?!data:)[^"'> ]+""", page) and "url(" not in page and "<script" not in page
    assert page.count("data:image/png;base64,") >= 5
    assert "left atrium" in page and "supervised" in page and f"{result_of(walk)['scores']['left atrium']['dice']['mean']:.3f}" in page
    assert "&quot;method&quot;: &quot;transmedseg&quot;" in page, "the resolved job"


def test_nothing_half_written_is_left(walk):
    assert not [path for path in walk[0].rglob("*") if ".part" in path.name or path.name in ("run.lock", "stop")]


def test_the_same_command_again_finds_the_work_done(walk, capsys):
    before = (walk[0] / "model.pt").stat().st_mtime_ns, result_of(walk)["scores"]
    assert main(["train", str(walk[0])]) == 0
    assert result_of(walk)["scores"] == before[1]
    assert "0.9" in capsys.readouterr().out
