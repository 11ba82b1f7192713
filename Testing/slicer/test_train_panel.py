# ruff: noqa: F811 (fixtures are imported)
"""The training panel: states, messages, scenes, leaving and coming back. The engine is played by a script."""

import json
import os
import re
import signal
import zipfile
from pathlib import Path

import pytest
import qt
import slicer
from bed import boot, dialogs
from train_bed import CASES, REPOSITORY, gone, module, panel, press_start, ready, started, stub, until  # noqa: F401 (fixtures)

from semiseg import protocol
from TransMedSegLib import Computer, EngineProcess, ModelCard, RunList, RunState
from TransMedSegLib.PanelState import PanelState

GPU = "0, RTX 4090, 24564, 22630, 550.1, 8.9"
GPUS = GPU + "\n1, RTX 3060, 12288, 12000, 550.1, 8.6"


def heard(panel, iteration=50):
    """Waits until the watched run came so far."""
    assert until(lambda: panel.view.progress.done >= iteration), panel.notice.message


def column(panel, table, index):
    return [table.item(row, index).text() for row in range(table.rowCount)]


def rows(tmp_path):
    return [row.format(folder=tmp_path) for row in CASES]


# Cases


def test_cases_are_dropped_listed_and_taken_away(panel, tmp_path):
    panel.cases.add("labeled", [tmp_path / "labeled", tmp_path / "labeled"])
    assert column(panel, panel.ui.labeledTable, 1) == ["labeled"]
    assert column(panel, panel.ui.labeledTable, 3) == ["Not checked yet"]
    panel.ui.labeledTable.selectRow(0)
    panel.ui.labeledRemoveButton.click()
    assert panel.ui.labeledTable.rowCount == 0 and list(panel.parameters.labeledPaths) == []
    assert (tmp_path / "labeled").is_dir(), "no file is deleted"


def test_folder_is_chosen_by_dialog(panel, tmp_path):
    dialogs.answers["getExistingDirectory"] = [str(tmp_path / "unlabeled")]
    panel.ui.unlabeledAddFolderButton.click()
    dialogs.answers["getOpenFileNames"] = [([str(tmp_path / "a.nrrd"), str(tmp_path / "b.nrrd")], "")]
    panel.ui.unlabeledAddFilesButton.click()
    assert column(panel, panel.ui.unlabeledTable, 1) == ["unlabeled", "a.nrrd", "b.nrrd"]


def test_check_says_of_every_case_whether_it_is_used_and_why(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path))
    ready.ui.checkButton.click()
    assert not ready.ui.startButton.enabled and ready.ui.startButton.toolTip == "The volumes are being checked."
    assert until(lambda: not ready.check.process.isRunning)
    labeled = ready.ui.labeledTable
    assert column(ready, labeled, 0) == ["✗", "✓", "✓"], "what needs a look comes first"
    assert column(ready, labeled, 3) == ["The mask of P3 has another size. Excluded. [E803]", "", ""]
    assert column(ready, ready.ui.unlabeledTable, 0) == ["⚠", "✓"]
    assert column(ready, ready.ui.unlabeledTable, 3)[0] == "This volume looks different. [E805]"
    assert ready.ui.labeledCollapsibleButton.text == "1  Labeled volumes   2 ✓  1 ✗"
    assert ready.ui.checkLabel.text == "2 labeled, 0 held out, 2 unlabeled"
    assert ready.ui.startButton.enabled


def test_check_asks_the_engine_to_prepare_and_hands_its_folder_on(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path))
    ready.ui.checkButton.click()
    assert until(lambda: not ready.check.process.isRunning)
    assert protocol.read_job(tmp_path / "runs" / "_check").verb == "prepare"
    press_start(ready)
    assert (ready.follow.process.runDir / "prepared" / "cases.csv").exists(), "the prepared volumes are used"
    assert not (tmp_path / "runs" / "_check").exists()
    assert protocol.read_job(ready.follow.process.runDir).verb == "train"
    assert until(lambda: ready.follow.process.ending is not None)


def test_changed_list_asks_for_a_new_check(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path))
    ready.ui.checkButton.click()
    assert until(lambda: not ready.check.process.isRunning)
    ready.cases.add("unlabeled", [tmp_path / "more"])
    assert column(ready, ready.ui.unlabeledTable, 3) == ["Not checked yet", "Not checked yet"]
    assert ready.ui.checkLabel.text == ""


def test_too_few_usable_cases_keep_start_gray(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path)[1:3])
    ready.ui.checkButton.click()
    assert until(lambda: not ready.check.process.isRunning)
    assert not ready.ui.startButton.enabled
    assert ready.ui.startButton.toolTip == "At least 2 labeled volumes are needed (4 or more recommended). [E801]"


def test_missing_unlabeled_cases_are_allowed_and_said(ready, stub, tmp_path):
    stub.behave("finish", cases=rows(tmp_path)[:2])
    ready.ui.checkButton.click()
    assert until(lambda: not ready.check.process.isRunning)
    expected = "No unlabeled volumes: training will use labels only. That is allowed, but adding unlabeled volumes is what this tool is for. [E802]"
    assert ready.ui.checkLabel.text.splitlines()[1] == expected
    assert ready.ui.startButton.enabled


def test_engine_that_refuses_the_cases_is_quoted(ready, stub):
    stub.behave("finish", check="fail", code="E704", message="The mask of 'P1' has values nobody named: 420.", hint="Name them.")
    ready.ui.checkButton.click()
    assert until(lambda: not ready.check.process.isRunning)
    assert ready.notice.message == "The mask of 'P1' has values nobody named: 420. Name them. [E704]"


def _nodes():
    import numpy as np

    volume = slicer.util.addVolumeFromArray(np.random.default_rng(0).integers(0, 99, (6, 7, 8)).astype("int16"), name="Müller P1")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "P1 mask")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().AddEmptySegment("LA", "left atrium")
    mask = np.zeros((6, 7, 8), "uint8")
    mask[2:4, 2:5, 3:6] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "LA", volume)
    return volume, node


def test_volumes_of_the_scene_become_files_of_the_run(panel, stub):
    volume, segmentation = _nodes()
    assert panel.ui.sceneAddButton.toolTip == "Choose a volume of the scene first"
    panel.ui.sceneVolumeSelector.setCurrentNode(volume)
    assert panel.ui.sceneAddButton.toolTip == "Add it as unlabeled"
    panel.ui.sceneSegmentationSelector.setCurrentNode(segmentation)
    assert panel.ui.sceneAddButton.toolTip == "Add it as labeled"
    panel.ui.sceneAddButton.click()
    panel.ui.sceneSegmentationSelector.setCurrentNode(None)
    assert column(panel, panel.ui.labeledTable, 1) == ["Müller P1"]
    press_start(panel)
    folder = Path(protocol.read_job(panel.follow.process.runDir).options["labeled"][0])
    assert sorted(path.name for path in folder.iterdir()) == ["Müller_P1.nrrd", "Müller_P1_label.seg.nrrd"]
    assert until(lambda: panel.follow.process.ending is not None)


def test_volume_that_leaves_the_scene_leaves_the_list(panel):
    volume, segmentation = _nodes()
    panel.cases.addNodes(volume, segmentation)
    slicer.mrmlScene.RemoveNode(segmentation)
    boot.process_events(0.1)
    assert panel.ui.labeledTable.rowCount == 0


# Settings


def test_job_holds_what_the_panel_shows(ready, stub, tmp_path):
    ui = ready.ui
    ui.bestRadioButton.click()
    ui.seedSpinBox.value = 5
    ui.labelValueSpinBox.value = 420
    ui.structureLineEdit.text = "left ventricle"
    ui.measureGainCheckBox.checked = True
    ui.holdOutSpinBox.value = 2
    press_start(ready)
    options = protocol.read_job(ready.follow.process.runDir).options
    assert options == {
        "labeled": [str(tmp_path / "labeled")],
        "unlabeled": [str(tmp_path / "unlabeled")],
        "held_out": [],
        "masks": {},
        "resample_masks": [],
        "assumed_spacing_mm": None,
        "different_unlabeled": "use",
        "num_validation": 2,
        "labels": [{"value": 420, "name": "left ventricle"}],
        "other_values": "refuse",
        "method": "transmedseg",
        "goal": "best",
        "device": "cpu",
        "seed": 5,
        "baseline": True,
        "method_options": {},
        "network": "",
        "network_options": {},
    }
    assert until(lambda: ready.follow.process.ending is not None)


def test_job_options_are_those_of_the_engine(ready):
    """The names are read from the engine's source: the window may not import it."""
    import ast

    sources = [ast.parse(path.read_text()) for path in Path(protocol.__file__).parent.glob("train*.py")]
    job = next(node for source in sources for node in source.body if isinstance(node, ast.ClassDef) and node.name == "TrainJob")
    known = {statement.target.id for statement in job.body if isinstance(statement, ast.AnnAssign)}
    from TransMedSegLib.TrainJob import trainOptions

    assert set(trainOptions(ready.parameters, Path("/nowhere"))) <= known


def test_own_volumes_to_check_on(ready, tmp_path):
    ready.ui.ownRadioButton.click()
    assert not ready.ui.heldOutPlace.isHidden() and not ready.ui.holdOutSpinBox.enabled
    assert ready.ui.startButton.toolTip == "Drop the volumes to check on, or hold out some labeled ones."
    ready.cases.add("heldOut", [tmp_path / "test"])
    press_start(ready)
    options = protocol.read_job(ready.follow.process.runDir).options
    assert options["held_out"] == [str(tmp_path / "test")] and options["num_validation"] == 0
    assert until(lambda: ready.follow.process.ending is not None)


def test_times_are_those_measured_here(ready, stub):
    assert ready.ui.quickRadioButton.text == "Quick"
    ready.ui.quickRadioButton.click()
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    ready.runs.refresh()
    assert ready.ui.quickRadioButton.text.startswith("Quick (took ") and ready.ui.bestRadioButton.text == "Best"


def test_methods_and_options_come_from_the_engine(ready, stub):
    option = {"name": "tsa_weight", "type": "float", "default": 1.0, "meaning": "Weight of the augmentation."}
    described = {"methods": [{"name": "transmedseg", "title": "TransMedSeg", "options": [option]}, {"name": "bcp", "title": "BCP", "options": []}]}
    stub.behave("finish", describe=described)
    ready.ui.advancedCollapsibleButton.collapsed = False
    assert until(lambda: ready.ui.methodComboBox.count == 2)
    editor = ready.form.methods.form.editors["tsa_weight"]
    assert editor.toolTip == "Weight of the augmentation."
    editor.text = "0.5"
    editor.editingFinished()
    assert json.loads(ready.parameters.methodOptions) == {"tsa_weight": 0.5}
    editor.text = "much"
    editor.editingFinished()
    assert json.loads(ready.parameters.methodOptions) == {}, "a text that is no number counts as the default"
    ready.ui.methodComboBox.currentIndex = 1
    assert ready.parameters.method == "bcp" and ready.form.methods.form.editors == {}


# Running


def test_pause_and_resume(ready, stub):
    process = started(ready, stub)
    heard(ready)
    assert ready.ui.pauseButton.enabled and ready.ui.stopButton.enabled
    assert ready.ui.stateLabel.text != ""
    assert ready.ui.statusLabel.text.startswith("Training – ")
    ready.ui.pauseButton.click()
    assert ready.state == PanelState.Stopping and not ready.ui.pauseButton.enabled
    assert ready.ui.statusLabel.text.startswith("Saving the training – ")
    assert until(lambda: process.ending is not None)
    assert ready.ui.statusLabel.text.startswith("Ready – ")
    saved = RunState.lastIteration(process.runDir)
    assert ready.notice.message == f"Paused at iteration {saved}."
    assert ready.state == PanelState.Ready
    stub.behave("finish", iterations=saved + 100)
    ready.notice.buttons[f"Resume from iteration {saved}"].click()
    assert until(lambda: ready.follow.process.ending is not None)
    assert ready.follow.process.ending.state.name == "Finished"
    table = slicer.util.getNode(f"{process.runDir.name} Losses (numbers)")
    steps = slicer.util.arrayFromTableColumn(table, "iteration")
    assert list(steps) == list(range(10, saved + 101, 10)), "one curve, without a gap"


def _stop(ready, answers, process):
    dialogs.answers["messageBox"] = list(answers)
    for _answer in answers:
        ready.ui.stopButton.click()
    assert ready.ui.stopButton.text == "End now"
    assert until(lambda: process.ending is not None)
    assert process.ending.state.name == "Stopped"


def test_stop_asks_and_keeps_the_best_model(ready, stub):
    process = started(ready, stub)
    heard(ready, 100)
    dialogs.answers["messageBox"] = [qt.QMessageBox.Cancel]
    ready.ui.stopButton.click()
    assert ready.state == PanelState.Running, "the user thought better of it"
    _stop(ready, [qt.QMessageBox.Yes], process)
    assert re.fullmatch(r"Keep best model so far \(Dice 0\.[89]\d\)\?", dialogs.texts()[1])
    step = RunState.lastIteration(process.runDir)
    kept = f"Stopped at iteration {step}. The model of iteration 50 (validation Dice 0.833) is kept."
    assert ready.ui.stateLabel.text == kept
    assert ready.ui.useModelButton.enabled and (process.runDir / "model.pt").exists()
    ready.runs.refresh()
    assert column(ready, ready.ui.runsTable, 2) == ["Stopped"] and ready.ui.resumeRunButton.toolTip == "Choose a run first"
    ready.follow.open(process.runDir)
    assert ready.ui.stateLabel.text == kept and "Resume" in next(iter(ready.notice.buttons))


def test_stop_without_keeping_the_model(ready, stub):
    process = started(ready, stub)
    heard(ready, 100)
    _stop(ready, [qt.QMessageBox.No], process)
    assert ready.ui.stateLabel.text.endswith("No model was kept.")
    assert not (process.runDir / "model.pt").exists() and not ready.ui.useModelButton.enabled
    assert (process.runDir / "resume.pt").exists(), "the run can still be resumed"


def test_finished_model_outlives_a_stop_of_the_rest(ready, stub):
    process = started(ready, stub)
    heard(ready, 100)
    model = process.runDir / "model.pt"
    with open(process.runDir / protocol.EVENTS_FILE, "a") as stream:
        stream.write(json.dumps({"kind": "saved", "what": "model", "path": str(model), "step": 90}) + "\n")
    dialogs.answers["confirmYesNoDisplay"] = [False]
    ready.ui.stopButton.click()
    assert dialogs.texts() == ["The model is finished. Stop the rest of this run?"]
    assert ready.state == PanelState.Running


def test_end_now_ends_a_deaf_engine(ready, stub):
    process = started(ready, stub, "deaf")
    dialogs.answers["confirmYesNoDisplay"] = [True]
    assert until(lambda: process.pid)
    ready.ui.stopButton.click()
    assert dialogs.texts() == ["Stop this training?"]
    assert ready.ui.stopButton.text == "End now"
    ready.ui.stopButton.click()
    assert until(lambda: process.ending is not None)
    assert ready.state == PanelState.Ready


def test_second_run_on_the_same_device_is_queued(ready, stub):
    process = started(ready, stub)
    heard(ready)
    press_start(ready)
    assert ready.notice.message == "A run is already using the processor (CPU). [E812]"
    assert list(ready.notice.buttons) == ["Queue", "Cancel"]
    ready.notice.buttons["Queue"].click()
    assert until(lambda: not ready.check.isRunning), "its volumes are checked at once, not when its turn has come"
    assert ready.follow.process is process and ready.state == PanelState.Running, "the first one is still watched"
    assert ready.notice.message.startswith("The run '") and ready.notice.message.endswith("' is queued.")
    assert until(lambda: [ready.runs.refresh(), column(ready, ready.ui.runsTable, 2).count("Queued")][1] == 1)
    queued = next(one for one in ready.runs.summaries if one.state.name == "Queued")
    stub.behave("finish")
    process.pause()
    assert until(lambda: RunState.summarize(queued.runDir).state.name == "Finished")


def test_second_run_may_take_the_other_gpu(ready, stub):
    Computer.setGpus(Computer.parseGpus(GPUS))
    process = started(ready, stub)
    assert protocol.read_job(process.runDir).options["device"] == "cuda:0"
    heard(ready)
    press_start(ready)
    assert ready.notice.message == "A run is already using GPU 0. [E812]"
    assert list(ready.notice.buttons) == ["Queue", "Use GPU 1", "Cancel"]
    stub.behave("finish")
    ready.notice.buttons["Use GPU 1"].click()
    assert until(lambda: not ready.check.isRunning)
    second = next(one for one in RunList.RunList(process.runDir.parent).runs() if one.runDir != process.runDir)
    assert second.device == "cuda:1"
    assert until(lambda: RunState.summarize(second.runDir).state.name == "Finished")


def test_second_run_can_be_given_up(ready, stub):
    process = started(ready, stub)
    press_start(ready)
    ready.notice.buttons["Cancel"].click()
    assert ready.notice.message == "" and len(list(process.runDir.parent.iterdir())) == 1


ENDINGS = [
    ("crash", {"log": "torch.OutOfMemoryError: CUDA out of memory."}, "E206", "The GPU ran out of memory during training. Smaller patches or batches need less; the run can be resumed."),
    ("crash", {"log": "ZeroDivisionError: x"}, "E502", "The program stopped with an error: ZeroDivisionError: x"),
    ("fail", {"code": "E806", "message": "Training became unstable 4 times."}, "E806", "Training became unstable 4 times."),
    ("fail", {"code": "E810", "message": "Made with 0.0.9.", "hint": "It can be viewed."}, "E810", "Made with 0.0.9. It can be viewed."),
    ("pause_itself", {}, "E807", "Disk full: the run was paused at iteration 2100. Free at least 1 GB, then resume."),
]


@pytest.mark.parametrize(("behavior", "values", "code", "text"), ENDINGS, ids=[one[2] for one in ENDINGS])
def test_every_ending_is_shown_with_what_can_be_done(ready, stub, behavior, values, code, text):
    stub.behave(behavior, **values)
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    assert ready.notice.message == f"{text} [{code}]"
    assert "Show log" in ready.notice.buttons and "Copy for bug report" in ready.notice.buttons
    ready.notice.buttons["Show log"].click()
    assert values.get("log", "") in ready.ui.logTextEdit.toPlainText()
    assert ready.ui.startButton.enabled, "a failure does not lock the panel"


def test_engine_that_cannot_start(ready, stub):
    qt.QSettings().setValue(EngineProcess.PYTHON_SETTING, "/no/such/python")
    press_start(ready)
    assert ready.notice.message == "The computing program could not be started: No such file or directory. A virus scanner may block it. [E501]"
    assert ready.state == PanelState.Ready and ready.follow.process is None, "no training has begun"
    assert (ready.ui.startButton.enabled, ready.ui.checkLabel.text, ready.ui.stateLabel.text) == (True, "", ""), "it can be tried again"


def test_silence_offers_to_wait_or_stop(ready, stub, monkeypatch):
    monkeypatch.setattr(EngineProcess, "SILENCE_SECONDS", 1)
    process = started(ready, stub, "deaf")
    assert until(lambda: ready.notice.message)
    assert ready.notice.message == "No progress for 1 s. [E504]"
    assert list(ready.notice.buttons) == ["Wait", "Stop"]
    ready.notice.buttons["Wait"].click()
    assert ready.notice.message == "" and process.isRunning


def test_sleep_is_told_in_the_panel(ready, stub):
    process = started(ready, stub)
    heard(ready)
    process._polledAt -= 3600
    process.poll()
    assert ready.notice.message == "The run was interrupted by sleep for 1 h 0 min and continues. [E808]"


def test_warnings_of_the_engine_are_shown(ready, stub):
    warning = {"kind": "warning", "code": "E806", "message": "Training became unstable at iteration 812 (loss is not a number).", "hint": ""}
    stub.behave("finish", events=[warning])
    press_start(ready)
    assert until(lambda: "E806" in ready.ui.stateLabel.text)
    assert "Training became unstable at iteration 812 (loss is not a number). [E806]" in ready.ui.stateLabel.text
    assert until(lambda: ready.follow.process.ending is not None)


# Folders


def test_folder_that_cannot_be_written(ready, monkeypatch):
    from TransMedSegLib import TrainJob

    monkeypatch.setattr(TrainJob, "isWritable", lambda folder: False)
    press_start(ready)
    assert ready.notice.message == f"The runs folder {ready.parameters.runsFolder} is not writable. Choose another one. [E809]"
    assert ready.follow.process is None


def test_full_disk_is_said_before_anything_is_written(ready, monkeypatch, tmp_path):
    from TransMedSegLib import TrainJob

    monkeypatch.setattr(TrainJob, "freeDiskGb", lambda folder: 0.4)
    press_start(ready)
    expected = f"Needed 2.0 GB, free 0.4 GB in {tmp_path / 'runs'}. Free some space or choose another folder. Nothing was changed. [E105]"
    assert ready.notice.message == expected
    assert not (tmp_path / "runs").exists()


def test_run_of_an_older_version_is_viewed_but_not_resumed(ready, stub):
    stub.behave("fail", code="E206", message="m", version="0.0.3")
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    run_dir = ready.follow.process.runDir
    ready.follow.open(run_dir)
    expected = "This run was made with TransMedSeg 0.0.3; you have 0.1.0. It can be viewed and used but not resumed. [E810]"
    assert ready.notice.message == expected
    ready.follow.resume(run_dir)
    assert ready.notice.message == expected and not ready.follow.process.isRunning


def test_run_of_another_computer_can_be_viewed(ready, tmp_path):
    run_dir = tmp_path / "runs" / "there"
    protocol.write_job(run_dir, protocol.Job("train", {"device": "cuda:0"}))
    lock = {"pid": 1, "host": "PC-12", "device": "cuda:0", "engine": "x", "version": "0.1.0"}
    (run_dir / "run.lock").write_text(json.dumps(lock))
    ready.follow.open(run_dir)
    assert ready.notice.message.startswith("The run folder is not writable or is used by another computer (lock by PC-12, ")
    assert ready.notice.message.endswith(" s ago). It can be viewed. [E809]")
    ready.follow.process.letGo()


def test_runs_are_deleted_after_a_question(ready, stub):
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    assert not ready.ui.deleteRunButton.enabled and ready.ui.deleteRunButton.toolTip == "Choose a run first"
    ready.ui.runsTable.selectRow(0)
    dialogs.answers["confirmYesNoDisplay"] = [False, True]
    ready.ui.deleteRunButton.click()
    assert ready.follow.process.runDir.is_dir()
    ready.ui.deleteRunButton.click()
    assert not ready.follow.process.runDir.exists() and ready.ui.runsTable.rowCount == 0


def test_running_run_cannot_be_deleted(ready, stub):
    process = started(ready, stub)
    heard(ready)
    ready.runs.refresh()
    ready.ui.runsTable.selectRow(0)
    assert not ready.ui.deleteRunButton.enabled and ready.ui.deleteRunButton.toolTip == "Stop it first"
    assert ready.ui.openRunButton.text == "Re-attach"
    with pytest.raises(ValueError):
        RunList.RunList(process.runDir.parent).delete(process.runDir)


# Coming and going


def test_leaving_the_module_lets_the_run_go_on(ready, module, stub):
    process = started(ready, stub)
    heard(ready)
    module.widgetRepresentation().exit()
    done = ready.view.progress.done
    assert until(lambda: ready.view.progress.done > done), "the curves stay up to date"
    module.widgetRepresentation().enter()
    assert ready.follow.process is process and ready.state == PanelState.Running


def test_reload_while_running_attaches_again(ready, module, stub):
    process = started(ready, stub)
    heard(ready)
    pid = process.pid
    module.widgetRepresentation().self().onReload()
    new = module.widgetRepresentation().self().panel
    assert new is not ready and not process.isRunning
    assert new.follow.process is not None and new.follow.process.isRunning and new.follow.process.pid == pid
    assert new.ui.pauseButton.enabled and new.ui.stopButton.enabled, "a run that was found again can be stopped"
    new.follow.process.kill()
    assert until(lambda: new.follow.process.ending is not None)


def test_scene_close_while_running_keeps_run_and_curves(ready, stub):
    process = started(ready, stub)
    heard(ready, 100)
    slicer.mrmlScene.Clear()
    boot.process_events(0.1)
    assert ready.notice.message == "Training continues in the background. [E508]"
    table = slicer.util.getNode(f"{process.runDir.name} Losses (numbers)")
    assert list(slicer.util.arrayFromTableColumn(table, "iteration"))[:3] == [10, 20, 30]
    count = table.GetNumberOfRows()
    assert until(lambda: table.GetNumberOfRows() > count)
    assert ready.ui.plotWidget.plotView().chartNode() is not None


def test_application_close_while_running_leaves_the_run_alone(ready, stub):
    process = started(ready, stub)
    heard(ready)
    boot.quit_application()
    assert not process.isRunning
    os.kill(process.pid, 0)
    again = RunState.summarize(process.runDir)
    assert again.state.name == "Running"
    EngineProcess.endTree(process.pid)


def test_application_close_ends_a_check(ready, stub):
    stub.behave("finish", check="forever")
    ready.ui.checkButton.click()
    assert until(lambda: ready.check.process.pid and (ready.check.process.runDir / "run.lock").exists())
    pid = ready.check.process.pid
    boot.quit_application()
    assert until(lambda: gone(pid))


def test_killed_run_is_offered_for_resuming(ready, stub):
    process = started(ready, stub)
    heard(ready)
    os.kill(process.pid, signal.SIGKILL)
    assert until(lambda: process.ending is not None)
    assert "[E503]" in ready.notice.message
    ready.runs.refresh()
    ready.ui.runsTable.selectRow(0)
    assert column(ready, ready.ui.runsTable, 2) == ["Interrupted"] and ready.ui.resumeRunButton.enabled


def test_scene_keeps_curves_and_settings(ready, stub, tmp_path):
    ready.ui.bestRadioButton.click()
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    name = ready.follow.process.runDir.name
    values = list(slicer.util.arrayFromTableColumn(slicer.util.getNode(f"{name} Losses (numbers)"), "loss"))
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    boot.process_events(0.1)
    for node in list(slicer.util.getNodesByClass("vtkMRMLTableNode")):
        slicer.mrmlScene.RemoveNode(node)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    boot.process_events(0.2)
    assert ready.parameters.goal.name == "Best" and ready.ui.bestRadioButton.checked
    assert [str(path) for path in ready.parameters.labeledPaths] == [str(tmp_path / "labeled")]
    again = list(slicer.util.arrayFromTableColumn(slicer.util.getNode(f"{name} Losses (numbers)"), "loss"))
    assert again == pytest.approx(values)
    charts = [node for node in slicer.util.getNodesByClass("vtkMRMLPlotChartNode") if node.GetTitle() == "Losses"]
    assert charts and all(chart.GetNumberOfPlotSeriesNodes() == 2 for chart in charts)


def test_module_opens_fast_and_without_heavy_imports(tmp_path):
    """In a process of its own: no torch, no network, nothing asked, little work once Slicer is there: 0.3 seconds of the processor where this was written."""
    import subprocess
    import sys

    here = Path(__file__).parent
    script = tmp_path / "open.py"
    script.write_text(f"""
import sys, time
sys.path[:0] = [{str(here)!r}, {str(here.parent.parent / "TransMedSeg")!r}]
from bed import boot, dialogs
boot.start()
import qt
qt.QSettings().setValue("TransMedSeg/RunsFolder", {str(tmp_path)!r})
before, start = set(sys.modules), time.process_time()
module, panel = boot.load_module("TransMedSegTrain", {str(here.parent.parent / "TransMedSegTrain")!r})
module.widgetRepresentation().enter()
seconds = time.process_time() - start
heavy = ("torch", "scipy", "SimpleITK", "h5py", "matplotlib", "pydicom", "urllib3", "requests")
found = sorted(name for name in set(sys.modules) - before if name.split(".")[0] in heavy)
assert found == [], found
assert dialogs.shown == []
assert seconds < 5.0, seconds
""")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


# Result


def test_model_is_handed_to_the_other_module_and_exported(ready, stub, tmp_path):
    import hashlib

    from segment_builders import write_model

    assert not ready.ui.useModelButton.enabled and ready.ui.useModelButton.toolTip == "Finish a training first"
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    ready.ui.useModelButton.click()
    assert slicer.util.settingsValue("TransMedSeg/Model", "") == str(ready.follow.process.runDir / "model.pt")
    assert ready.notice.message == "The module TransMedSeg now segments with this model."
    model = write_model(ready.follow.process.runDir / "model.pt")  # the stand-in for the engine leaves none that could be used
    result = {"scores": {"left atrium": {"dice": {"mean": 0.89, "count": 6}}}}
    (model.parent / "result.json").write_text(json.dumps(result))
    dialogs.answers["getSaveFileName"] = [(str(tmp_path / "model.zip"), "")]
    ready.ui.exportModelButton.click()
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert archive.read("model.pt") == model.read_bytes()
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        assert archive.read("sha256.txt").decode().split()[0] == digest
        assert json.loads(archive.read("model-card.json")) == {"scores": result["scores"], "sha256": digest}


def test_other_module_segments_with_the_model(ready, stub):
    boot.load_module("TransMedSeg", REPOSITORY / "TransMedSeg")
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    ready.ui.useModelButton.click()
    other = slicer.util.getModuleLogic("TransMedSeg").getParameterNode()
    assert other.modelPath == ready.follow.process.runDir / "model.pt"


def test_the_model_of_the_labels_alone_can_be_taken_instead(ready, stub, tmp_path):
    """Where the unlabeled volumes did not help, the better model is there already."""
    from segment_builders import write_model

    def scores(mean, count=6):
        return {"scores": {"left atrium": {"dice": {"mean": mean, "count": count}}}}

    box, run_dir = ready.ui.resultModelComboBox, tmp_path / "runs" / "2026-01-01"
    (run_dir / "baseline").mkdir(parents=True)
    models = [write_model(folder / "model.pt", name=name) for folder, name in ((run_dir, "transmedseg"), (run_dir / "baseline", "supervised"))]
    for folder in (run_dir, run_dir / "baseline"):
        protocol.write_job(folder, protocol.Job("train", {}))

    ready.result.show(run_dir, scores(0.89))
    assert not box.isVisibleTo(ready.ui.resultCollapsibleButton) and ready.result.model == models[0], "nothing was compared"
    ready.result.show(run_dir, {**scores(0.89), "baseline": scores(0.85)})
    assert box.isVisibleTo(ready.ui.resultCollapsibleButton) and box.currentText == "With unlabeled volumes" and ready.result.model == models[0]
    ready.result.show(run_dir, {**scores(0.85, 4), "baseline": scores(0.89, 4)})
    assert ready.result.model == models[0], "four cases are too few to change what is offered"
    ready.result.show(run_dir, {**scores(0.85), "baseline": scores(0.89)})
    assert "Unlabeled volumes do not help here: -0.040 Dice." in ready.ui.resultLabel.text
    assert box.currentText == "Labels only" and ready.result.model == models[1]
    ready.ui.useModelButton.click()
    assert slicer.util.settingsValue("TransMedSeg/Model", "") == str(models[1])
    assert ModelCard.cardOf(models[1]).title.endswith("2026-01-01, labels only"), "told apart in the list"
    dialogs.answers["getSaveFileName"] = [(str(tmp_path / "model.zip"), "")]
    ready.ui.exportModelButton.click()
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert archive.read("model.pt") == models[1].read_bytes()
    models[1].unlink()
    ready.result.show(run_dir, {**scores(0.85), "baseline": scores(0.89)})
    assert not box.isVisibleTo(ready.ui.resultCollapsibleButton) and ready.result.model == models[0], "its model is gone"


def test_result_names_the_number_of_cases_and_the_gain():
    from TransMedSegLib.TrainResult import resultText

    def scores(mean, count):
        return {"scores": {"left atrium": {"dice": {"mean": mean, "count": count}}}}

    text = resultText({**scores(0.89, 6), "baseline": scores(0.8, 6)})
    gain = "Unlabeled volumes gain +0.090 Dice. Measured on 6 cases, one training each."
    assert text.splitlines() == ["With unlabeled volumes: left atrium Dice 0.890 on 6 cases", "Labels only: left atrium Dice 0.800 on 6 cases", gain]
    assert resultText({"iterations": 5}) == "Finished without held-out volumes: only the validation curve tells how good it is."
    assert resultText({}) == ""


def test_bug_report_holds_no_paths(ready, stub, tmp_path):
    stub.behave("crash", log=f'File "/home/mueller/x/semiseg/train.py", line 3\nValueError: {tmp_path}/P0001_Mueller.nrrd')
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    ready.notice.buttons["Copy for bug report"].click()
    text = slicer.app.clipboard().text()
    assert "TransMedSeg 0.1.0" in text and "train.py" in text and "ValueError" in text
    assert str(tmp_path) not in text and "ueller" not in text


def test_preview_shows_the_worst_slice(ready, stub, tmp_path):
    image = qt.QImage(40, 30, qt.QImage.Format_RGB32)
    image.fill(0xFF0000)
    image.save(str(tmp_path / "preview.png"))
    event = {"kind": "preview", "path": str(tmp_path / "preview.png"), "step": 500, "case": "P4", "slice": 31, "dice": 0.81234}
    stub.behave("finish", events=[event])
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    assert ready.ui.previewTextLabel.text == "Worst validation slice: P4, slice 31, Dice 0.812, iteration 500"
    assert not ready.ui.previewLabel.isHidden()


def test_texts_go_through_translation(module, stub):
    slicer.app.setTranslations({"Start training": "Training starten", "Choose a volume of the scene first": "Erst ein Volumen wählen", "Automatic": "Automatisch"})
    panel = module.widgetRepresentation().self().panel
    panel.updateButtons()
    panel.form.showDevices(None)
    slicer.app.setTranslations({})
    assert panel.ui.sceneAddButton.toolTip == "Erst ein Volumen wählen"
    assert panel.ui.deviceComboBox.itemText(0) == "Automatisch"


def test_module_runs_its_own_tests(module):
    slicer.modules.TransMedSegTrainInstance.runTest(msec=0)
