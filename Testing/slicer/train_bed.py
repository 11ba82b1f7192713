"""What the tests of the training module share: a panel, an engine to play with, waiting."""

import os
import sys
from pathlib import Path

import pytest
import qt
from bed import boot
from train_stub import StubEngine

REPOSITORY = Path(__file__).parent.parent.parent
sys.path.insert(0, str(REPOSITORY / "TransMedSeg"))  # in Slicer the other module has put it there

CASES = (
    "P1,labeled,,,P1,10 x 10 x 10,1 x 1 x 1,50.0,{folder}/labeled/P1.nrrd,{folder}/labeled/P1_label.nrrd",
    "P2,labeled,,,P2,10 x 10 x 10,1 x 1 x 1,51.0,{folder}/labeled/P2.nrrd,{folder}/labeled/P2_label.nrrd",
    "P3,refused (labeled),E803,The mask of P3 has another size. Excluded.,P3,,,,{folder}/labeled/P3.nrrd,",
    "U1,unlabeled,,,U1,10 x 10 x 10,1 x 1 x 1,,{folder}/unlabeled/U1.nrrd,",
    "U2,unlabeled,E805,This volume looks different.,U2,10 x 10 x 10,5 x 5 x 5,,{folder}/unlabeled/U2.nrrd,",
)


def engine_python():
    """A Python with the engine's packages: named by SEMISEG_ENGINE_PYTHON, or the one test.sh makes; None without."""
    named = os.environ.get("SEMISEG_ENGINE_PYTHON", str(REPOSITORY / ".venv" / "bin" / "python"))
    return named if Path(named).exists() else None


def until(condition, seconds=120):
    """Runs the event loop until something is true. Returns whether it became true."""
    return boot.process_events(seconds, until=condition)


def gone(pid):
    """Whether a process is gone or waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def press_start(panel):
    """Presses Start and waits for the check of the volumes that comes first."""
    panel.ui.startButton.click()
    assert until(lambda: not panel.check.isRunning), panel.notice.message


def started(panel, stub, behavior="forever", **values):
    """Starts a training that behaves so, and waits for its first event, after those of the check: it stays, the lock of a short run does not."""
    from TransMedSegLib.RunState import summarize

    stub.behave(behavior, **values)
    press_start(panel)
    assert until(lambda: summarize(panel.follow.process.runDir).started), panel.notice.message
    return panel.follow.process


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """An engine played by a script, on this Python."""
    from TransMedSegLib import Computer, EngineChildren, EngineProcess

    engine = StubEngine(tmp_path / "engine")
    monkeypatch.setattr(EngineProcess, "engineFolder", lambda: engine.folder)
    qt.QSettings().setValue(EngineProcess.PYTHON_SETTING, sys.executable)
    Computer.setGpus([])
    yield engine
    for pid in list(EngineChildren._children):  # also those nobody watches any more: they would slow the next tests
        EngineProcess.endTree(pid)
    qt.QSettings().remove(EngineProcess.PYTHON_SETTING)
    Computer.setGpus(None)


@pytest.fixture
def module(tmp_path, stub):
    """The module, entered, with an empty folder for its runs."""
    module, _widget = boot.load_module("TransMedSegTrain", REPOSITORY / "TransMedSegTrain")
    for name in ("labeled", "unlabeled"):
        (tmp_path / name).mkdir()
    qt.QSettings().setValue("TransMedSeg/RunsFolder", str(tmp_path / "runs"))
    representation = module.widgetRepresentation()
    representation.enter()
    yield module
    panel = representation.self().panel
    for process in (panel.follow.process, panel.check.process):
        if process is not None and process.isRunning:
            process.kill()
            until(lambda: process.ending is not None, 5)
    if representation.isEntered:
        representation.exit()
    boot.quit_application()


@pytest.fixture
def panel(module):
    return module.widgetRepresentation().self().panel


@pytest.fixture
def ready(panel, tmp_path):
    """A panel that may start."""
    panel.cases.add("labeled", [tmp_path / "labeled"])
    panel.cases.add("unlabeled", [tmp_path / "unlabeled"])
    assert panel.ui.startButton.enabled, panel.ui.startButton.toolTip
    return panel
