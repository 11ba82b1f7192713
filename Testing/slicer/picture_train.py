"""Pictures of the training panel: before the start, halfway and at the end of the run of picture_run.py."""

import shutil
import tempfile
from pathlib import Path

import picture_run
from picture_sheet import HOME

WIDTH = 600
CHARTS = {"Losses": 420, "Validation Dice": 230, "Pseudo-labels": 230}
"""Title and height in pixels: the legend of the losses must not hide those of the second stage."""
CASES = ("labeledCollapsibleButton", "unlabeledCollapsibleButton", "validationCollapsibleButton")
FORM = (*CASES, "settingsCollapsibleButton")
RUN = ("runsCollapsibleButton", "liveCollapsibleButton")


def shoot(sheet, work, python):
    import qt

    from TransMedSegLib.EngineProcess import PYTHON_SETTING

    qt.QSettings().setValue(PYTHON_SETTING, str(python))
    try:
        for name, source, isRunning in (
            ("train-running", work / "halfway" / picture_run.RUN, True),
            ("train-panel", work / "runs" / picture_run.RUN, False),
        ):
            with tempfile.TemporaryDirectory() as folder:
                run_dir = Path(folder) / "runs" / source.name
                shutil.copytree(source, run_dir, ignore=shutil.ignore_patterns("run.lock", "resume.pt"))
                if isRunning:
                    _shoot_running(sheet, name, run_dir, work)
                else:
                    _shoot_finished(sheet, name, run_dir, work)
    finally:
        qt.QSettings().remove(PYTHON_SETTING)
        qt.QSettings().remove("TransMedSeg/RunsFolder")


def _shoot_running(sheet, name, run_dir, work):
    """The run folder as it was halfway; this process holds its lock, as the engine did."""
    from semiseg.protocol import HeldLock

    with HeldLock(run_dir, "cpu", "", ""), _Panel(run_dir, work) as panel:
        panel.follow()
        panel.open_only(*RUN)
        panel.shoot(sheet, name)
        panel.shoot(sheet, f"{name}-dark", "dark")


def _shoot_finished(sheet, name, run_dir, work):
    with _Panel(run_dir, work) as panel:
        panel.open_only(*FORM)
        panel.shoot(sheet, "train-before")
        panel.follow()
        panel.open_only(*RUN, "resultCollapsibleButton")
        panel.shoot(sheet, name)
        panel.shoot_curves(sheet)


class _Panel:
    """The panel with the cases of the run in it.

    Args:
        run_dir: The run to be shown; its folder holds no other runs.
        work: Working folder of picture_run.py.
    """

    def __init__(self, run_dir, work):
        self.run_dir, self.work = run_dir, work

    def __enter__(self):
        import qt
        from bed import boot
        from segment_builders import REPOSITORY

        qt.QSettings().setValue("TransMedSeg/RunsFolder", str(self.run_dir.parent.parent / "empty"))
        self.module, self.widget = boot.load_module("TransMedSegTrain", REPOSITORY / "TransMedSegTrain")
        self.module.widgetRepresentation().enter()
        self.panel, self.ui = self.widget.panel, self.widget.panel.ui
        self._fill()
        return self

    def __exit__(self, *_):
        self.module.widgetRepresentation().exit()
        self.widget.cleanup()

    def _fill(self):
        """What the user has dropped and chosen, with the outcome of the check of the volumes."""
        from bed import boot

        from TransMedSegLib.RunState import readJson
        from TransMedSegLib.TrainParameters import Goal

        options = readJson(self.run_dir / "job.json")["options"]
        self.panel.cases.add("labeled", [Path(path) for path in options["labeled"]])
        self.panel.parameters.goal, self.panel.parameters.measureGain = Goal(options["goal"]), bool(options["baseline"])
        self.panel.check.start()
        assert boot.process_events(300, until=lambda: not self.panel.check.isRunning)
        boot.process_events(0.5)

    def follow(self):
        """Opens the run, as a double-click on the list of runs does."""
        from bed import boot

        self.panel.parameters.runsFolder = self.run_dir.parent
        self.panel.runs.refresh()
        self.panel.follow.open(self.run_dir)
        boot.process_events(1.5)  # a long run is read piece by piece
        self.panel.runs.refresh()
        self.panel.runs.stop()

    def open_only(self, *names):
        for name in (*FORM, *RUN, "resultCollapsibleButton"):
            self.ui.__dict__[name].collapsed = name not in names

    def shoot(self, sheet, name, theme="light"):
        from bed import boot, render

        self.panel.parameters.disconnectGui(self.panel._connection[1])
        self.ui.runsFolderPathLineEdit.currentPath = f"{HOME}/runs"  # no path of this computer in a picture
        with render.theme(theme):
            boot.process_events(0.5)
            sheet.write(name, render.grab(self.widget.parent, width=WIDTH))

    def shoot_curves(self, sheet):
        """The charts that every training in two stages has, below each other."""
        from bed import boot, render
        from picture_sheet import below

        pictures = []
        for title, height in CHARTS.items():
            self.ui.chartComboBox.setCurrentText(title)
            boot.process_events(0.5)
            pictures.append(render.grab(self.ui.plotWidget, width=WIDTH, height=height))
        sheet.write("train-curves", below(pictures, 255))
