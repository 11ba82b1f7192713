"""A box around the heart: the model sees only what is inside; the result lies on the whole image."""

import numpy as np
import pytest
import slicer
from segment_builders import Panel, ball, install_stub, make_volume
from test_segment_geometry import OBLIQUE

from TransMedSegLib import Computer, InputCheck, RegionBox, VolumeExchange

SHAPE = (12, 20, 24)


@pytest.fixture
def panel(tmp_path):
    install_stub(tmp_path, doubtful=[1])
    one = Panel()
    one.choose_model(tmp_path)
    yield one
    one.close()


def bright():
    """What the stub engine finds: two balls, one of them outside of the box."""
    return ball(SHAPE, (5, 8, 8), 4) | ball(SHAPE, (6, 14, 20), 3)


@pytest.mark.parametrize("directions", [np.eye(3), OBLIQUE[1]], ids=["straight", "turned"])
def test_the_model_sees_the_box_and_finds_nothing_outside(panel, directions):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = directions @ np.diag((1.0, 1.2, 2.0)), (-3.0, 5.0, 8.0)
    case = panel.add(make_volume("P001", SHAPE, bright(), matrix))
    panel.ui.drawRegionButton.click()
    node = RegionBox.nodeOf(case.volume)
    node.SetCenterWorld(*VolumeExchange.positionRas(case.volume, (5, 8, 8)))
    node.SetSizeWorld(9, 10, 11)
    region = RegionBox.regionOf(case.volume)
    assert region.inside.all() == (directions[0, 0] == 1.0)
    assert panel.segment_this()
    name = case.segmentation.GetSegmentation().GetNthSegmentID(0)
    wanted = region.clip(bright())
    assert 0 < np.count_nonzero(wanted) < np.count_nonzero(bright())
    assert np.array_equal(VolumeExchange.maskOf(case.segmentation, name, case.volume), wanted)
    doubt = slicer.util.arrayFromVolume(case.doubtMap)
    assert doubt.shape == SHAPE and set(np.unique(np.nonzero(doubt)[0])) == {region.box[0].start + 1}
    assert case.doubtMap.GetOrigin() == pytest.approx(case.volume.GetOrigin())
    written = slicer.util.loadVolume(str(panel.segment.run.runDir / "inputs" / "c001.nrrd"), {"show": False})
    assert slicer.util.arrayFromVolume(written).shape == region.inside.shape
    assert VolumeExchange.positionRas(written, (0, 0, 0)) == pytest.approx(
        VolumeExchange.positionRas(case.volume, [one.start for one in region.box]), abs=1e-3
    )


def test_a_box_can_be_removed_and_one_outside_of_the_image_is_ignored(panel):
    case = panel.add(make_volume("P001", SHAPE, bright()))
    assert panel.ui.regionLabel.text == "whole image" and not panel.ui.removeRegionButton.enabled
    panel.ui.drawRegionButton.click()
    assert "×" in panel.ui.regionLabel.text
    RegionBox.nodeOf(case.volume).SetCenterWorld(900, 900, 900)
    panel.desk.refresh()
    assert panel.ui.regionLabel.text.startswith("⚠") and RegionBox.sizeOf(case.volume) == SHAPE[::-1]
    panel.ui.removeRegionButton.click()
    assert panel.ui.regionLabel.text == "whole image" and RegionBox.nodeOf(case.volume) is None


def test_E310_a_box_makes_a_huge_volume_small_enough(panel, monkeypatch):
    monkeypatch.setattr(InputCheck, "_freeMemory", lambda: 24 * 12 * 20 * 24 - 1)
    panel.add(make_volume("P001", SHAPE, bright()))
    panel.ui.segmentButton.click()
    assert "[E310]" in panel.segment.notice.message
    panel.segment.notice.buttons["Draw a box around the heart"].click()
    assert panel.ui.removeRegionButton.enabled and not panel.ui.optionsCollapsibleButton.collapsed
    assert panel.segment_this() and panel.desk.current.status == "Predicted"


@pytest.mark.parametrize(("act", "code", "button"), [("killed", "E503", "Draw a box around the heart"), ("empty", "E506", "Draw a box and try again")])
def test_E503_and_E506_lead_to_the_box(panel, tmp_path, act, code, button):
    install_stub(tmp_path, act=act)
    case = panel.add(make_volume("P001", SHAPE, bright()))
    assert panel.segment_this()
    assert f"[{code}]" in panel.segment.notice.message
    panel.segment.notice.buttons[button].click()
    assert RegionBox.nodeOf(case.volume) is not None


def test_only_devices_of_this_computer_are_offered(panel):
    combo = panel.ui.deviceComboBox
    Computer.setGpus([Computer.Gpu(0, "one", 8.0, 8.0, "550", "8.9"), Computer.Gpu(1, "two", 8.0, 8.0, "550", "8.9")])
    try:
        panel.desk.refresh()
        shown = [combo.itemText(row) for row in range(combo.count) if not combo.view().isRowHidden(row)]
        assert shown == ["auto", "cpu", "cuda", "cuda:0", "cuda:1"]
    finally:
        Computer.setGpus([])
    panel.desk.refresh()
    assert [combo.itemText(row) for row in range(combo.count) if not combo.view().isRowHidden(row)] == ["auto", "cpu"]


def test_files_are_kept_where_that_is_asked(panel, tmp_path, monkeypatch):
    from TransMedSegLib import SegmentRun

    monkeypatch.setattr(SegmentRun, "autosaveFolder", lambda: tmp_path / "Autosave")
    panel.add(make_volume("P001", SHAPE, bright()))
    panel.ui.keepFilesCheckBox.checked = True
    assert panel.segment_this()
    kept = sorted(path.name for path in (tmp_path / "Results").iterdir())
    assert kept == ["P001 result.seg.nrrd", "P001 result.uncertainty.nii.gz"]
