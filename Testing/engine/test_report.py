"""The report and the tables: what a person sees of a run, and that it stands by itself."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import builders
import numpy as np
import pytest

from semiseg.data.cache import PreparedCase, PreparedSet
from semiseg.data.preprocess import Preprocessing
from semiseg.errors import InputError
from semiseg.protocol import EventWriter, Job, write_job
from semiseg.report import pictures, score_table, write_report
from semiseg.report.tables import COLUMNS, score_rows

SCORES = {
    "left atrium": {
        "dice": {"mean": 0.91234, "sd": 0.02, "count": 2},
        "jaccard": {"mean": 0.84, "sd": 0.03, "count": 2},
        "hd95_voxels": {"mean": 5.5, "sd": None, "count": 2},
        "asd_voxels": {"mean": None, "sd": None, "count": 0},
    }
}
RESULT = {
    "method": "transmedseg", "network": "vnet", "parameters": 1234567, "iterations": 2000, "train_s": 360.0, "seed": 3,
    "cases": {"labeled": 4, "unlabeled": 16, "validation": 0, "held_out": 2}, "scores": SCORES, "scored": 2,
}  # fmt: skip
BASELINE = {"method": "supervised", "scores": {"left atrium": {"dice": {"mean": 0.85, "sd": 0.01, "count": 2}}}, "scored": 2}


def png_size(content: bytes) -> tuple[int, int]:
    assert content[1:4] == b"PNG"
    return struct.unpack(">II", content[16:24])


def scalars(count: int = 5) -> list[dict]:
    names = ("loss", "loss_in", "learning_rate", "pseudo_label_share", "tsa_table_0_1", "tsa_shift_norm_0", "validation_dice", "other")
    return [{"kind": "scalar", "name": name, "value": step / 10, "step": step} for name in names for step in range(count)]


@pytest.fixture
def run_dir(tmp_path) -> Path:
    """A finished run of two held-out cases, without the training."""
    run, data = tmp_path / "run", tmp_path / "data"
    cases = []
    for number, dice in ((0, 0.9), (1, 0.7)):
        image = builders.write_case(data, f"case_{number}", seed=number, ending=".nrrd")
        label = image.with_name(f"case_{number}_seg.nii.gz")
        cases.append(PreparedCase(f"case_{number}", f"case_{number}", "held_out", str(image), str(label)))
        _, mask = builders.make_case(number)
        builders.write_labels(run / "segmentations" / f"case_{number}.seg.nrrd", mask, [builders.LEFT_ATRIUM])
    cases.append(PreparedCase("bad <case>", "x", "labeled", "nowhere.nrrd", None, "refused", "E803", "Mask & image differ."))
    PreparedSet(run / "prepared", tuple(cases), Preprocessing(), ({"value": 1, "name": "left atrium"},), ("Some <note>.",)).save()
    rows = [{"case": f"case_{number}", "label": "left atrium", "values": {"dice": dice}} for number, dice in ((0, 0.9), (1, 0.7))]
    (run / "dice.json").write_text(json.dumps({"rows": rows}))
    (run / "dice.txt").write_text("case_0  0.900")
    (run / "result.json").write_text(json.dumps({**RESULT, "baseline": BASELINE}))
    write_job(run, Job("train", {"method": "transmedseg", "labels": [{"value": 1, "name": "a </pre><script>alert(1)</script>"}]}))
    writer = EventWriter(run / "events.jsonl")
    for event in scalars():
        writer(**event)
    writer.close()
    return run


# Tables


def test_the_baseline_stands_under_the_method():
    rows = score_rows({**RESULT, "baseline": BASELINE})
    assert rows[0] == ["structure", "method", "cases", *(title for _, title, _ in COLUMNS)]
    assert [row[:4] for row in rows[1:]] == [
        ["left atrium", "transmedseg", "2", "0.912 ± 0.020"], ["left atrium", "supervised, same budget", "2", "0.850 ± 0.010"],
    ]  # fmt: skip
    assert rows[1][5] == "5.50" and rows[1][6] == "–", "no spread of one, and nothing where nothing is defined"


def test_the_text_table_is_aligned():
    lines = score_table({**RESULT, "baseline": BASELINE}).splitlines()
    column = lines[0].index("Dice")
    assert set(lines[1]) == {"-", " "} and lines[2][column:].startswith("0.912") and lines[3][column:].startswith("0.850")


def test_without_held_out_cases_there_is_a_sentence():
    assert "--held-out" in score_table({"method": "bcp", "scores": {}})


# Pictures


def test_curves_are_grouped_and_only_drawn_when_there_are_any():
    titles = [title for title, _ in pictures.curves(scalars())]
    assert titles == [
        "Losses", "Dice on the validation cases", "Pseudo-labels", "TSA: class-pair table", "TSA: shift of the class means", "Learning rate",
    ]  # fmt: skip
    assert pictures.curves([]) == [] and pictures.curves([{"kind": "state", "message": "hello"}]) == []


def test_a_curve_of_one_point_or_of_a_gap_is_drawn():
    events = [{"kind": "scalar", "name": "loss", "value": value, "step": step} for step, value in ((1, 0.5), (2, float("nan")))]
    assert len(pictures.curves(events)) == len(pictures.curves(events[:1])) == 1


def colors(content: bytes) -> np.ndarray:
    import io

    import matplotlib.image

    return matplotlib.image.imread(io.BytesIO(content), format="png")[..., :3]


def near(image: np.ndarray, color: str) -> int:
    wanted = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return int((np.abs(image - wanted).max(-1) < 0.1).sum())


def test_the_overlay_shows_both_outlines_in_their_colors():
    image = np.random.default_rng(0).normal(size=(40, 30))
    truth, found = np.zeros((40, 30), np.uint8), np.zeros((40, 30), np.uint8)
    truth[5:20, 5:20], found[15:35, 8:25] = 1, 1
    both = colors(pictures.overlay(image, found, truth))
    assert near(both, pictures.FOUND) > 100 and near(both, pictures.TRUTH) > 100
    alone = colors(pictures.overlay(image, found, None))
    assert near(alone, pictures.FOUND) > 100 and near(alone, pictures.TRUTH) == 0


def test_the_overlay_has_the_shape_of_the_body():
    """Rows twice as far apart as columns: a square array is shown twice as high as wide."""
    empty = np.zeros((20, 20), np.uint8)
    width, height = png_size(pictures.overlay(np.eye(20), empty, None, aspect=2.0))
    assert height / width == pytest.approx(2, rel=0.02)


def test_slices_without_outline_or_contrast_are_drawn():
    flat, full, empty = np.zeros((8, 8)), np.ones((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    for labels in (full, empty):
        assert png_size(pictures.overlay(flat, labels, labels))


def test_an_overlay_file_appears_whole(tmp_path):
    labels = np.eye(10, dtype=np.uint8)
    pictures.write_overlay(tmp_path / "preview.png", np.eye(10), labels, labels, aspect=1.5)
    assert png_size((tmp_path / "preview.png").read_bytes()) and len(list(tmp_path.iterdir())) == 1


# The page


def test_the_page_stands_by_itself(run_dir):
    path = write_report(run_dir)
    page = path.read_text(encoding="utf-8")
    assert path == run_dir / "report.html"
    assert not re.findall(r"""(?:src|href)=["']?(?!data:)[^"'> ]+""", page) and "@import" not in page and "url(" not in page
    assert "://" not in page
    assert "0.912 ± 0.020" in page and "supervised, same budget" in page and "1,234,567 parameters" in page and "6.0 minutes" in page
    assert "Research use only" in page and "Last checkpoint" in page


def test_the_page_shows_worst_and_best_and_says_who_was_refused(run_dir):
    page = write_report(run_dir).read_text(encoding="utf-8")
    assert page.index("worst: case_1, Dice 0.700") < page.index("case_0, Dice 0.900")
    assert page.count("<img") == 4 + 6, "two slices of two cases, six curves"
    assert "E803 Mask &amp; image differ." in page and "bad &lt;case&gt;" in page and "Some &lt;note&gt;." in page


def test_nothing_in_a_job_can_run_in_the_page(run_dir):
    page = write_report(run_dir).read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page


def test_a_report_outlives_its_data(run_dir):
    """Volumes that were moved since cost their pictures, not the page."""
    Path(run_dir.parent / "data" / "case_1.nrrd").unlink()
    page = write_report(run_dir).read_text(encoding="utf-8")
    assert "no picture" in page and page.count("<img") == 2 + 6 and "0.912" in page


def test_a_run_that_held_nothing_out_has_a_report_as_well(run_dir):
    for name in ("dice.json", "dice.txt", "events.jsonl"):
        (run_dir / name).unlink()
    (run_dir / "result.json").write_text(json.dumps({**RESULT, "scores": {}}))
    page = write_report(run_dir).read_text(encoding="utf-8")
    assert "No case was held out" in page and "<img" not in page


def test_without_a_result_there_is_no_report(tmp_path):
    with pytest.raises(InputError, match="no result yet"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
