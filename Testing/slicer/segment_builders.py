"""Volumes, panels and a stub engine for the tests of the segmentation module."""

import json
import pickle
import stat
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import qt
import slicer
import vtk
from bed import boot

REPOSITORY = Path(__file__).parents[2]
MODULE = REPOSITORY / "TransMedSeg"
sys.path.insert(0, str(MODULE))


def install_stub(folder, **plan):
    """Puts a stub engine in place of PythonSlicer, with a plan; see stub_engine.py."""
    source = Path(__file__).with_name("stub_engine.py").read_text()
    program = folder / "stub_engine.py"
    program.write_text(source.replace("#!/usr/bin/env python3", f"#!{sys.executable}"))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder / "stub.json").write_text(json.dumps(plan))
    qt.QSettings().setValue("TransMedSeg/Python", str(program))
    return program


def write_model(path, name="LA-MRI", weights=None, **fields):
    """A model file as the engine writes it, made without torch; by default without weights."""
    card = {
        "format": "semiseg-model",
        "format_version": 1,
        "semiseg_version": "0.1.0",
        "name": name,
        "network": {"name": "vnet", "in_channels": 1, "num_classes": 2, "options": {}},
        "labels": [{"value": 1, "name": "left atrium"}],
        "preprocessing": {"spacing_mm": None},
        "patch_size": [16, 16, 16],
        "training": {"method": "transmedseg", "preset": "plus", "cases": {"labeled": 4, "unlabeled": 16}},
        "spacing_range_mm": [[0.6, 0.6, 0.6], [2.5, 1.25, 1.25]],
        **fields,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weights": weights or {}, "card": json.dumps(card)}, protocol=2))
    return path


def ball(shape, center, radius, spacing=(1.0, 1.0, 1.0)):
    """Mask [slice, row, column] of a ball; center in voxels, radius in mm."""
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    return sum(((g - c) * s) ** 2 for g, c, s in zip(grid, center, spacing[::-1])) <= radius**2


def make_volume(name="P001", shape=(12, 20, 24), mask=None, matrix=None, seed=0):
    """A volume node with noise around 50 and 200 where the mask is."""
    mask = ball(shape, (6, 9, 12), 4.5) if mask is None else mask
    array = np.random.default_rng(seed).normal(50, 5, shape).clip(0, 90).astype(np.int16)
    array[mask] = 200
    node = slicer.util.addVolumeFromArray(array, name=name)
    if matrix is None:
        matrix = np.array([[0.9, 0, 0, -30], [0, 1.1, 0, 12], [0, 0, 2.5, 40], [0, 0, 0, 1.0]])
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return node


def draw(case, mask, name="left atrium"):
    """A person draws a segment: everything that happens when voxels change in the Segment Editor."""
    node = case.makeSegmentation()
    segmentation = node.GetSegmentation()
    segmentId = segmentation.GetNthSegmentID(0) if segmentation.GetNumberOfSegments() else segmentation.AddEmptySegment("", name)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segmentId, case.volume)
    return segmentId


def mask_positions(node, segment_id):
    """The RAS positions of a segment's voxels, from its own image geometry, sorted and rounded."""
    image = node.GetBinaryLabelmapInternalRepresentation(segment_id)
    value = node.GetSegmentation().GetSegment(segment_id).GetLabelValue()
    extent = image.GetExtent()
    from vtk.util.numpy_support import vtk_to_numpy

    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(
        extent[5] - extent[4] + 1, extent[3] - extent[2] + 1, extent[1] - extent[0] + 1
    )
    k, j, i = np.nonzero(voxels == value)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return _points(slicer.util.arrayFromVTKMatrix(matrix), i + extent[0], j + extent[2], k + extent[4])


def volume_positions(volume, mask):
    """The RAS positions of a mask on the grid of a volume, sorted and rounded."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    k, j, i = np.nonzero(mask)
    return _points(slicer.util.arrayFromVTKMatrix(matrix), i, j, k)


def _points(matrix, i, j, k):
    points = (matrix @ np.stack([i, j, k, np.ones(len(i))]))[:3].T
    points = np.round(points, 3) + 0.0
    return points[np.lexsort(points.T)]


class Panel:
    """The module's panel, entered, with shortcuts for tests."""

    def __init__(self):
        self.representation, self.widget = boot.load_module("TransMedSeg", MODULE)
        self.representation = self.representation.widgetRepresentation()
        self.representation.enter()
        self.ui, self.module = self.widget.ui, self.widget.module
        self.desk, self.segment = self.module.desk, self.module.segment

    def add(self, volume):
        self.ui.sceneVolumeSelector.setCurrentNode(volume)
        self.ui.addSceneButton.click()
        return self.desk.cases()[-1]

    def choose_model(self, folder):
        """A model that this user trained: its terms are known."""
        (folder / "job.json").write_text("{}")
        self.desk.parameters.modelPath = write_model(folder / "model.pt")
        self.desk.refresh()

    def segment_this(self, seconds=120):
        self.ui.segmentButton.click()
        return self.wait(seconds)

    def wait(self, seconds=120):
        return boot.process_events(seconds, until=lambda: not self.segment.isRunning)

    def compare(self, a, b, seconds=120):
        self.ui.aSelector.setCurrentNode(a)
        self.ui.bSelector.setCurrentNode(b)
        self.ui.compareButton.click()
        comparison = self.module.compare
        return boot.process_events(seconds, until=lambda: comparison.comparison is None or not comparison.comparison.isRunning)

    def close(self):
        if self.representation.isEntered:
            self.representation.exit()
        self.widget.cleanup()
        for key in ("ModelList", "Model", "SecondsPerMegavoxel"):  # the next test knows no model
            qt.QSettings().remove(f"TransMedSeg/{key}")


@pytest.fixture
def panel(tmp_path):
    """A panel of its own with a stub engine and a chosen model; import it to use it."""
    install_stub(tmp_path)
    one = Panel()
    one.choose_model(tmp_path)
    yield one
    one.close()
