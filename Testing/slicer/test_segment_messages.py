# ruff: noqa: F811 (fixtures are imported)
"""Every message code that the segmentation module can raise, provoked as a user would, its text compared."""

import os

import numpy as np
import pytest
import qt
import slicer
from bed import boot
from segment_builders import Panel, ball, draw, install_stub, make_volume, panel  # noqa: F401 (panel is a fixture)

from TransMedSegLib import CaseTable, InputCheck, VolumeExchange
from TransMedSegLib.Review import isLocked


def check_one(volume, **options):
    """Code and text of the gravest problem of a volume."""
    problem = InputCheck.check(volume, **options)[0]
    return problem.code, problem.text


def said(panel):
    return panel.segment.notice.message


def outcome_text(panel, tmp_path, **plan):
    """What is said after a case was segmented by an engine that does as planned."""
    install_stub(tmp_path, **plan)
    panel.add(make_volume("P001"))
    assert panel.segment_this()
    return said(panel)


# Input


def test_E205_a_gpu_that_is_too_small_offers_the_cpu(panel, tmp_path):
    reason = "The GPU ran out of memory (needs about 5.1 GB, free 3.2 GB). One window of 112×112×80 at a time is still too much."
    install_stub(tmp_path, failures={"c001": {"code": "E205", "reason": reason}})
    case = panel.add(make_volume("P001"))
    panel.desk.parameters.device = "cuda:0"
    assert panel.segment_this()
    assert said(panel) == f"{reason} [E205]"
    install_stub(tmp_path)
    panel.segment.notice.buttons["Run on the CPU"].click()
    assert panel.wait() and case.status == CaseTable.PREDICTED
    assert panel.desk.parameters.device == "cpu"


def test_E301_nothing_chosen_is_said_on_the_gray_button(panel):
    assert not panel.ui.segmentButton.enabled
    assert panel.ui.segmentButton.toolTip == "Choose a volume first."
    assert check_one(None) == ("E301", "Choose a volume first.")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: make_volume("P001", (1, 20, 24), np.zeros((1, 20, 24), bool)), "a single slice"),
        (lambda: slicer.util.addVolumeFromArray(np.zeros((4, 5, 6, 3), np.uint8), name="P001", nodeClassName="vtkMRMLVectorVolumeNode"), "a color image"),
        (lambda: slicer.util.addVolumeFromArray(np.zeros((4, 5, 6, 9), np.int16), name="P001", nodeClassName="vtkMRMLVectorVolumeNode"), "a time series"),
        (lambda: slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.uint8), name="P001", nodeClassName="vtkMRMLLabelMapVolumeNode"), "a label map"),
    ],
)  # fmt: skip
def test_E302_what_is_no_3d_scalar_volume(make, kind):
    assert check_one(make()) == ("E302", f"'P001' is {kind}; a 3D scalar volume is needed.")


def moved(volume, transform):
    volume.SetAndObserveTransformNodeID(transform.GetID())
    return volume


def test_E303_a_transform_can_be_applied_or_ignored(panel):
    volume = make_volume("P001")
    panel.add(volume)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([-1.0, 1, 1, 1])))
    moved(volume, transform)
    panel.ui.segmentButton.click()
    assert said(panel) == "'P001' is moved by transform 'T'. The result would be in the wrong place. [E303]"
    assert list(panel.segment.notice.buttons) == ["Apply the transform first", "Ignore it for this run"]
    panel.segment.notice.buttons["Apply the transform first"].click()
    assert volume.GetParentTransformNode() is None
    assert panel.wait()
    assert panel.desk.current.status == CaseTable.PREDICTED


def test_E304_uneven_slices():
    import vtk

    volume = make_volume("P001", (6, 8, 8), np.zeros((6, 8, 8), bool))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "P001 acquisition transform")
    spline = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for k, shift in ((0, 0.0), (3, 2.0), (5, 0.0)):
        for i, j in ((0, 0), (7, 0), (0, 7)):
            point = VolumeExchange.positionRas(volume, (k, j, i))
            source.InsertNextPoint(point)
            target.InsertNextPoint(point[0], point[1], point[2] + shift)
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node.SetAndObserveTransformToParent(spline)
    assert check_one(moved(volume, node)) == ("E304", "Slices of 'P001' are not evenly spaced (1.8–3.1 mm). The model gets it resampled; the mask comes back on the original slices.")


def test_E305_sheared_axes():
    sheared = np.array([[1, 0, 0.4, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    assert check_one(make_volume("P001", matrix=sheared)) == ("E305", "The image axes of 'P001' are not at right angles. The model gets it resampled; the mask comes back on the original voxels.")


def test_E306_spacing_of_one_without_origin_may_be_confirmed(panel):
    panel.add(make_volume("P001", matrix=np.eye(4)))
    panel.ui.segmentButton.click()
    assert said(panel) == "Spacing is missing in 'P001', so milliliters and millimeters will be wrong. [E306]"
    panel.segment.notice.buttons["Continue"].click()
    assert panel.wait() and panel.desk.current.status == CaseTable.PREDICTED


@pytest.mark.parametrize("value", [0, np.nan])
def test_E309_no_usable_values(value):
    volume = slicer.util.addVolumeFromArray(np.full((5, 6, 7), value, np.float32), name="P001")
    assert check_one(volume) == ("E309", "'P001' contains no usable values.")


def test_E310_more_memory_than_there_is():
    text = "24×20×12 needs 0.0 GB of memory; 0.0 GB is free. Draw a box around the heart."
    assert check_one(make_volume("P001"), freeBytes=1000) == ("E310", text)


def test_E311_an_unreadable_file_is_named_and_the_others_are_added(panel, tmp_path):
    (tmp_path / "P007.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    node = make_volume("P008")
    slicer.util.exportNode(node, str(tmp_path / "P008.nrrd"))
    slicer.mrmlScene.RemoveNode(node)
    panel.module.cases.add([tmp_path / "P007.nii.gz", tmp_path / "P008.nrrd"])
    assert panel.module.cases.notice.message == "'P007.nii.gz' cannot be read (the file is 42 bytes, it looks like a placeholder). Skipped. [E311]"
    assert [case.name for case in panel.desk.cases()] == ["P008"]


def test_E313_the_result_of_a_closed_volume_is_kept_and_other_volumes_are_left_alone(panel, tmp_path):
    install_stub(tmp_path, delay=1.0)
    volume = make_volume("P001")
    panel.add(volume)
    panel.ui.segmentButton.click()
    slicer.mrmlScene.RemoveNode(volume)
    other = make_volume("P002")
    panel.add(other)
    assert panel.wait()
    kept = said(panel).split("'")[1]
    assert said(panel) == f"The volume was closed. The result is kept in '{kept}'. [E313]"
    assert kept.endswith("P001 result.seg.nrrd") and os.path.getsize(kept) > 0
    assert CaseTable.caseOf(other).segmentation is None
    panel.segment.notice.buttons["Load"].click()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


# Model


def test_E403_a_file_that_is_no_model_is_said_in_the_words_of_the_engine(panel, tmp_path):
    text = "This file is not a TransMedSeg model, or it contains code. It was not opened."
    assert outcome_text(panel, tmp_path, act="refuse", code="E403", message=text) == f"{text} [E403]"
    assert panel.ui.segmentButton.enabled


def test_E405_a_model_that_is_gone(panel, tmp_path):
    panel.add(make_volume("P001"))
    (tmp_path / "model.pt").unlink()
    panel.ui.segmentButton.click()
    assert said(panel) == f"The model folder {tmp_path} is not available. [E405]"


# Run


def test_E501_the_program_does_not_start(panel, tmp_path):
    panel.add(make_volume("P001"))
    qt.QSettings().setValue("TransMedSeg/Python", str(tmp_path / "absent"))
    assert panel.segment_this()
    assert said(panel) == "The computing program could not be started: No such file or directory. A virus scanner may block it. [E501]"
    assert panel.ui.segmentButton.enabled


def test_E502_a_crash_says_the_last_line_and_offers_the_log(panel, tmp_path):
    assert outcome_text(panel, tmp_path, act="crash") == "The program stopped with an error: RuntimeError: the stub crashes [E502]"
    assert list(panel.segment.notice.buttons) == ["Show log", "Copy for bug report"]
    panel.segment.notice.buttons["Copy for bug report"].click()
    report = qt.QApplication.clipboard().text()
    assert "the stub crashes" in report and "P001" not in report


def test_E503_killed_by_the_system(panel, tmp_path):
    from TransMedSegLib.Computer import memoryGb

    text = f"The system ended the program, most likely because memory ran out ({memoryGb()} GB in this computer). Close other programs, then try again. [E503]"
    assert outcome_text(panel, tmp_path, act="killed") == text


def test_E504_silence_can_be_waited_for_or_ended(panel, tmp_path, monkeypatch):
    monkeypatch.setattr("TransMedSegLib.EngineProcess.SILENCE_SECONDS", 0.4)
    install_stub(tmp_path, act="wait")
    panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert boot.process_events(120, until=lambda: said(panel))
    assert said(panel) == "No progress for 0 s. [E504]"
    panel.segment.notice.buttons["Stop"].click()
    assert panel.wait()


def test_E505_finished_without_a_result(panel, tmp_path):
    text = outcome_text(panel, tmp_path, act="nothing")
    assert text.startswith("The program finished but left no result. Disk full? Free: ") and text.endswith("[E505]")
    assert panel.desk.current.segmentation is None


def test_E506_nothing_found_adds_no_segment_and_offers_three_ways_on(panel, tmp_path):
    text = "No left atrium was found. Possible reasons: other modality, heart not in view, wrong orientation. [E506]"
    assert outcome_text(panel, tmp_path, act="empty", doubtful=[4]) == text
    case = panel.desk.current
    assert case.segmentation is None and case.status == CaseTable.TO_DO
    panel.segment.notice.buttons["Show doubt map"].click()
    assert panel.ui.doubtCheckBox.checked
    panel.segment._sayFailure(next(iter(panel.segment.run.outcomes.values())))
    panel.segment.notice.buttons["Segment by hand"].click()
    assert case.segmentation.GetSegmentation().GetNumberOfSegments() == 1
    assert panel.ui.segmentEditor.segmentationNode() is case.segmentation


def test_E507_cancel_is_a_status_line_and_ends_the_process_tree(panel, tmp_path):
    install_stub(tmp_path, act="wait")
    panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert boot.process_events(120, until=lambda: panel.segment.run._process.pid)
    pid = panel.segment.run._process.pid
    panel.ui.cancelButton.click()
    assert panel.wait()
    assert panel.ui.progressLabel.text.startswith("Cancelled after ") and panel.ui.progressLabel.text.endswith(" s.")
    assert said(panel) == ""
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_E509_a_batch_goes_on_after_a_failure_and_can_be_tried_again(panel, tmp_path):
    failures = {"c002": {"code": "E311", "reason": "'c002' cannot be read."}}
    install_stub(tmp_path, failures=failures)
    names = ["P001", "P007", "P019"]
    for number, name in enumerate(names):
        panel.add(make_volume(name, seed=number))
    empty = slicer.util.addVolumeFromArray(np.zeros((5, 6, 7), np.int16), name="P020")
    panel.add(empty)
    panel.ui.segmentAllButton.click()
    assert panel.wait()
    assert said(panel) == "2 done, 2 failed (P020: E309, P007: E311). [E509]"
    statuses = {case.name: case.status for case in panel.desk.cases()}
    assert statuses == {"P001": "Predicted", "P007": "ToDo", "P019": "Predicted", "P020": "ToDo"}
    panel.segment.notice.buttons["Show"].click()
    assert said(panel) == "P020: 'P020' contains no usable values. [E309]\nP007: 'P007' cannot be read. [E311]"
    panel.segment._sayBatch()
    install_stub(tmp_path)
    panel.segment.notice.buttons["Try these again"].click()
    assert panel.wait()
    assert said(panel) == "1 done, 1 failed (P020: E309). [E509]"


def test_E510_a_stranger_engine_is_stopped(panel, tmp_path):
    program = install_stub(tmp_path)
    program.write_text(program.read_text().replace('"semiseg")\n', '"other")\n'))
    panel.add(make_volume("P001"))
    assert panel.segment_this()
    assert said(panel).startswith("Another copy of the engine answered (") and said(panel).endswith("[E510]")


def test_warnings_of_the_engine_are_shown_with_the_name_of_the_case(panel, tmp_path):
    program = install_stub(tmp_path)
    extra = 'report("warning", code="E307", message="c001: This model was trained on 0.6–1.3 mm.", hint="Expect poor results.")\n    '
    program.write_text(program.read_text().replace("return VERBS", extra + "return VERBS"))
    panel.add(make_volume("P001"))
    assert panel.segment_this()
    assert said(panel) == "P001: This model was trained on 0.6–1.3 mm. Expect poor results. [E307]"


# Editing


def edited_case(panel):
    case = panel.add(make_volume("P001"))
    assert panel.segment_this()
    mask = ball((12, 20, 24), (6, 9, 12), 3)
    draw(case, mask)
    panel.desk.review.checkNow()
    return case, mask


def test_E603_an_edited_segment_is_protected_and_nothing_is_written(panel):
    case, mask = edited_case(panel)
    first = case.segmentation.GetSegmentation().GetNthSegmentID(0)
    assert case.status == CaseTable.EDITED and isLocked(case.segmentation.GetSegmentation().GetSegment(first))
    assert panel.segment_this()
    assert said(panel) == "This segment is protected because you edited it. [E603]"
    assert np.array_equal(VolumeExchange.maskOf(case.segmentation, first, case.volume), mask)
    panel.segment.notice.buttons["Write to a new segment"].click()
    assert case.segmentation.GetSegmentation().GetNumberOfSegments() == 2
    assert np.array_equal(VolumeExchange.maskOf(case.segmentation, first, case.volume), mask)


def test_E603_unlock_once_writes_and_can_be_undone(panel):
    case, mask = edited_case(panel)
    first = case.segmentation.GetSegmentation().GetNthSegmentID(0)
    assert panel.segment_this()
    panel.segment.notice.buttons["Unlock once"].click()
    assert VolumeExchange.maskOf(case.segmentation, first, case.volume).sum() > mask.sum()
    assert case.status == CaseTable.PREDICTED
    panel.module.correct.undo()
    assert np.array_equal(VolumeExchange.maskOf(case.segmentation, first, case.volume), mask)
    assert case.status == CaseTable.EDITED


@pytest.mark.parametrize("choice", ["Leave it", "Take it"])
def test_E604_the_overlap_with_another_segment_is_left_unless_taken(panel, choice):
    volume = make_volume("P001")
    case = panel.add(volume)
    node = case.makeSegmentation()
    vein = node.GetSegmentation().AddEmptySegment("vein", "Pulmonary vein")
    other = np.zeros((12, 20, 24), bool)
    other[4:8, 7:11, 12:20] = True
    VolumeExchange.writeMask(node, vein, other, volume)
    full = ball((12, 20, 24), (6, 9, 12), 4.5)
    shared = VolumeExchange.voxelVolumeMl(volume) * np.count_nonzero(full & other)
    assert panel.segment_this()
    assert said(panel) == f"The new area overlaps 'Pulmonary vein' ({shared:.1f} mL). [E604]"
    panel.segment.notice.buttons[choice].click()
    mine = next(one for one in (node.GetSegmentation().GetNthSegmentID(i) for i in range(2)) if one != vein)
    wanted = (full & ~other, other) if choice == "Leave it" else (full, other & ~full)
    assert np.array_equal(VolumeExchange.maskOf(node, mine, volume), wanted[0])
    assert np.array_equal(VolumeExchange.maskOf(node, vein, volume), wanted[1])


def test_E605_nothing_to_undo(panel):
    panel.add(make_volume("P001"))
    panel.module.correct.undo()
    assert panel.module.correct.notice.message == "Nothing to undo (10 steps are kept). [E605]"


def test_E606_an_autosave_folder_that_cannot_be_written(panel, tmp_path):
    from bed import dialogs

    (tmp_path / "file").write_text("in the way")
    blocked = tmp_path / "file" / "autosave"
    qt.QSettings().setValue("TransMedSeg/AutosaveFolder", str(blocked))
    try:
        edited_case(panel)
        panel.desk.autosave.saveAll()
        assert panel.module.notice.message == f"Autosave could not write to {blocked}; your edits are only in memory. [E606]"
        dialogs.answers["getExistingDirectory"] = [str(tmp_path / "good")]
        panel.module.notice.buttons["Choose folder…"].click()
        assert len(list((tmp_path / "good").glob("*.seg.nrrd"))) == 1
    finally:
        qt.QSettings().remove("TransMedSeg/AutosaveFolder")


# Comparing


def label_map(values, volume, name="truth"):
    node = slicer.util.addVolumeFromArray(values.astype(np.int16), name=name, nodeClassName="vtkMRMLLabelMapVolumeNode")
    node.CopyOrientation(volume)
    return node


def predicted_case(panel):
    case = panel.add(make_volume("P001"))
    assert panel.segment_this()
    return case


def test_E701_another_grid_is_resampled_and_said(panel):
    case = predicted_case(panel)
    coarse = make_volume("coarse", (6, 10, 12), ball((6, 10, 12), (3, 4.5, 6), 2.3), np.array([[1.8, 0, 0, -30], [0, 2.2, 0, 12], [0, 0, 5.0, 40], [0, 0, 0, 1.0]]))
    truth = label_map(slicer.util.arrayFromVolume(coarse) > 100, coarse)
    assert panel.compare(case.segmentation, truth)
    assert panel.module.compare.notice.message == "B was resampled to A's grid for comparison (nearest neighbor). [E701]"
    assert case.number("Dice") is not None


def test_E702_masks_in_different_places_get_no_numbers(panel):
    case = predicted_case(panel)
    truth = label_map(np.ones((12, 20, 24)), case.volume)
    matrix = np.eye(4)
    matrix[0, 3] = 300
    truth.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix @ slicer.util.arrayFromVTKMatrix(_matrix(case.volume))))
    assert panel.compare(case.segmentation, truth)
    assert panel.module.compare.notice.message == "A and B lie in different places (centers 300 mm apart). No numbers are shown. [E702]"
    assert panel.ui.scoreTable.rowCount == 0


def _matrix(volume):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def test_E703_two_empty_masks_have_no_dice(panel):
    volume = make_volume("P001")
    a, b = label_map(np.zeros((12, 20, 24)), volume, "a"), label_map(np.zeros((12, 20, 24)), volume, "b")
    panel.add(volume)
    assert panel.compare(a, b)
    assert panel.module.compare.notice.message == "Both masks are empty. [E703]"
    assert panel.ui.scoreTable.item(0, 1).text() == "–"
    assert panel.ui.scoreTable.item(0, 1).toolTip() == "Both masks are empty."


def test_what_dice_is_computed_on_is_said_beside_the_table(panel):
    text = "Dice is computed on the original grid, that of A. Pulmonary veins, appendage and mitral plane are cut where the labels of the model cut them."
    assert panel.ui.definitionLabel.text == text


def test_E704_several_values_have_to_be_chosen_from(panel):
    case = predicted_case(panel)
    values = np.where(ball((12, 20, 24), (6, 9, 12), 4.5), 420, 0)
    values[0, 0, :2] = 1, 2
    assert panel.compare(case.segmentation, label_map(values, case.volume))
    assert panel.module.compare.notice.message == "Which value is the left atrium? Found: 1 / 2 / 420. [E704]"
    panel.ui.bPartComboBox.setCurrentIndex(panel.ui.bPartComboBox.findData("420"))
    assert panel.compare(case.segmentation, panel.ui.bSelector.currentNode())
    assert case.number("Dice") == 1.0
