# ruff: noqa: F811 (fixtures are imported)
"""The lists of the training panel: what is taken off them, and what the list of runs and the result say."""

import json

import numpy as np
import pytest
import qt
import slicer
from bed import boot, dialogs, user
from train_bed import CASES, module, panel, ready, started, stub, until  # noqa: F401 (fixtures)

from semiseg import protocol
from TransMedSegLib import Computer
from TransMedSegLib.RunState import aboutText, summarize


def checked(ready, stub, tmp_path):
    stub.behave("finish", cases=[row.format(folder=tmp_path) for row in CASES])
    ready.ui.checkButton.click()
    assert until(lambda: not ready.check.isRunning)
    assert ready.ui.labeledTable.rowCount == 3


def test_remove_is_gray_until_a_row_is_selected(ready):
    button = ready.ui.labeledRemoveButton
    assert not button.enabled and button.toolTip == "Select a row first"
    ready.ui.labeledTable.selectRow(0)
    assert button.enabled and button.toolTip == "Take the selected rows from the list. No file is deleted."


def test_one_volume_of_a_folder_does_not_take_the_folder_with_it_unasked(ready, stub, tmp_path):
    checked(ready, stub, tmp_path)
    ready.ui.labeledTable.selectRow(1)
    dialogs.answers["confirmOkCancelDisplay"] = [False]
    ready.ui.labeledRemoveButton.click()
    assert dialogs.texts()[-1] == "Added as a folder: 'labeled'. Take all of its volumes from the list? No file is deleted."
    assert list(ready.parameters.labeledPaths) == [tmp_path / "labeled"] and ready.ui.labeledTable.rowCount == 3
    dialogs.answers["confirmOkCancelDisplay"] = [True]
    ready.ui.labeledRemoveButton.click()
    assert list(ready.parameters.labeledPaths) == [] and not ready.ui.labeledRemoveButton.enabled


def test_all_volumes_of_a_folder_go_without_a_question(ready, stub, tmp_path):
    checked(ready, stub, tmp_path)
    ready.ui.labeledTable.selectAll()
    ready.ui.labeledRemoveButton.click()
    assert list(ready.parameters.labeledPaths) == [] and dialogs.texts() == []


def test_a_run_that_has_not_finished_is_not_said_to_have(ready, tmp_path):
    """A check or a measurement may have left a result of its own in the folder."""
    runDir = tmp_path / "runs" / "early"
    protocol.write_job(runDir, protocol.Job("train", {"labeled": [], "device": "cpu"}))
    (runDir / protocol.RESULT_FILE).write_text(json.dumps({"iterations": 93, "goals": {"quick": {"train_s": 90}}}))
    ready.follow.open(runDir)
    assert ready.ui.resultLabel.text == "No result yet."
    (runDir / protocol.RESULT_FILE).write_text(json.dumps({"iterations": 93}))
    ready.follow.open(runDir)
    assert ready.ui.resultLabel.text.startswith("Finished without held-out volumes")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (42.4, "42 s"), (75, "1 min 15 s"), (89.9, "1 min 30 s"), (240, "4 min"), (719.3, "12 min"), (1500, "25 min"), (3599.3, "1 h"), (5399, "1 h 30 min"), (7210, "2 h")],
)
def test_times_that_are_guessed_are_round(seconds, text):
    assert aboutText(seconds) == text


def test_enter_opens_a_run(ready, tmp_path):
    runDir = tmp_path / "runs" / "early"
    protocol.write_job(runDir, protocol.Job("train", {"labeled": [], "device": "cpu"}))
    ready.runs.refresh()
    ready.ui.runsTable.setCurrentCell(0, 0)
    user.press(ready.ui.runsTable, "Return")
    assert ready.ui.runLabel.text == "early"


def test_a_paused_run_has_no_time_left_and_a_resumed_one_no_button_to_resume(ready, stub):
    process = started(ready, stub)
    assert until(lambda: ready.view.progress.done >= 50)
    assert ready.ui.detailLabel.text.endswith(" left") and "per s" in ready.ui.detailLabel.text
    ready.ui.pauseButton.click()
    assert until(lambda: process.ending is not None)
    last = ready.view.progress.done
    told = f"iteration {last:,} of 1,000,000".replace(",", "")
    assert ready.ui.detailLabel.text.replace(",", "").endswith(told)
    ready.follow.open(process.runDir)
    assert ready.ui.detailLabel.text.replace(",", "").endswith(told) and ready.notice.message == "This run can be resumed."
    ready.ui.runsTable.selectRow(0)
    ready.ui.resumeRunButton.click()
    assert ready.notice.message == ""
    assert until(lambda: ready.view.progress.done > last and " left" in ready.ui.detailLabel.text)
    ready.follow.process.kill()
    assert until(lambda: ready.follow.process.ending is not None)


def test_the_panel_fits_into_a_narrow_column_with_everything_open(ready):
    """Slicer's column of modules is about 500 pixels wide; long names of devices and networks give way."""
    Computer.setGpus([Computer.Gpu(0, "NVIDIA GeForce RTX 4090 Laptop", 24564, 22630, "550.1", "8.9")])
    ready.form.showDevices(ready.parameters)
    ready.ui.networkComboBox.addItem("a network with a very long name, as some of other packages have it")
    ready.ui.advancedCollapsibleButton.collapsed = False
    ready.ui.ownRadioButton.click()
    boot.process_events(0.1)
    assert ready.ui.startButton.parent().minimumSizeHint.width() < 460


def test_the_engine_is_not_asked_any_more_when_the_panel_goes_away(ready):
    ready.ui.advancedCollapsibleButton.collapsed = False
    assert ready.form._asking is not None
    process = ready.form._asking
    ready.cleanup()
    assert process.state() == qt.QProcess.NotRunning


def history(run_dir, *events, goal=""):
    """Writes a run folder: what was heard of it, each as (kind, time, verb of a start)."""
    protocol.write_job(run_dir, protocol.Job("train", {"device": "cpu", "goal": goal}))
    lines = [json.dumps({"kind": kind, "time": time, **({"verb": verb[0]} if verb else {})}) for kind, time, *verb in events]
    (run_dir / protocol.EVENTS_FILE).write_text("\n".join(lines) + "\n")


def test_a_run_began_when_it_was_started_and_not_when_its_volumes_were_checked(tmp_path):
    history(tmp_path, *(("started", time, verb) for time, verb in ((100, "prepare"), (200, "measure"), (300, "train"), (400, "train"))))
    assert summarize(tmp_path).started == 300


def test_the_time_of_a_run_is_that_of_all_its_starts_without_the_pauses_between(ready, tmp_path):
    before = (("started", 100, "prepare"), ("finished", 190))
    ended_by_force = (("started", 1000, "train"), ("progress", 1010))
    paused = (("started", 2000, "train"), ("stopped", 2020))
    finished = (("started", 9000, "train"), ("stage", 9010), ("finished", 9045))
    run_dir = tmp_path / "runs" / "one"
    history(run_dir, *before, *ended_by_force, *paused, *finished, goal="quick")
    assert summarize(run_dir).seconds == 10 + 20 + 45
    ready.ui.deviceComboBox.currentIndex = ready.ui.deviceComboBox.findData("cpu")
    ready.runs.refresh()
    assert ready.ui.quickRadioButton.text == "Quick (took 1 min 15 s)" and ready.ui.bestRadioButton.text == "Best"


def test_a_volume_of_the_scene_can_be_taken_off_the_list_after_the_check_too(panel, stub, tmp_path):
    volumes = [slicer.util.addVolumeFromArray(np.random.default_rng(seed).integers(0, 99, (6, 7, 8)).astype("int16"), name="Müller P1") for seed in (0, 1)]
    for volume in volumes:
        panel.cases.addNodes(volume, None)
    rows = [f"Müller_P1{end},unlabeled,,,Müller_P1{end},8 x 7 x 6,1 x 1 x 1,,{tmp_path}/runs/_check/cases/unlabeled/Müller_P1{end}.nrrd," for end in ("", "_2")]
    panel.cases.add("labeled", [tmp_path / "labeled"])
    stub.behave("finish", cases=rows)
    panel.ui.checkButton.click()
    assert until(lambda: not panel.check.isRunning)
    table = panel.ui.unlabeledTable
    table.selectRow([table.item(row, 1).text() for row in range(2)].index("Müller_P1_2"))
    panel.ui.unlabeledRemoveButton.click()
    assert list(panel.parameters.unlabeledVolumes) == [volumes[0]] and dialogs.texts() == []


def test_what_was_hidden_while_its_section_was_folded_stays_hidden(ready, tmp_path):
    image = qt.QImage(40, 30, qt.QImage.Format_RGB32)
    image.fill(0xFF0000)
    image.save(str(tmp_path / "preview.png"))
    ui, view = ready.ui, ready.view
    ui.ownRadioButton.click()
    view.show(tmp_path / "runs" / "one")
    preview = {"kind": "preview", "path": str(tmp_path / "preview.png"), "step": 5, "case": "P4", "slice": 3, "dice": 0.8}
    view.hear([{"kind": "scalar", "name": "loss", "value": 0.5, "step": 5}, preview])
    parts = ("plotWidget", "previewLabel", "previewTextLabel", "heldOutPlace")
    assert [name for name in parts if getattr(ui, name).isHidden()] == []
    for name in ("live", "validation"):
        getattr(ui, f"{name}CollapsibleButton").collapsed = True
    view.show(tmp_path / "runs" / "two")
    ui.holdOutRadioButton.click()
    for name in ("live", "validation"):
        getattr(ui, f"{name}CollapsibleButton").collapsed = False
    assert [name for name in parts if not getattr(ui, name).isHidden()] == []
