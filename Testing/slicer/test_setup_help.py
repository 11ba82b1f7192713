"""The buttons beside the messages of the set-up page: which are offered, and that each does what it says."""

import types

import pytest
import qt
import slicer
from bed import dialogs
from pytorch_extension import Extension, ExtensionThatChanged, played
from test_setup_page import GOOD, GPU, PIP, Pip, page, pip  # noqa: F401 (fixtures)
from train_bed import until

from TransMedSegLib import Computer, EngineProcess, EngineSetup, GpuUsers, PipInstall, SetupHelp, SetupPage
from TransMedSegLib.InstallOutcome import Outcome

OLD_DRIVER = Computer.Gpu(0, "RTX 4090", 24.0, 22.1, "470.1", "8.9")
NEW_CARD = Computer.Gpu(0, "RTX 5090", 32.0, 30.0, "570.1", "12.0")
BUSY = Computer.Gpu(0, "RTX 4090", 24.0, 5.0, "570.1", "8.9")


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Plays Slicer's own Python, so that nothing is installed in that of the tests, or removed from it."""
    one = Pip(tmp_path)
    qt.QSettings().remove(EngineProcess.PYTHON_SETTING)
    monkeypatch.setattr(PipInstall, "enginePython", lambda: one.program)
    return one


@pytest.fixture
def own(page, monkeypatch, python):  # noqa: F811
    """A page whose Python is Slicer's own, with all packages there."""
    for place in (SetupPage, EngineSetup):
        monkeypatch.setattr(place, "missingRequirements", list)
    page._isAsked = True  # the GPU is played
    return page


def failed(page, pip, log, code=1):  # noqa: F811
    """An installation that ends with this log."""
    pip.plan(log=log, code=code)
    page.install(["h5py>=3.10"])
    assert until(lambda: not page.isInstalling)
    return page.notice


# Beside a line of the page


def test_E101_opens_the_page_with_newer_versions(own):
    slicer.app.playVersion(5, 8)
    try:
        own.start()
        assert own.checks[0].text == "This module needs Slicer 5.10 or newer; you have 5.8.0."
        assert own.statusText().endswith("This module needs Slicer 5.10 or newer; you have 5.8.0. [E101]")
        own.fixButtons["slicer"].click()
    finally:
        slicer.app.playVersion(5, 13)
    assert [one.text for one in dialogs.shown if one.kind == "openUrl"] == ["https://download.slicer.org"]


def test_E106_says_in_the_details_what_can_be_done(own, monkeypatch):
    monkeypatch.setattr(SetupPage, "missingRequirements", lambda: ["h5py>=3.10"])
    monkeypatch.setattr(EngineSetup, "missingRequirements", lambda: ["h5py>=3.10"])
    monkeypatch.setattr(EngineSetup, "isWritable", lambda folder: False)
    own.start()
    own.fixButtons["writing"].click()
    assert dialogs.texts()[-1].endswith("Installers of Slicer offer to install for one user alone, which needs no rights of an administrator.")


def test_E202_can_be_checked_again(own):
    asked = []
    own._ask = lambda key, command, answer: asked.append(key)
    Computer.setGpus([OLD_DRIVER])
    own._probe = GOOD
    own.start()
    assert own.fixButtons["gpu"].text == "Check again"
    own.fixButtons["gpu"].click()
    assert asked == ["gpu", "torch"]


@pytest.mark.parametrize(
    ("gpu", "probe", "key", "title"),
    [
        (GPU, {"torch": "2.9", "cuda": None}, "gpu", "Reinstall with CUDA"),
        (NEW_CARD, GOOD, "gpu", "Install a newer PyTorch"),
        (GPU, {"error": "OSError: libcudnn.so.9"}, "packages", "Reinstall PyTorch"),
    ],
    ids=["E203", "E204", "E112"],
)
def test_E203_E204_E112_replace_PyTorch_after_a_question(own, python, monkeypatch, gpu, probe, key, title):
    """Both in a child process: the extension is only asked what it would do."""
    extension = played(monkeypatch, Extension())
    Computer.setGpus([gpu])
    own._probe = probe
    own.start()
    own.check = lambda: None  # what was played must stay
    assert own.fixButtons[key].text == title
    dialogs.answers["confirmOkCancelDisplay"] = [False, True]
    own.fixButtons[key].click()
    assert python.calls() == [], "nothing is removed without a word"
    assert dialogs.texts()[-1] == "Remove PyTorch and install the build that fits this computer?"
    own.fixButtons[key].click()
    assert until(lambda: not own.isInstalling)
    removed, installed = python.calls()
    assert removed[0] == "uninstall" and removed[-2:] == ["torch", "torchvision"]
    assert installed[0] == "InstallTorch" and installed[1]["arguments"][:3] == ["install", "torch>=2.4", "torchvision"]
    assert extension.asked == [] and own.notice.message == "Installed."


def test_PyTorch_is_not_removed_where_the_extension_is_missing(own, python):
    dialogs.answers["confirmOkCancelDisplay"] = [True]
    own.ways._reinstallTorch()
    assert own.notice.message.endswith("[E102]") and python.calls() == []


def test_the_question_says_that_an_extension_can_only_be_called(own, python, monkeypatch):
    played(monkeypatch, ExtensionThatChanged())
    dialogs.answers["confirmOkCancelDisplay"] = [False]
    own.ways._reinstallTorch()
    assert dialogs.texts()[-1].endswith("Slicer does not react for some minutes meanwhile.")


def test_PyTorch_of_another_Python_is_left_alone(page, pip):  # noqa: F811
    page._probe = {"error": "OSError: libcudnn.so.9"}
    page.start()
    assert next(check for check in page.checks if check.key == "packages").code == "E112"
    assert "packages" not in page.fixButtons


def test_PyTorch_whose_files_are_in_use_is_replaced_after_a_restart(own, python, monkeypatch):
    played(monkeypatch, Extension())
    restarts = []
    monkeypatch.setattr(slicer.util, "restart", lambda: restarts.append(1))
    (python.folder / "pip_stub.py").write_text("print(\"ERROR: [WinError 5] Access is denied: 'torch_cpu.dll'\")\nraise SystemExit(1)\n")
    own.replaceTorch()
    assert until(lambda: not own.isInstalling)
    assert own.notice.message == "Some files are in use. Restart Slicer to finish; the module continues by itself. [E109]"
    own.notice.buttons["Restart"].click()
    assert restarts == [1]
    (python.folder / "pip_stub.py").write_text(PIP)
    own._isAsked = False  # as in a new Slicer
    own.check = lambda: None
    own.start()
    assert until(lambda: not own.isInstalling)
    assert [call[0] for call in python.calls()] == ["uninstall", "InstallTorch"], "nothing is missing, and yet it goes on"


def test_E208_names_the_programs_on_the_GPU(own, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '4321, /usr/bin/python3, 5222'\necho '77, C:\\\\Games\\\\game.exe, [N/A]'\n")
    program.chmod(0o755)
    monkeypatch.setattr(GpuUsers.shutil, "which", lambda name: str(program))
    Computer.setGpus([BUSY])
    own._probe = GOOD
    own.start()
    own.fixButtons["gpu"].click()
    assert until(lambda: own.notice.message)
    assert own.notice.message == "These programs use the GPU:\npython3 (process 4321): 5.1 GB\ngame.exe (process 77): memory not told"


def test_a_driver_that_names_nobody_is_said():
    assert GpuUsers.usersText("").startswith("The driver names no program that computes on the GPU.")


# Below an installation that failed


def test_E102_gets_the_extension_and_goes_on_after_the_restart(own, monkeypatch):
    restarts = []
    monkeypatch.setattr(slicer.util, "restart", lambda: restarts.append(1))
    manager = slicer.app.extensionsManagerModel()
    own.install(["torch>=2.4"])
    assert own.notice.message == "The extension 'PyTorch' is not installed. Install it in the Extensions Manager and restart Slicer. [E102]"
    manager.play(reachable=False)
    own.notice.buttons["Install and restart"].click()
    assert own.notice.message.startswith("The package server cannot be reached.") and restarts == []
    manager.play()
    own.sayFailed(Outcome("E102", "x"))
    own.notice.buttons["Install and restart"].click()
    assert own.notice.message == "Installed. Restart now? The module continues by itself."
    own.notice.buttons["Restart"].click()
    assert manager.isExtensionInstalled("PyTorch") and restarts == [1]
    assert slicer.app.userSettings().value("TransMedSeg/ContinueInstallation") == "network"
    slicer.app.userSettings().remove("TransMedSeg/ContinueInstallation")
    manager.play()


def test_E103_tries_again_or_takes_a_folder(page, pip, tmp_path):  # noqa: F811
    notice = failed(page, pip, "NewConnectionError: Failed to establish a new connection: [Errno -3]")
    assert list(notice.buttons) == ["Try again", "Install from folder…"]
    dialogs.answers["getExistingDirectory"] = [str(tmp_path / "wheels")]
    pip.plan()
    notice.buttons["Install from folder…"].click()
    assert until(lambda: not page.isInstalling)
    assert page.notice.message == "Installed."


def test_E104_tells_how_to_add_the_certificate(page, pip):  # noqa: F811
    notice = failed(page, pip, "SSLError(SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED)")
    assert list(notice.buttons) == ["How to add the certificate", "Install from folder…"]
    notice.buttons["How to add the certificate"].click()
    assert "Set the environment variable PIP_CERT to the path of that file and start Slicer again." in dialogs.texts()[-1]


def test_E107_shows_the_log_tries_again_and_copies_a_report_without_paths(page, pip):  # noqa: F811
    notice = failed(page, pip, "ERROR: No matching distribution found for h5py\nLooking in /home/ann/wheels")
    assert list(notice.buttons) == ["Show log", "Try again", "Copy for bug report"]
    assert page.log.isHidden()
    notice.buttons["Show log"].click()
    assert not page.log.isHidden() and "No matching distribution" in page.log.toPlainText()
    page.sayFailed(Outcome("E107", "x"))
    page.notice.buttons["Copy for bug report"].click()
    report = qt.QApplication.clipboard().text()
    assert report.startswith("TransMedSeg ") and "E107" in report and "No matching distribution" in report
    assert "ann" not in report
    page.sayFailed(Outcome("E107", "x"))
    pip.plan()
    page.notice.buttons["Try again"].click()
    assert until(lambda: not page.isInstalling)
    assert page.notice.message == "Installed." and [call[-1] for call in pip.calls() if "install" in call] == ["h5py>=3.10"] * 2


def test_E108_puts_back_what_was_changed(page, pip, monkeypatch):  # noqa: F811
    text = "The installation changed numpy from 2.4.6 to 2.2.0, which Slicer needs unchanged. Repair restores 2.4.6."
    page.sayFailed(Outcome("E108", text, ["numpy==2.4.6"]))
    assert page.notice.message == f"{text} [E108]"
    page.notice.buttons["Repair now"].click()
    assert until(lambda: not page.isInstalling)
    assert pip.calls()[0][-1] == "numpy==2.4.6"


def test_E501_tells_which_program_it_is(page, pip, tmp_path):  # noqa: F811
    qt.QSettings().setValue(EngineProcess.PYTHON_SETTING, str(tmp_path / "absent"))
    page.install(["h5py>=3.10"])
    assert until(lambda: not page.isInstalling)
    assert page.notice.message.startswith("The computing program could not be started: ")
    assert page.notice.message.endswith("No such file or directory. A virus scanner may block it. [E501]")
    page.notice.buttons["Details"].click()
    assert dialogs.texts()[-1].splitlines()[:2] == [f"Program: {tmp_path / 'absent'}", "It is not there."]


def test_the_help_of_every_code_of_the_set_up_is_written_down():
    """What can be pressed for each code; a code that loses its buttons is noticed."""
    ways = SetupHelp.SetupHelp(types.SimpleNamespace(chooseFolder=None, showLog=None, again=None, check=None, notice=types.SimpleNamespace(say=None)))
    qt.QSettings().remove(EngineProcess.PYTHON_SETTING)
    below = {code: [title for title, _call in ways.forOutcome(Outcome(code, ""))] for code in (f"E1{number:02}" for number in range(1, 13))}
    beside = {code: (ways.forCheck(code) or [""])[0] for code in ("E101", "E105", "E106", "E112", "E201", "E202", "E203", "E204", "E208")}
    assert {code: titles for code, titles in below.items() if not titles} == {"E101": [], "E109": [], "E110": [], "E111": [], "E112": []}, "E109 offers a restart"
    assert [code for code, title in beside.items() if not title] == ["E105", "E201"]
