# ruff: noqa: F811 (fixtures are imported)
"""Prompts: a mark of the user changes the mask around it, in any orientation, as one undo step with its mark."""

import time

import numpy as np
import pytest
import slicer
import vtk
from bed import boot
from segment_builders import Panel, ball, draw, install_stub, make_volume, panel  # noqa: F401 (panel is a fixture)
from test_segment_geometry import OBLIQUE, orientations

from TransMedSegLib import CaseTable, PromptEdit, PromptMarks, Review, VolumeExchange
from TransMedSegLib.PromptEdit import Ground
from TransMedSegLib.PromptMarks import POINT, STROKE, Mark
from TransMedSegLib.Terminology import tagOf

SHAPE, CENTER, RADIUS = (40, 44, 48), (20, 22, 24), 11.0
PIECE = (20, 22, 33)
"""Middle of what the tests cut off or add."""


def heart(shape=SHAPE, spacing=(1.0, 1.0, 1.0)):
    """A bright ball in noise, and its mask [slice, row, column]; spacing of columns, rows, slices."""
    mask = ball(shape, CENTER, RADIUS, spacing)
    image = np.random.default_rng(1).normal(50, 12, shape)
    image[mask] += 70
    return image.astype(np.float32), mask


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


# The change itself


def test_one_click_brings_back_most_of_what_is_missing():
    image, mask = heart()
    missing = mask & ball(SHAPE, PIECE, 6)
    cut = mask & ~missing
    new = PromptEdit.correct(Ground(image, cut, (1.0, 1.0, 1.0)), [PIECE], True)
    assert not (cut & ~new).any(), "a prompt that adds took something away"
    assert np.count_nonzero(new & missing) > 0.8 * np.count_nonzero(missing)
    assert dice(new, mask) > 0.98 > dice(cut, mask)


def test_one_click_takes_most_of_a_leak_away():
    image, mask = heart()
    leak = ball(SHAPE, (20, 22, 38), 6) & ~mask
    full = mask | leak
    new = PromptEdit.correct(Ground(image, full, (1.0, 1.0, 1.0)), [(20, 22, 40)], False)
    assert not (new & ~full).any(), "a prompt that removes added something"
    assert np.count_nonzero(new & leak) < 0.2 * np.count_nonzero(leak)
    assert dice(new, mask) > 0.98 > dice(full, mask)


def test_nothing_changes_out_of_reach_and_nothing_where_the_mask_agrees():
    image, mask = heart()
    cut = mask & ~ball(SHAPE, PIECE, 6)
    ground = Ground(image, cut, (1.0, 1.0, 1.0))
    new = PromptEdit.correct(ground, [PIECE], True, reachMm=5.0)
    assert (new != cut).any() and not ((new != cut) & ~ball(SHAPE, PIECE, 5.01)).any()
    assert np.array_equal(PromptEdit.correct(ground, [CENTER], True), cut)
    assert np.array_equal(PromptEdit.correct(ground, [(0, 0, 0)], False), cut)
    assert np.array_equal(PromptEdit.correct(ground, [(-1, 3, 99)], True), cut)


def test_fine_voxels_are_worked_on_in_groups_and_thick_slices_as_they_are():
    shape, spacing = (16, 96, 96), (0.5, 0.5, 3.0)
    mask = ball(shape, (8, 48, 48), 14, spacing)
    image = np.where(mask, 120, 50) + np.random.default_rng(2).normal(0, 12, shape)
    missing = mask & ball(shape, (8, 48, 68), 6, spacing)
    new = PromptEdit.correct(Ground(image, mask & ~missing, spacing[::-1]), [(8, 48, 68)], True)
    assert np.count_nonzero(new & missing) > 0.8 * np.count_nonzero(missing)
    assert dice(new, mask) > 0.97


def test_doubt_widens_a_change_to_where_the_model_was_as_unsure():
    """In an image that says nothing, the map of doubt is what tells how far the change goes."""
    _image, mask = heart()
    missing = mask & ball(SHAPE, PIECE, 6)
    doubt = np.where(missing, 0.9, 0.02).astype(np.float32)
    flat = np.full(SHAPE, 7.0)
    without = PromptEdit.correct(Ground(flat, mask & ~missing, (1.0,) * 3), [PIECE], True)
    with_ = PromptEdit.correct(Ground(flat, mask & ~missing, (1.0,) * 3, doubt), [PIECE], True)
    assert dice(with_, mask) > dice(without, mask) + 0.01


def test_not_a_number_in_the_image_does_no_harm():
    image, mask = heart()
    image[:, :, :10] = np.nan
    new = PromptEdit.correct(Ground(image, mask & ~ball(SHAPE, PIECE, 6), (1.0,) * 3), [PIECE], True)
    assert dice(new, mask) > 0.98


def test_a_stroke_reaches_along_its_whole_length():
    image, mask = heart()
    missing = mask.copy()
    missing[:, :, :25] = False
    stroke = [(20, row, 29) for row in range(15, 30)]
    new = PromptEdit.correct(Ground(image, mask & ~missing, (1.0,) * 3), stroke, True, PromptEdit.STROKE_REACH_MM)
    assert np.count_nonzero(new & missing) > 0.8 * np.count_nonzero(missing)


def test_a_box_takes_away_what_is_outside_and_seeks_where_nothing_is_drawn():
    image, mask = heart()
    stray = mask | ball(SHAPE, (20, 4, 4), 3)
    box = (slice(6, 34), slice(8, 36), slice(10, 38))
    inside = np.ones((28, 28, 28), bool)
    assert np.array_equal(PromptEdit.restrict(Ground(image, stray, (1.0,) * 3), box, inside), mask)
    found = PromptEdit.restrict(Ground(image, np.zeros(SHAPE, bool), (1.0,) * 3), box, inside)
    assert dice(found, mask) > 0.85


def test_a_click_in_a_large_volume_takes_less_than_a_second():
    part, shape = (slice(4, 84), slice(160, 240), slice(160, 240)), (88, 400, 400)
    mask, cut = np.zeros(shape, bool), np.zeros(shape, bool)
    mask[part] = ball((80, 80, 80), (40, 40, 40), 22, (0.625,) * 3)
    cut[part] = mask[part] & ~ball((80, 80, 80), (40, 40, 70), 8, (0.625,) * 3)
    image = mask.astype(np.float32)
    seconds = []
    for _try in range(3):
        begin = time.process_time()
        PromptEdit.correct(Ground(image, cut, (0.625,) * 3), [(44, 200, 230)], True)
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 1.0


# Marks


def test_marks_survive_as_text_and_nonsense_is_left_out():
    marks = [Mark(POINT, True, ((1.0, -2.5, 3.125),)), Mark(STROKE, False, ((0.0, 0.0, 0.0), (4.0, 5.0, 6.0)))]
    segment = slicer.vtkSegment()
    PromptMarks.setMarks(segment, marks)
    assert PromptMarks.marksOf(segment) == marks
    segment.SetTag(PromptMarks.PROMPTS_TAG, f"{marks[0].text};+ box 1 2 3;* point 1 2 3;what")
    assert PromptMarks.marksOf(segment) == marks[:1]


@pytest.mark.parametrize("directions", [*list(orientations())[::7], *OBLIQUE])
def test_marks_find_their_voxels_in_every_orientation(directions):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = directions @ np.diag((0.7, 1.1, 2.3)), (-31.25, 14.5, 77.125)
    volume = make_volume(shape=(12, 20, 24), matrix=matrix)
    start, end = (5, 6, 7), (5, 13, 7)
    points = tuple(VolumeExchange.positionRas(volume, one) for one in (start, end))
    assert PromptMarks.voxelsOf(Mark(POINT, True, points[:1]), volume).tolist() == [list(start)]
    stroke = PromptMarks.voxelsOf(Mark(STROKE, True, points), volume)
    assert stroke.tolist() == [[5, row, 7] for row in range(6, 14)]
    axes = matrix[:3, :3].T * np.array((2.2, 3.2, 1.2))[:, None]
    box, inside = PromptMarks.insideOf(VolumeExchange.positionRas(volume, (6, 10, 12)), axes, volume)
    assert box == (slice(5, 8), slice(7, 14), slice(10, 15)) and inside.all()
    assert len(PromptMarks.voxelsOf(Mark(POINT, True, (VolumeExchange.positionRas(volume, (5, 6, 40)),)), volume)) == 0


def test_marks_of_a_moved_volume_are_found_where_it_is_shown():
    volume = make_volume(shape=(12, 20, 24))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = OBLIQUE[1], (5, 6, 7)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    point = VolumeExchange.positionRas(volume, (3, 4, 5))
    assert PromptMarks.voxelsOf(Mark(POINT, True, (point,)), volume).tolist() == [[3, 4, 5]]


# In the panel


def scene(panel, matrix=None, cut=True):
    """A case with the mask of a model from which a piece is missing. Returns case, the whole mask, and its segment's ID."""
    image, mask = heart()
    volume = slicer.util.addVolumeFromArray(image, name="P001")
    matrix = np.diag((1.0, 1.0, 1.0, 1.0)) if matrix is None else matrix
    matrix[:3, 3] = (-20, 10, 30)
    volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    case = panel.add(volume)
    node = case.makeSegmentation()
    name = node.GetSegmentation().AddEmptySegment("", "Left atrium (AI)")
    drawn = mask & ~ball(SHAPE, PIECE, 6) if cut else mask
    VolumeExchange.writeMask(node, name, drawn, volume)
    Review.markWritten(node.GetSegmentation().GetSegment(name), drawn, "A model")
    case.setStatus(CaseTable.PREDICTED)
    panel.desk.open(case)
    return case, mask, name


def place(panel, *points, size=None):
    """The user clicks in a view: markup events and the end of the placement as Slicer sends them."""
    application = slicer.app.applicationLogic()
    interaction = application.GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    node = slicer.mrmlScene.GetNodeByID(application.GetSelectionNode().GetActivePlaceNodeID())
    if size is not None:
        node.SetCenterWorld(*points[0])
        node.SetSizeWorld(*size)
    else:
        for point in points:
            node.AddControlPointWorld(vtk.vtkVector3d(*point))
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    boot.process_events(0.02)


def mask_of(case, name):
    return VolumeExchange.maskOf(case.segmentation, name, case.volume)


def row(panel):
    return panel.module.correct.promptRow


@pytest.mark.parametrize("directions", [np.eye(3), list(orientations())[13], OBLIQUE[1]], ids=["axial", "turned", "oblique"])
def test_a_click_is_one_undo_step_of_mask_and_mark(panel, directions):
    matrix = np.eye(4)
    matrix[:3, :3] = directions
    case, mask, name = scene(panel, matrix)
    before = mask_of(case, name)
    assert not panel.ui.undoButton.enabled
    panel.ui.addPointButton.click()
    assert panel.ui.addPointButton.checked and "Click" in panel.ui.promptLabel.text
    place(panel, VolumeExchange.positionRas(case.volume, PIECE))
    segment = case.segmentation.GetSegmentation().GetSegment(name)
    assert dice(mask_of(case, name), mask) > 0.98 > dice(before, mask)
    assert tagOf(segment, Review.TYPE_TAG) == Review.SEMIAUTOMATIC and case.status == CaseTable.EDITED
    assert len(PromptMarks.shownMarks()) == 1 and panel.ui.addPointButton.checked
    assert " mL in " in panel.ui.promptLabel.text
    panel.ui.undoButton.click()
    assert np.array_equal(mask_of(case, name), before)
    assert PromptMarks.shownMarks() == [] and case.status == CaseTable.PREDICTED
    assert tagOf(segment, Review.TYPE_TAG) == Review.AUTOMATIC and not Review.isLocked(segment)
    panel.ui.segmentEditor.redo()
    panel.module.correct.refresh()
    assert dice(mask_of(case, name), mask) > 0.98 and len(PromptMarks.shownMarks()) == 1


def test_several_prompts_are_several_steps_and_need_no_permission(panel):
    case, _, name = scene(panel)
    row(panel).add()
    place(panel, VolumeExchange.positionRas(case.volume, PIECE))
    once = mask_of(case, name)
    row(panel).remove()
    place(panel, VolumeExchange.positionRas(case.volume, (12, 22, 24)))
    assert np.count_nonzero(mask_of(case, name)) < np.count_nonzero(once)
    assert panel.module.correct.notice.message == ""
    assert sorted(text[0] for text in PromptMarks.shownMarks()) == ["+", "-"]
    panel.module.correct.undo()
    assert np.array_equal(mask_of(case, name), once) and len(PromptMarks.shownMarks()) == 1
    # The model may not overwrite what the prompts have made.
    assert Review.isLocked(case.segmentation.GetSegmentation().GetSegment(name))


def test_a_scribble_and_a_box_are_placed_and_the_box_tool_is_put_away(panel):
    case, mask, name = scene(panel)
    panel.ui.addScribbleButton.click()
    place(panel, *(VolumeExchange.positionRas(case.volume, (20, r, 32)) for r in (20, 24)))
    assert dice(mask_of(case, name), mask) > 0.98
    panel.ui.boxButton.click()
    assert panel.ui.boxButton.checked and not panel.ui.addScribbleButton.checked
    place(panel, VolumeExchange.positionRas(case.volume, CENTER), size=(12, 12, 12))
    now = mask_of(case, name)
    assert np.array_equal(np.argwhere(now).min(axis=0), np.array(CENTER) - 6)
    assert not panel.ui.boxButton.checked
    assert sorted(text.split()[1] for text in PromptMarks.shownMarks()) == ["box", "stroke"]
    panel.module.correct.undo()
    assert dice(mask_of(case, name), mask) > 0.98


def test_clear_forgets_the_marks_and_keeps_the_mask(panel):
    case, _mask, name = scene(panel)
    assert not panel.ui.clearPromptsButton.enabled and panel.ui.clearPromptsButton.toolTip == "There are no marks"
    row(panel).add()
    place(panel, VolumeExchange.positionRas(case.volume, PIECE))
    now = mask_of(case, name)
    panel.ui.clearPromptsButton.click()
    assert PromptMarks.shownMarks() == [] and np.array_equal(mask_of(case, name), now)
    panel.module.correct.undo()
    assert len(PromptMarks.shownMarks()) == 1 and np.array_equal(mask_of(case, name), now)
    assert panel.module.correct.notice.message == ""


def test_ending_a_placement_without_a_mark_puts_the_tool_away(panel):
    scene(panel)
    panel.ui.addPointButton.click()
    place(panel)
    assert row(panel).prompts.tool is None and not panel.ui.addPointButton.checked
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsNode") == []


def test_leaving_the_module_or_the_scene_puts_the_tool_away(panel):
    scene(panel)
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    row(panel).add()
    panel.representation.exit()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsNode") == []
    panel.representation.enter()
    row(panel).add()
    slicer.mrmlScene.Clear()
    boot.process_events(0.05)
    assert row(panel).prompts.tool is None


def test_the_keys_take_and_put_away_the_tools(panel):
    from bed import user

    scene(panel)
    user.press(panel.widget.parent, "A")
    assert row(panel).prompts.tool == (POINT, True)
    user.press(panel.widget.parent, "X")
    assert row(panel).prompts.tool == (POINT, False)
    user.press(panel.widget.parent, "X")
    assert row(panel).prompts.tool is None


def test_marks_come_back_with_the_scene(panel, tmp_path):
    case, _mask, _name = scene(panel)
    row(panel).add()
    place(panel, VolumeExchange.positionRas(case.volume, PIECE))
    shown = PromptMarks.shownMarks()
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(path))
    boot.process_events(0.1)
    assert len(shown) == 1 and PromptMarks.shownMarks() == shown


# Messages


def test_E601_a_point_outside_of_the_image_or_in_a_3D_view_is_ignored(panel):
    case, _mask, name = scene(panel)
    before = mask_of(case, name)
    row(panel).add()
    place(panel, (500.0, 0.0, 0.0))
    assert panel.ui.promptLabel.text.startswith("That point is outside the image. [E601]")
    assert panel.ui.addPointButton.checked and not panel.ui.undoButton.enabled
    row(panel).prompts.say("")
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    inside = VolumeExchange.positionRas(case.volume, PIECE)
    crosshair.SetCursorPositionRAS(inside)  # over a 3-D view: a position, but no slice
    place(panel, inside)
    crosshair.SetCursorPositionInvalid()
    assert panel.ui.promptLabel.text.startswith("That point is outside the image. [E601]")
    assert np.array_equal(mask_of(case, name), before) and PromptMarks.shownMarks() == []


def test_E602_without_a_segment_the_left_atrium_is_made_in_the_same_step(panel):
    image, _ = heart()
    volume = slicer.util.addVolumeFromArray(image, name="P001")
    volume.SetOrigin(1, 2, 3)
    case = panel.add(volume)
    row(panel).add()
    place(panel, VolumeExchange.positionRas(volume, CENTER))
    segmentation = case.segmentation.GetSegmentation()
    segment = segmentation.GetNthSegment(0)
    assert segment.GetName() == "Left atrium" and panel.module.correct.notice.message == ""
    assert mask_of(case, segmentation.GetNthSegmentID(0)).sum() > 50
    assert tagOf(segment, Review.TYPE_TAG) == Review.SEMIAUTOMATIC
    panel.module.correct.undo()
    assert segmentation.GetNumberOfSegments() == 0 and PromptMarks.shownMarks() == []


@pytest.mark.parametrize("choice", ["Unlock once", "Write to a new segment"])
def test_E603_what_a_person_has_drawn_is_changed_only_with_permission(panel, choice):
    case, mask, name = scene(panel)
    by_hand = mask & ~ball(SHAPE, PIECE, 5)
    draw(case, by_hand)
    panel.desk.review.checkNow()
    row(panel).add()
    place(panel, VolumeExchange.positionRas(case.volume, PIECE))
    notice = panel.module.correct.notice
    assert notice.message == "This segment is protected because you edited it. [E603]"
    assert np.array_equal(mask_of(case, name), by_hand) and not panel.ui.addPointButton.checked
    notice.buttons[choice].click()
    segmentation = case.segmentation.GetSegmentation()
    changed = name if choice == "Unlock once" else segmentation.GetNthSegmentID(1)
    assert segmentation.GetNumberOfSegments() == (1 if choice == "Unlock once" else 2)
    assert dice(mask_of(case, changed), mask) > 0.98
    if choice != "Unlock once":
        assert np.array_equal(mask_of(case, name), by_hand)
        assert segmentation.GetNthSegment(1).GetName() == "Left atrium (AI) (corrected)"
    row(panel).add()  # the next prompt is not asked about again
    place(panel, VolumeExchange.positionRas(case.volume, (20, 33, 24)))
    assert notice.message == ""


@pytest.mark.parametrize("choice", ["Leave it", "Take it"])
def test_E604_what_another_segment_holds_is_left_to_it_unless_taken(panel, choice):
    case, mask, name = scene(panel)
    segmentation = case.segmentation.GetSegmentation()
    vein = segmentation.AddEmptySegment("vein", "Pulmonary vein")
    other = ball(SHAPE, PIECE, 3)
    VolumeExchange.writeMask(case.segmentation, vein, other, case.volume)
    panel.ui.segmentEditor.setCurrentSegmentID(name)
    row(panel).add()
    place(panel, VolumeExchange.positionRas(case.volume, PIECE))
    shared = mask_of(case, vein)
    assert np.array_equal(shared, other) and not (mask_of(case, name) & other).any()
    notice = panel.module.correct.notice
    assert notice.message.startswith("The new area overlaps 'Pulmonary vein' (0.1 mL). [E604]")
    notice.buttons[choice].click()
    if choice == "Leave it":
        assert np.array_equal(mask_of(case, vein), other)
    else:
        assert not (mask_of(case, vein) & mask_of(case, name)).any()
        assert dice(mask_of(case, name), mask) > 0.98


def test_E605_undo_is_gray_where_there_is_nothing_to_undo(panel):
    scene(panel)
    assert not panel.ui.undoButton.enabled
    assert panel.ui.undoButton.toolTip == "Nothing to undo (10 steps are kept)."
