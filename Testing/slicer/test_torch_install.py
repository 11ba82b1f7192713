"""PyTorch as its extension would install it, but in a child process: what the extension is asked, and that Slicer goes on."""

import json
import os
import sys
import zipfile

import pytest
import qt
import slicer
from pytorch_extension import (
    ARCHIVE,
    VARIABLE,
    Extension,
    ExtensionOf512,
    ExtensionOfPackaging,
    ExtensionThatChanged,
    played,
)
from slicer import packaging
from test_setup_page import Pip, page, pip  # noqa: F401 (fixtures)
from train_bed import until

from TransMedSegLib import EngineProcess, InstallTorch, TorchInstall

CALLED = "Installing PyTorch through its extension. Slicer does not react for some minutes."


class Strange(Extension):
    """Its inner functions are there and answer something else."""

    @staticmethod
    def _getPipInstallArguments(**_options):
        return "install torch"


class Silent(Extension):
    """It has light-the-torch already, or gets it in another way."""

    @staticmethod
    def _installLightTheTorch():
        return None


# What the extension is asked


@pytest.mark.parametrize(
    ("extension", "tool", "environment"),
    [
        (Extension, ["light-the-torch>=0.5"], {}),
        (ExtensionOf512, [ARCHIVE], {VARIABLE: "0.0.0"}),
        (ExtensionOfPackaging, ["light-the-torch>=0.8"], {}),
    ],
)
def test_the_extension_is_asked_without_installing_anything(monkeypatch, extension, tool, environment):
    import PyTorchUtils

    monkeypatch.delenv(VARIABLE, raising=False)
    plan = TorchInstall.torchPlan(PyTorchUtils, "torch>=2.4")
    assert (plan.tool, plan.environment) == (tool, environment)
    assert plan.arguments == ["install", "torch>=2.4", "torchvision"]
    assert PyTorchUtils.PyTorchUtilsLogic().asked == packaging.calls == []
    assert VARIABLE not in os.environ, "the environment of Slicer stays as it was"


@pytest.fixture(autouse=True)
def asked(request, monkeypatch):
    """Plays the extension that a test is for."""
    monkeypatch.setattr(packaging, "calls", [])
    extension = getattr(request.node, "callspec", None) and request.node.callspec.params.get("extension")
    return played(monkeypatch, (extension or Extension)())


@pytest.mark.parametrize("extension", [ExtensionThatChanged, Strange, Silent])
def test_an_extension_that_cannot_be_asked_is_called(pip, asked, extension):  # noqa: F811
    pip.install().start(["torch>=2.4", "h5py>=3.10"])
    assert pip.outcome().code == ""
    assert asked.asked == [("install", False, ">=2.4")]
    assert pip.lines[0] == CALLED, "Slicer stands still, which is said before"
    assert [call[-1] for call in pip.calls()] == ["h5py>=3.10"], "the others come in a child process"


@pytest.mark.parametrize("extension", [ExtensionThatChanged])
def test_what_the_called_extension_says_is_explained(pip, asked, extension, monkeypatch):  # noqa: F811
    def fail(**_options):
        raise RuntimeError("ERROR: No matching distribution found for torch>=2.4")

    monkeypatch.setattr(asked, "installTorch", fail, raising=False)
    pip.install().start(["torch>=2.4", "h5py>=3.10"])
    outcome = pip.outcome()
    assert (outcome.code, pip.calls()) == ("E107", [])
    assert outcome.text == "Installation did not finish: No matching distribution found for torch>=2.4. Slicer itself is unchanged."


# In the child process


def test_slicer_goes_on_while_pytorch_is_installed(pip, asked):  # noqa: F811
    """The timer counts the turns of the event loop while the child waits for the test."""
    turns = []
    timer = qt.QTimer()
    timer.interval = 1
    timer.connect("timeout()", lambda: turns.append(1))
    pip.plan(waits=True)
    pip.install().start(["torch>=2.4", "h5py>=3.10"])
    timer.start()
    assert until(lambda: pip.lines == ["Collecting torch"]), "its log is shown while it runs"
    turns.clear()
    assert until(lambda: len(turns) > 100)
    assert pip.outcomes == [] and [call[0] for call in pip.calls()] == ["InstallTorch"] and asked.asked == []
    (pip.folder / "go").touch()
    assert pip.outcome().code == ""
    assert [call[0] for call in pip.calls()] == ["InstallTorch", "install"]
    timer.stop()


def test_what_ships_with_slicer_is_pinned_and_the_plan_goes_when_it_is_done(pip):  # noqa: F811
    kept = pip.folder / "kept"
    stub = pip.folder / "pip_stub.py"
    stub.write_text(f"import pathlib, shutil, sys\nshutil.copytree(pathlib.Path(sys.argv[2]).parent, {str(kept)!r})\n" + stub.read_text())
    pip.install().start(["torch>=2.4"])
    assert pip.outcome().code == ""
    plan = json.loads((kept / "plan.json").read_text())
    place = plan["arguments"][plan["arguments"].index("--constraint") + 1]
    assert (kept / "constraints.txt").read_text() == "numpy==2.4.6\nscipy==1.17.1\n" and not os.path.exists(os.path.dirname(place))


@pytest.mark.parametrize(
    ("log", "code"),
    [
        ("WARNING: Retrying after NewConnectionError: Failed to establish a new connection\nTypeError: build_source()", "E103"),
        ("SSLError: CERTIFICATE_VERIFY_FAILED", "E104"),
        ("ERROR: No matching distribution found for torch>=2.4", "E107"),
    ],
)
def test_a_failure_of_pytorch_ends_the_installation_with_its_code(pip, log, code):  # noqa: F811
    pip.plan(log=log, code=1)
    pip.install().start(["torch>=2.4", "h5py>=3.10"])
    assert pip.outcome().code == code and len(pip.calls()) == 1, "the other packages are not begun"


def test_E111_pytorch_can_be_cancelled_and_goes_again(pip):  # noqa: F811
    pip.plan(waits=True)
    install = pip.install()
    install.start(["torch>=2.4", "h5py>=3.10"])
    assert until(lambda: pip.lines)
    pip.versions["sympy"] = "1.14"
    install.cancel()
    assert pip.outcome().code == "E111"
    assert [(call[0], call[-1]) for call in pip.calls()[1:]] == [("uninstall", "sympy")]


def test_E111_a_pytorch_that_was_to_be_replaced_comes_back_from_its_own_index(pip):  # noqa: F811
    pip.versions["torch"] = "2.12.1+cu130"
    pip.plan(waits=True)
    install = pip.install()
    install.start(["torch>=2.4"], remove=("torch", "torchvision"))
    assert until(lambda: pip.lines)
    del pip.versions["torch"]
    pip.plan()
    install.cancel()
    assert pip.outcome().code == "E111"
    back = pip.calls()[-1]
    assert back[-1] == "torch==2.12.1+cu130" and back[back.index("--extra-index-url") + 1] == "https://download.pytorch.org/whl/cu130"


def test_E108_is_noticed_after_pytorch_too(pip):  # noqa: F811
    pip.plan(waits=True)
    pip.install().start(["torch>=2.4"])
    assert until(lambda: pip.lines)
    pip.versions["numpy"] = "2.2.0"
    (pip.folder / "go").touch()
    outcome = pip.outcome()
    assert (outcome.code, outcome.repair) == ("E108", ["numpy==2.4.6"])


def test_a_folder_of_wheels_asks_no_extension(pip, asked, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.delitem(sys.modules, "PyTorchUtils")
    pip.install().start(["torch>=2.4"], tmp_path)
    assert pip.outcome().code == "" and pip.calls()[0][-1] == "torch>=2.4"


# What the child does, with a light-the-torch that only writes down how it was called


LTT = """
import json, pathlib, sys
import packaging_of_ltt
import pip

def main():
    places = [index - len(sys.path) for index, place in enumerate(sys.path) if pathlib.Path(place, "light_the_torch").is_dir()]
    pathlib.Path({answer!r}).write_text(json.dumps([sys.argv, pip.__version__, places]))
    print("ERROR: as the test wants" if {code} else "Successfully installed torch")
    return {code}

if __name__ == "__main__":
    main()
"""
"""As the real one, it gives the exit code back from its command alone, not from ``python -m``."""


def _wheel(folder, answer, code=0):
    """A light-the-torch with a pip and another package of its own, as the real one gets them."""
    path = folder / "light_the_torch-9.0-py3-none-any.whl"
    info = "light_the_torch-9.0.dist-info"
    files = {
        "light_the_torch/__init__.py": "",
        "light_the_torch/__main__.py": LTT.format(answer=str(answer), code=code),
        "pip/__init__.py": "__version__ = '26.0.1'\n",
        "packaging_of_ltt.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: light-the-torch\nVersion: 9.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nltt = light_the_torch.__main__:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in files) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("code", [0, 3])
def test_the_child_gets_light_the_torch_and_runs_it_beside_slicers_packages(tmp_path, monkeypatch, code):
    wheel = _wheel(tmp_path, tmp_path / "answer.json", code)
    asked = played(monkeypatch, Extension())
    monkeypatch.setattr(type(asked), "_installLightTheTorch", staticmethod(_asking(f"{wheel}")))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    qt.QSettings().setValue(EngineProcess.PYTHON_SETTING, sys.executable)
    one = Pip.__new__(Pip)
    one.lines, one.outcomes, one.versions = [], [], {"numpy": "2.4.6"}
    try:
        one.install().start(["torch>=2.4"])
        assert until(lambda: one.outcomes, 60), one.lines
    finally:
        qt.QSettings().remove(EngineProcess.PYTHON_SETTING)
    assert one.outcomes[0].code == ("E107" if code else ""), one.lines
    arguments, version, places = json.loads((tmp_path / "answer.json").read_text())
    assert arguments[1:4] == ["install", "torch>=2.4", "torchvision"] and "--constraint" in arguments
    assert arguments[-2:] == ["--progress-bar", "raw"], "the pip that came with it can"
    assert (version, places) == ("26.0.1", [-1]), "its folder is the last place where pip looks for packages"


def _asking(requirement):
    """A function of the extension that asks pip for this."""

    def ask():
        slicer.util.pip_install([requirement])

    return ask


@pytest.mark.parametrize(("version", "isAble"), [("24.0", False), ("24.1", True), ("25.1.1", True), ("26.0.1", True), ("9.0.3", False), ("", False)])
def test_pip_tells_its_progress_since_24_1(version, isAble):
    assert InstallTorch.rawProgress(version) == (["--progress-bar", "raw"] if isAble else [])
