"""The set-up page: its checks, an installation that is logged, cancelled, explained and repaired. pip is played by a script."""

import re
import string
import subprocess
import sys

import pytest
import qt
import slicer
from bed import boot, dialogs, main_window
from pytorch_extension import Extension, ExtensionThatChanged, played
from train_bed import until  # puts the library on the path

from TransMedSegLib import (
    Computer,
    EngineProcess,
    EngineSetup,
    InstallOutcome,
    InstallSize,
    Messages,
    PipInstall,
    ProcessTree,
    SetupPage,
)
from TransMedSegLib.EngineSetup import Level

GPU = Computer.Gpu(0, "RTX 4090", 24.0, 22.1, "570.1", "8.9")
GOOD = {"torch": "2.9", "cuda": "12.8", "available": True, "archs": ["sm_80", "sm_90"]}

PIP = """
import json, pathlib, sys, time
folder = pathlib.Path(__file__).parent
plan = json.loads((folder / "plan.json").read_text())
call = sys.argv[1:]
if call[0].endswith("InstallTorch.py"):
    call = ["InstallTorch", json.loads(pathlib.Path(call[1]).read_text())]
with open(folder / "calls.txt", "a") as calls:
    calls.write(json.dumps(call) + chr(10))
if "uninstall" in call:
    raise SystemExit(plan.get("uninstall", 0))
print(plan.get("log", "Collecting torch"), flush=True)
time.sleep(plan.get("seconds", 0))
while plan.get("waits") and not (folder / "go").exists():
    time.sleep(0.01)
raise SystemExit(plan.get("code", 0))
"""

BUILDING = """
import os, pathlib, subprocess, sys
if "uninstall" not in sys.argv:
    builder = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pathlib.Path(__file__).with_name("pids.txt").write_text(f"{os.getpid()} {builder.pid}")
"""


class Pip:
    """A Python whose `-m pip` does what the test says, and whose InstallTorch.py only notes its plan."""

    def __init__(self, folder):
        import json

        self.folder, self.json = folder, json
        (folder / "pip_stub.py").write_text(PIP)
        program = folder / "python"
        program.write_text(f'#!/bin/sh\n[ "$1" = -m ] && shift 2\nexec {sys.executable} {folder / "pip_stub.py"} "$@"\n')
        program.chmod(0o755)
        self.program = str(program)
        qt.QSettings().setValue(EngineProcess.PYTHON_SETTING, str(program))
        self.versions = {"numpy": "2.4.6", "scipy": "1.17.1"}
        self.lines, self.outcomes = [], []
        self.plan()

    def plan(self, **values):
        (self.folder / "plan.json").write_text(self.json.dumps(values))

    def calls(self):
        path = self.folder / "calls.txt"
        return [self.json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def install(self, onProgress=lambda progress: None):
        return PipInstall.PipInstall(self.lines.append, self.outcomes.append, lambda: dict(self.versions), onProgress)

    def outcome(self):
        assert until(lambda: self.outcomes), self.lines
        return self.outcomes[-1]


@pytest.fixture
def pip(tmp_path):
    yield Pip(tmp_path)
    qt.QSettings().remove(EngineProcess.PYTHON_SETTING)


@pytest.fixture
def page():
    one = SetupPage.SetupPage(lambda: None)
    Computer.setGpus([])
    yield one
    one.cleanup()
    Computer.setGpus(None)


# Checks


def test_slicer_that_is_too_old(monkeypatch):
    monkeypatch.setattr(type(slicer.app), "majorVersion", property(lambda self: 5))
    monkeypatch.setattr(type(slicer.app), "minorVersion", property(lambda self: 8))
    monkeypatch.setattr(type(slicer.app), "applicationVersion", property(lambda self: "5.8.1"))
    check = EngineSetup.checkSlicer()
    assert (check.level, check.code) == (Level.Bad, "E101")
    assert check.text == "This module needs Slicer 5.10 or newer; you have 5.8.1."


GPU_CHECKS = [
    ([], {}, Level.Doubtful, "No NVIDIA GPU found. Everything runs on the CPU, which is much slower."),
    ([GPU], GOOD, Level.Good, "RTX 4090, 22.1 of 24.0 GB free, driver 570.1"),
    ([GPU], {}, Level.Good, "RTX 4090, 22.1 of 24.0 GB free, driver 570.1"),
    ([GPU], {"torch": "2.9", "cuda": None}, Level.Bad, "This PyTorch was built for CPU only, but RTX 4090 is in this computer. Install PyTorch with CUDA."),
    (
        [Computer.Gpu(0, "RTX 4090", 24.0, 22.1, "470.1", "8.9")],
        GOOD,
        Level.Bad,
        "Your driver 470.1 is too old for CUDA 12.8 (it needs 525 or newer). Update the NVIDIA driver, then check again.",
    ),
    ([Computer.Gpu(0, "RTX 5090", 32.0, 30.0, "570.1", "12.0")], GOOD, Level.Bad, "The installed PyTorch is too old for RTX 5090. Install a PyTorch with a newer CUDA."),
    ([Computer.Gpu(0, "RTX 4090", 24.0, 5.0, "570.1", "8.9")], GOOD, Level.Doubtful, "Another program uses 19.0 GB of RTX 4090; 5.0 GB is free."),
]
GPU_CODES = ["E201", "", "", "E203", "E202", "E204", "E208"]


@pytest.mark.parametrize(("gpus", "probe", "level", "text", "code"), [(*one, code) for one, code in zip(GPU_CHECKS, GPU_CODES)])
def test_gpu(gpus, probe, level, text, code):
    check = EngineSetup.checkGpu(gpus, probe)
    assert (check.level, check.text, check.code) == (level, text, code)


def test_answer_of_the_driver_is_read():
    text = "0, NVIDIA RTX 4090, 24564, 22630, 550.1, 8.9\nsome warning\n1, NVIDIA T4, 15360, [N/A], 550.1, 7.5\n"
    first, second = Computer.parseGpus(text)
    assert (first.name, first.totalGb, first.freeGb, first.device) == ("NVIDIA RTX 4090", 24.0, 22.1, "cuda:0")
    assert second.freeGb == 0.0
    assert Computer.parseGpus("NVIDIA-SMI has failed because it could not communicate with the driver") == []


def test_disk_and_write_permission(monkeypatch):
    monkeypatch.setattr(EngineSetup, "freeDiskGb", lambda folder: 2.1)
    monkeypatch.setattr(EngineSetup, "isWritable", lambda folder: False)
    monkeypatch.setattr(EngineSetup.sysconfig, "get_paths", lambda: {"purelib": "/opt/Slicer"})
    disk, writing = EngineSetup.checkDisk(False, True), EngineSetup.checkWriting(False)
    assert disk.text == "Needed 6.5 GB, free 2.1 GB in /opt/Slicer. Free some space or choose another folder. Nothing was changed."
    assert writing.text == "Slicer is installed in a folder you may not write to (/opt/Slicer). Install Slicer for this user only, or ask IT."
    assert (disk.code, writing.code) == ("E105", "E106")
    assert EngineSetup.checkDisk(True, True).level == EngineSetup.checkWriting(True).level == Level.Good


def test_pytorch_that_does_not_start():
    check = EngineSetup.checkPackages([], {"error": "OSError: libcudnn.so.9"})
    assert check.code == "E112"
    assert check.text == "PyTorch is installed but does not start: OSError: libcudnn.so.9. Installing it again usually helps."


def test_missing_packages_are_those_of_the_requirements(monkeypatch):
    monkeypatch.setattr(EngineSetup, "requirements", lambda: ["no-such-package>=1", "numpy>=1.20", "pytest>=999"])
    assert EngineSetup.missingRequirements() == ["no-such-package>=1", "pytest>=999"]


def test_page_shows_six_lines_and_a_status(page, monkeypatch):
    qt.QSettings().remove(EngineProcess.PYTHON_SETTING)  # with a Python of its own the engine brings its packages
    monkeypatch.setattr(SetupPage, "missingRequirements", lambda: ["torch>=2.4"])
    monkeypatch.setattr(EngineSetup, "missingRequirements", lambda: ["torch>=2.4"])
    page.start()
    assert [check.key for check in page.checks] == ["slicer", "gpu", "memory", "disk", "writing", "packages"]
    assert not page.isReady and page.statusText().startswith("Not set up yet. ")
    monkeypatch.setattr(EngineSetup, "missingRequirements", list)
    page.start()
    assert page.isReady and page.statusText() == "Ready – CPU"
    assert page.installButton.toolTip == "Nothing is missing."
    Computer.setGpus([GPU])
    page.start()
    assert page.statusText() == "Ready – RTX 4090, 22.1 GB free"


def test_page_asks_before_it_installs(page, monkeypatch, pip):
    qt.QSettings().remove(EngineProcess.PYTHON_SETTING)
    for place in (SetupPage, EngineSetup):
        monkeypatch.setattr(place, "missingRequirements", lambda: ["h5py>=3.10"])
    monkeypatch.setattr(EngineSetup, "isWritable", lambda folder: True)
    page.start()
    dialogs.answers["confirmOkCancelDisplay"] = [False]
    page.installButton.click()
    assert dialogs.texts()[0].splitlines()[1] == "h5py>=3.10 (16 MB)"
    assert not page.isInstalling and pip.calls() == []


def test_packages_are_listed_with_their_sizes():
    missing = ["torch>=2.4", "h5py>=3.10", "something>=1"]
    check = EngineSetup.checkPackages(missing, {}, hasGpu=True)
    assert check.text == "to be installed: torch>=2.4 (up to 6.5 GB), h5py>=3.10 (16 MB), something>=1. Nothing that ships with Slicer is changed."
    assert "torch>=2.4 (up to 1.5 GB)" in EngineSetup.checkPackages(missing, {}).text


def test_E109_installation_goes_on_after_the_restart(page, monkeypatch, pip, tmp_path):
    restarts, wheels = [], tmp_path / "wheels"
    monkeypatch.setattr(slicer.util, "restart", lambda: restarts.append(1))
    monkeypatch.setattr(SetupPage, "missingRequirements", lambda: ["h5py>=3.10"])
    pip.plan(log="ERROR: [WinError 5] Access is denied: 'x.dll'", code=1)
    page.install(["h5py>=3.10"], wheels)
    assert until(lambda: not page.isInstalling)
    assert page.notice.message == "Some files are in use. Restart Slicer to finish; the module continues by itself. [E109]"
    assert list(page.notice.buttons) == ["Restart", "Later"], "nothing is unsaved"
    page.notice.buttons["Restart"].click()
    assert restarts == [1]
    pip.plan(log="", code=0)
    for count in (2, 2):
        again = SetupPage.SetupPage(lambda: None)
        again.start()
        assert until(lambda: not again.isInstalling)
        again.cleanup()
        installs = [call for call in pip.calls() if "install" in call]  # the page also asks whether PyTorch starts
        assert len(installs) == count and str(wheels) in installs[-1], "it goes on once"


@pytest.mark.parametrize(
    ("missing", "hasGpu", "title", "time"),
    [
        (["torch>=2.4", "h5py>=3.10"], True, "Install (about 3.0 GB)", "About 3.0 GB to download: 4 minutes at 100 Mbit/s, and the time to unpack it."),
        (["torch>=2.4"], False, "Install (about 210 MB)", "About 210 MB to download: less than a minute at 100 Mbit/s, and the time to unpack it."),
        (["h5py>=3.10", "something>=1"], False, "Install", ""),
    ],
)
def test_the_page_says_what_it_takes(page, monkeypatch, missing, hasGpu, title, time):
    """With the rate that the time is said for, and nothing where the size of a package is not known."""
    qt.QSettings().remove(EngineProcess.PYTHON_SETTING)
    for place in (SetupPage, EngineSetup):
        monkeypatch.setattr(place, "missingRequirements", lambda: missing)
    monkeypatch.setattr(EngineSetup, "isWritable", lambda folder: True)
    monkeypatch.setattr(EngineSetup, "freeDiskGb", lambda folder: 100.0)
    Computer.setGpus([GPU] if hasGpu else [])
    page._isAsked = True  # the GPU is played
    page.start()
    assert (page.installButton.text, page.time.text, page.time.isHidden()) == (title, time, not time)
    assert page.installButton.toolTip == "Adds only what is missing; what ships with Slicer stays as it is."
    dialogs.answers["confirmOkCancelDisplay"] = [False]
    page.installButton.click()
    assert dialogs.texts()[-1].splitlines()[-1] == (time or "This may take several minutes.")
    for place in (SetupPage, EngineSetup):
        monkeypatch.setattr(place, "missingRequirements", list)
    page.start()
    assert page.installButton.text == "Install" and not page.installButton.enabled and page.time.isHidden()


def test_one_minute_is_said_in_the_singular(monkeypatch):
    monkeypatch.setattr(InstallSize, "_TORCH_DOWNLOAD_MB", {True: 800})
    assert InstallSize.installTime(["torch>=2.4"], True) == "About 800 MB to download: 1 minute at 100 Mbit/s, and the time to unpack it."


@pytest.mark.parametrize(("extension", "isSaid"), [(Extension, False), (ExtensionThatChanged, True)])
def test_the_question_says_where_slicer_will_not_react(page, monkeypatch, extension, isSaid):
    played(monkeypatch, extension())
    said = "Slicer does not react for some minutes while PyTorch is installed."
    assert (said in page._question(["torch>=2.4", "h5py>=3.10"]).splitlines()) is isSaid
    assert said not in page._question(["h5py>=3.10"])


# Restarting


@pytest.fixture
def restarts(monkeypatch):
    """Plays the restart: one entry for each."""
    done = []
    monkeypatch.setattr(slicer.util, "restart", lambda: done.append(1))
    yield done
    for key in ("TransMedSeg/ContinueInstallation", "TransMedSeg/ContinueInModule"):
        slicer.app.userSettings().remove(key)


def saved():
    """How often Slicer's own dialog was opened."""
    return sum(one.kind == "openSaveDataDialog" for one in dialogs.shown)


def test_unsaved_changes_are_said_and_may_be_saved_before_the_restart(page, restarts):
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "P001")
    page._onInstalled(InstallOutcome.Outcome(text="Installed. Restart now?", needsRestart=True))
    assert page.notice.message == "Installed. Restart now? Your open scene has unsaved changes."
    assert list(page.notice.buttons) == ["Save and restart", "Restart", "Later"]
    dialogs.answers["openSaveDataDialog"] = [False, True]
    page.notice.buttons["Save and restart"].click()
    assert (saved(), restarts) == (1, []), "who cancels the saving keeps Slicer open"
    assert list(page.notice.buttons) == ["Save and restart", "Restart", "Later"], "and is asked again"
    page.notice.buttons["Save and restart"].click()
    assert (saved(), restarts) == (2, [1])


def test_later_and_a_restart_without_saving(page, restarts):
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "P001")
    for title, count in (("Later", 0), ("Restart", 1)):
        page.sayFailed(InstallOutcome.Outcome(text="Installed. Restart now?", needsRestart=True))
        page.notice.buttons[title].click()
        assert (len(restarts), saved(), page.notice.message) == (count, 0, "")


@pytest.mark.parametrize(("code", "where"), [("E109", "network"), ("", None)])
def test_an_unfinished_installation_continues_also_after_a_restart_by_hand(page, restarts, code, where):
    page.sayFailed(InstallOutcome.Outcome(code, "Restart now?", needsRestart=True))
    page.notice.buttons["Later"].click()
    assert restarts == [] and slicer.app.userSettings().value("TransMedSeg/ContinueInstallation") == where
    slicer.app.userSettings().remove("TransMedSeg/ContinueInstallation")
    slicer.app.userSettings().remove("TransMedSeg/ContinueInModule")


def test_what_was_changed_after_the_question_is_said_too(page, restarts):
    page.sayFailed(InstallOutcome.Outcome(text="Installed. Restart now?", needsRestart=True))
    assert page.notice.message == "Installed. Restart now?" and list(page.notice.buttons) == ["Restart", "Later"]
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "P001")
    page.notice.buttons["Restart"].click()
    assert restarts == [] and page.notice.message.endswith("Your open scene has unsaved changes.")
    page.notice.buttons["Restart"].click()
    assert restarts == [1]


@pytest.mark.parametrize(("package", "needsRestart"), [("pytest", True), ("h5py", False)])
def test_a_restart_is_asked_for_where_slicer_has_loaded_what_was_replaced(pip, package, needsRestart):
    pip.versions["pytest"] = "8.0"
    install = pip.install()
    install.start(["h5py>=3.10"])
    pip.versions[package] = "9.0"
    outcome = pip.outcome()
    assert (outcome.code, outcome.needsRestart, outcome.text) == ("", needsRestart, "Installed. Restart now?" if needsRestart else "")


def test_the_module_comes_back_to_the_page_after_the_restart(restarts):
    from segment_builders import Panel

    window = main_window.open_main_window()
    panel = Panel()
    try:
        panel.representation.exit()
        slicer.util.selectModule("TransMedSeg")
        page = panel.module.setupPage
        page.sayFailed(InstallOutcome.Outcome(text="Installed. Restart now?", needsRestart=True))
        page.notice.buttons["Restart"].click()
        assert restarts == [1]
        window.moduleSelector().leave()
        panel.ui.setupPlace.hide()
        page._isAsked = False  # as in a new Slicer
        boot.complete_startup()
        assert slicer.util.selectedModule() == "TransMedSeg" and not panel.ui.setupPlace.isHidden()
        window.moduleSelector().leave()
        boot.complete_startup()
        assert slicer.util.selectedModule() == "", "it comes back once"
    finally:
        main_window.close_main_window()
        panel.close()


# Installing


def test_installation_leaves_what_ships_with_slicer_alone(pip):
    pip.install().start(["h5py>=3.10"])
    outcome = pip.outcome()
    assert (outcome.code, outcome.text) == ("", "")
    call = pip.calls()[0]
    assert call[0] == "install" and call[-1] == "h5py>=3.10" and "--constraint" in call
    assert pip.lines == ["Collecting torch"]


def test_installation_from_a_folder_needs_no_network(pip, tmp_path):
    pip.install().start(["torch>=2.4", "h5py>=3.10"], tmp_path)
    assert pip.outcome().code == ""
    call = pip.calls()[0]
    assert call[call.index("--find-links") + 1] == str(tmp_path) and "--no-index" in call
    assert call[-2:] == ["torch>=2.4", "h5py>=3.10"]


FAILURES = [
    ("E103", "NewConnectionError: Failed to establish a new connection: [Errno -3]", "The package server cannot be reached. Behind a hospital proxy, ask IT for its address, or install from a folder of wheels."),
    ("E104", "SSLError(SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED)", "The network replaces security certificates. Packages were not installed. Install from a folder of wheels."),
    ("E107", "ERROR: No matching distribution found for torch\n[notice] A new release of pip", "Installation did not finish: No matching distribution found for torch. Slicer itself is unchanged."),
    ("E109", "ERROR: [WinError 5] Access is denied: 'x.dll'", "Some files are in use. Restart Slicer to finish; the module continues by itself."),
]


@pytest.mark.parametrize(("code", "log", "text"), FAILURES, ids=[one[0] for one in FAILURES])
def test_failed_installation_is_explained(pip, code, log, text):
    pip.plan(log=log, code=1)
    pip.install().start(["h5py>=3.10"])
    outcome = pip.outcome()
    assert (outcome.code, outcome.text) == (code, text)


PLACES = [
    ("E105", "OSError: [Errno 28] No space left on device", "Needed 6.5 GB, free 0.2 GB in {folder}. Free some space or choose another folder. Nothing was changed."),
    ("E106", "OSError: [Errno 13] Permission denied: '/opt'", "Slicer is installed in a folder you may not write to ({folder}). Install Slicer for this user only, or ask IT."),
]


@pytest.mark.parametrize(("code", "log", "text"), PLACES, ids=[one[0] for one in PLACES])
def test_failed_installation_for_want_of_a_place(pip, monkeypatch, code, log, text):
    import importlib
    from pathlib import Path

    monkeypatch.setattr("TransMedSegLib.InstallOutcome.freeDiskGb", lambda folder: 0.2)
    pip.plan(log=log, code=1)
    pip.install().start(["h5py>=3.10"])
    outcome = pip.outcome()
    assert (outcome.code, outcome.text) == (code, text.format(folder=Path(importlib.__file__).parent))


def test_changed_core_package_is_reported_and_repaired(pip):
    install = pip.install()
    install.start(["h5py>=3.10"])
    pip.versions["numpy"] = "2.2.0"
    outcome = pip.outcome()
    assert outcome.code == "E108" and outcome.repair == ["numpy==2.4.6"]
    assert outcome.text == "The installation changed numpy from 2.4.6 to 2.2.0, which Slicer needs unchanged. Repair restores 2.4.6."
    pip.install().repair(outcome.repair)
    assert until(lambda: len(pip.outcomes) == 2)
    assert pip.calls()[1][-1] == "numpy==2.4.6" and "--no-deps" in pip.calls()[1]


def test_cancelled_installation_takes_back_what_it_added(pip):
    pip.plan(seconds=60)
    install = pip.install()
    install.start(["h5py>=3.10"])
    assert until(lambda: pip.lines)
    pip.versions["h5py"] = "3.12"
    install.cancel()
    outcome = pip.outcome()
    assert (outcome.code, outcome.text) == ("E111", "Cancelled. Packages added so far were removed.")
    assert pip.calls()[1][0] == "uninstall" and pip.calls()[1][-1] == "h5py"


@pytest.mark.parametrize("isBack", [True, False])
def test_E111_a_cancelled_installation_puts_back_what_it_replaced_or_took_away(pip, isBack):
    """pip is ended between taking the old pillow away and putting the new one in its place; scipy was replaced already."""
    pip.versions["pillow"] = "11.3.0"
    pip.plan(seconds=60)
    after = {"numpy": "2.4.6", "scipy": "1.18.0", "h5py": "3.12"}

    def versions():
        if not pip.calls():
            return dict(pip.versions)
        restores = [call for call in pip.calls() if "--force-reinstall" in call]
        return {**pip.versions, "scipy": "1.17.1" if isBack else "1.18.0"} if restores else after

    install = PipInstall.PipInstall(pip.lines.append, pip.outcomes.append, versions)
    install.start(["h5py>=3.10"])
    assert until(lambda: pip.lines)
    pip.plan()
    install.cancel()
    outcome = pip.outcome()
    calls = pip.calls()
    assert [call[0] for call in calls] == ["install", "uninstall", "install"] and calls[1][-1] == "h5py"
    assert calls[2][-2:] == ["pillow==11.3.0", "scipy==1.17.1"] and "--no-deps" in calls[2]
    if isBack:
        assert (outcome.code, outcome.repair) == ("E111", [])
        assert outcome.text == "Cancelled. Packages added so far were removed. Put back: pillow 11.3.0, scipy 1.17.1."
    else:
        assert outcome.repair == ["scipy==1.17.1"]
        text = "Cancelled. Packages added so far were removed. Put back: pillow 11.3.0. Not put back: scipy 1.17.1. Repair tries it again."
        assert outcome.text == text


def test_E111_the_version_before_is_looked_for_in_the_folder_of_wheels_too(pip, tmp_path):
    pip.plan(seconds=60)
    install = pip.install()
    install.start(["h5py>=3.10"], tmp_path)
    assert until(lambda: pip.lines)
    pip.versions["scipy"] = "1.18.0"
    pip.plan()
    install.cancel()
    assert pip.outcome().code == "E111"
    assert pip.calls()[-1][pip.calls()[-1].index("--find-links") + 1] == str(tmp_path) and "--no-index" not in pip.calls()[-1]


def test_E111_what_could_not_be_put_back_can_be_repaired(page, pip):
    page._onInstalled(InstallOutcome.cancelOutcome({"scipy": "1.17.1"}, {"scipy": "1.17.1"}))
    assert list(page.notice.buttons) == ["Repair now"]
    page.notice.buttons["Repair now"].click()
    assert until(lambda: not page.isInstalling)
    assert [call for call in pip.calls() if "install" in call][-1][-1] == "scipy==1.17.1"


def test_a_package_that_pip_has_put_aside_counts_as_gone(tmp_path, monkeypatch):
    for name, version, folder in (("whole", "1.0", "whole"), ("halfway", "2.0", "~alfway")):
        place = tmp_path / f"{folder}-{version}.dist-info"
        place.mkdir()
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = PipInstall.installedVersions()
    assert found["whole"] == "1.0" and "halfway" not in found


@pytest.mark.skipif(sys.platform == "win32", reason="taskkill ends trees on Windows")
def test_cancel_ends_what_the_launcher_started(pip):
    """As Slicer's PythonSlicer, the launcher starts Python as a child, and pip starts others for packages that it builds."""
    pip.plan(seconds=60)
    stub = pip.folder / "pip_stub.py"
    stub.write_text(BUILDING + stub.read_text())
    (pip.folder / "python").write_text(f'#!/bin/sh\nshift 2\n"{sys.executable}" "{stub}" "$@"\nexit $?\n')
    install = pip.install()
    install.start(["h5py>=3.10"])
    assert until(lambda: pip.lines)
    launcher = install._process.processId()
    started = [int(line) for line in (pip.folder / "pids.txt").read_text().split()]
    assert len(set(started) | {launcher}) == 3 and all(map(_isRunning, started))
    install.cancel()
    assert pip.outcome().code == "E111"
    assert until(lambda: not any(map(_isRunning, started)))


def test_a_process_that_does_not_run_ends_nothing(monkeypatch):
    """The number 0 would mean everything in the group of Slicer."""
    sent = []
    monkeypatch.setattr(ProcessTree, "_signal", lambda *given: sent.append(given))
    for pid in (0, -1, qt.QProcess().processId()):
        ProcessTree.endTree(pid)
    assert sent == []


def _isRunning(pid):
    """A child of a dead parent stays a zombie where no process collects orphans, as in a plain container."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_E110_installation_waits_for_another_module(pip, monkeypatch):
    busy = [True, True]
    monkeypatch.setattr(PipInstall, "_otherInstallRuns", lambda: bool(busy and busy.pop()))
    monkeypatch.setattr(PipInstall, "_WAIT_MS", 20)
    pip.install().start(["h5py>=3.10"])
    assert pip.lines == ["Another module is installing packages. We start when it is done."]
    assert pip.outcome().code == "" and len(pip.calls()) == 1


def test_pytorch_extension_is_missing(pip):
    pip.install().start(["torch>=2.4"])
    outcome = pip.outcome()
    assert (outcome.code, outcome.text) == ("E102", "The extension 'PyTorch' is not installed. Install it in the Extensions Manager and restart Slicer.")


def test_python_that_cannot_start(pip):
    qt.QSettings().setValue(EngineProcess.PYTHON_SETTING, "/no/such/python")
    pip.install().start(["h5py>=3.10"])
    outcome = pip.outcome()
    assert outcome.code == "E501"
    assert outcome.text.startswith("The computing program could not be started: ")
    assert outcome.text.endswith("No such file or directory. A virus scanner may block it.")


# Messages


def test_every_message_is_complete():
    for code, text in Messages.texts().items():
        names = {name for _text, name, _spec, _conversion in string.Formatter().parse(text) if name}
        assert re.fullmatch(r"E[1-9]\d\d", code)
        filled = Messages.message(code, **{name: "x" for name in names})
        assert filled and "{" not in filled
        assert "color" not in text or "colour" not in text
    with pytest.raises(KeyError):
        Messages.message("E999")
    with pytest.raises(KeyError):
        Messages.message("E504")


def test_messages_are_translated():
    Messages.forgetTexts()
    slicer.app.setTranslations({"Choose a volume first.": "Zuerst ein Volumen wählen."})
    try:
        assert Messages.message("E301") == "Zuerst ein Volumen wählen."
    finally:
        slicer.app.setTranslations({})
        Messages.forgetTexts()
