"""Volumes survive every format with their geometry, and every damaged or unfit file is refused with a reason."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import builders
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg.data import atomic
from semiseg.data.array_files import H5_SPACING_MM
from semiseg.data.files import read_labels, read_volume, write_h5, write_labels, write_volume
from semiseg.data.geometry import Geometry
from semiseg.data.nifti import read_nifti, write_nifti
from semiseg.data.nrrd import read_nrrd, write_nrrd
from semiseg.data.segmentation import Segment
from semiseg.data.volume import Volume
from semiseg.errors import InputError

TERMINOLOGY = (
    "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure"
    "~SCT^82471001^Left atrium~^^~Anatomic codes - DICOM master list~^^~^^"
)
ATRIUM = Segment(
    1,
    "left atrium",
    (0.8, 0.42, 0.32),
    TERMINOLOGY,
    "AUTOMATIC",
    "TransMedSeg",
    "0.1",
    "LA",
    "1.2.826.0.1.3680043.8.498.1",
)


def refused(path: Path, code: str, read=read_volume) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.code == code
    return str(caught.value)


def cut(path: Path, share: float = 0.5) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


# Round trips


@pytest.mark.parametrize("ending", builders.FILE_FORMATS)
@pytest.mark.parametrize("kind", ["uint8", "int16", "float32"])
def test_written_volume_is_read_back_equal(tmp_path, ending, kind):
    image, _ = builders.make_case()
    volume = image.with_array((image.array * 10).astype(kind))
    write_volume(tmp_path / f"a{ending}", volume)
    again = read_volume(tmp_path / f"a{ending}")
    assert again.array.dtype == volume.array.dtype
    assert np.array_equal(again.array, volume.array)
    assert again.geometry.max_difference_mm(volume.geometry) < 1e-4
    assert again.array.flags.writeable
    assert [path.name for path in tmp_path.iterdir()] == [f"a{ending}"]


@pytest.mark.parametrize("ending", builders.FILE_FORMATS)
def test_itk_and_we_agree_on_every_voxel_and_its_position(tmp_path, ending):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    volume, _ = builders.make_case()
    write_volume(tmp_path / f"ours{ending}", volume)
    image = sitk.ReadImage(str(tmp_path / f"ours{ending}"))
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.array)
    for index in ((0, 0, 0), (9, 0, 0), (0, 19, 0), (0, 0, 29), (4, 7, 11)):
        theirs = image.TransformIndexToPhysicalPoint(index[::-1])
        assert np.allclose(theirs, volume.geometry.position_mm(index), atol=1e-4)
    sitk.WriteImage(image, str(tmp_path / f"theirs{ending}"))
    theirs = read_volume(tmp_path / f"theirs{ending}")
    assert np.array_equal(theirs.array, volume.array)
    assert theirs.geometry.max_difference_mm(volume.geometry) < 1e-4


@pytest.mark.parametrize("ending", [".nii", ".nrrd"])
@pytest.mark.parametrize("direction", builders.all_orientations()[::5])
def test_every_orientation_is_kept(tmp_path, ending, direction):
    grid = Geometry.from_parts((3, 4, 5), (3.0, 2.0, 1.0), (7.0, -8.0, 9.0), direction)
    write_volume(tmp_path / f"a{ending}", Volume(np.zeros(grid.shape, np.uint8), grid))
    assert read_volume(tmp_path / f"a{ending}").geometry.same_grid_as(grid, 1e-4)


@given(st.tuples(*[st.floats(-180, 180)] * 3), st.tuples(*[st.floats(0.3, 6)] * 3))
@settings(max_examples=30, deadline=None)
def test_qform_and_sform_say_the_same(tmp_path_factory, angles, spacing):
    grid = builders.geometry((3, 4, 5), spacing, angles)
    path = tmp_path_factory.mktemp("nifti") / "a.nii"
    write_nifti(path, Volume(np.zeros(grid.shape, np.uint8), grid))
    content = bytearray(path.read_bytes())
    struct.pack_into("<h", content, 254, 0)  # without its sform, the qform must do
    path.write_bytes(content)
    # The format stores three of four quaternion numbers in fp32; near half a turn the fourth is only good to 3e-4.
    assert read_nifti(path).geometry.same_grid_as(grid, 1e-2)


def test_mirrored_grid_survives_the_quaternion(tmp_path):
    direction = builders.rotation((10, 20, 30)) @ np.diag([1.0, 1.0, -1.0])
    grid = Geometry.from_parts((3, 4, 5), (3.0, 2.0, 1.0), direction=direction)
    write_nifti(tmp_path / "a.nii", Volume(np.zeros(grid.shape, np.uint8), grid))
    content = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<h", content, 254, 0)
    (tmp_path / "a.nii").write_bytes(content)
    assert read_nifti(tmp_path / "a.nii").geometry.same_grid_as(grid, 1e-3)


def test_nifti_slope_and_units_are_applied(tmp_path):
    path = tmp_path / "a.nii"
    grid = builders.geometry((2, 3, 4), (0.002, 0.0009, 0.0007))
    write_nifti(path, Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), grid))
    content = bytearray(path.read_bytes())
    struct.pack_into("<ff", content, 112, 0.5, -10.0)
    struct.pack_into("<B", content, 123, 1)  # meters
    path.write_bytes(content)
    volume = read_volume(path)
    assert volume.array[1, 2, 3] == pytest.approx(23 * 0.5 - 10)
    assert np.allclose(volume.geometry.spacing_mm, (2.0, 0.9, 0.7), rtol=1e-5)


def test_big_endian_nifti_and_trailing_time_axis_of_one(tmp_path):
    header = bytearray(352)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 4, 4, 3, 2, 1, 1, 1, 1)
    struct.pack_into(">hh", header, 70, 4, 16)
    struct.pack_into(">8f", header, 76, 1, 0.7, 0.9, 2.5, 0, 0, 0, 0)
    struct.pack_into(">f", header, 108, 352.0)
    struct.pack_into(">hh", header, 252, 0, 2)
    struct.pack_into(">12f", header, 280, 0.7, 0, 0, -1, 0, 0.9, 0, -2, 0, 0, 2.5, 3)
    header[344:348] = b"n+1\0"
    (tmp_path / "a.nii").write_bytes(bytes(header) + np.arange(24, dtype=">i2").tobytes())
    volume = read_volume(tmp_path / "a.nii")
    assert volume.array[1, 2, 3] == 23
    assert np.allclose(volume.geometry.origin_mm, (1, 2, 3))  # RAS in the file
    assert np.allclose(volume.geometry.affine[:3, 2], (-0.7, 0, 0))


def test_nrrd_in_ras_lies_where_the_same_file_in_lps_lies(tmp_path):
    lps = b"space: left-posterior-superior\nspace directions: (-1,0,0) (0,-2,0) (0,0,3)\nspace origin: (-5,-6,7)\n"
    ras = b"space: right-anterior-superior\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (5,6,7)\n"
    grids = []
    for name, space in (("lps.nrrd", lps), ("ras.nrrd", ras)):
        (tmp_path / name).write_bytes(
            b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 3 4\nencoding: raw\n" + space + b"\n" + bytes(24)
        )
        grids.append(read_volume(tmp_path / name).geometry)
    assert grids[0].same_grid_as(grids[1])


def test_nhdr_with_detached_raw_and_text_and_bzip2_are_read(tmp_path):
    import bz2

    values = np.arange(24, dtype="<i2")
    head = b"NRRD0004\n# by hand\ntype: short\ndimension: 3\nsizes: 4 3 2\nspacings: 0.7 0.9 2.5\nendian: little\n"
    (tmp_path / "a.raw").write_bytes(b"skip" + values.tobytes())
    (tmp_path / "a.nhdr").write_bytes(head + b"encoding: raw\nbyte skip: -1\ndata file: a.raw\n")
    (tmp_path / "b.nrrd").write_bytes(head + b"encoding: ascii\n\n" + " ".join(map(str, values)).encode())
    (tmp_path / "c.nrrd").write_bytes(head + b"encoding: bzip2\n\n" + bz2.compress(values.tobytes()))
    for name in ("a.nhdr", "b.nrrd", "c.nrrd"):
        volume = read_volume(tmp_path / name)
        assert volume.array.ravel().tolist() == values.tolist(), name
        assert volume.geometry.spacing_mm == (2.5, 0.9, 0.7)


def test_left_atrium_h5_has_axes_x_y_z_and_an_assumed_spacing(tmp_path):
    image, mask = builders.make_case()
    write_h5(tmp_path / "a.h5", image.array, mask.array)
    import h5py

    with h5py.File(tmp_path / "a.h5") as file:
        assert file["image"].shape == builders.SHAPE[::-1]
    assert np.array_equal(read_volume(tmp_path / "a.h5").array, image.array)
    assert read_volume(tmp_path / "a.h5").geometry.spacing_mm == H5_SPACING_MM
    assert read_volume(tmp_path / "a.h5", assumed_spacing_mm=(1.25, 1, 1)).geometry.spacing_mm == (1.25, 1, 1)
    assert np.array_equal(read_labels(tmp_path / "a.h5")[0].array, mask.array)


def test_dicom_series_folder_is_a_volume(tmp_path):
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    import synthetic_series

    folder = synthetic_series.base(tmp_path / "series")
    assert np.array_equal(read_volume(folder).array, synthetic_series.phantom())


# Label maps


@pytest.mark.parametrize("ending", builders.MASK_FORMATS)
def test_label_map_keeps_values_names_and_geometry(tmp_path, ending):
    _, mask = builders.make_case()
    labels = mask.with_array(np.where(mask.array, 1, 0) + 2 * np.roll(mask.array, 9, 2) * (1 - mask.array))
    path = tmp_path / f"a{ending}"
    write_labels(path, labels, [ATRIUM, Segment(2, "vein | ä 中\nx")])
    again, names = read_labels(path)
    assert np.array_equal(again.array, labels.array)
    assert again.array.dtype.kind in "iu"
    assert again.geometry.max_difference_mm(mask.geometry) < 1e-4
    assert names[1] == "left atrium"
    assert names[2].startswith("vein | ä 中")
    assert not list(tmp_path.glob(".*"))


def test_seg_nrrd_has_the_fields_slicer_reads(tmp_path):
    grid = builders.oblique()
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:5, 6:10, 11:20] = 1
    write_labels(tmp_path / "a.seg.nrrd", Volume(labels, grid), [ATRIUM, Segment(2, "empty")])
    fields = read_nrrd(tmp_path / "a.seg.nrrd").fields
    assert fields["Segment0_ID"] == "Segment_1"
    assert fields["Segment0_Name"] == "left atrium"
    assert fields["Segment0_Color"] == "0.8 0.42 0.32"
    assert fields["Segment0_Extent"] == "11 19 6 9 2 4"
    assert fields["Segment1_Extent"] == "0 -1 0 -1 0 -1"
    assert (fields["Segment0_LabelValue"], fields["Segment0_Layer"]) == ("1", "0")
    assert fields["Segmentation_MasterRepresentation"] == "Binary labelmap"
    assert fields["Segmentation_SourceRepresentation"] == "Binary labelmap"
    assert fields["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"
    tags = dict(tag.split(":", 1) for tag in fields["Segment0_Tags"].split("|") if tag)
    assert tags["TerminologyEntry"] == TERMINOLOGY
    assert tags["DICOM.SegmentAlgorithmType"] == "AUTOMATIC"
    assert tags["DICOM.SegmentAlgorithmName"] == "TransMedSeg"
    assert tags["DICOM.TrackingUID"] == "1.2.826.0.1.3680043.8.498.1"


def test_independent_reader_of_slicer_segmentations_agrees(tmp_path):
    slicerio = pytest.importorskip("slicerio", reason="slicerio is not installed")
    _, mask = builders.make_case()
    write_labels(tmp_path / "a.seg.nrrd", mask, [ATRIUM])
    found = slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))
    assert np.array_equal(found["voxels"].T, mask.array)
    assert found["segments"][0]["terminology"]["type"] == ["SCT", "82471001", "Left atrium"]
    assert np.allclose(found["ijkToLPS"], mask.geometry.affine[:, [2, 1, 0, 3]])


def layered(path: Path, layers: np.ndarray, grid: Geometry, values: list[tuple[int, int]]) -> Path:
    fields = {}
    for number, (layer, value) in enumerate(values):
        fields |= {
            f"Segment{number}_ID": f"S{number}",
            f"Segment{number}_Name": f"part {number}",
            f"Segment{number}_Layer": str(layer),
            f"Segment{number}_LabelValue": str(value),
        }
    write_nrrd(path, layers, grid, fields)
    return path


def test_layers_that_do_not_overlap_become_one_label_map(tmp_path):
    grid = builders.oblique()
    layers = np.zeros((2, *grid.shape), np.uint8)
    layers[0, 1:3], layers[0, 6:], layers[1, 4] = 1, 2, 1
    volume, names = read_labels(layered(tmp_path / "a.seg.nrrd", layers, grid, [(0, 1), (0, 2), (1, 1)]))
    assert names == {1: "part 0", 2: "part 1", 3: "part 2"}
    assert volume.array[:, 5, 5].tolist() == [0, 1, 1, 0, 3, 0, 2, 2, 2, 2]
    assert volume.geometry.same_grid_as(grid)


def test_overlapping_layers_are_refused(tmp_path):
    grid = builders.oblique()
    layers = np.zeros((2, *grid.shape), np.uint8)
    layers[0, 1:3], layers[1, 2:4] = 1, 1
    message = refused(layered(tmp_path / "a.seg.nrrd", layers, grid, [(0, 1), (1, 1)]), "E704", read_labels)
    assert "600 voxels" in message


def test_a_segment_in_a_missing_layer_is_refused(tmp_path):
    grid = builders.oblique()
    refused(layered(tmp_path / "a.seg.nrrd", np.ones((1, *grid.shape), np.uint8), grid, [(4, 1)]), "E311", read_labels)


def test_probabilities_are_no_label_map(tmp_path):
    image, _ = builders.make_case()
    write_volume(tmp_path / "a.nii", image)
    refused(tmp_path / "a.nii", "E704", read_labels)


def test_whole_numbers_in_floating_point_are_labels(tmp_path):
    _, mask = builders.make_case()
    write_volume(tmp_path / "a.nii", mask.with_array(mask.array.astype(np.float32)))
    assert np.array_equal(read_labels(tmp_path / "a.nii")[0].array, mask.array)


def test_json_of_another_kind_is_ignored_and_broken_json_refused(tmp_path):
    _, mask = builders.make_case()
    write_volume(tmp_path / "a.nii", mask)
    (tmp_path / "a.json").write_text(json.dumps({"MagneticFieldStrength": 3}))
    assert read_labels(tmp_path / "a.nii")[1] == {}
    (tmp_path / "a.json").write_text('{"segments": [{"name": "x"}]}')
    refused(tmp_path / "a.nii", "E311", read_labels)


# Refusals


@pytest.mark.parametrize("ending", [*builders.FILE_FORMATS, ".h5"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_truncated_file_is_refused(tmp_path, ending, share):
    path = builders.write_case(tmp_path, "a", ending=ending, mask_ending=None)
    assert path.name in refused(cut(path, share), "E311")


@pytest.mark.parametrize("ending", [*builders.FILE_FORMATS, ".nhdr", ".h5"])
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 500, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", b"text" * 300]
)
def test_placeholder_or_other_content_is_refused(tmp_path, ending, content):
    (tmp_path / f"a{ending}").write_bytes(content)
    message = refused(tmp_path / f"a{ending}", "E311")
    if content[:4] != b"text":
        assert f"{len(content)} bytes, it looks like a placeholder" in message


def test_flipped_bit_in_compressed_voxels_is_noticed(tmp_path):
    path = builders.write_case(tmp_path, "a", mask_ending=None)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    refused(path, "E311")


def test_missing_file_and_unknown_ending_are_refused(tmp_path):
    refused(tmp_path / "none.nii", "E311")
    (tmp_path / "a.xyz").write_bytes(b"something")
    refused(tmp_path / "a.xyz", "E311")


def nifti_with(path: Path, offset: int, layout: str, *values: float) -> Path:
    volume, _ = builders.make_case()
    write_nifti(path, volume)
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(content)
    return path


def test_time_series_slice_and_color_are_refused(tmp_path):
    assert "4 dimensions (30×20×5×2)" in refused(nifti_with(tmp_path / "a.nii", 40, "<5h", 4, 30, 20, 5, 2), "E302")
    assert "2 dimensions" in refused(nifti_with(tmp_path / "b.nii", 40, "<4h", 2, 30, 20, 1), "E302")
    assert "RGB" in refused(nifti_with(tmp_path / "c.nii", 70, "<h", 128), "E302")
    (tmp_path / "d.nrrd").write_bytes(
        b"NRRD0004\ntype: uchar\ndimension: 4\nsizes: 3 2 2 2\nkinds: RGB-color domain domain domain\n"
        b"space directions: none (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\n\n" + bytes(24)
    )
    refused(tmp_path / "d.nrrd", "E302")
    (tmp_path / "e.nrrd").write_bytes(b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 2 2\nencoding: raw\n\n" + bytes(4))
    refused(tmp_path / "e.nrrd", "E302")


def test_color_meta_image_is_refused(tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    refused(tmp_path / "a.mha", "E302")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 4, 5, 6), np.uint8), isVector=False), str(tmp_path / "b.mha"))
    refused(tmp_path / "b.mha", "E302")


def test_sheared_axes_are_refused(tmp_path):
    path = nifti_with(tmp_path / "a.nii", 280, "<12f", 1, 0, 0.5, 0, 0, 1, 0, 0, 0, 0, 2, 0)
    content = bytearray(path.read_bytes())
    struct.pack_into("<h", content, 252, 0)
    path.write_bytes(content)
    refused(path, "E305")
    head = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nspace: LPS\nencoding: raw\n"
    (tmp_path / "b.nrrd").write_bytes(head + b"space directions: (1,0,0) (0,1,0) (0.5,0,2)\n\n" + bytes(8))
    refused(tmp_path / "b.nrrd", "E305")
    sheared = builders.oblique().affine.copy()
    sheared[:3, 0] += 0.3 * sheared[:3, 1]
    with pytest.raises(InputError, match="E305"):
        write_nifti(tmp_path / "c.nii", Volume(np.zeros((2, 2, 2), np.uint8), Geometry((2, 2, 2), sheared)))
    assert not (tmp_path / "c.nii").exists()


def test_a_straight_qform_stands_in_for_a_sheared_sform(tmp_path):
    volume, _ = builders.make_case()
    path = nifti_with(tmp_path / "a.nii", 280, "<12f", 1, 0, 0.5, 0, 0, 1, 0, 0, 0, 0, 2, 0)
    assert read_volume(path).geometry.same_grid_as(volume.geometry, 1e-3)


def test_missing_spacing_is_refused_unless_assumed(tmp_path):
    path = nifti_with(tmp_path / "a.nii", 252, "<hh", 0, 0)
    content = bytearray(path.read_bytes())
    struct.pack_into("<4f", content, 76, 1, 1, 1, 1)
    path.write_bytes(content)
    (tmp_path / "b.nrrd").write_bytes(
        b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n" + bytes(8)
    )
    (tmp_path / "c.mha").write_bytes(
        b"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n" + bytes(8)
    )
    for name in ("a.nii", "b.nrrd", "c.mha"):
        if name.endswith(".mha"):
            pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
        assert "Spacing is missing" in refused(tmp_path / name, "E306")
        assert read_volume(tmp_path / name, assumed_spacing_mm=(3, 2, 1)).geometry.spacing_mm == (3, 2, 1)


def test_h5_without_image_or_with_two_dimensions_is_refused(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["picture"] = np.zeros((2, 2, 2))
    assert "picture" in refused(tmp_path / "a.h5", "E311")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["image"] = np.zeros((2, 2))
    refused(tmp_path / "b.h5", "E302")


# Writing


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    volume, _ = builders.make_case(1)
    write_volume(path, volume)
    before = path.read_bytes()

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_volume(path, builders.make_case(2)[0])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.nii.gz"]


def test_a_full_disk_and_a_folder_that_is_a_file_are_explained(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="E809"):
        write_volume(tmp_path / "file" / "a.nii", builders.make_case()[0])

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="E807"):
        write_volume(tmp_path / "a.nii", builders.make_case()[0])


def test_unknown_ending_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="E311"):
        write_volume(tmp_path / "a.jpg", builders.make_case()[0])


def test_the_same_volume_gives_the_same_bytes(tmp_path):
    _, mask = builders.make_case()
    for name in ("a", "b"):
        write_labels(tmp_path / f"{name}.nii.gz", mask, [ATRIUM])
        write_labels(tmp_path / f"{name}.seg.nrrd", mask, [ATRIUM])
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.seg.nrrd").read_bytes() == (tmp_path / "b.seg.nrrd").read_bytes()
    assert gzip.decompress((tmp_path / "a.nii.gz").read_bytes())[344:348] == b"n+1\0"
