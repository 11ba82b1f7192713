"""The real engine behind the segmentation panel: a model is trained once on phantoms, then everything is done by buttons.

Needs a Python with the engine's packages (SEMISEG_ENGINE_PYTHON, or .venv made by test.sh); takes about a minute.
"""

import csv
import json
import os
import subprocess

import numpy as np
import pytest
import qt
import slicer
from bed import boot
from segment_builders import REPOSITORY, Panel
from train_bed import engine_python

from semiseg.protocol import process_exists
from TransMedSegLib import CaseTable, Compare, CompareTable, ModelList, RegionBox
from TransMedSegLib.Terminology import tagOf
from TransMedSegLib.VolumeExchange import maskOf

pytestmark = pytest.mark.skipif(engine_python() is None, reason="no Python with the engine's packages: set SEMISEG_ENGINE_PYTHON or run test.sh")

TRAINING = {
    "method": "supervised",
    "device": "cpu",
    "threads": 1,
    "network_options": {"width": 4, "depth": 3, "coarse_stem": False},
    "preprocessing": {"spacing_mm": [3.0, 3.0, 3.0]},
    "training": {"iterations": 80, "patch_size": [16, 24, 24], "learning_rate": 0.02, "warmup_iterations": 5},
}


def engine(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "TransMedSeg"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([engine_python(), "-m", "semiseg", *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with phantoms in `cohort`, a model in `run`, and what the command line makes of the held-out ones in `masks`."""
    folder = tmp_path_factory.mktemp("real")
    engine("phantom", folder / "cohort", "--labeled", 2, "--unlabeled", 0, "--held-out", 1)
    run = folder / "run"
    run.mkdir()
    job = {"protocol": 1, "verb": "train", "options": {"labeled": [str(folder / "cohort" / "labeled")], **TRAINING}}
    (run / "job.json").write_text(json.dumps(job))
    engine("run", run)
    engine("predict", run / "model.pt", folder / "cohort" / "heldout" / "images", "--out", folder / "masks")
    return folder


@pytest.fixture
def panel(trained, tmp_path):
    settings = (ModelList.OTHERS_SETTING, ModelList.LAST_SETTING, "TransMedSeg/SecondsPerMegavoxel")
    for key in settings:
        qt.QSettings().remove(key)
    ModelList.setModelsFolder(tmp_path / "models")
    qt.QSettings().setValue("TransMedSeg/Python", engine_python())
    one = Panel()
    one.segment.models.choose(trained / "run" / "model.pt")
    yield one
    one.close()
    for key in (*settings, ModelList.FOLDER_SETTING, "TransMedSeg/Python"):
        qt.QSettings().remove(key)


def image_of(trained):
    return trained / "cohort" / "heldout" / "images" / "heldout001.nii.gz"


def test_a_case_of_the_scene_is_segmented_by_the_real_engine_and_scored_as_by_the_command_line(panel, trained, tmp_path):
    assert "trained" in panel.ui.modelCardLabel.toolTip.lower() and "2 labeled and 0 unlabeled" in panel.ui.modelCardLabel.toolTip
    panel.module.cases.add([image_of(trained)])
    case = panel.desk.current
    assert panel.segment_this(120), panel.segment.run.log()
    assert panel.segment.notice.message == ""
    assert case.status == CaseTable.PREDICTED
    # The segment: its name, its code, its place.
    segment_id = case.segmentation.GetSegmentation().GetNthSegmentID(0)
    segment = case.segmentation.GetSegmentation().GetSegment(segment_id)
    assert segment.GetName() == "Left atrium (AI)"
    assert "SCT^82471001^Left atrium" in tagOf(segment, "TerminologyEntry")
    mask = maskOf(case.segmentation, segment_id, case.volume)
    reference = slicer.util.loadLabelVolume(str(trained / "masks" / "heldout001.nii.gz"), properties={"show": False})
    assert Compare.isSameGrid(reference, case.volume)
    assert mask.sum() > 1000 and np.array_equal(mask, slicer.util.arrayFromVolume(reference) > 0)
    assert "mL" in panel.ui.plausibilityLabel.text
    assert case.number("VolumeMl") == pytest.approx(mask.sum() * np.prod(case.volume.GetSpacing()) / 1000, rel=1e-6)
    # Doubt: a map on the same grid, and slices worth a look.
    assert Compare.isSameGrid(case.doubtMap, case.volume)
    assert panel.ui.doubtLabel.text == "slices worth a look:" and panel.ui.doubtList.count > 0
    assert case.number("Doubt") > 0
    assert panel.ui.modelCardLabel.text.endswith(" s for this case")
    # Dice in the table of the scene, and of the command line.
    truth = slicer.util.loadLabelVolume(str(trained / "cohort" / "heldout" / "labels" / "heldout001.nii.gz"), properties={"show": False})
    assert panel.compare(case.segmentation, truth, 120), panel.module.compare.notice.message
    [(_name, numbers, _worst, _note)] = CompareTable.rows(CompareTable.find())
    engine("evaluate", trained / "masks" / "heldout001.seg.nrrd", trained / "cohort" / "heldout" / "labels" / "heldout001.nii.gz", "--out", tmp_path / "score")
    with open(tmp_path / "score" / "dice.csv", newline="") as stream:
        row = next(csv.DictReader(stream))
    assert 0.2 < float(row["dice"]) < 1, "the model has learned something, and errs"
    assert abs(numbers["dice"] - float(row["dice"])) < 1e-6
    assert abs(case.number("Dice") - float(row["dice"])) < 1e-6
    assert abs(numbers["hd95_mm"] - float(row["hd95_mm"])) < 1e-6


def test_cancel_ends_the_real_engine_and_the_case_can_be_segmented_again(panel, trained):
    panel.module.cases.add([image_of(trained)])
    case = panel.desk.current
    panel.ui.segmentButton.click()
    process, folder = panel.segment.run._process, panel.segment.run.runDir
    assert boot.process_events(60, until=lambda: (folder / "events.jsonl").exists())
    panel.ui.cancelButton.click()
    assert panel.wait(20)
    assert panel.ui.progressLabel.text.startswith("Cancelled after ")
    assert not process_exists(process.pid)
    assert case.status == CaseTable.TO_DO and case.segmentation is None
    assert panel.segment_this(120) and case.status == CaseTable.PREDICTED
    assert not folder.exists()


def test_E509_the_real_engine_goes_on_after_a_case_that_fails(panel, trained, monkeypatch):
    write = RegionBox.writeVolume

    def cut_off(volume, path):
        write(volume, path)
        if path.name == "c002.nrrd":
            path.write_bytes(path.read_bytes()[:5000])

    monkeypatch.setattr(RegionBox, "writeVolume", cut_off)
    for _ in range(3):
        panel.module.cases.add([image_of(trained)])
    cases = panel.desk.cases()
    for case, name in zip(cases, ("P001", "P002", "P003")):
        case.volume.SetName(name)
    panel.desk.refresh()
    panel.ui.segmentAllButton.click()
    assert panel.wait(180), panel.segment.run.log()
    assert panel.segment.notice.message == "2 done, 1 failed (P002: E311). [E509]"
    assert [case.status for case in cases] == ["Predicted", "ToDo", "Predicted"]
    monkeypatch.undo()
    panel.segment.notice.buttons["Try these again"].click()
    assert panel.wait(120)
    assert [case.status for case in cases] == ["Predicted"] * 3


def test_who_has_no_volume_can_try_with_a_phantom(panel):
    from pathlib import Path

    before = set(Path(slicer.app.temporaryPath).glob("TransMedSeg-*"))
    panel.ui.sampleButton.click()
    assert not panel.ui.sampleButton.enabled and panel.ui.sampleButton.toolTip == "Making a phantom…"
    assert boot.process_events(60, until=lambda: panel.desk.current is not None), panel.module.cases.notice.message
    case = panel.desk.current
    assert "is a phantom, made by this computer" in panel.module.cases.notice.message
    assert case.status == CaseTable.TO_DO and case.segmentation is None and case.volume.GetSpacing() == pytest.approx((1.25, 1.25, 2.5))
    truth = slicer.util.getNode(f"{case.name} truth")
    assert Compare.isSameGrid(truth, case.volume) and slicer.util.arrayFromVolume(truth).any()
    assert set(Path(slicer.app.temporaryPath).glob("TransMedSeg-*")) == before, "no file is left behind"
    assert panel.ui.sampleButton.enabled and panel.ui.segmentButton.enabled
