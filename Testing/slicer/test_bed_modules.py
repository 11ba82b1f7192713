"""A scripted module lives through loading, entering, reloading and the end of the application."""

from pathlib import Path

import numpy as np
import pytest
import slicer
from bed import boot, dialogs

SAMPLE = Path(__file__).parent / "sample"


@pytest.fixture(scope="module")
def loaded():
    return boot.load_module("BedSample", SAMPLE)


@pytest.fixture
def panel(loaded):
    module = loaded[0]
    module.widgetRepresentation().enter()
    yield module.widgetRepresentation().self()
    module.widgetRepresentation().exit()


def _volume(value=150, name="V"):
    return slicer.util.addVolumeFromArray(np.full((4, 5, 6), value, "int16"), name=name)


def test_module_describes_itself(loaded):
    module, panel = loaded
    assert module.title == "Bed sample"
    assert module.categories == ["Segmentation"]
    assert slicer.modules.bedsample is module
    assert slicer.modules.BedSampleWidget is panel
    assert slicer.util.modulePath("BedSample").endswith("sample/BedSample.py")
    assert slicer.util.getModuleWidget("BedSample") is panel
    assert slicer.util.getModuleLogic("BedSample") is panel.logic


def test_startup_is_announced(loaded):
    assert not slicer.modules.BedSampleInstance.started
    boot.complete_startup()
    assert slicer.modules.BedSampleInstance.started


def test_button_is_gray_and_says_why(panel):
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == "Choose a volume first"


def test_panel_follows_the_scene_and_computes(panel):
    panel.ui.inputSelector.setCurrentNode(_volume())
    assert panel.ui.applyButton.enabled
    panel.ui.applyButton.click()
    assert panel.ui.resultLabel.text == "120 voxels"
    panel.ui.thresholdSlider.value = 150
    panel.ui.applyButton.click()
    assert panel.ui.resultLabel.text == "0 voxels"


def test_failure_reaches_the_user_and_is_not_lost(panel, capfd):
    from bed import errors

    panel.ui.inputSelector.setCurrentNode(_volume())
    panel._parameterNode.inputVolume.SetAndObserveImageData(None)
    panel.ui.applyButton.click()
    assert len(errors.take()) == 1


def test_closing_the_scene_empties_the_panel(panel):
    _volume()
    panel.initializeParameterNode()
    assert panel.ui.applyButton.enabled
    slicer.mrmlScene.Clear()
    assert not panel.ui.applyButton.enabled
    assert panel.ui.inputSelector.currentNode() is None


def test_leaving_the_module_ends_the_binding(loaded):
    module, _ = loaded
    representation = module.widgetRepresentation()
    representation.enter()
    panel = representation.self()
    node = panel._parameterNode
    representation.exit()
    assert not representation.isEntered
    panel.ui.captionLineEdit.text = "typed after leaving"
    assert node.caption == "hello"


def test_reload_makes_a_new_panel_and_cleans_the_old(loaded):
    module, _ = loaded
    old = slicer.modules.BedSampleWidget
    old.onReload()
    new = slicer.modules.BedSampleWidget
    assert new is not old
    assert old.calls[-1] == "cleanup" and old.Observations == []
    assert module.widgetRepresentation().self() is new


def test_module_runs_its_own_tests(loaded):
    import BedSample

    BedSample.BedSampleTest.ran.clear()
    slicer.modules.BedSampleInstance.runTest(msec=0)
    assert BedSample.BedSampleTest.ran == ["first", "second"]


def test_developer_buttons_only_in_developer_mode(loaded):
    import qt

    qt.QSettings().setValue("Developer/DeveloperMode", "true")
    slicer.modules.BedSampleWidget.onReload()
    assert slicer.modules.BedSampleWidget.reloadButton.text == "Reload"
    qt.QSettings().setValue("Developer/DeveloperMode", "false")
    slicer.modules.BedSampleWidget.onReload()
    assert not hasattr(slicer.modules.BedSampleWidget, "reloadButton")


def test_texts_go_through_translation(loaded):
    slicer.app.setTranslations({"Choose a volume first": "Zuerst ein Volumen wählen"})
    module, _ = loaded
    module.widgetRepresentation().enter()
    panel = module.widgetRepresentation().self()
    panel.checkCanApply()
    slicer.app.setTranslations({})
    assert panel.ui.applyButton.toolTip == "Zuerst ein Volumen wählen"
    module.widgetRepresentation().exit()


def test_module_without_its_class_does_not_load(tmp_path):
    (tmp_path / "Empty.py").write_text("pass\n")
    with pytest.raises(AttributeError):
        boot.load_module("Empty", tmp_path)


def test_dialogs_answer_themselves_and_are_remembered():
    dialogs.answers["confirmYesNoDisplay"] = [True, False]
    assert slicer.util.confirmYesNoDisplay("Keep it?") is True
    assert slicer.util.confirmYesNoDisplay("Sure?", windowTitle="T") is False
    slicer.util.errorDisplay("It failed.", detailedText="trace")
    assert dialogs.texts() == ["Keep it?", "Sure?", "It failed."]
    assert dialogs.shown[1].title == "T" and dialogs.shown[2].details == "trace"


def test_modal_dialogs_do_not_wait():
    import qt

    dialogs.answers["getExistingDirectory"] = ["/data/cases"]
    assert qt.QFileDialog.getExistingDirectory(None, "Choose") == "/data/cases"
    assert qt.QFileDialog.getExistingDirectory(None, "Choose") == ""
    box = qt.QMessageBox()
    box.text = "Stop?"
    box.setStandardButtons(qt.QMessageBox.Yes | qt.QMessageBox.No)
    box.setDefaultButton(qt.QMessageBox.No)
    assert box.exec_() == qt.QMessageBox.No
    dialogs.answers["QMessageBox"] = [qt.QMessageBox.Yes]
    assert box.exec() == qt.QMessageBox.Yes
    with pytest.raises(dialogs.UnansweredDialog):
        qt.QDialog().exec()
    assert qt.QFileDialog.getOpenFileName(None, "Open", "", "*.nrrd") == ""
    assert not qt.QColorDialog.getColor().isValid()
    assert dialogs.texts().count("Stop?") == 2


def test_application_has_no_unknown_attributes():
    with pytest.raises(AttributeError):
        slicer.app.noSuchPath  # noqa: B018
    with pytest.raises(AttributeError):
        slicer.app.noSuchPath = 1
    assert slicer.app.layoutManager() is None
    assert slicer.app.testingEnabled() is True


def test_application_end_cleans_up_every_panel(loaded):
    panel = slicer.modules.BedSampleWidget
    asked = []
    slicer.app.connect("aboutToQuit()", lambda: asked.append(1))
    boot.quit_application()
    assert asked == [1] and panel.calls[-1] == "cleanup"


def test_main_window_switches_modules(loaded):
    from bed import main_window

    with pytest.raises(RuntimeError):
        slicer.util.selectModule("BedSample")
    window = main_window.open_main_window()
    slicer.modules.BedSampleWidget.onReload()
    panel = slicer.modules.BedSampleWidget
    slicer.util.selectModule("BedSample")
    assert slicer.util.selectedModule() == "BedSample" and panel.calls == ["enter"]
    slicer.util.selectModule("Volumes")
    assert panel.calls == ["enter", "exit"]
    assert slicer.util.mainWindow() is window and slicer.util.showStatusMessage("hello") is not False
    main_window.close_main_window()
    assert slicer.util.mainWindow() is None
    assert slicer.modules.bedsample.widgetRepresentation().self() is panel


def test_message_box_buttons_are_clicked_by_their_text():
    import qt

    box = qt.QMessageBox()
    box.text = "Restart now?"
    later = box.addButton("Later", qt.QMessageBox.RejectRole)
    restart = box.addButton("&Restart", qt.QMessageBox.AcceptRole)
    dialogs.answers["QMessageBox"] = ["Restart", "Later"]
    box.exec_()
    assert box.clickedButton() is restart
    box.exec_()
    assert box.clickedButton() is later
    assert sorted(dialogs.shown[0].buttons) == ["Later", "Restart"]


def test_web_pages_are_not_opened():
    import qt

    assert qt.QDesktopServices.openUrl(qt.QUrl("https://example.org/help"))
    assert dialogs.texts() == ["https://example.org/help"]


def test_input_dialog_reports_ok_as_pythonqt_does():
    import qt

    ok = qt.BoolResult()
    dialogs.answers["getText"] = ["run 1"]
    assert qt.QInputDialog.getText(None, "Name", "Name of the run", qt.QLineEdit.Normal, "", ok) == "run 1" and ok
    assert qt.QInputDialog.getText(None, "Name", "Name of the run", qt.QLineEdit.Normal, "", ok) == "" and not ok


def test_popup_menu_triggers_the_answered_action():
    import qt

    got = []
    menu = qt.QMenu()
    menu.addAction("&Delete").connect("triggered()", lambda: got.append("deleted"))
    assert menu.exec_(qt.QCursor.pos()) is None
    dialogs.answers["QMenu"] = ["Delete"]
    assert menu.exec_(qt.QCursor.pos()).text == "&Delete" and got == ["deleted"]


def test_settings_outlive_the_process_where_a_home_is_given(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from bed import boot\n"
        "boot.start(home=sys.argv[2])\n"
        "import qt\n"
        "print('before', qt.QSettings().value('Bed/run'))\n"
        "qt.QSettings().setValue('Bed/run', '/runs/1')\n"
    )
    command = [sys.executable, "-c", code, str(SAMPLE.parent), str(tmp_path / "home")]
    outputs = [subprocess.run(command, capture_output=True, text=True, timeout=120) for _ in range(2)]
    assert [one.returncode for one in outputs] == [0, 0], outputs[0].stderr
    assert "before None" in outputs[0].stdout and "before /runs/1" in outputs[1].stdout


def test_versions_and_extensions_can_be_played():
    assert (slicer.app.majorVersion, slicer.app.minorVersion) == (5, 13)
    slicer.app.playVersion(5, 8)
    assert slicer.app.applicationVersion == "5.8.0"
    slicer.app.playVersion(5, 13)
    model = slicer.app.extensionsManagerModel()
    assert not model.isExtensionInstalled("PyTorch")
    assert model.installExtensionFromServer("PyTorch") and model.isExtensionInstalled("PyTorch")
    model.play(installed=[], reachable=False)
    assert not model.installExtensionFromServer("PyTorch") and not model.isExtensionInstalled("PyTorch")
    model.play()
