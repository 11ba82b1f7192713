# ruff: noqa: F811 (fixtures are imported)
"""The worst validation case in the slice views: there on request, gone without a trace."""

import numpy as np
import pytest
import slicer
from bed import boot, views
from train_bed import module, panel, ready, stub, until  # noqa: F401 (fixtures)

from TransMedSegLib.VolumeExchange import writeSegmentation, writeVolume


def scene():
    """Every node but those the views keep for themselves."""
    nodes = slicer.util.getNodesByClass("vtkMRMLNode")
    return sorted(node.GetID() for node in nodes if node.IsA("vtkMRMLDisplayableNode") or node.IsA("vtkMRMLStorageNode") or node.IsA("vtkMRMLDisplayNode"))


@pytest.fixture
def event(tmp_path):
    """What the engine says of a validation, with its files."""
    folder = tmp_path / "preview"
    folder.mkdir()
    volume = slicer.util.addVolumeFromArray(np.arange(6 * 7 * 8, dtype=np.float32).reshape(6, 7, 8))
    volume.SetSpacing(1.0, 1.1, 2.0)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    mask = np.zeros((6, 7, 8), np.uint8)
    mask[2:4, 2:5, 3:6] = 1
    segmentation.GetSegmentation().AddEmptySegment("1", "agreement")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, "1", volume)
    writeVolume(volume, folder / "P4.nrrd")
    writeSegmentation(segmentation, folder / "comparison.seg.nrrd", volume)
    slicer.mrmlScene.Clear()
    return {
        "kind": "preview", "path": "", "image": str(folder / "P4.nrrd"), "labels": str(folder / "comparison.seg.nrrd"),
        "position_mm": [-4.0, -3.3, 6.0], "step": 500, "case": "P4", "slice": 3, "dice": 0.8,
    }  # fmt: skip


@pytest.fixture
def shown(ready, event):
    """A panel that heard of a preview, and views that show another volume."""
    views.open_slice_views()
    other = slicer.util.addVolumeFromArray(np.zeros((4, 4, 4), np.int16), name="mine")
    slicer.util.setSliceViewerLayers(background=other)
    ready.before = (scene(), other.GetID())
    ready.view.hear([event])
    assert not ready.ui.overlayButton.isHidden() and scene() == ready.before[0], "nothing happens before the button is pressed"
    ready.ui.overlayButton.checked = True
    return ready


def background():
    return slicer.util.getNode("vtkMRMLSliceCompositeNodeRed").GetBackgroundVolumeID()


def assert_gone(panel):
    assert scene() == panel.before[0] and background() == panel.before[1]
    assert not panel.ui.overlayButton.checked


def test_overlay_lies_over_its_volume_at_the_worst_slice(shown):
    image = slicer.mrmlScene.GetNodeByID(background())
    assert image.GetName() == "P4: validation"
    segmentation = slicer.util.getNode("P4: worst slice")
    assert segmentation.GetDisplayNode().GetVisibility() and segmentation.GetSegmentation().GetNumberOfSegments() == 1
    assert not image.GetSaveWithScene() and not segmentation.GetSaveWithScene()
    # 6 mm up is slice 3 of 2 mm; the views jump to the middle of the voxels.
    assert views.slice_position("Red")[2] == pytest.approx(6.0)
    assert views.slice_position("Yellow")[0] == pytest.approx(4.0) and views.slice_position("Green")[1] == pytest.approx(3.3)


def test_overlay_is_taken_away_by_its_button(shown):
    shown.ui.overlayButton.checked = False
    assert_gone(shown)


def test_next_validation_replaces_the_overlay(shown, event):
    count = len(scene())
    shown.view.hear([{**event, "step": 600, "position_mm": [-4.0, -3.3, 4.0]}])
    assert len(scene()) == count and views.slice_position("Red")[2] == pytest.approx(4.0)
    shown.ui.overlayButton.checked = False
    assert_gone(shown)


def test_overlay_leaves_with_the_module(shown, module):
    module.widgetRepresentation().exit()
    assert_gone(shown)


def test_overlay_leaves_with_the_run(shown, tmp_path):
    shown.view.show(tmp_path / "other")
    assert_gone(shown)
    assert shown.ui.overlayButton.isHidden()


def test_closed_scene_takes_the_overlay_with_it(shown):
    slicer.mrmlScene.Clear()
    boot.process_events(0.1)
    assert not shown.ui.overlayButton.checked
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_saved_scene_holds_no_overlay(shown, tmp_path):
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert "P4: validation" not in [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]


def test_preview_whose_files_are_gone_is_not_offered(ready, event):
    ready.view.hear([{**event, "labels": "/nowhere/comparison.seg.nrrd"}])
    assert ready.ui.overlayButton.isHidden()
