"""The mask lies where the image says, for every orientation of the axes: node -> file -> engine's reader and writer -> node."""

import itertools

import numpy as np
import pytest
import slicer
from segment_builders import make_volume, mask_positions, volume_positions

from TransMedSegLib import SegmentResult, Terminology, VolumeExchange
from TransMedSegLib.CaseTable import addCase
from TransMedSegLib.Review import Review

SPACING = (0.7, 1.1, 2.3)
ORIGIN = (-31.25, 14.5, 77.125)
SHAPE = (7, 9, 11)


def orientations():
    """The 48 ways to lay three axes along R, A and S, 24 of them mirrored."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            for column, (row, sign) in enumerate(zip(order, signs)):
                matrix[row, column] = sign
            yield matrix


def rotation(x, y, z):
    """Turns by three angles in degrees."""
    (a, b, c) = np.radians((x, y, z))
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rz @ ry @ rx


OBLIQUE = [rotation(*angles) @ np.diag(sign) for angles, sign in (
    ((17, 0, 0), (1, 1, 1)), ((33, -41, 12), (1, 1, 1)), ((-78, 5, 160), (1, 1, -1)), ((45, 45, 45), (-1, 1, 1)),
    ((0.4, -0.3, 0.2), (1, -1, 1)), ((121, 64, -90.5), (-1, -1, -1)),
)]  # fmt: skip


def asymmetric_mask():
    """A mask that no turn or mirror maps onto itself, touching two corners of the image."""
    mask = np.zeros(SHAPE, bool)
    mask[1:3, 2:7, 3:9] = True
    mask[3:6, 2:4, 3:5] = True
    mask[6, 8, 10] = mask[0, 0, 0] = True
    return mask


def engine(source, target):
    """The engine's own reader and writer, as the stub engine uses them."""
    from semiseg.data.files import read_volume, write_labels
    from semiseg.data.segmentation import Segment
    from semiseg.data.volume import Volume

    volume = read_volume(source, "c001")
    labels = Volume((volume.array > 100).astype(np.uint8), volume.geometry)
    write_labels(target, labels, [Segment(1, "left atrium")])


@pytest.mark.parametrize("directions", [*orientations(), *OBLIQUE], ids=[*(f"axes{i}" for i in range(48)), *(f"oblique{i}" for i in range(len(OBLIQUE)))])
def test_a_mask_comes_back_to_the_same_points_in_the_world(directions, tmp_path):
    matrix = np.eye(4)
    matrix[:3, :3] = directions @ np.diag(SPACING)
    matrix[:3, 3] = ORIGIN
    mask = asymmetric_mask()
    case = addCase(make_volume(shape=SHAPE, mask=mask, matrix=matrix))
    VolumeExchange.writeVolume(case.volume, tmp_path / "c001.nrrd")
    engine(tmp_path / "c001.nrrd", tmp_path / "c001.seg.nrrd")
    taken = SegmentResult.take(case, tmp_path / "c001.seg.nrrd", Review(), lambda case: None)
    wanted = volume_positions(case.volume, mask)
    found = mask_positions(case.segmentation, taken.segmentIds[0])
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 2e-3
    assert np.array_equal(VolumeExchange.maskOf(case.segmentation, taken.segmentIds[0], case.volume), mask)


def test_a_volume_under_a_turned_transform_takes_its_mask_along(tmp_path):
    case = addCase(make_volume(shape=SHAPE, mask=asymmetric_mask()))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = rotation(0, 0, 30), (5, 6, 7)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
    case.volume.SetAndObserveTransformNodeID(transform.GetID())
    VolumeExchange.writeVolume(case.volume, tmp_path / "c001.nrrd")
    engine(tmp_path / "c001.nrrd", tmp_path / "c001.seg.nrrd")
    taken = SegmentResult.take(case, tmp_path / "c001.seg.nrrd", Review(), lambda case: None)
    assert case.segmentation.GetTransformNodeID() == transform.GetID()
    assert np.array_equal(VolumeExchange.maskOf(case.segmentation, taken.segmentIds[0], case.volume), asymmetric_mask())
    corner = VolumeExchange.positionRas(case.volume, (0, 0, 0))
    assert np.allclose(corner, turn[:3, :3] @ (-30, 12, 40) + turn[:3, 3])


def test_writing_one_segment_leaves_the_others_alone():
    """Segments that share a labelmap layer are erased by a plain array write."""
    case = addCase(make_volume())
    node = case.makeSegmentation()
    first, second = np.zeros((12, 20, 24), bool), np.zeros((12, 20, 24), bool)
    first[2:5, 2:9, 2:9], second[6:9, 10:18, 10:20] = True, True
    for name, mask in (("one", first), ("two", second)):
        node.GetSegmentation().AddEmptySegment(name, name)
        VolumeExchange.writeMask(node, name, mask, case.volume)
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    larger = np.zeros_like(first)
    larger[1:10, 1:19, 1:20] = True
    VolumeExchange.writeMask(node, "one", larger, case.volume)
    assert np.array_equal(VolumeExchange.maskOf(node, "one", case.volume), larger)
    assert np.array_equal(VolumeExchange.maskOf(node, "two", case.volume), second)


def test_a_written_file_holds_names_codes_and_colors(tmp_path):
    case = addCase(make_volume())
    node = case.makeSegmentation()
    segmentId = SegmentResult.addLeftAtrium(node)
    mask = np.zeros((12, 20, 24), bool)
    mask[3:5, 4:6, 7:9] = True
    VolumeExchange.writeMask(node, segmentId, mask, case.volume)
    path = tmp_path / "ä 中 .seg.nrrd"
    VolumeExchange.writeSegmentation(node, path, case.volume)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    with VolumeExchange.readSegmentation(path) as stored:
        segment = stored.GetSegmentation().GetNthSegment(0)
        assert segment.GetName() == "Left atrium"
        assert Terminology.hasTerminology(segment)
        assert np.allclose(segment.GetColor(), (203 / 255, 108 / 255, 81 / 255), atol=1e-4)
        name = stored.GetSegmentation().GetNthSegmentID(0)
        assert np.array_equal(VolumeExchange.maskOf(stored, name, case.volume), mask)
    assert slicer.mrmlScene.GetFirstNodeByName("file") is None


def test_what_cannot_be_written_or_read_is_an_error_and_leaves_nothing(tmp_path):
    case = addCase(make_volume())
    node = case.makeSegmentation()
    SegmentResult.addLeftAtrium(node)
    with pytest.raises(OSError):
        VolumeExchange.writeVolume(case.volume, tmp_path / "no" / "c.nrrd")
    with pytest.raises(OSError):
        VolumeExchange.writeSegmentation(node, tmp_path / "no" / "c.seg.nrrd")
    with pytest.raises(OSError), VolumeExchange.readSegmentation(tmp_path / "none.seg.nrrd"):
        pass
    assert not list(tmp_path.rglob("*"))
