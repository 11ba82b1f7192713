"""Pictures of the training panel, rendered on slicer-core with an emulated Qt layer: not screenshots of Slicer.

    QT_QPA_PLATFORM=offscreen python Testing/slicer/render_train_panel.py RUN_DIR [OUTPUT_FOLDER]

RUN_DIR is the folder of a training, running or finished. Its curves, cases and result are shown as they are.
"""

import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
sys.path[:0] = [str(HERE), str(REPOSITORY / "TransMedSeg")]

LABEL = "Rendered on slicer-core with an emulated Qt layer; not a screenshot of 3D Slicer."
WIDTH = 600


def main(run_dir, out_dir):
    from bed import boot, render

    boot.start()
    import qt
    from TransMedSegLib.EngineProcess import PYTHON_SETTING

    qt.QSettings().setValue(PYTHON_SETTING, sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        shutil.copytree(run_dir, runs / Path(run_dir).name)
        qt.QSettings().setValue("TransMedSeg/RunsFolder", str(runs))
        module, widget = boot.load_module("TransMedSegTrain", REPOSITORY / "TransMedSegTrain")
        module.widgetRepresentation().enter()
        show(widget.panel, runs / Path(run_dir).name)
        boot.process_events(0.5)
        out_dir.mkdir(parents=True, exist_ok=True)
        picture = render.grab(widget.parent, width=WIDTH)
        render.write_png(out_dir / "train-panel.png", labeled(picture))
        module.widgetRepresentation().exit()
        boot.quit_application()


def show(panel, run_dir):
    """Fills the panel as it looks after a training."""
    from TransMedSegLib.RunState import readJson

    options = readJson(run_dir / "job.json")["options"]
    parameters = panel.parameters
    parameters.labeledPaths = [Path(path) for path in options["labeled"]]
    parameters.unlabeledPaths = [Path(path) for path in options["unlabeled"]]
    panel.follow.open(run_dir)
    panel.runs.refresh()
    panel.ui.chartComboBox.currentIndex = 0
    parameters.runsFolder = Path("/data/runs")  # no path of this computer in a picture
    panel.runs.stop()


def labeled(picture):
    """Writes below the picture what it is."""
    import numpy as np
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (picture.shape[1], 26), "white")
    ImageDraw.Draw(strip).text((8, 6), LABEL, fill="black", font_size=13)
    return np.vstack([picture, np.asarray(strip)])


if __name__ == "__main__":
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else REPOSITORY / "Resources" / "Screenshots"
    main(Path(sys.argv[1]), target)
