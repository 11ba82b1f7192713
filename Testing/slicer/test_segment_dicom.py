"""DICOM from end to end: a folder through the DICOM database into the scene, a mask, the check page, the real engine, the file.

Run on slicer-core with an emulated Qt layer. Needs pydicom, and a Python with the engine's packages (SEMISEG_ENGINE_PYTHON,
or .venv made by test.sh). The images are read by Slicer's own C++; patients, database and indexer are stand-ins.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import qt
import slicer
from bed import boot, dialogs
from segment_builders import REPOSITORY, Panel, draw, install_stub
from train_bed import engine_python

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
sys.path.insert(0, str(REPOSITORY / "Testing" / "engine"))

import synthetic_series as synthetic

from TransMedSegLib import CaseTable, DicomPackages, SaveAs, VolumeExchange
from TransMedSegLib.Review import SEMIAUTOMATIC, TYPE_TAG
from TransMedSegLib.Terminology import setTerminology, tagOf

SECONDS = 120
CHAMBER = synthetic.chamber_mask().astype(bool)


def _has_highdicom(python):
    return python is not None and subprocess.run([python, "-c", "import highdicom"], capture_output=True, check=False).returncode == 0


ENGINE = engine_python()
needs_engine = pytest.mark.skipif(not _has_highdicom(ENGINE), reason="no Python with highdicom (SEMISEG_ENGINE_PYTHON, or .venv made by test.sh)")


@pytest.fixture
def panel(tmp_path):
    slicer.dicomDatabase._instances.clear()
    qt.QSettings().setValue("TransMedSeg/Python", ENGINE or "")
    qt.QSettings().setValue("TransMedSeg/Reviewer", "Ann Lee")
    one = Panel()
    yield one
    one.close()
    qt.QSettings().remove("TransMedSeg/Python")
    slicer.dicomDatabase._instances.clear()


def loaded(panel, folder):
    """The case of a DICOM folder that the user dropped on the panel."""
    panel.module.cases.add([folder])
    return panel.desk.cases()[-1]


def drawn(panel, folder, approve=True):
    """A case with the chamber drawn by hand in it."""
    case = loaded(panel, folder)
    segment_id = draw(case, CHAMBER, "Left atrium")
    setTerminology(case.segmentation.GetSegmentation().GetSegment(segment_id), "left atrium")
    if approve:
        panel.desk.review.approve(case)
    panel.desk.refresh()
    return case


def open_page(panel):
    panel.ui.dicomButton.click()
    return {line.name: line for line in panel.module.export.check()}


def written(panel, folder):
    """Presses "Write to folder" and waits. Returns what the panel says."""
    folder.mkdir(exist_ok=True)
    dialogs.answers["getExistingDirectory"] = [str(folder)]
    export = panel.module.export
    export.folderButton.click()
    assert boot.process_events(SECONDS, until=lambda: not export.engine.isRunning)
    return export.notice.message


def voxel_positions(path, number=1):
    """(n, 3) LPS positions of the foreground of a segment, from the file alone."""
    dataset = pydicom.dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    places = []
    for group, pixels in zip(dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array, strict=True):
        holder = group if "SegmentIdentificationSequence" in group else shared
        if holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            row, column = np.nonzero(pixels)
            start = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
            places.append(start + np.outer(column * spacing[1], cosines[0]) + np.outer(row * spacing[0], cosines[1]))
    return np.concatenate(places)


def expected_positions(builder, mask):
    """(n, 3) LPS positions of a mask on the grid the series was made on."""
    steps = builder.direction * builder.spacing_mm
    return np.argwhere(mask) @ steps.T + builder.origin_mm


def in_order(places):
    places = np.round(places, 3)
    return places[np.lexsort(places.T)]


# ------------------------------------------------------------------------------------------------------- into the scene


def test_a_dropped_folder_becomes_a_case_with_every_voxel_in_its_place(panel, tmp_path):
    builder = synthetic.SeriesBuilder(tmp_path / "series")
    case = loaded(panel, builder.write())
    assert case.volume.GetName() == "7: LGE left atrium 3D"
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    case.volume.GetIJKToRASMatrix(matrix)
    affine = np.diag([-1, -1, 1, 1]) @ slicer.util.arrayFromVTKMatrix(matrix)
    array = slicer.util.arrayFromVolume(case.volume)
    bright = np.argwhere(array > 250)[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(in_order(bright), in_order(expected_positions(builder, builder.pixels > 250)), atol=2e-3)
    uids = case.volume.GetAttribute("DICOM.instanceUIDs").split()
    assert len(uids) == len(array)
    for index in (0, 11, 23):  # the i-th UID is that of the i-th slice
        dataset = pydicom.dcmread(slicer.dicomDatabase.fileForInstance(uids[index]))
        np.testing.assert_allclose(affine[:3, 3] + index * affine[:3, 2], dataset.ImagePositionPatient, atol=1e-3)
        np.testing.assert_array_equal(array[index], dataset.pixel_array)


def test_every_series_of_a_folder_becomes_a_case_and_other_files_do_not_disturb(panel, tmp_path):
    folder = synthetic.two_series(tmp_path / "study")
    (folder / "notes.txt").write_text("not an image")
    panel.module.cases.add([folder])
    cases = panel.desk.cases()
    assert len(cases) == 2
    assert len({case.volume.GetAttribute("DICOM.instanceUIDs") for case in cases}) == 2


# --------------------------------------------------------------------------------------------------- out of the scene


@needs_engine
def test_drawn_mask_is_written_into_a_folder_and_verified(panel, tmp_path):
    builder = synthetic.SeriesBuilder(tmp_path / "series")
    drawn(panel, builder.write())
    lines = open_page(panel)
    assert {line.state for line in lines.values()} == {"ok"}, [line.text for line in lines.values()]
    assert written(panel, tmp_path / "out") == "Written and verified: 12 frames, 6.4 mL"
    (path,) = (tmp_path / "out").iterdir()
    np.testing.assert_allclose(in_order(voxel_positions(path)), in_order(expected_positions(builder, CHAMBER)), atol=2e-3)
    dataset = pydicom.dcmread(path)
    assert dataset.ContentCreatorName == "Lee^Ann"
    segment = dataset.SegmentSequence[0]
    assert (segment.SegmentLabel, segment.SegmentAlgorithmType) == ("Left atrium", "MANUAL")
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "82471001"
    assert list(segment.RecommendedDisplayCIELabValue) == [36767, 41926, 41081]
    sources = {str(pydicom.dcmread(one, stop_before_pixels=True).SOPInstanceUID) for one in builder.folder.iterdir()}
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        assert frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID in sources
    assert not list(Path(slicer.app.temporaryPath).glob("TransMedSeg-*")), "nothing of the export stays behind"


@needs_engine
def test_segmentation_goes_into_the_dicom_database(panel, tmp_path):
    case = drawn(panel, synthetic.base(tmp_path / "series"))
    open_page(panel)
    export = panel.module.export
    export.databaseButton.click()
    assert boot.process_events(SECONDS, until=lambda: not export.engine.isRunning)
    assert export.notice.message == "Written and verified: 12 frames, 6.4 mL In the DICOM database."
    source = slicer.dicomDatabase.seriesForFile(slicer.dicomDatabase.fileForInstance(case.volume.GetAttribute("DICOM.instanceUIDs").split()[0]))
    study = slicer.dicomDatabase.studyForSeries(source)
    (series,) = set(slicer.dicomDatabase.seriesForStudy(study)) - {source}
    (path,) = slicer.dicomDatabase.filesForSeries(series)
    assert Path(path).is_relative_to(slicer.dicomDatabase.databaseDirectory)
    assert pydicom.dcmread(path).Modality == "SEG"
    assert list((Path(slicer.app.cachePath) / "TransMedSeg").iterdir()) == [], "the database keeps the only copy"


@needs_engine
def test_tracking_uid_is_kept_over_exports_also_of_a_renamed_segment(panel, tmp_path):
    case = drawn(panel, synthetic.base(tmp_path / "series"))
    open_page(panel)
    written(panel, tmp_path / "first")
    segment = case.segmentation.GetSegmentation().GetNthSegment(0)
    segment.SetName("LA after ablation")
    segment.SetTag(TYPE_TAG, SEMIAUTOMATIC)
    case.setStatus(CaseTable.APPROVED)
    assert written(panel, tmp_path / "second").startswith("Written and verified")
    datasets = [pydicom.dcmread(next((tmp_path / name).iterdir())) for name in ("first", "second")]
    first, second = (dataset.SegmentSequence[0] for dataset in datasets)
    assert (second.SegmentLabel, second.SegmentAlgorithmType) == ("LA after ablation", "SEMIAUTOMATIC")
    assert first.TrackingUID == second.TrackingUID == tagOf(segment, "DICOM.TrackingUID")
    assert datasets[0].SOPInstanceUID != datasets[1].SOPInstanceUID
    SaveAs.save(case, tmp_path / "mask.nii.gz")  # the fall-back keeps it too
    assert first.TrackingUID in (tmp_path / "mask.json").read_text()


@needs_engine
def test_every_failing_line_is_mended_by_its_fix_and_the_file_written(panel, tmp_path):
    folder = synthetic.base(tmp_path / "series")
    case = drawn(panel, folder, approve=False)
    segmentation = case.segmentation.GetSegmentation()
    segmentation.GetNthSegment(0).RemoveTag("TerminologyEntry")
    segmentation.AddEmptySegment("vein", "Pulmonary veins")
    coarse = slicer.util.addVolumeFromArray(np.zeros((24, 32, 28), np.int16), name="coarse")
    coarse.CopyOrientation(case.volume)
    coarse.SetSpacing(np.array(case.volume.GetSpacing()) * [2, 2, 1])
    VolumeExchange.writeMask(case.segmentation, segmentation.GetNthSegmentID(0), CHAMBER[:, ::2, ::2], coarse)
    (tmp_path / "series").rename(tmp_path / "moved")
    export = panel.module.export
    found = open_page(panel)
    assert [name for name, line in found.items() if line.state == "error"] == ["files", "geometry", "terminology", "approval"]
    assert found["files"].text == "24 of 24 source files are no longer in the DICOM database."
    assert not export.folderButton.enabled
    dialogs.answers["getExistingDirectory"] = [str(tmp_path / "moved")]
    for name in ("files", "geometry", "empty", "terminology", "approval other"):
        export.fixButtons[name].click()
    assert {line.state for line in export.check()} == {"ok", "warning"}  # the warning: nobody has approved it
    assert written(panel, tmp_path / "out").startswith("Written and verified: 12 frames, ")
    dataset = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert "unverified" in dataset.SeriesDescription
    assert len(dataset.SegmentSequence) == 1


@needs_engine
def test_overlapping_segments_are_written_with_their_own_history(panel, tmp_path):
    builder = synthetic.SeriesBuilder(tmp_path / "series")
    case = drawn(panel, builder.write())
    segmentation = case.segmentation.GetSegmentation()
    wall = synthetic.wall_mask().astype(bool)
    name = segmentation.AddEmptySegment("", "Left atrial scar")
    VolumeExchange.writeMask(case.segmentation, name, wall, case.volume)
    setTerminology(segmentation.GetSegment(name), "left atrial scar")
    segmentation.GetSegment(name).SetTag(TYPE_TAG, "AUTOMATIC")
    case.setStatus(CaseTable.APPROVED)
    open_page(panel)
    assert written(panel, tmp_path / "out").startswith("Written and verified: 24 frames, Left atrium 6.4 mL, Left atrial scar ")
    (path,) = (tmp_path / "out").iterdir()
    for number, mask in ((1, CHAMBER), (2, wall)):
        np.testing.assert_allclose(in_order(voxel_positions(path, number)), in_order(expected_positions(builder, mask)), atol=2e-3)
    types = [segment.SegmentAlgorithmType for segment in pydicom.dcmread(path).SegmentSequence]
    assert types == ["MANUAL", "AUTOMATIC"]


@needs_engine
def test_series_that_the_engine_refuses_is_named_with_numbers_and_nothing_is_written(panel, tmp_path):
    drawn(panel, synthetic.base(tmp_path / "series"))
    open_page(panel)
    damaged = sorted((tmp_path / "series").iterdir())[6]
    os.truncate(damaged, damaged.stat().st_size // 2)  # after it was loaded
    assert "of 7168 bytes of its pixels are there" in written(panel, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


# -------------------------------------------------------------------------------------------------------- Slicer 5.10


@pytest.fixture
def slicer_510(tmp_path, monkeypatch):
    """A Slicer whose Python has pydicom 2.4.4 and no highdicom, as 5.10; returns the folder for packages of our own.

    The launcher PythonSlicer starts the engine's Python with an old pydicom, which raises when imported, before all others.
    """
    old = tmp_path / "slicer-packages"
    for name, version in (("pydicom", "2.4.4"), ("highdicom", "0.22.0")):
        (old / f"{name}-{version}.dist-info").mkdir(parents=True)
        (old / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (old / name).mkdir()
        (old / name / "__init__.py").write_text(f'raise ImportError("{name} {version} of Slicer was used")\n')
    program = tmp_path / "bin" / "PythonSlicer"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{old}" exec "{ENGINE}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    qt.QSettings().remove("TransMedSeg/Python")
    monkeypatch.setattr(DicomPackages, "ownFolder", lambda: tmp_path / "own")
    found = DicomPackages._hold
    monkeypatch.setattr(DicomPackages, "_hold", lambda folder: found(folder or old))
    return tmp_path / "own"


def _fill(folder):
    """Puts the packages of the engine's Python there, in place of a download."""
    folder.mkdir()
    script = "import highdicom, pathlib; print(pathlib.Path(highdicom.__file__).parents[1])"
    site = Path(subprocess.run([ENGINE, "-c", script], capture_output=True, text=True, check=True).stdout.strip())
    for pattern in ("pydicom", "pydicom-*", "highdicom", "highdicom-*"):
        for path in site.glob(pattern):
            (folder / path.name).symlink_to(path)


@needs_engine
def test_slicer_510_exports_with_packages_of_the_engines_own(panel, slicer_510, tmp_path):
    before = dict(sys.modules)
    drawn(panel, synthetic.base(tmp_path / "series"))
    line = open_page(panel)["packages"]
    assert (line.state, line.code, line.fix) == ("error", "E906", "Install for this module alone…")
    assert not panel.module.export.folderButton.enabled
    _fill(slicer_510)
    assert "packages" not in open_page(panel)
    assert written(panel, tmp_path / "out") == "Written and verified: 12 frames, 6.4 mL"
    assert "highdicom" not in set(sys.modules) - set(before), "Slicer's own process never sees it"


@needs_engine
def test_without_the_own_packages_slicers_old_ones_would_be_refused(panel, slicer_510, tmp_path, monkeypatch):
    """Shows that the test above can fail: the same export with Slicer's packages."""
    drawn(panel, synthetic.base(tmp_path / "series"))
    monkeypatch.setattr(DicomPackages, "areFit", lambda: True)
    open_page(panel)
    assert "DICOM-SEG needs pydicom 3.0.1 or newer; found 2.4.4" in written(panel, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


PIP = """#!{python}
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--target") + 1])
folder.mkdir(parents=True)
for name, version in (("highdicom", "0.28.2"), ("pydicom", "3.0.2")):
    (folder / f"{{name}}-{{version}}.dist-info").mkdir()
    (folder / f"{{name}}-{{version}}.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {{name}}\\nVersion: {{version}}\\n")
print("ERROR: Connection broken" if {code} else "Successfully installed")
sys.exit({code})
"""


@pytest.mark.parametrize("code", [0, 1])
def test_own_packages_are_installed_whole_or_not_at_all(panel, slicer_510, tmp_path, code):
    pip = tmp_path / "bin" / "PythonSlicer"
    pip.write_text(PIP.format(python=sys.executable, code=code))
    drawn(panel, synthetic.base(tmp_path / "series"))
    open_page(panel)
    dialogs.answers["confirmOkCancelDisplay"] = [True]
    export = panel.module.export
    export.fixButtons["packages"].click()
    assert boot.process_events(120, until=lambda: export._install is None)
    assert slicer_510.exists() == DicomPackages.areFit() == (code == 0)
    assert ("packages" in export.fixButtons) == (code == 1)
    assert not list(tmp_path.glob(".part-*"))
    assert export.notice.message == "Installed." if code == 0 else "Connection broken" in export.notice.message


# ----------------------------------------------------------------------------------------------------------- fall-backs


def test_saved_segmentation_has_both_keys_of_the_source_representation(panel, tmp_path):
    install_stub(tmp_path)
    case = drawn(panel, synthetic.base(tmp_path / "series"))
    SaveAs.save(case, tmp_path / "mask.seg.nrrd")
    header = (tmp_path / "mask.seg.nrrd").read_bytes().split(b"\n\n")[0].decode()
    for key in ("Segmentation_MasterRepresentation", "Segmentation_SourceRepresentation"):
        assert f"{key}:=Binary labelmap" in header
    with VolumeExchange.readSegmentation(tmp_path / "mask.seg.nrrd") as stored:
        name = stored.GetSegmentation().GetNthSegmentID(0)
        np.testing.assert_array_equal(VolumeExchange.maskOf(stored, name, case.volume), CHAMBER)


def test_label_map_of_overlapping_segments_says_what_it_loses(panel, tmp_path):
    case = drawn(panel, synthetic.base(tmp_path / "series"))
    segmentation = case.segmentation.GetSegmentation()
    assert SaveAs.save(case, tmp_path / "one.nii.gz") == ""
    name = segmentation.AddEmptySegment("", "Left atrial scar")
    wall = synthetic.wall_mask().astype(bool)
    VolumeExchange.writeMask(case.segmentation, name, wall, case.volume)
    dialogs.answers["getSaveFileName"] = [(str(tmp_path / "two.nii.gz"), "")]
    panel.ui.saveButton.click()
    count = np.count_nonzero(wall & CHAMBER)
    assert panel.module.export.notice.message.startswith(f"Segments overlap in {count} voxels; NIfTI keeps the later one")
    assert sorted(path.name for path in tmp_path.glob("[ot.]*")) == ["one.json", "one.nii.gz", "two.json", "two.nii.gz"]
