"""DICOM folders become one volume in the right place, or are refused with the reason."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")

import synthetic_series as synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semiseg.dicom.files import scan
from semiseg.dicom.plain_header import read_plain_header
from semiseg.dicom.series import open_series, read_series, series_of_files
from semiseg.dicom.stack import Plane, stack_planes
from semiseg.errors import InputError

SOUND = {
    "base": synthetic.base,
    "reversed": synthetic.reversed_numbers,
    "shuffled": synthetic.shuffled,
    "utf8": synthetic.utf8,
    "enhanced": synthetic.enhanced,
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_series_is_read_voxel_by_voxel_in_its_place(name, tmp_path):
    volume, headers = read_series(SOUND[name](tmp_path))
    builder = synthetic.SeriesBuilder(tmp_path / "other")
    np.testing.assert_array_equal(volume.array, synthetic.phantom())
    assert volume.array.dtype == np.int16
    np.testing.assert_allclose(volume.geometry.direction, builder.direction, atol=1e-9)
    np.testing.assert_allclose(volume.geometry.spacing_mm, synthetic.SPACING_MM, atol=1e-9)
    np.testing.assert_allclose(volume.geometry.origin_mm, builder.origin_mm, atol=1e-9)
    if name != "enhanced":
        np.testing.assert_allclose(
            [[float(mm) for mm in ds.ImagePositionPatient] for ds in headers],
            volume.geometry.position_mm([[k, 0, 0] for k in range(len(headers))]),
            atol=1e-6,
        )


@pytest.mark.parametrize("syntax", ["jpegls", "rle", "j2k", "deflated", "implicit", "big"])
def test_every_transfer_syntax_gives_the_same_voxels(syntax, tmp_path):
    if syntax == "jpegls":
        pytest.importorskip("jpeg_ls", reason="pyjpegls is not installed")
    if syntax == "j2k":
        pytest.importorskip("openjpeg", reason="pylibjpeg-openjpeg, which writes JPEG 2000 here, is not installed")
    volume, _ = read_series(synthetic.base(tmp_path, syntax=syntax))
    np.testing.assert_array_equal(volume.array, synthetic.phantom())


@pytest.mark.parametrize("name", synthetic.FAULTS)
@pytest.mark.filterwarnings("ignore:Expected explicit VR:UserWarning")  # pydicom, on a header that is cut off
def test_faulty_series_is_refused_with_numbers(name, tmp_path):
    write, code, pattern = synthetic.FAULTS[name]
    with pytest.raises(InputError) as refused:
        read_series(write(tmp_path / "series"))
    assert refused.value.code == code
    assert re.search(pattern, refused.value.message), refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("name", ["base", "reversed", "shuffled"])
def test_geometry_and_voxels_equal_those_of_simpleitk(name, tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    folder = SOUND[name](tmp_path)
    volume, _ = read_series(folder)
    image = _read_with_simpleitk(sitk, folder)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume.array)
    for index in [(0, 0, 0), (23, 63, 55), (5, 40, 7)]:
        theirs = image.TransformContinuousIndexToPhysicalPoint([float(n) for n in index[::-1]])
        np.testing.assert_allclose(volume.geometry.position_mm(index), theirs, atol=1e-5)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "jpegls", "deflated"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, on what is left of the file
def test_file_cut_anywhere_is_never_taken_for_less(syntax, tmp_path):
    """The last slice: a reader that skips it finds a sound, shorter series."""
    synthetic.SeriesBuilder(tmp_path, (4, 6, 5), syntax=syntax).write()
    path = tmp_path / "IM00004.dcm"
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 13):
        path.write_bytes(content[:length])
        with pytest.raises(InputError) as refused:
            read_series(tmp_path)
        assert refused.value.code == "E311", length


@given(seed=st.integers(0, 2**32), number=st.integers(1, 6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore")  # pydicom, on values that are none
def test_damaged_header_is_read_or_refused_but_never_crashes(seed, number, tmp_path):
    rng = np.random.default_rng(seed)
    synthetic.SeriesBuilder(tmp_path, (3, 6, 5)).write()
    path = tmp_path / "IM00002.dcm"
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, len(content), number):
        content[place] = rng.integers(0, 256)
    path.write_bytes(content)
    try:
        volume, _ = read_series(tmp_path)
    except InputError as error:
        assert error.code and error.hint
    else:
        assert volume.array.shape == (3, 6, 5)


def test_folder_of_two_series_names_them_and_reads_the_chosen_one(tmp_path):
    synthetic.two_series(tmp_path)
    found = scan(tmp_path).series
    assert [summary.num_images for summary in found] == [24, 24]
    assert "LGE left atrium 3D" in found[0].describe()
    with pytest.raises(InputError, match="holds 2 series") as refused:
        read_series(tmp_path)
    assert all(summary.series_uid in refused.value.message for summary in found)
    second = next(s for s in found if "second" in str(s.paths[0]))
    volume, headers = read_series(tmp_path, second.series_uid)
    np.testing.assert_array_equal(volume.array, synthetic.phantom(seed=8))
    assert {str(ds.SeriesInstanceUID) for ds in headers} == {second.series_uid}
    with pytest.raises(InputError, match=r"no series 1\.2\.3") as refused:
        read_series(tmp_path, "1.2.3")
    assert refused.value.code == "E314"


def test_other_files_in_the_folder_do_not_disturb(tmp_path):
    synthetic.base(tmp_path)
    (tmp_path / "readme.txt").write_text("notes")
    (tmp_path / "mask.seg.nrrd").write_bytes(b"NRRD0004")
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "DICOMDIR").write_bytes(b"x")
    result = pydicom.dcmread(tmp_path / "IM00001.dcm")
    result.Modality, result.SeriesInstanceUID = "SEG", "1.2.3.4"
    result.save_as(tmp_path / "earlier_export.dcm")
    document = pydicom.dcmread(tmp_path / "IM00002.dcm")
    document.SOPClassUID, document.Modality = "1.2.840.10008.5.1.4.1.1.88.33", "SR"
    del document.Rows, document.Columns, document.PixelData
    document.save_as(tmp_path / "report.dcm")
    assert len(scan(tmp_path).series) == 1
    assert read_series(tmp_path)[0].array.shape == synthetic.SHAPE


@pytest.mark.parametrize("syntax", ["explicit", "jpegls", "rle", "implicit", "deflated", "big"])
def test_plain_headers_are_what_pydicom_reads_and_others_are_left_to_it(syntax, tmp_path):
    if syntax == "jpegls":
        pytest.importorskip("jpeg_ls", reason="pyjpegls is not installed")
    builder = synthetic.SeriesBuilder(tmp_path, charset="ISO_IR 192", patient_name="Müller^Jörg", syntax=syntax)
    dataset = builder.dataset(3)
    block = dataset.private_block(0x0029, "SYNTHETIC HEADER", create=True)
    block.add_new(1, "OB", bytes(1000))
    dataset.ReferencedImageSequence = [pydicom.Dataset()]
    dataset.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    builder.write([dataset])
    (path,) = tmp_path.iterdir()
    with open(path, "rb") as file:
        found = read_plain_header(file)
        place = file.tell()
    if syntax in ("implicit", "deflated", "big"):
        assert found is None and place == 0
        return
    expected = pydicom.dcmread(path, stop_before_pixels=True)
    expected.remove_private_tags()
    assert found == expected and found.file_meta == expected.file_meta
    assert found.original_encoding == expected.original_encoding
    assert str(found.PatientName) == "Müller^Jörg"
    assert path.read_bytes()[place : place + 4] == b"\xe0\x7f\x10\x00"


def test_unusual_headers_are_left_to_pydicom(tmp_path):
    synthetic.base(tmp_path)
    content = (tmp_path / "IM00001.dcm").read_bytes()
    rows = content.index(b"\x28\x00\x10\x00US")
    unusual = {
        "no pixels": content[: content.index(b"\xe0\x7f\x10\x00")],
        "no preamble": content[132:],
        "unknown VR": content[: rows + 4] + b"ZZ" + content[rows + 6 :],
        "tags out of order": content[:rows] + b"\x08\x00" + content[rows + 2 :],
        "length beyond the file": content[: rows + 6] + b"\xff\xff" + content[rows + 8 :],
        "nothing": b"",
    }
    for name, altered in unusual.items():
        file = io.BytesIO(altered)
        assert read_plain_header(file) is None and file.tell() == 0, name


def test_file_without_preamble_is_read(tmp_path):
    synthetic.base(tmp_path, syntax="implicit")
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.file_meta
        dataset.preamble = None
        dataset.save_as(path, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(read_series(tmp_path)[0].array, synthetic.phantom())


@pytest.mark.parametrize(
    ("slope", "intercept", "kind"),
    [(1, 0, np.int16), (1, -1024, np.int16), (1, 40000, np.int32), (0.5, 2.25, np.float32)],
)
def test_rescale_is_applied(slope, intercept, kind, tmp_path):
    volume, _ = read_series(synthetic.base(tmp_path, rescale=(slope, intercept)))
    assert volume.array.dtype == kind
    np.testing.assert_allclose(volume.array, synthetic.phantom().astype(float) * slope + intercept)


def test_rescale_differs_from_slice_to_slice(tmp_path):
    builder = synthetic.SeriesBuilder(tmp_path, rescale=(1, 0))
    datasets = builder.datasets()
    slopes = 0.5 + 0.25 * np.arange(len(datasets))
    for ds, slope in zip(datasets, slopes, strict=True):
        ds.RescaleSlope = f"{slope}"
    volume, _ = read_series(builder.write(datasets[::-1]))
    np.testing.assert_allclose(volume.array, synthetic.phantom() * slopes[:, None, None], rtol=1e-6)


def test_rescale_of_enhanced_frames_is_applied_in_slice_order(tmp_path):
    volume, headers = read_series(synthetic.enhanced(tmp_path, slope=2.0))
    np.testing.assert_allclose(volume.array, synthetic.phantom() * 2.0)
    assert len(headers) == 1


def test_unused_high_bits_are_cleared(tmp_path):
    builder = synthetic.SeriesBuilder(tmp_path)
    datasets = builder.datasets()
    for index, ds in enumerate(datasets):
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
        overlay = builder.pixels[index].astype(np.uint16) | (0xF000 if index == 3 else 0)
        ds.PixelData = overlay.tobytes()
    np.testing.assert_array_equal(read_series(builder.write(datasets))[0].array, synthetic.phantom())


def test_one_slice_takes_its_thickness_from_the_header(tmp_path):
    volume, _ = read_series(synthetic.one_slice(tmp_path / "thick"))
    assert volume.geometry.shape == (1, 64, 56)
    assert volume.geometry.spacing_mm[0] == pytest.approx(2.5)
    path = next((tmp_path / "thick").iterdir())
    dataset = pydicom.dcmread(path)
    del dataset.SliceThickness, dataset.SpacingBetweenSlices
    dataset.save_as(path)
    with pytest.raises(InputError, match="Slice Thickness") as refused:
        read_series(tmp_path / "thick")
    assert refused.value.code == "E306"


def test_positions_rounded_to_two_decimals_are_accepted(tmp_path):
    builder = synthetic.SeriesBuilder(tmp_path)
    datasets = builder.datasets()
    for index, ds in enumerate(datasets):
        ds.ImagePositionPatient = [f"{mm:.2f}" for mm in builder.position_mm(index)]
    volume, _ = read_series(builder.write(datasets))
    assert volume.geometry.spacing_mm[0] == pytest.approx(2.5, abs=1e-3)


def test_files_are_named_by_the_caller_and_equal_base_names_do_not_clash(tmp_path):
    folder = synthetic.shuffled(tmp_path)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert len({path.name for path in paths}) < len(paths)
    series = series_of_files(paths)
    assert series.geometry.same_grid_as(open_series(folder).geometry)


@pytest.mark.parametrize("content", ["nothing", "text", "missing"])
def test_folder_without_a_series_is_refused(content, tmp_path):
    folder = tmp_path / "folder"
    if content != "missing":
        folder.mkdir()
    if content == "text":
        (folder / "IM1").write_text("hello")
    with pytest.raises(InputError) as refused:
        read_series(folder)
    assert refused.value.code == "E311"
    assert str(folder) in str(refused.value)


def test_images_of_two_patients_under_one_series_uid_are_refused(tmp_path):
    builder = synthetic.SeriesBuilder(tmp_path)
    datasets = builder.datasets()
    datasets[3].PatientID = "LA-0002"
    with pytest.raises(InputError, match="2 patients: LA-0001, LA-0002"):
        read_series(builder.write(datasets))


def test_several_multiframe_files_are_refused(tmp_path):
    synthetic.enhanced(tmp_path)
    dataset = pydicom.dcmread(tmp_path / "enhanced.dcm")
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.save_as(tmp_path / "second.dcm")
    with pytest.raises(InputError, match="2 files, 2 of them with several frames"):
        read_series(tmp_path)


@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 12.0)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    number=st.integers(2, 9),
    data=st.data(),
)
def test_stack_of_any_orientation_is_found_in_any_order(angles, spacing, origin, number, data):
    direction = synthetic.oblique_direction(angles)
    order = data.draw(st.permutations(range(number)))
    planes = [_plane(direction, spacing, np.array(origin) + k * spacing[0] * direction[:, 0]) for k in order]
    geometry, found = stack_planes(planes)
    assert [order[index] for index in found] == list(range(number))
    np.testing.assert_allclose(geometry.spacing_mm, spacing, atol=1e-6)
    np.testing.assert_allclose(geometry.direction, direction, atol=1e-6)
    np.testing.assert_allclose(geometry.origin_mm, origin, atol=1e-6)


@given(angles=st.tuples(*[st.floats(-180, 180)] * 3), lost=st.integers(1, 8), spacing=st.floats(0.5, 10))
def test_a_lost_inner_slice_is_always_noticed(angles, lost, spacing):
    direction = synthetic.oblique_direction(angles)
    planes = [_plane(direction, (spacing, 1, 1), k * spacing * direction[:, 0]) for k in range(10) if k != lost]
    with pytest.raises(InputError, match="1 slice is missing"):
        stack_planes(planes)


def _plane(direction: np.ndarray, spacing: tuple[float, float, float], position: np.ndarray) -> Plane:
    return Plane(
        position_mm=position,
        orientation=np.concatenate([direction[:, 2], direction[:, 1]]),
        spacing_mm=spacing[1:],
        size=(8, 9),
        slice_spacing_mm=None,
        timing=dict,
        name="plane",
    )


def _read_with_simpleitk(sitk, folder: Path):
    """ITK's own order of the files; it does not look into subfolders."""
    flat = folder.parent / f"{folder.name}_flat"
    flat.mkdir()
    for index, path in enumerate(p for p in sorted(folder.rglob("*")) if p.is_file()):
        shutil.copy(path, flat / f"{index:04d}.dcm")
    return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(flat)))
