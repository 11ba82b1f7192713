"""The stand-in of parameterNodeWrapper keeps typed values in the scene and binds them to widgets."""

import enum
import pathlib
from typing import Annotated

import ctk
import numpy as np
import pytest
import qt
import slicer
from slicer.parameterNodeWrapper import (
    Choice,
    Default,
    FloatRange,
    Minimum,
    RangeBounds,
    WithinRange,
    isParameterNodeWrapper,
    parameterNodeWrapper,
)


class Goal(enum.Enum):
    Quick = 1
    Normal = 2
    Best = 3

    def label(self):
        return f"{self.name} training"


@parameterNodeWrapper
class Parameters:
    volume: slicer.vtkMRMLScalarVolumeNode
    volumes: list[slicer.vtkMRMLScalarVolumeNode]
    share: Annotated[float, WithinRange(0, 1)] = 0.5
    steps: Annotated[int, Minimum(1)] = 10
    flag: bool
    title: str = "run"
    folder: pathlib.Path
    goal: Goal = Goal.Normal
    device: Annotated[str, Choice(["cpu", "cuda"]), Default("cuda")]
    names: list[str]
    numbers: list[float]
    paths: list[pathlib.Path]
    goals: list[Goal]


@pytest.fixture
def node():
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "Parameters")


@pytest.fixture
def parameters(node):
    return Parameters(node)


def _volume(name):
    return slicer.util.addVolumeFromArray(np.zeros((2, 3, 4), "int16"), name=name)


def test_defaults(parameters):
    assert (parameters.share, parameters.steps, parameters.flag, parameters.title) == (0.5, 10, False, "run")
    assert (parameters.goal, parameters.device, parameters.folder) == (Goal.Normal, "cuda", pathlib.Path())
    assert parameters.volume is None and parameters.names == [] and parameters.volumes == []
    assert isParameterNodeWrapper(parameters) and isParameterNodeWrapper(Parameters)


def test_values_are_kept_as_text_in_the_node(parameters, node):
    parameters.goal = Goal.Best
    parameters.flag = True
    parameters.folder = pathlib.Path("/data/x")
    assert node.GetParameter("goal") == "Best"
    assert node.GetParameter("flag") == "True"
    assert node.GetParameter("folder") == "/data/x"
    assert Parameters(node).goal is Goal.Best


def test_scene_round_trip(parameters, tmp_path):
    first, second = _volume("first"), _volume("second")
    parameters.volume = second
    parameters.volumes = [second, first]
    parameters.share, parameters.steps, parameters.flag, parameters.title = 0.25, 3, True, "näme 中"
    parameters.folder, parameters.goal, parameters.device = pathlib.Path("/a b"), Goal.Quick, "cpu"
    parameters.names, parameters.numbers = ["x", "", "z"], [1.5, 2]
    parameters.paths, parameters.goals = [pathlib.Path("p")], [Goal.Best, Goal.Quick]
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(path)
    loaded = Parameters(slicer.util.getNode("Parameters"))
    assert loaded.volume.GetName() == "second"
    assert [one.GetName() for one in loaded.volumes] == ["second", "first"]
    assert (loaded.share, loaded.steps, loaded.flag, loaded.title) == (0.25, 3, True, "näme 中")
    assert (loaded.folder, loaded.goal, loaded.device) == (pathlib.Path("/a b"), Goal.Quick, "cpu")
    assert (loaded.names, loaded.numbers) == (["x", "", "z"], [1.5, 2.0])
    assert (loaded.paths, loaded.goals) == ([pathlib.Path("p")], [Goal.Best, Goal.Quick])


def test_list_writes_itself_back(parameters, node):
    parameters.names.append("a")
    parameters.names += ["b", "c"]
    del parameters.names[0]
    parameters.names[0] = "B"
    assert parameters.names == ["B", "c"] and Parameters(node).names == ["B", "c"]
    assert not node.HasParameter("names_2")


def test_removed_node_becomes_none(parameters):
    parameters.volume = _volume("gone")
    slicer.mrmlScene.RemoveNode(parameters.volume)
    assert parameters.volume is None


@pytest.mark.parametrize(
    "name, value",
    [("share", 1.5), ("steps", 0), ("device", "tpu"), ("steps", "3"), ("title", None), ("flag", 1), ("volume", "id")],
)
def test_wrong_values_are_refused_and_change_nothing(parameters, name, value):
    before = getattr(parameters, name)
    with pytest.raises((ValueError, TypeError)):
        setattr(parameters, name, value)
    assert getattr(parameters, name) == before


def test_unknown_type_is_refused():
    with pytest.raises(TypeError, match="cannot keep"):

        @parameterNodeWrapper
        class Wrong:
            what: complex


def test_modified_once_per_assignment(parameters, node):
    counted = []
    tag = parameters.AddObserver("ModifiedEvent", lambda *_: counted.append(1))
    parameters.names = ["a", "b", "c"]
    assert counted == [1]
    parameters.RemoveObserver(tag)
    parameters.title = "x"
    assert counted == [1]


def _widgets():
    slicer_node_box = slicer.qMRMLNodeComboBox()
    slicer_node_box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    slicer_node_box.noneEnabled = True
    slicer_node_box.setMRMLScene(slicer.mrmlScene)
    return {
        "volume": slicer_node_box,
        "share": ctk.ctkSliderWidget(),
        "steps": qt.QSpinBox(),
        "flag": qt.QCheckBox(),
        "title": qt.QLineEdit(),
        "folder": ctk.ctkPathLineEdit(),
        "goal": qt.QComboBox(),
        "device": qt.QComboBox(),
    }


@pytest.fixture
def panel():
    """A panel with one widget per parameter, each naming its parameter."""
    outer = qt.QWidget()
    layout = qt.QVBoxLayout(outer)
    for name, widget in _widgets().items():
        widget.name = f"{name}Widget"
        widget.setProperty("SlicerParameterName", name)
        layout.addWidget(widget)
    return outer


def test_binding_shows_the_values(parameters, panel):
    parameters.volume = _volume("shown")
    parameters.connectGui(panel)
    assert panel.volumeWidget.currentNode() is parameters.volume
    assert panel.shareWidget.value == 0.5 and panel.shareWidget.maximum == 1
    assert panel.stepsWidget.value == 10 and panel.stepsWidget.minimum == 1
    assert panel.goalWidget.currentText == "Normal training" and panel.goalWidget.count == 3
    assert panel.deviceWidget.currentText == "cuda"
    assert panel.titleWidget.text == "run" and panel.folderWidget.currentPath == "."


def test_binding_follows_both_ways(parameters, panel):
    ui = slicer.util.childWidgetVariables(panel)
    parameters.connectGui(ui)
    volume = _volume("chosen")
    ui.volumeWidget.setCurrentNode(volume)
    ui.shareWidget.value = 0.75
    ui.stepsWidget.value = 4
    ui.flagWidget.checked = True
    ui.titleWidget.text = "typed"
    ui.folderWidget.currentPath = "/tmp/x"
    ui.goalWidget.currentIndex = 2
    ui.deviceWidget.currentText = "cpu"
    assert (parameters.volume, parameters.share, parameters.steps, parameters.flag) == (volume, 0.75, 4, True)
    assert (parameters.title, parameters.folder) == ("typed", pathlib.Path("/tmp/x"))
    assert (parameters.goal, parameters.device) == (Goal.Best, "cpu")
    parameters.goal, parameters.title, parameters.volume = Goal.Quick, "set", None
    assert ui.goalWidget.currentIndex == 0 and ui.titleWidget.text == "set"
    assert ui.volumeWidget.currentNode() is None


def test_binding_ends(parameters, panel):
    tag = parameters.connectGui(panel)
    parameters.disconnectGui(tag)
    panel.titleWidget.text = "typed"
    assert parameters.title == "run"
    parameters.steps = 2
    assert panel.stepsWidget.value == 10


def test_two_bindings_at_once(parameters):
    first, second = qt.QLineEdit(), qt.QLineEdit()
    parameters.connectParametersToGui({"title": first})
    tag = parameters.connectParametersToGui({"title": second})
    first.text = "one"
    assert second.text == "one"
    parameters.disconnectGui(tag)
    first.text = "two"
    assert second.text == "one"


@pytest.mark.parametrize(
    "name, make",
    [
        ("names", qt.QComboBox),
        ("title", qt.QCheckBox),
        ("title", qt.QComboBox),
        ("title", qt.QPlainTextEdit),
        ("flag", qt.QSpinBox),
        ("flag", ctk.ctkCollapsibleButton),
        ("flag", qt.QToolButton),
        ("volumes", slicer.qMRMLCheckableNodeComboBox),
        ("share", ctk.ctkRangeWidget),
    ],
)
def test_widget_that_cannot_show_the_type_is_refused(parameters, name, make):
    with pytest.raises(RuntimeError):
        parameters.connectParametersToGui({name: make()})


def test_unknown_parameter_is_refused(parameters):
    with pytest.raises(ValueError, match="Cannot find a param"):
        parameters.connectParametersToGui({"titel": qt.QLineEdit()})


def test_slider_needs_limits(node):
    @parameterNodeWrapper
    class Unlimited:
        value: float

    with pytest.raises(RuntimeError, match="minimum and a maximum"):
        Unlimited(node).connectParametersToGui({"value": ctk.ctkSliderWidget()})
    box = qt.QDoubleSpinBox()
    Unlimited(node).connectParametersToGui({"value": box})
    assert box.minimum < -1e9 and box.maximum > 1e9


def test_range_and_color(node):
    @parameterNodeWrapper
    class Shown:
        window: Annotated[FloatRange, RangeBounds(0, 500), Default(FloatRange(10, 200))]
        color: qt.QColor

    parameters, window, color = Shown(node), ctk.ctkRangeWidget(), ctk.ctkColorPickerButton()
    parameters.connectParametersToGui({"window": window, "color": color})
    assert (window.minimumValue, window.maximumValue, window.maximum) == (10, 200, 500)
    window.setValues(50, 60)
    color.color = qt.QColor("#cb6c51")
    assert Shown(node).window == FloatRange(50, 60) and Shown(node).color.name() == "#cb6c51"
    with pytest.raises(ValueError):
        parameters.window = FloatRange(0, 501)


def test_type_of_the_parameter_decides_what_a_selector_offers(parameters):
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLModelNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.nodeCount() == 1
    parameters.connectParametersToGui({"volume": selector})
    assert selector.nodeTypes == ["vtkMRMLScalarVolumeNode"] and selector.nodeCount() == 0
