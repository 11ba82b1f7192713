# ruff: noqa: F811 (fixtures are imported)
"""What the panel says of the mask that is open is of that mask: its volume, its pieces, its Dice, the warnings about it."""

import re

import numpy as np
import pytest
import slicer
from segment_builders import ball, draw, install_stub, make_volume, panel, write_model  # noqa: F401 (panel is a fixture)

from TransMedSegLib.SegmentRun import SegmentRun
from TransMedSegLib.VolumeExchange import maskOf, voxelVolumeMl

SHAPE = (12, 20, 24)


def two_pieces():
    mask = ball(SHAPE, (6, 9, 12), 4)
    mask[2, 2, 2] = True
    return mask


def volume_of(case):
    name = case.segmentation.GetSegmentation().GetNthSegmentID(0)
    return np.count_nonzero(maskOf(case.segmentation, name, case.volume)) * voxelVolumeMl(case.volume)


def shown(panel):
    return re.sub(r"\W*([\d.]+) mL.*", r"\1", panel.ui.plausibilityLabel.text)


def test_the_line_is_that_of_the_open_case(panel):
    first = panel.add(make_volume("P001", mask=two_pieces()))
    second = panel.add(make_volume("P002", mask=ball(SHAPE, (6, 9, 12), 8)))
    panel.ui.segmentAllButton.click()
    assert panel.wait()
    panel.desk.open(first)
    assert "two pieces" in panel.ui.plausibilityLabel.text and not panel.ui.removePiecesButton.isHidden()
    panel.desk.open(second)
    assert shown(panel) == f"{volume_of(second):.0f}" != f"{volume_of(first):.0f}"
    assert panel.ui.removePiecesButton.isHidden()
    panel.desk.open(first)
    panel.ui.keepPiecesButton.click()
    assert panel.ui.keepPiecesButton.isHidden() and "two pieces" in panel.ui.plausibilityLabel.text
    panel.desk.open(second)
    panel.desk.open(first)
    assert panel.ui.keepPiecesButton.isHidden(), "who has answered is not asked again"


def test_volume_and_dice_follow_what_a_person_draws(panel):
    case = panel.add(make_volume("P001"))
    assert panel.segment_this()
    before = maskOf(case.segmentation, case.segmentation.GetSegmentation().GetNthSegmentID(0), case.volume)
    assert panel.compare(case.segmentation, case.segmentation) and case.number("Dice") == 1
    draw(case, ball(SHAPE, (6, 9, 12), 3))
    panel.desk.review.checkNow()
    assert case.number("VolumeMl") == pytest.approx(volume_of(case)) and case.number("VolumeMl") < before.sum() * voxelVolumeMl(case.volume)
    assert case.number("Dice") is None and panel.ui.caseTable.item(0, 3).text() == "–"
    assert panel.ui.plausibilityLabel.text == "", "it spoke of the mask before"
    draw(case, before)
    panel.desk.review.checkNow()
    assert shown(panel) == f"{volume_of(case):.0f}"


def test_a_mask_as_large_as_before_is_another_one_too(panel):
    case = panel.add(make_volume("P001"))
    assert panel.segment_this()
    assert panel.compare(case.segmentation, case.segmentation)
    name = case.segmentation.GetSegmentation().GetNthSegmentID(0)
    draw(case, np.roll(maskOf(case.segmentation, name, case.volume), 1, axis=2))
    panel.desk.review.checkNow()
    assert case.number("Dice") is None


def test_what_was_asked_before_the_run_is_not_said_again(panel, tmp_path):
    program = install_stub(tmp_path)
    said = [f'report("warning", code="{code}", message="{name}: {code} of the engine.", hint="")' for code, name in (("E307", "c001"), ("E309", "c001"), ("E307", "c002"))]
    program.write_text(program.read_text().replace("return VERBS", "; ".join(said) + "\n    return VERBS"))
    panel.segment.models.choose(write_model(tmp_path / "model.pt", spacing_range_mm=[[0.6, 0.6, 0.6], [2.5, 1.1, 1.1]]))
    panel.add(make_volume("P001", matrix=np.diag([0.9, 1.1, 6.0, 1.0])))
    panel.add(make_volume("P002"))
    panel.ui.segmentAllButton.click()
    panel.segment.notice.buttons["Continue"].click()
    assert panel.wait()
    assert panel.segment.notice.message == "P001: E309 of the engine. [E309]\nP002: E307 of the engine. [E307]"


def test_a_run_says_that_it_starts_before_the_engine_speaks(panel, tmp_path):
    install_stub(tmp_path, act="wait")
    panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert panel.ui.progressLabel.text == "Starting…" and panel.ui.progressBar.value == 0
    panel.ui.cancelButton.click()
    assert panel.wait() and panel.ui.progressLabel.text.startswith("Cancelled after")


def test_the_case_is_named_also_before_its_first_window(panel, tmp_path, monkeypatch):
    texts, onProgress = [], SegmentRun._onProgress

    def note(run, event):
        onProgress(run, event)
        texts.append(panel.ui.progressLabel.text)

    monkeypatch.setattr(SegmentRun, "_onProgress", note)  # on a busy computer both may have been written when the window looks again
    program = install_stub(tmp_path)
    program.write_text(program.read_text().replace("case=path.stem", 'case=""'))
    panel.add(make_volume("P001"))
    panel.add(make_volume("P002"))
    panel.ui.segmentAllButton.click()
    assert panel.wait()
    assert texts == ["Case 1 of 2: P001, about 1 s left", "Case 2 of 2: P002, about 1 s left"]


def test_a_mask_that_the_user_has_already_is_measured_and_protected(panel):
    volume = make_volume("P001")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().AddEmptySegment("LA", "left atrium")
    slicer.util.updateSegmentBinaryLabelmapFromArray(ball(SHAPE, (6, 9, 12), 4).astype(np.uint8), node, "LA", volume)
    case = panel.add(volume)
    assert case.number("VolumeMl") == pytest.approx(volume_of(case))
    assert panel.ui.caseTable.item(0, 1).text() == "Edited" and panel.ui.lockLabel.text == "AI will not change this segment."
    assert panel.segment_this()
    assert np.array_equal(maskOf(node, "LA", volume), ball(SHAPE, (6, 9, 12), 4)), "the model writes beside it"
