# ruff: noqa: F811 (fixtures are imported)
"""Start without a check: the volumes are checked first, what has to be decided is asked, and then the training begins by itself."""

import json

import numpy as np
import pytest
import slicer
from bed import dialogs
from closing_bed import window  # noqa: F401 (fixture)
from test_train_buttons import NAMES, buttons, filled_in, misplaced, real, rows, unnamed, unspaced  # noqa: F401 (fixture)
from train_bed import CASES, module, panel, press_start, ready, stub, until  # noqa: F401 (fixtures; puts the library on the path)

from semiseg import protocol
from TransMedSegLib.PanelState import PanelState
from TransMedSegLib.TrainFolds import foldsOf
from TransMedSegLib.VolumeExchange import writeVolume

TOO_FEW = "At least 2 labeled volumes are needed (4 or more recommended); 0 can be used."


def ended(panel):
    """Waits for the training that has begun; returns its options."""
    assert panel.follow.process is not None, panel.notice.message
    assert until(lambda: panel.follow.process.ending is not None)
    return protocol.read_job(panel.follow.process.runDir).options


def answered(panel, button):
    panel.notice.buttons[button].click()
    assert until(lambda: not panel.check.isRunning)


def test_the_volumes_are_checked_first_and_this_is_said(ready, stub, tmp_path):
    ready.ui.startButton.click()
    assert ready.state == PanelState.Checking and ready.follow.process is None
    assert ready.ui.statusLabel.text.startswith("Checking the volumes first – ") and ready.ui.stateLabel.text == "Checking the volumes first…"
    assert not ready.ui.startButton.enabled and ready.ui.stopButton.enabled
    assert ready.ui.stopButton.toolTip == "End the check; no training is started"
    assert protocol.read_job(tmp_path / "runs" / "_check").verb == "prepare"
    assert until(lambda: ready.follow.process is not None)
    assert ready.state == PanelState.Running
    assert (ready.follow.process.runDir / "prepared" / "cases.csv").exists(), "what was prepared is used"
    assert not (tmp_path / "runs" / "_check").exists() and not ready.check.isAwaited
    assert ended(ready)["goal"] == "normal"


def test_E704_asked_after_start_is_answered_with_one_click(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path, unnamed(tmp_path), unnamed(tmp_path, "P4")))
    press_start(ready)
    assert ready.notice.message == NAMES.format(values="1 / 2 / 420") and ready.follow.process is None
    assert buttons(ready) == ["1", "2", "420", "Train without these 2"] and ready.state == PanelState.Ready
    assert ready.ui.stateLabel.text == "A question about the volumes is open at the top.", "below the button, where somebody looks who pressed it"
    stub.behave("finish", cases=rows(tmp_path))
    ready.notice.buttons["420"].click()
    assert ready.state == PanelState.Checking, "the answer is checked as well"
    assert until(lambda: not ready.check.isRunning)
    options = ended(ready)
    assert (options["labels"], options["other_values"]) == ([{"value": 420, "name": "left atrium"}], "background")


@pytest.mark.parametrize("code", ["E801", "E704"])
def test_E704_is_asked_too_where_the_engine_refuses_them_all(ready, stub, tmp_path, code):
    stub.behave("finish", check="fail", code=code, message=TOO_FEW, cases=[unnamed(tmp_path), unnamed(tmp_path, "P4")])
    press_start(ready)
    assert ready.notice.message == NAMES.format(values="1 / 2 / 420")
    assert buttons(ready) == ["1", "2", "420"], "without them nothing is left to learn from"
    stub.behave("finish")
    answered(ready, "420")
    assert ended(ready)["labels"] == [{"value": 420, "name": "left atrium"}]


def test_E803_asked_after_start_is_resampled_or_left_out(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path, misplaced(tmp_path)))
    press_start(ready)
    assert buttons(ready) == ["Resample mask", "Choose another mask…", "Train without P3"]
    stub.behave("finish")
    answered(ready, "Resample mask")
    assert ended(ready)["resample_masks"] == [f"{tmp_path}/labeled/P3.nrrd"]


def test_one_question_follows_another(ready, stub, tmp_path):
    different = CASES[4].format(folder=tmp_path)
    stub.behave("finish", cases=rows(tmp_path, misplaced(tmp_path), unnamed(tmp_path, "P4"), different))
    press_start(ready)
    asked = []
    for button in ("Train without P3", "Train without P4", "Use them"):
        asked.append(ready.notice.message[-5:-1])
        ready.notice.buttons[button].click()
    assert asked == ["E803", "E704", "E805"] and ready.notice.message == ""
    options = ended(ready)
    assert (options["resample_masks"], options["other_values"], options["different_unlabeled"]) == ([], "refuse", "use")


def test_E306_asked_after_start_is_answered_or_left_out(ready, stub, tmp_path, monkeypatch):
    stub.behave("finish", cases=rows(tmp_path, unspaced(tmp_path)))
    press_start(ready)
    assert buttons(ready) == ["Set spacing…", "Train without P3"]
    filled_in(monkeypatch, (0.5, 0.6, 3.0))
    stub.behave("finish")
    answered(ready, "Set spacing…")
    assert ended(ready)["assumed_spacing_mm"] == [3.0, 0.6, 0.5]


def test_E805_left_out_after_start(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path, CASES[4].format(folder=tmp_path)))
    press_start(ready)
    stub.behave("finish")
    answered(ready, "Leave them out")
    assert ended(ready)["different_unlabeled"] == "leave_out"


def test_a_check_by_its_own_button_starts_nothing(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path, unnamed(tmp_path)))
    press_start(ready)
    ready.ui.checkButton.click()
    assert until(lambda: not ready.check.isRunning)
    assert buttons(ready) == ["1", "2", "420"], "nothing waits for the answer"
    stub.behave("finish")
    answered(ready, "420")
    assert ready.follow.process is None and ready.notice.message == ""


def test_who_presses_start_again_goes_without_them(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path, unnamed(tmp_path)))
    press_start(ready)
    ready.ui.startButton.click()
    assert ready.follow.process is not None and ready.notice.message == "" and not ready.check.isAwaited
    assert ended(ready)["other_values"] == "refuse"


def test_lists_that_change_while_they_are_checked_start_nothing(ready, stub, tmp_path):
    ready.ui.startButton.click()
    ready.cases.add("unlabeled", [tmp_path / "more"])
    assert until(lambda: not ready.check.isRunning)
    assert ready.follow.process is None and ready.state == PanelState.Ready
    assert ready.notice.message == "The volumes or settings were changed while they were checked. Press Start training again."


def test_lists_that_change_while_a_question_is_open_start_nothing(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path, unnamed(tmp_path)))
    press_start(ready)
    ready.cases.add("unlabeled", [tmp_path / "more"])
    assert not ready.check.isAwaited and ready.ui.stateLabel.text == ""
    stub.behave("finish")
    answered(ready, "420")
    assert ready.follow.process is None


def test_stop_ends_the_check_and_starts_nothing(ready, stub):
    stub.behave("finish", check="deaf")
    ready.ui.startButton.click()
    process = ready.check.process
    assert until(lambda: (process.runDir / "run.lock").exists())
    ready.ui.stopButton.click()
    assert until(lambda: not ready.check.isRunning)
    assert not protocol.process_exists(process.pid) and ready.follow.process is None
    assert (ready.state, ready.notice.message, ready.ui.stateLabel.text) == (PanelState.Ready, "", "")
    assert ready.ui.startButton.enabled and not ready.ui.stopButton.enabled


def test_a_check_that_somebody_else_ended_is_said(ready, stub):
    stub.behave("finish", check="deaf")
    ready.ui.startButton.click()
    assert until(lambda: (ready.check.process.runDir / "run.lock").exists())
    ready.check.process.kill()
    assert until(lambda: not ready.check.isRunning)
    assert ready.notice.message == "The check of the volumes was interrupted, and no training was started."


def test_leaving_one_out_needs_no_check_of_its_own(ready, stub, tmp_path):
    names = ("P1", "P2", "P3")
    stub.behave("finish", cases=[CASES[0].format(folder=tmp_path).replace("P1", name) for name in names], folds={name: {} for name in names})
    ready.ui.leaveOneOutRadioButton.click()
    press_start(ready)
    found = foldsOf(ready.follow.process.runDir)
    assert [protocol.read_job(fold).options["leave_out"] for fold in found] == list(names)
    assert until(lambda: all((fold / protocol.RESULT_FILE).exists() for fold in found), 240)


def test_leaving_one_out_of_two_is_refused_after_the_check(ready, stub):
    ready.ui.leaveOneOutRadioButton.click()
    press_start(ready)
    assert ready.notice.message == "Leaving one out needs at least 3 labeled patients." and ready.follow.process is None


def test_what_measuring_has_found_is_asked_as_well(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path, unnamed(tmp_path)), measured={})
    ready.ui.measureButton.click()
    assert until(lambda: not ready.measure.isRunning)
    assert ready.notice.message == NAMES.format(values="1 / 2 / 420")


def test_an_engine_that_refuses_after_a_check_offers_another_one(ready, stub):
    """A file has changed between the two."""
    stub.behave("fail", code="E801", message=TOO_FEW)
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    assert ready.notice.message == f"{TOO_FEW} [E801]" and buttons(ready)[0] == "Check the volumes and start again"
    stub.behave("finish")
    first = ready.follow.process.runDir
    answered(ready, "Check the volumes and start again")
    assert ready.follow.process.runDir != first
    ended(ready)


def test_a_volume_that_left_the_scene_is_not_checked_again(panel, stub, tmp_path):
    """The check writes volumes of the scene as files; those of an earlier one must not stay."""
    node = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), name="P9")
    panel.cases.add("labeled", [tmp_path / "labeled"])
    panel.ui.sceneVolumeSelector.setCurrentNode(node)
    panel.ui.sceneAddButton.click()
    panel.ui.checkButton.click()
    assert until(lambda: not panel.check.isRunning)
    left = tmp_path / "runs" / "_check" / "cases" / "unlabeled" / "P9.nrrd"
    assert left.exists()
    slicer.mrmlScene.RemoveNode(node)
    panel.cases.forgetLostNodes()
    panel.ui.checkButton.click()
    assert until(lambda: not panel.check.isRunning)
    assert not left.exists()


def test_a_check_that_fails_early_does_not_show_what_one_before_has_found(ready, stub, tmp_path):
    press_start(ready)
    ended(ready)
    ready.ui.checkButton.click()
    assert until(lambda: not ready.check.isRunning)
    assert ready.cases.used("labeled") == 2
    stub.behave("finish", check="crash", log="ZeroDivisionError: x")
    ready.ui.checkButton.click()
    assert until(lambda: not ready.check.isRunning)
    assert ready.notice.message.endswith("[E502]") and ready.cases.rows == [] and not ready.check.isDone


@pytest.mark.parametrize("isClosed", [False, True])
def test_closing_slicer_before_the_training_has_begun_is_asked(ready, stub, window, tmp_path, isClosed):
    stub.behave("finish", cases=rows(tmp_path, unnamed(tmp_path)))
    press_start(ready)
    ready._guard.start()  # in this test the window came after the module
    dialogs.answers["confirmYesNoDisplay"] = [isClosed]
    assert window.close() is isClosed
    expected = "The training has not begun: its volumes are being checked, or a question about them is open. Close Slicer all the same?"
    assert dialogs.texts() == [expected]


def test_E704_asked_after_start_by_the_real_engine(real, tmp_path):
    """Every mask has the values 1, 2 and 420; one click later the training runs."""
    (tmp_path / "labeled").mkdir()
    for index, name in enumerate(("P1", "P2")):
        image = np.random.default_rng(index).normal(100, 20, (10, 16, 16)).astype(np.float32)
        mask = np.zeros(image.shape, np.int16)
        mask[3:7, 4:12, 4:12], mask[0, 0, :2], mask[0, 1, :2] = 420, 1, 2
        for array, stem in ((image, name), (mask, f"{name}_label")):
            node = slicer.util.addVolumeFromArray(array, name=stem)
            writeVolume(node, tmp_path / "labeled" / f"{stem}.nrrd")
            slicer.mrmlScene.RemoveNode(node)
    real.cases.add("labeled", [tmp_path / "labeled"])
    real.parameters.numValidation = 0
    real.ui.startButton.click()
    assert until(lambda: not real.check.isRunning, 120)
    assert real.notice.message == NAMES.format(values="1 / 2 / 420") and real.follow.process is None
    real.notice.buttons["420"].click()
    assert until(lambda: real.follow.process is not None and real.view.progress.what == "train", 240), real.notice.message
    assert real.cases.used("labeled") == 2
    process = real.follow.process
    process.kill()
    assert until(lambda: process.ending is not None)
    assert json.loads((process.runDir / "job.json").read_text())["options"]["labels"] == [{"value": 420, "name": "left atrium"}]
