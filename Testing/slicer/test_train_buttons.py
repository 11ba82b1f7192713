# ruff: noqa: F811 (fixtures are imported)
"""The buttons below the messages of the training module: which are offered, and that each does what it says."""

import json
from pathlib import Path

import numpy as np
import pytest
import qt
import slicer
from bed import boot, dialogs
from train_bed import CASES, REPOSITORY, engine_python, module, panel, press_start, ready, started, stub, until  # noqa: F401 (puts the library on the path)

from semiseg import protocol
from TransMedSegLib import Computer, EngineProcess

OTHER_GRID = "The mask of 'P3' has another grid (8×8×5 at 1×1×2 mm; image 8×8×10 at 1×1×1 mm). Excluded. Export the mask again with the image as reference."


def buttons(panel):
    return list(panel.notice.buttons)


def rows(tmp_path, *more):
    """Two good labeled cases and an unlabeled one, and some more lines of cases.csv."""
    good = [row.format(folder=tmp_path) for row in (CASES[0], CASES[1], CASES[3])]
    return [*good, *more]


def misplaced(tmp_path, name="P3"):
    reason = OTHER_GRID.replace("P3", name)
    return f"{name},refused (labeled),E803,{reason},{name},,,,{tmp_path}/labeled/{name}.nrrd,{tmp_path}/labeled/{name}_label.nrrd"


def checked(panel, stub, *lines, **behavior):
    stub.behave("finish", cases=list(lines), **behavior)
    panel.ui.checkButton.click()
    assert until(lambda: not panel.check.process.isRunning)


def asked(tmp_path):
    """The options of the last check."""
    return protocol.read_job(tmp_path / "runs" / "_check").options


# Files without spacing

NO_SPACING = "Spacing is missing in 'P3.nii.gz', so milliliters and millimeters would be wrong. Set the spacing in its header."


def unspaced(tmp_path, name="P3"):
    return f'{name},refused (labeled),E306,"{NO_SPACING}",{name},,,,{tmp_path}/labeled/{name}.nii.gz,{tmp_path}/labeled/{name}_label.nii.gz'


def filled_in(monkeypatch, *answers):
    """Answers the dialog; returns what it proposed and why, for each time."""
    from TransMedSegLib import SpacingDialog

    seen, left = [], list(answers)

    def execute(dialog):
        seen.append((dialog.spacing(), dialog.findChild(qt.QLabel).text))
        answer = left.pop(0)
        for box, value in zip(dialog.boxes, answer or ()):
            box.value = value
        return answer is not None

    monkeypatch.setattr(SpacingDialog.SpacingDialog, "exec_", execute)
    return seen


def test_E306_a_spacing_is_stated_for_the_files_without_one(ready, stub, tmp_path, monkeypatch):
    good = [row.replace("1 x 1 x 1", "0.7×0.9×2.5") for row in rows(tmp_path)]
    checked(ready, stub, *good, unspaced(tmp_path), unspaced(tmp_path, "P4"), misplaced(tmp_path, "P5"))
    assert ready.notice.message == f"{NO_SPACING} (Volumes without usable spacing in all: 2.) [E306]"
    assert buttons(ready) == ["Set spacing…"] and asked(tmp_path)["assumed_spacing_mm"] is None
    seen = filled_in(monkeypatch, None, (0.5, 0.6, 3.0))
    ready.notice.buttons["Set spacing…"].click()
    text = "Distance between voxel centers of 'P3', as the scanner's protocol or report states it."
    proposed = "It is taken for every file of the lists that states none. Proposed: that of P1."
    assert seen == [((0.7, 0.9, 2.5), f"{text} {proposed}")] and ready.notice.message.endswith("[E306]"), "who gives up is asked again"
    stub.behave("finish", cases=[*good, unspaced(tmp_path, "P4"), misplaced(tmp_path, "P5")])
    ready.notice.buttons["Set spacing…"].click()
    assert until(lambda: not ready.check.process.isRunning)
    assert asked(tmp_path)["assumed_spacing_mm"] == [3.0, 0.6, 0.5], "slices first"
    assert ready.ui.assumedSpacingLineEdit.text == "0.5, 0.6, 3", "the answer can be seen and changed"
    assert ready.notice.message.endswith("[E803]"), "what it does not help is not asked again; the next question is"


@pytest.mark.parametrize("text", ["1", "0.7, 0.9, thick", "1, 0, 1", "1, inf, 1"])
def test_E306_what_is_no_spacing_is_said_before_anything_starts(ready, text):
    ready.ui.assumedSpacingLineEdit.text = text
    ready.ui.assumedSpacingLineEdit.editingFinished()
    assert ready.ui.startButton.toolTip == "Write the spacing of files without one as three numbers in mm, such as 0.7, 0.9, 2.5."
    ready.ui.assumedSpacingLineEdit.text = "0.7, 0.9, 2.5"
    ready.ui.assumedSpacingLineEdit.editingFinished()
    assert ready.ui.startButton.enabled


# Masks on another grid


def test_E803_a_mask_is_resampled_when_asked(ready, stub, tmp_path):
    checked(ready, stub, *rows(tmp_path, misplaced(tmp_path)))
    assert ready.notice.message == f"{OTHER_GRID} [E803]"
    assert buttons(ready) == ["Resample mask", "Choose another mask…"]
    assert asked(tmp_path)["resample_masks"] == []
    table = ready.ui.labeledTable
    assert (table.columnSpan(0, 2), table.item(0, 2).text()) == (2, f"{OTHER_GRID} [E803]"), "a reason takes the place of a size that is not known"
    note = "Its mask was resampled to the image's grid (nearest neighbor)."
    stub.behave("finish", cases=rows(tmp_path, f"P3,labeled,,{note},P3,8×8×10,1×1×1,50.0,{tmp_path}/labeled/P3.nrrd,x"))
    ready.notice.buttons["Resample mask"].click()
    assert until(lambda: not ready.check.process.isRunning)
    assert asked(tmp_path)["resample_masks"] == [f"{tmp_path}/labeled/P3.nrrd"]
    assert ready.notice.message == "" and ready.cases.used("labeled") == 3
    assert {ready.ui.labeledTable.columnSpan(row, 2) for row in range(3)} == {1}, "where the size is known, it has its place"
    assert note in [ready.ui.labeledTable.item(row, 3).text() for row in range(3)]


def test_E803_another_mask_is_chosen(ready, stub, tmp_path):
    checked(ready, stub, *rows(tmp_path, misplaced(tmp_path)))
    ready.notice.buttons["Choose another mask…"].click()
    assert ready.notice.message.endswith("[E803]"), "who chooses none is asked again"
    dialogs.answers["getOpenFileName"] = [(str(tmp_path / "better.nrrd"), "")]
    ready.notice.buttons["Choose another mask…"].click()
    assert until(lambda: not ready.check.process.isRunning)
    assert asked(tmp_path)["masks"] == {f"{tmp_path}/labeled/P3.nrrd": str(tmp_path / "better.nrrd")}


def test_E803_several_masks_are_resampled_at_once(ready, stub, tmp_path):
    checked(ready, stub, *rows(tmp_path, misplaced(tmp_path), misplaced(tmp_path, "P4")))
    assert ready.notice.message == f"{OTHER_GRID} (Masks on another grid in all: 2.) [E803]"
    assert buttons(ready) == ["Resample 2 masks", "Choose another mask for P3…"]
    ready.notice.buttons["Resample 2 masks"].click()
    assert until(lambda: not ready.check.process.isRunning)
    assert asked(tmp_path)["resample_masks"] == [f"{tmp_path}/labeled/{name}.nrrd" for name in ("P3", "P4")]


def test_E803_is_offered_too_where_too_few_cases_are_left(ready, stub, tmp_path):
    text = "At least 2 labeled volumes are needed (4 or more recommended); 1 can be used."
    checked(ready, stub, misplaced(tmp_path), check="fail", code="E801", message=text)
    assert ready.notice.message == f"{text} [E801]"
    assert buttons(ready)[:2] == ["Resample mask", "Choose another mask…"]


# Masks with several values

NAMES = "Which value is the left atrium? Found: {values}. [E704]"


def unnamed(tmp_path, name="P3", values="1 2 420"):
    reason = f"The mask of '{name}' has values nobody named: 2 (5 voxels) and others. Named: 1 = left atrium."
    return f"{name},refused (labeled),E704,{reason},{name},,,,{tmp_path}/labeled/{name}.nrrd,{tmp_path}/labeled/{name}_label.nrrd,{values}"


def test_E704_the_value_of_the_structure_is_one_click(ready, stub, tmp_path):
    checked(ready, stub, *rows(tmp_path, unnamed(tmp_path), unnamed(tmp_path, "P4", "2 420")))
    assert ready.notice.message == "Which value is the left atrium? Found: 1 / 2 / 420. [E704]"
    assert buttons(ready) == ["1", "2", "420"]
    assert (asked(tmp_path)["labels"], asked(tmp_path)["other_values"]) == ([{"value": 1, "name": "left atrium"}], "refuse")
    stub.behave("finish", cases=rows(tmp_path))
    ready.notice.buttons["420"].click()
    assert until(lambda: not ready.check.process.isRunning)
    assert (asked(tmp_path)["labels"], asked(tmp_path)["other_values"]) == ([{"value": 420, "name": "left atrium"}], "background")
    assert (ready.ui.labelValueSpinBox.value, ready.ui.otherValuesCheckBox.checked) == (420, True), "the answer can be seen and changed"
    assert ready.notice.message == "" and ready.cases.used("labeled") == 2


def test_E704_the_answer_is_kept_in_the_scene(ready, module, stub, tmp_path):
    checked(ready, stub, *rows(tmp_path, unnamed(tmp_path)))
    ready.notice.buttons["420"].click()
    assert until(lambda: not ready.check.process.isRunning)
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    assert (ready.parameters.labelValue, ready.parameters.otherValuesAreBackground) == (1, False)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert (ready.parameters.labelValue, ready.parameters.otherValuesAreBackground) == (420, True)
    checked(ready, stub, *rows(tmp_path))
    assert (asked(tmp_path)["labels"], asked(tmp_path)["other_values"]) == ([{"value": 420, "name": "left atrium"}], "background")


def test_E704_more_than_five_values_are_a_menu(ready, stub, tmp_path):
    checked(ready, stub, *rows(tmp_path, unnamed(tmp_path, values="205 420 500 550 600 820 850")))
    assert ready.notice.message == "Which value is the left atrium? Found: 205 / 420 / 500 / 550 / 600 / 820 / 850. [E704]"
    assert buttons(ready) == ["Choose the value…"]
    ready.notice.buttons["Choose the value…"].click()
    assert ready.notice.message.endswith("[E704]") and ready.parameters.labelValue == 1, "who chooses none is asked again"
    dialogs.answers["getItem"] = ["420"]
    ready.notice.buttons["Choose the value…"].click()
    assert until(lambda: not ready.check.process.isRunning)
    assert asked(tmp_path)["labels"] == [{"value": 420, "name": "left atrium"}]


def test_E704_is_asked_instead_of_telling_that_too_few_volumes_are_left(ready, stub, tmp_path):
    text = "At least 2 labeled volumes are needed (4 or more recommended); 0 can be used."
    checked(ready, stub, unnamed(tmp_path), unnamed(tmp_path, "P4"), check="fail", code="E801", message=text)
    assert ready.notice.message == NAMES.format(values="1 / 2 / 420") and buttons(ready) == ["1", "2", "420"]


def test_E704_is_not_asked_again_for_a_mask_without_the_value_that_was_chosen(ready, stub, tmp_path):
    ready.parameters.labelValue, ready.parameters.otherValuesAreBackground = 420, True
    checked(ready, stub, *rows(tmp_path, unnamed(tmp_path, values="1 2")))
    assert ready.notice.message == "", "its row says why it is not used"
    checked(ready, stub, unnamed(tmp_path, values="1 2"))
    assert buttons(ready) == ["1", "2"], "a value that no mask has is no answer"


def write_rows(tmp_path, *lines):
    """A table of cases as engines wrote it that did not name the case which is used instead of a copy."""
    folder = tmp_path / "runs" / "_check" / "prepared"
    folder.mkdir(parents=True)
    header = "case,use,code,reason,patient,size,spacing_mm,left atrium (ml),image,mask,mask_values"
    (folder / "cases.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


# Volumes that appear twice, or look different


def test_E804_a_volume_that_appears_twice_is_named_with_the_one_that_is_used(ready, stub, tmp_path):
    reason = "U2 appears twice: same image content as P1 (labeled). It is used only there."
    line = f"U2,refused (unlabeled),E804,{reason},U2,,,,{tmp_path}/unlabeled/U2.nrrd,"
    checked(ready, stub, *rows(tmp_path, line), events=[{"kind": "warning", "code": "E804", "message": reason}])
    table = ready.ui.unlabeledTable
    assert [table.item(0, column).text() for column in (0, 1, 3)] == ["✗", "U2", f"{reason} [E804]"]
    assert ready.ui.unlabeledCollapsibleButton.text == "2  Unlabeled volumes   1 ✓  1 ✗"


def twice(tmp_path, name, kept="P1", reason="The same scan came twice."):
    return f"{name},refused (unlabeled),E804,{reason},{name},,,,{tmp_path}/unlabeled/{name}.nrrd,,,{kept}"


def test_E804_volumes_that_are_labeled_too_are_said_in_one_sentence(ready, stub, tmp_path):
    """Whatever words the engine has for it: the table names the volume that is used instead."""
    checked(ready, stub, *rows(tmp_path, twice(tmp_path, "U2")))
    assert ready.ui.checkLabel.text.splitlines()[1:] == ["1 volume is also in the labeled list; it is used as labeled only."]
    watching = CASES[0].format(folder=tmp_path).replace("P1", "P9").replace(",labeled,", ",validation,")
    others = twice(tmp_path, "U2"), twice(tmp_path, "U3", "P9"), twice(tmp_path, "U4", "U1"), twice(tmp_path, "U5", "", "Its patient is held out.")
    checked(ready, stub, *rows(tmp_path, watching, *others, misplaced(tmp_path)))
    assert ready.ui.checkLabel.text.splitlines()[1:] == ["2 volumes are also in the labeled list; they are used as labeled only."]
    assert ready.notice.message == f"{OTHER_GRID} [E803]", "the question is still asked"
    table = ready.ui.unlabeledTable
    reasons = [table.item(row, 2).text() for row in range(4)]
    assert reasons == ["The same scan came twice. [E804]"] * 3 + ["Its patient is held out. [E804]"], "the rows keep their reasons"


def test_E804_a_table_of_an_older_engine_is_still_read(ready, tmp_path):
    """It does not name the volume that is used instead; the rows have their reasons all the same."""
    write_rows(tmp_path, *rows(tmp_path, unnamed(tmp_path), twice(tmp_path, "U2").rsplit(",", 1)[0]))
    ready.check.showChecked(ready.check.mark())
    assert ready.ui.checkLabel.text == "2 labeled, 0 held out, 1 unlabeled"
    assert "The same scan came twice. [E804]" in [ready.ui.unlabeledTable.item(row, 2).text() for row in range(2)]
    assert [row.maskValues for row in ready.cases.rows if row.code == "E704"] == [(1, 2, 420)]


@pytest.mark.parametrize("choice", ["Leave them out", "Use them"])
def test_E805_volumes_that_look_different_are_left_out_or_used(ready, stub, tmp_path, choice):
    checked(ready, stub, *rows(tmp_path, CASES[4].format(folder=tmp_path)))
    assert ready.notice.message == "1 of 2 unlabeled volumes differ strongly in spacing or intensity. [E805]"
    assert buttons(ready) == ["Leave them out", "Use them"]
    ready.notice.buttons[choice].click()
    assert until(lambda: not ready.check.process.isRunning)
    assert asked(tmp_path)["different_unlabeled"] == ("leave_out" if choice == "Leave them out" else "use")
    assert ready.ui.leaveOutCheckBox.checked == (choice == "Leave them out")


# Runs that ended


def test_E207_a_run_whose_driver_stopped_is_resumed(ready, stub):
    stub.behave("crash", log="RuntimeError: CUDA error: unspecified launch failure", saved_at=3000)
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    text = "The graphics driver stopped. Your run is safe at iteration 3000. Restart the computer, then resume."
    assert ready.notice.message == f"{text} [E207]"
    assert buttons(ready) == ["Resume from iteration 3000", "Show log", "Copy for bug report"]
    assert ready.ui.stateLabel.text == "", "nothing is said of a run as if it lived"
    stub.behave("forever")
    ready.notice.buttons["Resume from iteration 3000"].click()
    assert until(lambda: ready.view.progress.done >= 3010)


def test_E807_a_run_that_waits_for_space_is_resumed(ready, stub):
    stub.behave("pause_itself")
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    assert ready.notice.message == "Disk full: the run was paused at iteration 2100. Free at least 1 GB, then resume. [E807]"
    stub.behave("finish", iterations=2200)
    ready.notice.buttons["Resume from iteration 2100"].click()
    assert until(lambda: ready.follow.process.ending is not None and ready.follow.process.ending.state.name == "Finished")


def test_E503_a_run_that_the_system_ended_is_offered_for_resuming(ready, stub):
    stub.behave("killed")
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    start = f"The system ended the program, most likely because memory ran out ({Computer.memoryGb()} GB in this computer)."
    assert ready.notice.message == f"{start} Close other programs, then try again. [E503]"


def test_E501_tells_which_program_it_is(ready, stub):
    qt.QSettings().setValue(EngineProcess.PYTHON_SETTING, "/no/such/python")
    press_start(ready)
    assert ready.notice.message == "The computing program could not be started: No such file or directory. A virus scanner may block it. [E501]"
    assert buttons(ready)[0] == "Details"
    ready.notice.buttons["Details"].click()
    assert dialogs.texts()[-1].startswith("Program: /no/such/python\nIt is not there.")


# Folders that cannot be written


def test_E809_another_folder_for_the_runs_is_chosen(ready, monkeypatch, tmp_path):
    from TransMedSegLib import TrainJob

    monkeypatch.setattr(TrainJob, "isWritable", lambda folder: False)
    press_start(ready)
    assert ready.notice.message == f"The runs folder {tmp_path / 'runs'} is not writable. Choose another one. [E809]"
    dialogs.answers["getExistingDirectory"] = [str(tmp_path / "elsewhere")]
    ready.notice.buttons["Choose folder…"].click()
    assert ready.parameters.runsFolder == tmp_path / "elsewhere"


def test_E809_a_run_that_cannot_be_resumed_is_opened_read_only(ready, stub, monkeypatch):
    stub.behave("crash", log="ZeroDivisionError: x", saved_at=70)
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    run = ready.follow.process.runDir
    monkeypatch.setattr("TransMedSegLib.Computer.isWritable", lambda folder: False)
    ready.follow.resume(run)
    assert ready.notice.message == f"The run folder {run} is not writable. It can be viewed. [E809]"
    assert buttons(ready) == ["Open read-only"]
    ready.notice.buttons["Open read-only"].click()
    assert ready.ui.runLabel.text == run.name and not ready.follow.process.isRunning


def test_E809_a_run_that_another_worker_has_is_opened_read_only(ready, stub):
    stub.behave("fail", code="E809", message="Another worker uses this folder (PC-12).", hint="Wait for it.")
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    assert ready.notice.message == "Another worker uses this folder (PC-12). Wait for it. [E809]"
    assert buttons(ready)[0] == "Open read-only"


def test_E812_a_run_is_resumed_after_the_one_that_computes(ready, stub):
    stub.behave("crash", log="ZeroDivisionError: x", saved_at=70)
    press_start(ready)
    assert until(lambda: ready.follow.process.ending is not None)
    first = ready.follow.process.runDir
    process = started(ready, stub)
    ready.follow.resume(first)
    assert ready.notice.message == "A run is already using the processor (CPU). [E812]"
    assert buttons(ready) == ["Queue", "Cancel"]
    ready.notice.buttons["Cancel"].click()
    assert ready.follow.process is process and ready.notice.message == ""


# With the real engine


@pytest.fixture
def real(tmp_path):
    """The panel with the real engine behind it."""
    if engine_python() is None:
        pytest.skip("no Python with the engine's packages: set SEMISEG_ENGINE_PYTHON or run test.sh")
    one, _widget = boot.load_module("TransMedSegTrain", REPOSITORY / "TransMedSegTrain")
    qt.QSettings().setValue(EngineProcess.PYTHON_SETTING, engine_python())
    qt.QSettings().setValue("TransMedSeg/RunsFolder", str(tmp_path / "runs"))
    representation = one.widgetRepresentation()
    representation.enter()
    yield representation.self().panel
    representation.exit()
    boot.quit_application()
    qt.QSettings().remove(EngineProcess.PYTHON_SETTING)


def test_E704_asked_and_answered_with_the_real_engine(real, tmp_path):
    """Every mask has the values 1, 2 and 420, so that none can be used before the answer."""
    from semiseg.data.files import write_volume
    from semiseg.data.geometry import Geometry
    from semiseg.data.volume import Volume

    affine = np.eye(4)
    affine[:3, :3] = affine[:3, 2::-1]  # array axes (slice, row, column) to (x, y, z)
    grid = Geometry((10, 8, 8), affine)
    (tmp_path / "labeled").mkdir()
    for index, name in enumerate(("P1", "P2")):
        image = np.random.default_rng(index).normal(100, 20, grid.shape).astype(np.float32)
        mask = np.zeros(grid.shape, np.uint16)
        mask[3:7, 2:6, 2:6], mask[0, 0, :2], mask[0, 1, :2] = 420, 1, 2
        write_volume(tmp_path / "labeled" / f"{name}.nii.gz", Volume(image, grid))
        write_volume(tmp_path / "labeled" / f"{name}_label.nii.gz", Volume(mask, grid))
    real.cases.add("labeled", [tmp_path / "labeled"])
    real.parameters.numValidation = 0
    real.ui.checkButton.click()
    assert until(lambda: not real.check.process.isRunning, 120)
    assert real.notice.message == NAMES.format(values="1 / 2 / 420") and buttons(real) == ["1", "2", "420"]
    assert real.cases.used("labeled") == 0
    real.notice.buttons["420"].click()
    assert until(lambda: not real.check.process.isRunning, 120)
    assert real.notice.message == "" and real.cases.used("labeled") == 2
    table = (tmp_path / "runs" / "_check" / "prepared" / "cases.csv").read_text(encoding="utf-8")
    assert "left atrium (ml)" in table and ",0.1," in table, "64 voxels of 1 mm³"


def test_E803_E804_in_the_words_of_the_real_engine(real, tmp_path):
    from semiseg.data.files import write_volume
    from semiseg.data.geometry import Geometry
    from semiseg.data.volume import Volume

    fine, thick = np.eye(4), np.diag([1.0, 1, 2, 1])
    for affine in (fine, thick):
        affine[:3, :3] = affine[:3, 2::-1]  # array axes (slice, row, column) to (x, y, z)
    for name in ("labeled", "unlabeled"):
        (tmp_path / name).mkdir()
    for index, name in enumerate(("P1", "P2", "P3")):
        image = np.random.default_rng(index).normal(100, 20, (10, 8, 8)).astype(np.float32)
        mask = np.zeros((10, 8, 8), np.uint8)
        mask[3:7, 2:6, 2:6] = 1
        grid = Geometry((5, 8, 8), thick) if name == "P3" else Geometry((10, 8, 8), fine)
        write_volume(tmp_path / "labeled" / f"{name}.nii.gz", Volume(image, Geometry((10, 8, 8), fine)))
        write_volume(tmp_path / "labeled" / f"{name}_label.nii.gz", Volume(mask[::2].copy() if name == "P3" else mask, grid))
        if name == "P1":
            write_volume(tmp_path / "unlabeled" / "U2.nii.gz", Volume(image, Geometry((10, 8, 8), fine)))
    real.cases.add("labeled", [tmp_path / "labeled"])
    real.cases.add("unlabeled", [tmp_path / "unlabeled"])
    real.parameters.numValidation = 0
    real.ui.checkButton.click()
    assert until(lambda: not real.check.process.isRunning, 120)
    assert real.notice.message == f"{OTHER_GRID} [E803]"
    reason = "U2 appears twice: same image content as P1 (labeled). It is used only there. [E804]"
    assert real.ui.unlabeledTable.item(0, 3).text() == reason
    assert "1 volume is also in the labeled list; it is used as labeled only." in real.ui.checkLabel.text
    real.notice.buttons["Resample mask"].click()
    assert until(lambda: not real.check.process.isRunning, 120)
    assert real.notice.message == "" and real.cases.used("labeled") == 3
    assert json.loads(real.parameters.resampledMasks) == [str(Path(tmp_path) / "labeled" / "P3.nii.gz")]


def without_spacing(path):
    """Makes a NIfTI file one whose header states neither place nor spacing."""
    content = bytearray(path.read_bytes())
    content[252:256] = bytes(4)  # qform_code, sform_code
    content[80:92] = np.ones(3, np.float32).tobytes()
    path.write_bytes(content)


def test_E306_asked_and_answered_with_the_real_engine(real, tmp_path, monkeypatch):
    from semiseg.data.files import write_volume
    from semiseg.data.geometry import Geometry
    from semiseg.data.volume import Volume

    affine = np.diag([0.7, 0.9, 2.5, 1.0])
    affine[:3, :3] = affine[:3, 2::-1]  # array axes (slice, row, column) to (x, y, z)
    grid = Geometry((10, 8, 8), affine)
    (tmp_path / "labeled").mkdir()
    for index, name in enumerate(("P1", "P2", "P3")):
        image = np.random.default_rng(index).normal(100, 20, grid.shape).astype(np.float32)
        mask = np.zeros(grid.shape, np.uint8)
        mask[3:7, 2:6, 2:6] = 1
        write_volume(tmp_path / "labeled" / f"{name}.nii", Volume(image, grid))
        write_volume(tmp_path / "labeled" / f"{name}_label.nii", Volume(mask, grid))
    for stem in ("P3", "P3_label"):
        without_spacing(tmp_path / "labeled" / f"{stem}.nii")
    real.cases.add("labeled", [tmp_path / "labeled"])
    real.parameters.numValidation = 0
    real.ui.checkButton.click()
    assert until(lambda: not real.check.process.isRunning, 120)
    assert real.notice.message == f"{NO_SPACING} [E306]".replace(".nii.gz", ".nii")
    assert [row.name for row in real.cases.rows if not row.isUsed] == ["P3"]
    seen = filled_in(monkeypatch, (0.7, 0.9, 2.5))
    real.notice.buttons["Set spacing…"].click()
    assert seen[0][0] == (0.7, 0.9, 2.5), "that of P1 is proposed"
    assert until(lambda: not real.check.process.isRunning, 120)
    assert real.notice.message == "" and all(row.isUsed for row in real.cases.rows)
    assert {row.name: row.spacing for row in real.cases.rows} == dict.fromkeys(("P1", "P2", "P3"), "0.7×0.9×2.5")
