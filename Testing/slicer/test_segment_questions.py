# ruff: noqa: F811 (fixtures are imported)
"""What is asked about a volume before it is segmented: uneven slices, oblique axes, missing spacing, volumes unlike those of the training."""

import numpy as np
import pytest
import qt
import slicer
import vtk
from bed import boot, dialogs
from segment_builders import ball, draw, install_stub, make_volume, panel, write_model  # noqa: F401 (panel is a fixture)
from vtk.util import numpy_support

from TransMedSegLib import CaseTable, EvenGrid, InputCheck, VolumeExchange
from TransMedSegLib.SpacingDialog import proposal

SHAPE = (14, 20, 24)
TILT = np.array([[0.9, 0, 0, -30], [0, 1.1, 0.8, 12], [0, 0, 2.5, 40], [0, 0, 0, 1.0]])
STRAIGHT = np.array([[0.9, 0, 0, -30], [0, 1.1, 0, 12], [0, 0, 2.5, 40], [0, 0, 0, 1.0]])
RESAMPLED = "The model gets it resampled; the mask comes back on the original"


def said(panel):
    return panel.segment.notice.message


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def worldBall(volume, radius):
    """A ball in the world around the middle of a volume, on its voxels."""
    size = np.array(volume.GetImageData().GetDimensions()[::-1])
    middle = np.array(VolumeExchange.positionRas(volume, (size - 1) / 2))
    places = np.array([VolumeExchange.positionRas(volume, kji) for kji in np.ndindex(*size)])
    return (np.linalg.norm(places - middle, axis=1) <= radius).reshape(size)


def unevenTransform(volume, gaps):
    """A grid transform as Slicer makes it for a series whose slices are not evenly spaced: each slice moves along the stack."""
    slices = volume.GetImageData().GetDimensions()[2]
    spacing = volume.GetSpacing()[2]
    places = np.concatenate([[0.0], np.cumsum(gaps)])[:slices]
    shifts = places - spacing * np.arange(slices)
    origin = volume.GetOrigin()
    far = 200.0
    grid = vtk.vtkImageData()
    grid.SetOrigin(origin[0] - far / 2, origin[1] - far / 2, origin[2])
    grid.SetSpacing(far, far, spacing)
    grid.SetDimensions(2, 2, slices)
    grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
    array = numpy_support.vtk_to_numpy(grid.GetPointData().GetScalars()).reshape(slices, 2, 2, 3)
    array[:] = 0
    array[..., 2] = shifts[:, None, None]
    transform = vtk.vtkGridTransform() if not hasattr(slicer, "vtkOrientedGridTransform") else slicer.vtkOrientedGridTransform()
    transform.SetDisplacementGridData(grid)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "acquisition transform")
    node.SetAndObserveTransformToParent(transform)
    volume.SetAndObserveTransformNodeID(node.GetID())
    return node


def painted(volume, mask):
    """The volume with 200 inside of a mask and 50 elsewhere."""
    slicer.util.updateVolumeFromArray(volume, np.where(mask, 200, 50).astype(np.int16))
    return volume


def unevenVolume(name="P001"):
    volume = make_volume(name, SHAPE, np.zeros(SHAPE, bool), STRAIGHT)
    unevenTransform(volume, [1.5, 1.5, 1.5, 3.2, 3.2, 3.2, 1.5, 1.5, 3.2, 3.2, 1.5, 1.5, 1.5])
    return painted(volume, worldBall(volume, 8))


def tiltedVolume(name="P001"):
    volume = make_volume(name, SHAPE, np.zeros(SHAPE, bool), TILT)
    return painted(volume, worldBall(volume, 8))


def stateOf(volume):
    return (slicer.util.arrayFromVolume(volume).tobytes(), VolumeExchange.positionRas(volume, (3, 4, 5)), volume.GetTransformNodeID())


# E304, E305


@pytest.mark.parametrize(
    ("make", "text", "button"),
    [
        (unevenVolume, f"Slices of 'P001' are not evenly spaced (1.5–3.2 mm). {RESAMPLED} slices. [E304]", "Resample to 1.5 mm"),
        (tiltedVolume, f"The image axes of 'P001' are not at right angles. {RESAMPLED} voxels. [E305]", "Resample"),
    ],
    ids=["E304", "E305"],
)
def test_a_volume_is_resampled_for_the_model_and_its_mask_comes_back_on_its_own_voxels(panel, tmp_path, make, text, button):
    install_stub(tmp_path, doubtful=list(range(14)))
    volume = make()
    truth, before = worldBall(volume, 8), stateOf(volume)
    case = panel.add(volume)
    panel.desk.parameters.keepFiles = True
    panel.ui.segmentButton.click()
    assert said(panel) == text
    assert list(panel.segment.notice.buttons) == [button]
    panel.segment.notice.buttons[button].click()
    assert panel.wait() and case.status == CaseTable.PREDICTED, said(panel)
    name = case.segmentation.GetSegmentation().GetNthSegmentID(0)
    assert dice(VolumeExchange.maskOf(case.segmentation, name, volume), truth) > 0.93
    assert stateOf(volume) == before, "the original is as it was"
    own = np.array(case.doubtMap.GetImageData().GetDimensions())
    assert (own == volume.GetImageData().GetDimensions()).all()
    assert slicer.util.arrayFromVolume(case.doubtMap)[2].mean() > 0.4
    assert np.allclose(VolumeExchange.positionRas(case.doubtMap, (3, 4, 5)), VolumeExchange.positionRas(volume, (3, 4, 5)))
    kept = panel.segment.run.keep(next(iter(panel.segment.run.outcomes.values())))
    with VolumeExchange.readSegmentation(kept) as stored:
        stored.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        first = stored.GetSegmentation().GetNthSegmentID(0)
        assert dice(VolumeExchange.maskOf(stored, first, volume), truth) > 0.93, "the kept file lies on the original grid, too"


@pytest.mark.parametrize("make", [unevenVolume, tiltedVolume])
def test_what_the_model_gets_has_even_slices_right_angles_and_the_same_ball(make, tmp_path):
    volume = make()
    grid = EvenGrid.EvenGrid(volume)
    grid.write(volume, tmp_path / "c001.nrrd")
    even = slicer.util.loadVolume(str(tmp_path / "c001.nrrd"))
    assert not EvenGrid.needsEvenGrid(even) and EvenGrid.needsEvenGrid(volume)
    assert np.allclose(even.GetSpacing()[:2], np.linalg.norm(EvenGrid.axesOf(volume), axis=0)[:2])
    size = np.array(volume.GetImageData().GetDimensions()[::-1])
    middle = np.array(VolumeExchange.positionRas(volume, (size - 1) / 2))
    places = np.argwhere(slicer.util.arrayFromVolume(even) > 125)
    found = np.array([VolumeExchange.positionRas(even, kji) for kji in places])
    radii = np.linalg.norm(found - middle, axis=1)
    assert radii.max() < 8 + 2.5 and len(found) * np.prod(even.GetSpacing()) == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.1)


def test_a_box_is_resampled_alone_and_nothing_is_found_outside_of_it(panel, tmp_path):
    from TransMedSegLib import RegionBox

    case = panel.add(tiltedVolume())
    panel.ui.drawRegionButton.click()
    region = RegionBox.regionOf(case.volume)
    assert np.prod(EvenGrid.EvenGrid(case.volume, region).size) < 0.5 * np.prod(EvenGrid.EvenGrid(case.volume).size)
    panel.ui.segmentButton.click()
    panel.segment.notice.buttons["Resample"].click()
    assert panel.wait() and case.status == CaseTable.PREDICTED
    name = case.segmentation.GetSegmentation().GetNthSegmentID(0)
    mask = VolumeExchange.maskOf(case.segmentation, name, case.volume)
    assert mask.any() and not (mask & ~region.clip(np.ones(SHAPE, bool))).any()


def test_a_closed_volume_leaves_its_result_as_a_file_at_its_place_in_the_world(panel, tmp_path):
    install_stub(tmp_path, delay=0.5)
    volume = tiltedVolume()
    truth = worldBall(volume, 8)
    panel.add(volume)
    panel.ui.segmentButton.click()
    panel.segment.notice.buttons["Resample"].click()
    slicer.mrmlScene.RemoveNode(volume)
    assert panel.wait() and said(panel).endswith("[E313]")
    again = slicer.mrmlScene.AddNode(volume)
    with VolumeExchange.readSegmentation(said(panel).split("'")[1]) as stored:
        found = VolumeExchange.maskOf(stored, stored.GetSegmentation().GetNthSegmentID(0), again)
    assert dice(found, truth) > 0.9


def test_a_tilted_gantry_under_a_transform_is_no_right_angle(panel):
    """Slicer loads such a series as a straight volume under a transform that shears it."""
    volume = make_volume("P001", SHAPE, np.zeros(SHAPE, bool), STRAIGHT)
    node = unevenTransform(volume, [2.5] * 13)
    grid = node.GetTransformToParent().GetDisplacementGrid() if hasattr(node.GetTransformToParent(), "GetDisplacementGrid") else None
    array = numpy_support.vtk_to_numpy(grid.GetPointData().GetScalars()).reshape(14, 2, 2, 3)
    array[..., 1] = 0.8 * np.arange(14)[:, None, None]
    node.GetTransformToParent().Modified()
    assert InputCheck.check(volume)[0].code == "E305"


# E306


def asked(answers):
    """Fills in the three numbers and presses OK."""

    def fill(dialog):
        seen = [box.value for box in dialog.boxes]
        for box, value in zip(dialog.boxes, answers):
            box.setValue(value)
        asked.seen = seen
        return int(qt.QDialog.Accepted)

    return fill


def test_E306_the_spacing_is_set_and_can_be_taken_back(panel):
    case = panel.add(make_volume("P001", matrix=np.eye(4)))
    mask = ball((12, 20, 24), (6, 9, 12), 3)
    segmentId = draw(case, mask)
    panel.desk.review.checkNow()
    status = case.status
    panel.ui.segmentButton.click()
    missing = "Spacing is missing in 'P001', so milliliters and millimeters will be wrong. [E306]"
    assert said(panel) == missing and list(panel.segment.notice.buttons) == ["Set spacing…", "Continue"]
    dialogs.answers["QDialog"] = [asked((0.9, 1.1, 2.5))]
    panel.segment.notice.buttons["Set spacing…"].click()
    assert asked.seen == pytest.approx([0.866, 0.866, 1.2247], abs=1e-3), "proposed: what the model was trained on"
    assert said(panel) == "Spacing of 'P001' is now 0.9×1.1×2.5 mm (columns × rows × slices)."
    assert case.volume.GetSpacing() == pytest.approx((0.9, 1.1, 2.5))
    assert np.array_equal(VolumeExchange.maskOf(case.segmentation, segmentId, case.volume), mask) and case.status == status
    panel.segment.notice.buttons["Undo"].click()
    assert case.volume.GetSpacing() == (1.0, 1.0, 1.0) and said(panel) == missing
    assert np.array_equal(VolumeExchange.maskOf(case.segmentation, segmentId, case.volume), mask) and case.status == status


def test_E306_a_spacing_that_was_set_is_not_asked_about_again(panel):
    case = panel.add(make_volume("P001", matrix=np.eye(4)))
    panel.ui.segmentButton.click()
    dialogs.answers["QDialog"] = [asked((1.0, 1.0, 1.0))]
    panel.segment.notice.buttons["Set spacing…"].click()
    panel.segment.notice.buttons["Segment"].click()
    assert panel.wait() and case.status == CaseTable.PREDICTED


def test_E306_who_gives_up_is_asked_again(panel):
    case = panel.add(make_volume("P001", matrix=np.eye(4)))
    panel.ui.segmentButton.click()
    dialogs.answers["QDialog"] = [int(qt.QDialog.Rejected)]
    panel.segment.notice.buttons["Set spacing…"].click()
    assert said(panel).endswith("[E306]") and case.volume.GetSpacing() == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("own", "trained", "expected"),
    [
        ((1.0, 1.0, 1.0), (0.6, 0.6, 1.5), (0.6, 0.6, 1.5)),
        ((1.0, 1.0, 1.0), None, (1.0, 1.0, 1.0)),
        ((0.7, 0.7, 3.0), (0.6, 0.6, 1.5), (0.7, 0.7, 3.0)),
    ],
)
def test_the_proposal_keeps_what_the_file_says(own, trained, expected):
    volume = make_volume("P001")
    volume.SetSpacing(*own)
    assert proposal(volume, trained)[0] == pytest.approx(expected)


# Many cases


def batch(panel, tmp_path):
    """One case like those of the training, one too coarse (E307), one CT (E308), one without values (E309)."""
    panel.segment.models.choose(write_model(tmp_path / "model.pt", spacing_range_mm=[[0.6, 0.6, 0.6], [2.5, 1.1, 1.1]], preprocessing={"intensity": "zscore"}))
    panel.add(make_volume("P001"))
    coarse = np.diag([0.9, 1.1, 6.0, 1.0])
    coarse[:3, 3] = 5, 6, 7
    panel.add(make_volume("P002", matrix=coarse))
    ct = make_volume("P003")
    slicer.util.arrayFromVolume(ct)[0, 0, 0] = -1024
    slicer.util.arrayFromVolumeModified(ct)
    panel.add(ct)
    return panel.desk.cases()


ASKED = (
    "2 of 3 cases need a decision:\n"
    "This model was trained on 0.6–2.5 mm; 'P002' has 0.9×1.1×6 mm. Expect poor results. [E307]\n"
    "'P003' looks like CT (values from -1024); the model is for MRI. [E308]"
)


@pytest.mark.parametrize("choice", ["Continue", "Leave them out"])
def test_E307_and_E308_are_asked_about_in_a_batch_too(panel, tmp_path, choice):
    cases = batch(panel, tmp_path)
    panel.ui.segmentAllButton.click()
    assert said(panel) == ASKED and not panel.segment.isRunning, "nothing is segmented before the user has decided"
    assert list(panel.segment.notice.buttons) == ["Continue", "Leave them out", "Choose another model"]
    panel.segment.notice.buttons[choice].click()
    assert panel.wait()
    statuses = [case.status for case in cases]
    if choice == "Continue":
        assert statuses == ["Predicted"] * 3 and panel.ui.progressLabel.text == "3 cases done"
    else:
        assert statuses == ["Predicted", "ToDo", "ToDo"]
        assert panel.ui.progressLabel.text == "1 case done, 2 left out (P002, P003)"


def test_a_batch_of_which_everything_is_left_out_says_so(panel, tmp_path):
    batch(panel, tmp_path)
    panel.module.cases.refresh()
    slicer.mrmlScene.RemoveNode(panel.desk.cases()[0].volume)
    panel.desk.refresh()
    panel.ui.segmentAllButton.click()
    panel.segment.notice.buttons["Leave them out"].click()
    assert panel.ui.progressLabel.text == "0 cases done, 2 left out (P002, P003)" and not panel.segment.isRunning


def test_a_batch_names_what_it_cannot_use_and_resamples_what_it_may(panel, tmp_path):
    panel.add(tiltedVolume("P001"))
    panel.add(slicer.util.addVolumeFromArray(np.zeros((5, 6, 7), np.int16), name="P002"))
    panel.ui.segmentAllButton.click()
    assert said(panel) == f"1 of 2 cases needs a decision:\nThe image axes of 'P001' are not at right angles. {RESAMPLED} voxels. [E305]"
    assert list(panel.segment.notice.buttons) == ["Continue", "Leave them out"]
    panel.segment.notice.buttons["Continue"].click()
    assert panel.wait()
    assert said(panel) == "1 done, 1 failed (P002: E309). [E509]"


def test_a_long_list_of_questions_is_cut(panel):
    from TransMedSegLib.SegmentQuestions import _batchText

    found = {number: [InputCheck.Problem("E305", {"name": f"P{number}"})] for number in range(12)}
    lines = _batchText(found, 20).splitlines()
    assert lines[0] == "12 of 20 cases need a decision:" and len(lines) == 10 and lines[-1] == "… and 4 more"


# One undo step for each write


def test_a_batch_write_to_a_case_that_is_not_open_is_one_step_of_the_segment_editor(panel, tmp_path):
    first, second = panel.add(make_volume("P001")), panel.add(make_volume("P002", seed=1))
    panel.desk.open(first)
    panel.ui.segmentAllButton.click()
    assert panel.wait() and [case.status for case in (first, second)] == ["Predicted"] * 2
    editor = panel.ui.segmentEditor
    panel.desk.open(second)
    name = second.segmentation.GetSegmentation().GetNthSegmentID(0)
    written = VolumeExchange.maskOf(second.segmentation, name, second.volume)
    assert written.any() and second.status == CaseTable.PREDICTED and editor.currentSegmentID() == name
    button = slicer.util.findChild(editor, "UndoButton")
    assert button.enabled, "the editor's own button"
    button.click()
    panel.desk.review.checkNow()
    assert second.segmentation.GetSegmentation().GetNumberOfSegments() == 0 and second.status == CaseTable.TO_DO
    assert not button.enabled, "one step"
    editor.redo()
    panel.desk.review.checkNow()
    assert np.array_equal(VolumeExchange.maskOf(second.segmentation, name, second.volume), written)
    assert second.status == CaseTable.PREDICTED


def test_two_writes_to_a_closed_case_are_two_steps(panel, tmp_path):
    first, second = panel.add(make_volume("P001")), panel.add(make_volume("P002", seed=1))
    panel.desk.open(first)
    panel.segment.start([second])
    assert panel.wait()
    name = second.segmentation.GetSegmentation().GetNthSegmentID(0)
    before = VolumeExchange.maskOf(second.segmentation, name, second.volume)
    slicer.util.arrayFromVolume(second.volume)[6:9, 2:6, 2:6] = 200
    panel.segment.start([second])
    assert panel.wait()
    after = VolumeExchange.maskOf(second.segmentation, name, second.volume)
    assert not np.array_equal(before, after)
    panel.desk.open(second)
    assert np.array_equal(VolumeExchange.maskOf(second.segmentation, name, second.volume), after)
    panel.module.correct.undo()
    assert np.array_equal(VolumeExchange.maskOf(second.segmentation, name, second.volume), before)
    panel.module.correct.undo()
    assert second.segmentation.GetSegmentation().GetNumberOfSegments() == 0


def test_work_that_a_person_did_since_is_never_undone_with_it(panel):
    first, second = panel.add(make_volume("P001")), panel.add(make_volume("P002", seed=1))
    panel.desk.open(first)
    panel.segment.start([second])
    assert panel.wait()
    mask = ball((12, 20, 24), (6, 9, 12), 3)
    draw(second, mask)
    boot.process_events(0.0)
    panel.desk.open(second)
    assert second.status == CaseTable.EDITED
    assert not slicer.util.findChild(panel.ui.segmentEditor, "UndoButton").enabled
    name = second.segmentation.GetSegmentation().GetNthSegmentID(0)
    assert np.array_equal(VolumeExchange.maskOf(second.segmentation, name, second.volume), mask)
