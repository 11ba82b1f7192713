"""Pictures of the training panel, rendered on slicer-core with an emulated Qt layer: not screenshots of Slicer.

    QT_QPA_PLATFORM=offscreen python Testing/slicer/render_train_panel.py RUN_DIR [OUTPUT_FOLDER] [--name NAME] [--measured RESULT]

RUN_DIR is the folder of a training, running or finished. Its curves, cases and result are shown as they are, in the light
theme as NAME.png and in the dark one as NAME-dark.png. RESULT is the result.json of a run of the verb `measure`.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
sys.path[:0] = [str(HERE), str(REPOSITORY / "TransMedSeg")]

LABEL = "Rendered on slicer-core with an emulated Qt layer; not a screenshot of 3D Slicer."
WIDTH = 600


def main(run_dir, out_dir, name, measured):
    from bed import boot, render

    boot.start()
    import qt
    from TransMedSegLib.EngineProcess import PYTHON_SETTING

    qt.QSettings().setValue(PYTHON_SETTING, sys.executable)
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        shutil.copytree(run_dir, runs / run_dir.name)
        qt.QSettings().setValue("TransMedSeg/RunsFolder", str(runs))
        module, widget = boot.load_module("TransMedSegTrain", REPOSITORY / "TransMedSegTrain")
        module.widgetRepresentation().enter()
        show(widget.panel, runs / run_dir.name, measured)
        for theme, ending in (("light", ""), ("dark", "-dark")):
            with render.theme(theme):
                boot.process_events(0.5)
                picture = render.grab(widget.parent, width=WIDTH)
                render.write_png(out_dir / f"{name}{ending}.png", labeled(picture))
        module.widgetRepresentation().exit()
        boot.quit_application()


def show(panel, run_dir, measured):
    """Fills the panel as it looks during or after the training."""
    from bed import boot
    from TransMedSegLib import TrainMeasure
    from TransMedSegLib.RunState import readJson
    from TransMedSegLib.TrainParameters import Goal

    options = readJson(run_dir / "job.json")["options"]
    parameters = panel.parameters
    parameters.labeledPaths = [Path(path) for path in options["labeled"]]
    parameters.unlabeledPaths = [Path(path) for path in options["unlabeled"]]
    parameters.goal, parameters.measureGain = Goal(options["goal"]), bool(options["baseline"])
    if measured is not None:
        TrainMeasure.remember(TrainMeasure.settingsKey(parameters), readJson(measured))
    panel.follow.open(run_dir)
    panel.runs.refresh()
    panel.ui.chartComboBox.currentIndex = 0
    boot.process_events(1.0)  # a long run is read piece by piece
    panel.runs.stop()
    panel.parameters.disconnectGui(panel._connection[1])
    panel.ui.runsFolderPathLineEdit.currentPath = "/data/runs"  # no path of this computer in a picture


def labeled(picture):
    """Writes below the picture what it is."""
    import numpy as np
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (picture.shape[1], 26), "white")
    ImageDraw.Draw(strip).text((8, 6), LABEL, fill="black", font_size=13)
    return np.vstack([picture, np.asarray(strip)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("out_dir", type=Path, nargs="?", default=REPOSITORY / "Resources" / "Screenshots")
    parser.add_argument("--name", default="train-panel")
    parser.add_argument("--measured", type=Path)
    given = parser.parse_args()
    main(given.run_dir, given.out_dir, given.name, given.measured)
