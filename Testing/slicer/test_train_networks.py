# ruff: noqa: F811 (fixtures are imported)
"""The menu of networks beside that of methods: what it lists, what it hands to the job, and what a scene keeps of it."""

import json

import pytest
import qt
import slicer
from train_bed import module, panel, press_start, ready, stub, until  # noqa: F401 (fixtures; puts the library on the path)

from semiseg import protocol
from TransMedSegLib.TrainMeasure import settingsKey

WIDTH = {"name": "width", "type": "int", "default": 16, "meaning": "Channels at the finest level."}
GRAPH = {"name": "bottleneck_graph", "type": "bool", "default": False, "meaning": "Put the alignment on the bottleneck."}
ARGUMENTS = {"name": "arguments", "type": "Mapping[str, Any]", "default": {}, "meaning": "What MONAI's class is called with."}
WEIGHT = {"name": "tsa_weight", "type": "float", "default": 1.0, "meaning": "Weight of the augmentation."}
VNET = {"name": "vnet", "title": "V-Net", "is_default": True, "source": "3DV 2016", "parameters": 9_448_866, "parameters_for": "1 channel, 2 classes", "options": [WIDTH, GRAPH]}
UNET = {"name": "unet3d", "title": "3-D U-Net", "is_default": False, "source": "MICCAI 2016", "parameters": 5_600_000, "parameters_for": "1 channel, 2 classes", "options": [WIDTH]}
SWIN = {"name": "monai:SwinUNETR", "title": "Swin UNETR (MONAI)", "is_default": False, "source": "", "parameters": 0, "options": [ARGUMENTS]}
METHODS = [{"name": "transmedseg", "title": "TransMedSeg", "options": [WEIGHT]}, {"name": "bcp", "title": "BCP", "options": []}]
WITH_MONAI = {"methods": METHODS, "networks": [VNET, UNET, SWIN], "monai": {"name": "monai:NAME", "missing": []}}
AUTOMATIC = "Automatic (V-Net, or what suits the data)"
WITHOUT = {"methods": METHODS, "networks": [VNET, UNET], "monai": {"name": "monai:NAME", "missing": ["monai", "einops"]}}


def titles(panel):
    return [panel.ui.networkComboBox.itemText(index) for index in range(panel.ui.networkComboBox.count)]


def choose(panel, name):
    box = panel.ui.networkComboBox
    assert box.findData(name) >= 0, titles(panel)
    box.currentIndex = box.findData(name)


def edit(form, name, text):
    form.editors[name].text = text
    form.editors[name].editingFinished()


def job(panel):
    press_start(panel)
    assert until(lambda: panel.follow.process.ending is not None)
    return protocol.read_job(panel.follow.process.runDir).options


def opened(panel, stub, described):
    stub.behave("finish", describe=described)
    panel.ui.advancedCollapsibleButton.collapsed = False
    assert until(lambda: panel.ui.methodComboBox.count == 2)
    return panel


@pytest.fixture
def chooser(ready, stub):
    """A panel that may start, and that knows networks with those of MONAI."""
    return opened(ready, stub, WITH_MONAI)


def test_networks_come_from_the_engine_and_the_default_is_first(chooser):
    assert titles(chooser) == [AUTOMATIC, "V-Net", "3-D U-Net", "Swin UNETR (MONAI)"]
    box = chooser.ui.networkComboBox
    assert box.currentText == AUTOMATIC
    expected = "Where the folders have the layout of a public data set, its usual network is taken; any other data get V-Net."
    assert box.itemData(0, qt.Qt.ToolTipRole) == expected
    assert box.itemData(1, qt.Qt.ToolTipRole) == "3DV 2016\n9.4 million parameters (1 channel, 2 classes)"
    assert box.itemData(3, qt.Qt.ToolTipRole) == ""


def test_untouched_it_is_left_to_the_engine(chooser):
    options = job(chooser)
    assert (options["network"], options["network_options"]) == ("", {})


def test_a_network_and_its_options_go_to_the_job(chooser):
    choose(chooser, "unet3d")
    edit(chooser.form.networks.form, "width", "24")
    assert chooser.ui.networkComboBox.currentText == "3-D U-Net"
    options = job(chooser)
    assert (options["network"], options["network_options"]) == ("unet3d", {"width": 24})


def test_who_changes_an_option_of_the_default_has_chosen_it_and_sees_so(chooser):
    form, box = chooser.form.networks.form, chooser.ui.networkComboBox
    note = "These are the options of V-Net. With one of them changed, V-Net is chosen, also where the data would suggest another network."
    assert chooser.form._networkNote.text == note
    editor = form.editors["width"]
    edit(form, "width", "24")
    assert form.editors["width"] is editor, "the rows are not made anew below the cursor"
    assert (box.currentText, len(titles(chooser))) == ("V-Net", 4)
    assert chooser.form._networkNote.text == "What is left as it is here follows from the goal and the device."
    assert chooser.parameters.network == "vnet" and json.loads(chooser.parameters.networkOptions) == {"width": 24}
    edit(form, "width", "16")
    assert (box.currentText, chooser.parameters.network) == ("V-Net", "vnet"), "what was chosen stays so until another one is chosen"
    edit(form, "width", "24")
    options = job(chooser)
    assert (options["network"], options["network_options"]) == ("vnet", {"width": 24})
    choose(chooser, "")
    assert (chooser.parameters.network, chooser.parameters.networkOptions, form.editors["width"].text) == ("", "{}", "16")


def test_another_network_has_its_own_options(chooser):
    edit(chooser.form.networks.form, "width", "24")
    choose(chooser, "monai:SwinUNETR")
    assert list(chooser.form.networks.form.editors) == ["arguments"]
    assert (chooser.parameters.network, chooser.parameters.networkOptions) == ("monai:SwinUNETR", "{}")
    edit(chooser.form.networks.form, "arguments", '{"feature_size": 12}')
    assert job(chooser)["network_options"] == {"arguments": {"feature_size": 12}}


def test_the_two_forms_are_told_apart_and_hidden_where_empty(chooser):
    places = chooser.ui.methodOptionPlace, chooser.ui.networkOptionPlace
    assert [place.text for place in places] == ["Options of the method", "Options of the network"]
    assert [place.isHidden() for place in places] == [False, False]
    assert [place.collapsed for place in places] == [True, True], "a method has three dozen options"
    chooser.ui.networkOptionPlace.collapsed = False
    assert not chooser.form.networks.form.isHidden() and chooser.form.methods.form.isHidden()
    box = chooser.ui.methodComboBox
    box.currentIndex = box.findData("bcp")
    assert [place.isHidden() for place in places] == [True, False]


def test_without_monai_one_gray_entry_says_how_to_install_it(ready, stub):
    opened(ready, stub, WITHOUT)
    box = ready.ui.networkComboBox
    assert titles(ready) == [AUTOMATIC, "V-Net", "3-D U-Net", "Networks of MONAI (not installed)"]
    flags = [box.model().flags(box.model().index(row, 0)) for row in range(4)]
    assert [bool(int(flag) & int(qt.Qt.ItemIsEnabled)) for flag in flags] == [True, True, True, False]
    from TransMedSegLib.EngineProcess import enginePython

    assert f'"{enginePython()}" -m pip install monai einops' in box.itemData(3, qt.Qt.ToolTipRole)


def test_the_engine_is_asked_again_when_packages_were_missing(ready, stub):
    opened(ready, stub, WITHOUT)
    choose(ready, "unet3d")
    edit(ready.form.networks.form, "width", "24")
    stub.behave("finish", describe=WITH_MONAI)
    for isCollapsed in (True, False):
        ready.ui.advancedCollapsibleButton.collapsed = isCollapsed
    assert until(lambda: "Swin UNETR (MONAI)" in titles(ready))
    assert ready.ui.networkComboBox.currentText == "3-D U-Net", "what was chosen stays so"
    assert ready.form.networks.form.editors["width"].text == "24"


# What a scene keeps


def reloaded(panel, module, path):
    """Saves the scene, empties it and loads it, as a person does from one day to the next."""
    slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(path))
    assert until(lambda: panel.parameters.network != "" or panel.parameters.method != "transmedseg")


def test_a_scene_keeps_network_and_options(chooser, module, tmp_path):
    choose(chooser, "unet3d")
    edit(chooser.form.networks.form, "width", "24")
    edit(chooser.form.methods.form, "tsa_weight", "0.5")
    reloaded(chooser, module, tmp_path / "scene.mrml")
    assert (chooser.parameters.network, json.loads(chooser.parameters.networkOptions)) == ("unet3d", {"width": 24})
    assert chooser.ui.networkComboBox.currentText == "3-D U-Net"
    assert chooser.form.networks.form.editors["width"].text == "24"
    assert chooser.form.methods.form.editors["tsa_weight"].text == "0.5"


def test_an_unknown_network_of_an_older_scene_is_kept(ready, stub):
    ready.parameters.network, ready.parameters.networkOptions = "oldnet", '{"depth": 3}'
    opened(ready, stub, WITH_MONAI)
    assert ready.ui.networkComboBox.currentText == "oldnet" and titles(ready)[-1] == "oldnet"
    assert ready.ui.networkOptionPlace.isHidden()
    options = job(ready)
    assert (options["network"], options["network_options"]) == ("oldnet", {"depth": 3})


def test_a_named_default_of_a_scene_is_shown_by_its_name(ready, stub):
    ready.parameters.network, ready.parameters.networkOptions = "vnet", '{"width": 8}'
    assert ready.ui.networkComboBox.currentText == "vnet", "the engine has not been asked yet"
    opened(ready, stub, WITH_MONAI)
    assert ready.ui.networkComboBox.currentText == "V-Net" and len(titles(ready)) == 4
    assert ready.form.networks.form.editors["width"].text == "8"
    assert job(ready)["network"] == "vnet"


def test_times_are_measured_for_one_network(chooser):
    before = settingsKey(chooser.parameters)
    choose(chooser, "unet3d")
    other = settingsKey(chooser.parameters)
    edit(chooser.form.networks.form, "width", "8")
    assert len({before, other, settingsKey(chooser.parameters)}) == 3


def test_the_menu_goes_through_translation(ready, stub):
    slicer.app.setTranslations({"Automatic ({network}, or what suits the data)": "Automatisch ({network} oder was paßt)", "Networks of MONAI (not installed)": "Netze von MONAI (fehlen)"})
    opened(ready, stub, WITHOUT)
    slicer.app.setTranslations({})
    assert titles(ready) == ["Automatisch (V-Net oder was paßt)", "V-Net", "3-D U-Net", "Netze von MONAI (fehlen)"]
