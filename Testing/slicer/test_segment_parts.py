"""The parts of the segmentation module that need no panel: plausibility, doubt, next case, autosave, review, tables."""

import json
import math
import os

import numpy as np
import pytest
import qt
import slicer
from segment_builders import ball, draw, make_volume

from TransMedSegLib import Autosave, CaseTable, CompareTable, NextCase, Overlay, Plausibility, Review, Uncertainty
from TransMedSegLib.Compare import Scores
from TransMedSegLib.Terminology import hasTerminology, loadOurTerminology, setTerminology, structures, tagOf

SHAPE = (12, 20, 24)


# Plausibility


def test_one_piece_inside():
    seen = Plausibility.look(ball(SHAPE, (6, 9, 12), 4.2), 0.5)
    assert seen.text == f"{seen.volumeMl:.0f} mL, one connected piece, touches no image border"
    assert seen.isPlausible


def test_pieces_are_counted_with_corners_as_scipy_does():
    from scipy import ndimage

    for seed in range(20):
        mask = np.random.default_rng(seed).random((6, 7, 8)) > 0.85
        labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        sizes = sorted(np.bincount(labels.ravel())[1:].tolist(), reverse=True)
        assert list(Plausibility.look(mask, 1.0).piecesMl) == sizes
        largest = Plausibility.largestPiece(mask)
        assert largest.sum() == sizes[0] and not (largest & ~mask).any()
        assert len(np.unique(labels[largest])) == 1
    full = np.ones((4, 4, 4), bool)
    assert Plausibility.look(full, 1.0).piecesMl == (64.0,)


def test_two_pieces_and_the_border_are_said():
    mask = np.zeros(SHAPE, bool)
    mask[0:4, 5:9, 5:9], mask[8:10, 15, 15] = True, True
    seen = Plausibility.look(mask, 0.1)
    assert seen.text == "7 mL, two pieces: the smaller 0.2 mL, touches the image border"
    assert not seen.isPlausible
    mask[8:10, 18, 20] = True
    assert Plausibility.look(mask, 0.1).text == "7 mL, 3 pieces: the largest 6.4 mL, touches the image border"
    assert Plausibility.look(np.zeros(SHAPE, bool), 1.0).volumeMl == 0


# Doubt


def doubt_volume(slices):
    array = np.zeros(SHAPE, np.float32)
    for index, value in slices.items():
        array[index, 4:8, 5:9] = value
        array[index, 6, 7] = 1.0
    node = slicer.util.addVolumeFromArray(array, name="doubt")
    node.SetSpacing(1, 1, 2.5)
    node.SetOrigin(-5, 6, 7)
    return node


def test_the_slices_worth_a_look_are_the_worst_ones_and_none_beside_another():
    found = Uncertainty.doubtfulSlices(doubt_volume({2: 0.3, 3: 0.9, 4: 0.8, 9: 0.5}))
    assert [one.index for one in found] == [3, 9]
    assert found[0].position == (-5 + 7, 6 + 6, 7 + 3 * 2.5)
    assert Uncertainty.doubtfulSlices(doubt_volume({})) == []


def test_a_jump_moves_the_slice_views_there():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    node.SetLayoutName("Red")
    node.SetOrientationToAxial()
    Uncertainty.jumpTo((3.0, 4.0, 25.5))
    assert node.GetSliceOffset() == pytest.approx(25.5)
    slicer.mrmlScene.RemoveNode(node)  # it outlives a cleared scene, and other tests have views of this name


def test_the_map_lies_over_the_image_only_while_it_is_shown():
    views = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode") for _ in range(2)]
    node = doubt_volume({3: 0.9})
    Uncertainty.showMap(node)
    assert all(view.GetForegroundVolumeID() == node.GetID() and view.GetForegroundOpacity() == 0.5 for view in views)
    Uncertainty.showMap(None)
    assert all(not view.GetForegroundVolumeID() and view.GetForegroundOpacity() == 0 for view in views)


def test_the_doubt_of_a_case_is_relative_to_what_was_found():
    node = doubt_volume({3: 0.9})
    total = float(slicer.util.arrayFromVolume(node).sum())
    assert Uncertainty.caseDoubt(node, 10.0, 0.1) == pytest.approx(total * 0.1 / 10.0)
    assert Uncertainty.caseDoubt(node, 0, 0.1) == 1.0


# Next case


def case(name, doubt=None, status=CaseTable.TO_DO, scale=1.0, seed=0):
    volume = make_volume(name, seed=seed)
    array = slicer.util.arrayFromVolume(volume)
    array[:] = (array.astype(float) ** scale).astype(array.dtype)
    one = CaseTable.addCase(volume)
    one.setStatus(status)
    one.setNumber("Doubt", doubt)
    return one


def test_the_next_case_is_unsure_and_unlike_the_labeled_ones():
    labeled = case("labeled", status=CaseTable.APPROVED)
    case("same but unsure", 0.3, CaseTable.PREDICTED, seed=1)
    case("other and unsure", 0.3, CaseTable.PREDICTED, scale=1.6, seed=2)
    case("other but sure", 0.02, CaseTable.PREDICTED, scale=1.6, seed=3)
    order = NextCase.suggest(CaseTable.cases())
    assert [one.case.name for one in order] == ["other and unsure", "same but unsure", "other but sure"]
    assert order[0].reason == "The model is unsure of 30% of what it found in other and unsure, which looks " + (
        "unlike the labeled case." if order[0].distance > 1.2 else "somewhat like the labeled case."
    )
    assert labeled not in [one.case for one in order]


def test_the_reason_says_what_is_not_known():
    first = case("P1")
    assert NextCase.suggest([first])[0].reason == "P1 is the last case that nobody has checked."
    second = case("P2", 0.4, CaseTable.PREDICTED)
    reasons = {one.case.name: one.reason for one in NextCase.suggest([first, second])}
    assert reasons["P1"] == "P1 is next on the list: no case is labeled yet and the model has not seen it."
    assert reasons["P2"] == "The model is unsure of 40% of what it found in P2; no case is labeled yet."
    assert NextCase.suggest([first, second], current=first)[-1].case == first
    assert NextCase.suggest([case("P3", status=CaseTable.EDITED)]) == []


# Autosave


@pytest.fixture
def folder(tmp_path):
    qt.QSettings().setValue("TransMedSeg/AutosaveFolder", str(tmp_path / "autosave"))
    yield tmp_path / "autosave"
    qt.QSettings().remove("TransMedSeg/AutosaveFolder")


def edited(name="P001"):
    one = CaseTable.addCase(make_volume(name))
    mask = ball(SHAPE, (6, 9, 12), 3)
    draw(one, mask)
    one.setStatus(CaseTable.EDITED)
    return one, mask


def crash(folder):
    """Makes the files look as if they were left by a Slicer that is gone."""
    for path in folder.glob("*.json"):
        facts = json.loads(path.read_text()) | {"pid": 2**22 + 1}
        path.write_text(json.dumps(facts))


def test_unsaved_work_is_offered_after_a_crash_and_restored(folder):
    one, mask = edited()
    saver = Autosave.Autosave(lambda *_: pytest.fail("autosave failed"))
    saver.saveAll()
    assert Autosave.leftovers() == []  # the Slicer that wrote it is still there
    crash(folder)
    left = Autosave.leftovers()
    assert [each.case for each in left] == ["P001"]
    assert "P001" not in left[0].path.name
    one.segmentation.GetSegmentation().RemoveAllSegments()
    assert Autosave.restore(left[0], CaseTable.cases()) == one
    name = one.segmentation.GetSegmentation().GetNthSegmentID(0)
    from TransMedSegLib.VolumeExchange import maskOf

    assert np.array_equal(maskOf(one.segmentation, name, one.volume), mask)
    left[0].delete()
    assert list(folder.iterdir()) == []


def test_an_ordinary_end_leaves_no_files_and_what_did_not_change_is_not_written_again(folder):
    one, _ = edited()
    saver = Autosave.Autosave(lambda *_: pytest.fail("autosave failed"))
    assert saver.save(one)
    path = next(folder.glob("*.seg.nrrd"))
    os.utime(path, ns=(0, 0))  # two writes within one tick of the file system's clock would look like one
    before = path.stat().st_mtime_ns
    assert saver.save(one) and path.stat().st_mtime_ns == before
    draw(one, ball(SHAPE, (6, 9, 12), 2))
    assert saver.save(one) and path.stat().st_mtime_ns > before
    assert not [one for one in os.listdir(folder) if "part" in one]
    saver.forget()
    assert list(folder.iterdir()) == []


def test_what_was_approved_since_the_last_autosave_is_saved_too(folder):
    one, _mask = edited()
    one.setStatus(CaseTable.APPROVED)
    Autosave.Autosave(lambda *_: pytest.fail("autosave failed")).saveAll()
    crash(folder)
    assert [each.case for each in Autosave.leftovers()] == ["P001"]


# Review


def test_the_status_follows_what_a_person_does():
    changed = []
    review = Review.Review(lambda one: changed.append(one.status))
    one, _mask = edited()
    one.setStatus(CaseTable.TO_DO)
    review.follow()
    draw(one, ball(SHAPE, (6, 9, 12), 4))
    review.checkNow()
    segment = one.segmentation.GetSegmentation().GetNthSegment(0)
    assert one.status == CaseTable.EDITED and tagOf(segment, Review.TYPE_TAG) == "MANUAL"
    review.approve(one)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert one.status == CaseTable.APPROVED and logic.GetSegmentStatus(segment) == logic.Completed
    segment.SetName("renamed")
    review.checkNow()
    assert one.status == CaseTable.APPROVED
    one.setLabeled(True)
    draw(one, ball(SHAPE, (6, 9, 12), 2))
    review.checkNow()
    assert one.status == CaseTable.EDITED and not one.isLabeled
    one.segmentation.GetSegmentation().RemoveAllSegments()
    review.checkNow()
    assert one.status == CaseTable.TO_DO
    review.stop()


def test_an_ai_segment_is_semiautomatic_after_an_edit_and_automatic_again_after_its_undo():
    review = Review.Review()
    one, mask = edited()
    segment = one.segmentation.GetSegmentation().GetNthSegment(0)
    Review.markWritten(segment, mask, "TransMedSeg stub", "1")
    review.judge(one)
    assert (one.status, tagOf(segment, Review.TYPE_TAG), Review.isLocked(segment)) == ("Predicted", "AUTOMATIC", False)
    draw(one, ball(SHAPE, (6, 9, 12), 2))
    review.judge(one)
    assert (one.status, tagOf(segment, Review.TYPE_TAG), Review.isLocked(segment)) == ("Edited", "SEMIAUTOMATIC", True)
    Review.setLocked(segment, False)
    review.judge(one)
    assert not Review.isLocked(segment)  # nothing was drawn since the user unlocked it
    draw(one, mask)
    review.judge(one)
    assert (one.status, tagOf(segment, Review.TYPE_TAG)) == ("Predicted", "AUTOMATIC")


# Cases and terminology


def test_cases_and_what_is_known_of_them_survive_the_scene(tmp_path):
    one, _ = edited()
    one.setNumber("Dice", 0.91)
    one.setStatus(CaseTable.APPROVED)
    one.setLabeled(True)
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    assert CaseTable.cases() == []
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    (again,) = CaseTable.cases()
    assert (again.name, again.status, again.number("Dice"), again.isLabeled) == ("P001", "Approved", 0.91, True)
    assert again.segmentation.GetSegmentation().GetNumberOfSegments() == 1
    from TransMedSegLib.LabeledList import trainParameters

    assert [node.GetName() for node in trainParameters().labeledVolumes] == ["P001"]


def test_the_segmentation_lies_beside_its_volume_under_the_study():
    volume = make_volume()
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
    study = hierarchy.CreateStudyItem(patient, "Study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)
    node = CaseTable.addCase(volume).makeSegmentation()
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_a_segmentation_that_the_user_has_is_taken_along():
    volume = make_volume()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().AddEmptySegment("a", "a")
    one = CaseTable.addCase(volume)
    assert one.segmentation is node and one.status == CaseTable.EDITED


def test_files_and_folders_are_found_and_masks_are_not_cases(tmp_path):
    for name in ("a.nrrd", "b.seg.nrrd", "sub/c.nii.gz", "sub/notes.txt", ".hidden.nrrd", "dicom/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM" if name == "dicom/1" else b"x")
    files, folders = CaseTable.findFiles([tmp_path])
    assert [path.name for path in files] == ["a.nrrd", "c.nii.gz"] and folders == []
    assert CaseTable.findFiles([tmp_path / "dicom"]) == ([], [tmp_path / "dicom"])


def test_the_left_atrium_has_code_and_color_and_slicer_reads_our_list():
    assert loadOurTerminology()
    segment = slicer.vtkSegment()
    segment.SetTag("TerminologyEntry", "x~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~y~^^~^^")
    assert not hasTerminology(segment)
    setTerminology(segment, "left atrium")
    assert hasTerminology(segment)
    entry = slicer.vtkSlicerTerminologyEntry()
    assert slicer.modules.terminologies.logic().DeserializeTerminologyEntry(tagOf(segment, "TerminologyEntry"), entry)
    assert (entry.GetTypeObject().GetCodeValue(), entry.GetTypeObject().GetCodingSchemeDesignator()) == ("82471001", "SCT")
    assert {"left atrium", "pulmonary veins"} <= set(structures())


# Comparison table


def scores(name, dice, **values):
    return Scores(name, {"dice": dice, "hd95_mm": 3.25, "asd_mm": 1.1, "volume_ml": 90.0, "reference_ml": 100.0, "volume_difference_percent": -10.0, **values}, "", 5)


def test_the_table_keeps_every_digit_and_replaces_a_row_of_the_same_case():
    for name, dice in (("P1", 0.5), ("P2", 0.9), ("P3", 1 / 3), ("P1", 0.7)):
        node = CompareTable.add(scores(name, dice))
    found = CompareTable.rows(node)
    assert [(row[0], row[1]["dice"]) for row in found] == [("P1", 0.7), ("P2", 0.9), ("P3", 1 / 3)]
    assert "0.3333333333333333" in CompareTable.toCsv(node)
    assert CompareTable.toCsv(node).splitlines()[0] == "case,Dice,95HD [mm],ASD [mm],A [mL],B [mL],difference [%],worst slice,note"
    low, middle, high = np.percentile([0.7, 0.9, 1 / 3], [25, 50, 75])
    assert CompareTable.summary(node)["dice"] == f"{middle:.4f} [{low:.4f}–{high:.4f}]"


def test_an_undefined_number_is_a_dash_and_an_empty_field():
    node = CompareTable.add(scores("P1", math.nan))
    assert CompareTable.toCsv(node).splitlines()[1].startswith("P1,,3.25,")
    assert CompareTable.summary(node)["dice"] == "–"
    assert CompareTable.toText(node).splitlines()[1].startswith("P1\t–\t3.25\t")


def test_the_box_plot_is_made_of_nodes_that_the_scene_keeps(tmp_path):
    for index in range(6):
        node = CompareTable.add(scores(f"P{index}", 0.8 + index / 50))
    chart = CompareTable.plot(node)
    assert chart.GetNumberOfPlotSeriesNodes() == 5
    names = [chart.GetNthPlotSeriesNode(index).GetName() for index in range(5)]
    points = chart.GetNthPlotSeriesNode(names.index("cases")).GetTableNode()
    assert points.GetNumberOfRows() == 6
    box = chart.GetNthPlotSeriesNode(names.index("box")).GetTableNode().GetTable().GetColumnByName("y")
    low, high = np.percentile([0.8 + index / 50 for index in range(6)], [25, 75])
    assert box.GetValue(0) == pytest.approx(low) and box.GetValue(2) == pytest.approx(high)
    assert list(slicer.util.arrayFromTableColumn(points, "x")) == [1, 2, 3, 4, 5, 6], "the rows of the table"
    assert chart.GetXAxisTitle().startswith("row of the table") and chart.GetXAxisRange() == (0.0, 7.0)
    CompareTable.plot(node, "hd95_mm")
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert len(CompareTable.rows(CompareTable.find())) == 6
    chart = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    assert chart.GetNthPlotSeriesNode(0).GetTableNode() is not None


def test_a_case_without_a_number_leaves_its_row_of_the_plot_empty():
    for name, dice in (("P1", 0.8), ("P2", math.nan), ("P3", 0.9)):
        node = CompareTable.add(scores(name, dice))
    chart = CompareTable.plot(node)
    series = {chart.GetNthPlotSeriesNode(index).GetName(): chart.GetNthPlotSeriesNode(index) for index in range(5)}
    assert list(slicer.util.arrayFromTableColumn(series["cases"].GetTableNode(), "x")) == [1, 3]
    box = slicer.util.arrayFromTableColumn(series["box"].GetTableNode(), "x")
    assert (box.min(), box.max()) == (0.5, 3.5) and chart.GetTitle() == "Dice of 2 cases"


def test_errors_are_orange_where_only_A_is_and_blue_where_only_B_is():
    volume = make_volume()
    a, b = ball(SHAPE, (6, 9, 12), 4), ball(SHAPE, (6, 11, 12), 4)
    node = Overlay.showErrors(a, b, volume)
    from TransMedSegLib.VolumeExchange import maskOf

    assert np.array_equal(maskOf(node, "FalsePositive", volume), a & ~b)
    assert np.array_equal(maskOf(node, "FalseNegative", volume), b & ~a)
    assert np.allclose(node.GetSegmentation().GetSegment("FalsePositive").GetColor(), (0.902, 0.624, 0), atol=1e-3)
    assert Overlay.showErrors(b, a, volume) is node
    assert np.array_equal(maskOf(node, "FalsePositive", volume), b & ~a)
    assert Overlay.worstSlice(a, b) == int(np.count_nonzero(a ^ b, axis=(1, 2)).argmax())


def test_a_new_comparison_takes_the_earlier_one_out_of_the_views():
    nodes = [CaseTable.Case(make_volume(f"P{index}")).makeSegmentation() for index in range(3)]
    shown = lambda: [bool(node.GetDisplayNode().GetVisibility()) for node in nodes]
    nodes[2].GetDisplayNode().SetVisibility(False)
    Overlay.show(Overlay.FILL, nodes[:2], 3)
    assert shown() == [True, True, False] and nodes[0].GetDisplayNode().GetVisibility2DFill()
    Overlay.show(Overlay.OUTLINE, (nodes[0], nodes[2]), 9)
    assert shown() == [True, False, True]
    assert not nodes[0].GetDisplayNode().GetVisibility2DFill()
    assert nodes[0].GetDisplayNode().GetSliceIntersectionThickness() == 3
    Overlay.hide()
    assert shown() == [False, False, False]
