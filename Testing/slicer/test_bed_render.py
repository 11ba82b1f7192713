"""Views and panels become pictures without a display, and show what is in the scene."""

import numpy as np
import pytest
import qt
import slicer
from bed import render

GRAY, RED, GREEN = (90, 90, 90), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


@pytest.fixture
def scene():
    """A gray block with a red segment in the half that is on the patient's right."""
    matrix = np.diag([-1.0, -1.0, 2.0, 1.0])
    array = np.full((20, 40, 40), 100, np.int16)
    array[0, 0, 0], array[0, 0, 1] = 0, 300
    volume = slicer.util.addVolumeFromArray(array, matrix, name="V")
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().AutoWindowLevelOff()
    volume.GetDisplayNode().SetWindowLevelMinMax(0, 280)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().AddEmptySegment("half", "half", RED)
    mask = np.zeros(array.shape, np.uint8)
    mask[5:15, 10:30, 5:20] = 1  # small column index = right side, because of the -1 in the matrix
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "half", volume)
    return volume, node


def _reddish(picture):
    return (picture[..., 0].astype(int) - picture[..., 1]) > 40


def test_slice_view_shows_volume_and_fill(scene):
    volume, node = scene
    node.GetDisplayNode().SetOpacity2DFill(0.5)
    picture = render.slice_view("Axial", volume, size=(200, 200))
    assert picture.shape == (200, 200, 3)
    assert abs(int(picture[100, 150, 0]) - 91) < 5 and len(set(picture[100, 150].tolist())) == 1
    # The fill must be blended with the gray of the image and not with black.
    red, green, _ = picture[100, 70].tolist()
    assert red > 150 and 30 < green < 70
    # Right of the patient is left in the picture.
    columns = np.nonzero(_reddish(picture).any(axis=0))[0]
    assert columns.max() <= 101


def test_outline_alone_leaves_the_inside(scene):
    volume, node = scene
    node.GetDisplayNode().SetVisibility2DFill(False)
    outline = render.slice_view("Axial", volume, size=(200, 200))
    node.GetDisplayNode().SetVisibility2DFill(True)
    filled = render.slice_view("Axial", volume, size=(200, 200))
    assert 50 < _reddish(outline).sum() < 0.4 * _reddish(filled).sum()
    assert not _reddish(outline)[100, 70]


def test_slice_outside_the_segment_shows_no_segment(scene):
    volume, _ = scene
    assert _reddish(render.slice_view("Axial", volume, position=(0, 0, 20), size=(100, 100))).any()
    assert not _reddish(render.slice_view("Axial", volume, position=(0, 0, 4), size=(100, 100))).any()


@pytest.mark.parametrize("orientation", ["Axial", "Sagittal", "Coronal"])
def test_orientations_have_the_right_proportions(scene, orientation):
    volume, _ = scene
    picture = render.slice_view(orientation, volume, size=(200, 200), position=(-15, -15, 20))
    rows = np.nonzero((picture.max(axis=2) > 40).any(axis=1))[0]
    assert abs((rows.max() - rows.min()) - 200) < 12  # 40 mm in both directions, so it fills the view


def test_scalar_overlay_is_blended(scene):
    volume, node = scene
    node.GetDisplayNode().SetVisibility(False)
    overlay = slicer.util.addVolumeFromArray(
        np.ones((20, 40, 40), np.float32), np.diag([-1.0, -1.0, 2.0, 1.0]), name="U"
    )
    overlay.CreateDefaultDisplayNodes()
    display = overlay.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGreen")
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 1)
    picture = render.slice_view("Axial", volume, foreground=overlay, foreground_opacity=0.5, size=(100, 100))
    red, green, blue = picture[50, 50].astype(int)
    assert green > red + 60 and green > blue + 60


def test_zoom_shows_a_smaller_part(scene):
    volume, _ = scene
    whole = _reddish(render.slice_view("Axial", volume, size=(200, 200))).sum()
    part = _reddish(render.slice_view("Axial", volume, size=(200, 200), zoom=2, position=(-12, -20, 20))).sum()
    assert part > 2 * whole


def test_three_d_view_shows_the_surface(scene):
    _, node = scene
    assert not _reddish(render.three_d_view(size=(150, 150), axes=False)).any()
    render.show_in_3d(node)
    assert _reddish(render.three_d_view(size=(150, 150), axes=False)).sum() > 500


def test_views_leave_nothing_in_the_scene(scene):
    volume, _ = scene
    before = slicer.mrmlScene.GetNumberOfNodes()
    render.slice_view("Coronal", volume, size=(50, 50))
    after_slice = slicer.mrmlScene.GetNumberOfNodes()
    render.three_d_view(size=(50, 50))
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSliceNode") == 0
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLViewNode") == 0
    assert after_slice == before


def test_panel_is_painted(tmp_path):
    label = qt.QLabel("hello")
    label.autoFillBackground = True
    palette = label.palette
    palette.setColor(qt.QPalette.Window, qt.QColor(0, 255, 0))
    label.palette = palette
    picture = render.grab(label, tmp_path / "panel.png", width=121, height=40)
    assert picture.shape == (40, 121, 3) and (tmp_path / "panel.png").exists()
    assert (picture[2, 2] == (0, 255, 0)).all() and (picture != (0, 255, 0)).any()


def test_tile_puts_pictures_side_by_side():
    small, large = np.full((2, 3, 3), 1, np.uint8), np.full((4, 5, 3), 2, np.uint8)
    whole = render.tile([[small, large], [large]], gap=1)
    assert whole.shape == (4 + 1 + 4, 5 + 1 + 5, 3)
    assert whole[0, 0, 0] == 1 and whole[0, 6, 0] == 2 and whole[5, 0, 0] == 2 and whole[3, 0, 0] == 0


def test_panel_is_painted_in_both_themes():
    pictures = {}
    for name in ("light", "dark"):
        with render.theme(name):
            pictures[name] = render.grab(qt.QLabel("hello"), width=80, height=30)
    assert pictures["light"].mean() > 180 and pictures["dark"].mean() < 100
