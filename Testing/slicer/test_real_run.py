"""The real engine behind the real panel: cases of the scene, detached training, the window killed and started again, Dice.

Needs a Python with the engine's packages (SEMISEG_ENGINE_PYTHON, or .venv made by test.sh). Takes real left atria where the
packed benchmark lies beside the repository (../shared/data), else ellipsoids; about a minute.
"""

import contextlib
import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from train_bed import REPOSITORY, engine_python

HERE = Path(__file__).parent

WINDOW = """
import json, os, signal, sys, time
places = json.loads(sys.argv[1])
sys.path[:0] = [places["here"], places["library"]]
from pathlib import Path
from bed import boot
boot.start()
import numpy as np, qt, slicer
from train_bed import until
qt.QSettings().setValue("TransMedSeg/Python", places["python"])
qt.QSettings().setValue("TransMedSeg/RunsFolder", places["runs"])
module, widget = boot.load_module("TransMedSegTrain", places["train"])
module.widgetRepresentation().enter()
panel = widget.panel
"""

FIRST = """
for index, path in enumerate(sorted(Path(places["cases"]).glob("*.npz"))):
    with np.load(path) as case:
        image, mask, spacing = case["image"], case["mask"], case["spacing"]
    volume = slicer.util.addVolumeFromArray(image, name=f"P{index}")
    volume.SetSpacing(*spacing)
    if index > 3:
        panel.cases.addNodes(volume, None)
        continue
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"P{index} mask")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().AddEmptySegment("LA", "left atrium")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "LA", volume)
    if index < 3:
        panel.cases.addNodes(volume, node)
    else:
        from TransMedSegLib.VolumeExchange import writeSegmentation, writeVolume
        held = Path(places["runs"]).parent / "held"
        held.mkdir()
        writeVolume(volume, held / "P3.nrrd")
        writeSegmentation(node, held / "P3_label.seg.nrrd", volume)
        panel.ui.ownRadioButton.click()
        panel.cases.add("heldOut", [held])
panel.ui.quickRadioButton.click()
from TransMedSegLib import TrainCheck, TrainFollow
short = TrainFollow.trainOptions
TrainCheck.trainOptions = TrainFollow.trainOptions = lambda *given: {**short(*given), "device": "cpu", "threads": 1, "training": {"iterations": 200, "patch_size": [16, 32, 32], "log_every": 5},
    "preprocessing": {"spacing_mm": [2.5, 2.5, 2.5]}, "network_options": {"width": 4, "depth": 3, "coarse_stem": False}}
assert panel.ui.startButton.enabled, panel.ui.startButton.toolTip
panel.ui.startButton.click()
assert until(lambda: panel.view.progress.what == "train" and panel.view.progress.done > 5, 240), (panel.notice.message, panel.ui.checkLabel.text)
print(json.dumps({"run": str(panel.follow.process.runDir), "pid": panel.follow.process.pid}), flush=True)
os.kill(os.getpid(), 9)
"""

SECOND = """
assert panel.follow.process is not None, "the run is found again"
os.kill(panel.follow.process.pid, signal.SIGCONT)
assert until(lambda: panel.follow.process.ending is not None, 240)
assert panel.follow.process.ending.state.name == "Finished", panel.follow.process.ending
table = panel.ui.resultTable.mrmlTableNode()
losses = slicer.util.getNode(f"{panel.follow.process.runDir.name} Losses (numbers)")
print(json.dumps({
    "run": str(panel.follow.process.runDir), "pid": panel.follow.process.pid,
    "dice": float(slicer.util.arrayFromTableColumn(table, "Dice")[0]),
    "steps": [int(step) for step in slicer.util.arrayFromTableColumn(losses, "iteration")],
    "text": panel.ui.resultLabel.text, "rows": panel.ui.labeledTable.rowCount,
}), flush=True)
module.widgetRepresentation().exit()
boot.quit_application()
"""


PACKED = REPOSITORY.parent / "shared" / "data"
NUM_CASES = 6  # three labeled, one held out, two unlabeled
SPACING_MM = (0.625, 0.625, 0.625)  # the challenge's; the files hold none


def left_atria(folder):
    """Unpacks the first cases of the benchmark. Returns False where it is not there."""
    if not (PACKED / "la_pack.py").is_file():
        return False
    spec = importlib.util.spec_from_file_location("la_pack", PACKED / "la_pack.py")
    pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    files = sorted(PACKED.glob("la/**/*.lax"))[:NUM_CASES]
    for index, path in enumerate(files):
        image, label, _facts = pack.unpack(path.read_bytes())  # axes x, y, z
        np.savez(folder / f"{index}.npz", image=image.transpose(2, 1, 0).copy(), mask=label.transpose(2, 1, 0).copy(), spacing=SPACING_MM)
    return len(files) == NUM_CASES


def ellipsoids(folder):
    random = np.random.default_rng(0)
    for index in range(NUM_CASES):
        z, y, x = np.indices((40, 64, 64))
        mask = (((z - 20) / 10) ** 2 + ((y - 30 - index % 3) / 16) ** 2 + ((x - 32 + index % 2) / 16) ** 2 < 1).astype(np.uint8)
        image = (100 * mask + random.normal(100, 12, mask.shape)).astype(np.int16)
        np.savez(folder / f"{index}.npz", image=image, mask=mask, spacing=(1.2, 1.1, 2.0))


@pytest.fixture
def cases(tmp_path):
    """A folder with one .npz a case: image and mask [slice, row, column] and the spacing along (x, y, z)."""
    folder = tmp_path / "cases"
    folder.mkdir()
    if not left_atria(folder):
        ellipsoids(folder)
    return folder


def window(code, tmp_path):
    """Runs a window in a process of its own; returns what it printed last."""
    values = {
        "here": str(HERE),
        "library": str(REPOSITORY / "TransMedSeg"),
        "train": str(REPOSITORY / "TransMedSegTrain"),
        "python": engine_python(),
        "runs": str(tmp_path / "runs"),
        "cases": str(tmp_path / "cases"),
    }
    done = subprocess.run([sys.executable, "-c", WINDOW + code, json.dumps(values)], capture_output=True, text=True, timeout=500, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[-1])


@pytest.mark.skipif(engine_python() is None, reason="no Python with the engine's packages: set SEMISEG_ENGINE_PYTHON or run test.sh")
def test_training_survives_the_window_and_its_result_is_right(cases, tmp_path):
    first = window(FIRST, tmp_path)
    assert Path(f"/proc/{first['pid']}").exists(), "the training goes on without its window"
    os.kill(first["pid"], signal.SIGSTOP)  # on a fast computer it would be over before the second window opens
    try:
        second = window(SECOND, tmp_path)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(first["pid"], signal.SIGCONT)
    assert (second["run"], second["pid"]) == (first["run"], first["pid"])
    assert second["steps"] == list(range(5, 201, 5)), "the curve has no gap"
    assert second["rows"] == 3
    run = Path(first["run"])
    command = [engine_python(), "-m", "semiseg", "evaluate", str(run / "segmentations"), str(tmp_path / "held"), "--out", str(tmp_path / "score"), "--label", "1=left atrium"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "TransMedSeg")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(tmp_path / "score" / "dice.csv", newline="") as stream:
        dice = float(next(csv.DictReader(stream))["dice"])
    assert abs(second["dice"] - dice) < 1e-6 and 0.05 < dice < 1
    assert "left atrium Dice" in second["text"] and "on 1 case: too few to be sure" in second["text"]
