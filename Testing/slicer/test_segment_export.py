"""The check page of the DICOM export: each line, each fix, what is written, each code."""

import json

import numpy as np
import pytest
import qt
import slicer
from bed import boot, dialogs
from segment_builders import Panel, install_stub, make_volume

from TransMedSegLib import CaseTable, DicomExport, DicomPackages, SaveAs, Terminology, VolumeExchange


@pytest.fixture
def panel(tmp_path):
    install_stub(tmp_path)
    slicer.dicomDatabase._instances.clear()
    qt.QSettings().setValue("TransMedSeg/Reviewer", "Ann Lee")
    one = Panel()
    one.choose_model(tmp_path)
    yield one
    one.close()
    slicer.dicomDatabase._instances.clear()


def ready_case(panel, tmp_path):
    """An approved case whose volume came from a DICOM series of 12 files."""
    volume = make_volume("P001")
    uids = play_series(tmp_path)
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study"))
    case = panel.add(volume)
    assert panel.segment_this()
    panel.desk.review.approve(case)
    return case


def play_series(folder):
    """Puts 12 files into the DICOM database. Returns their UIDs."""
    uids = [f"1.2.{index}" for index in range(12)]
    for uid in uids:
        (folder / f"{uid}.dcm").write_bytes(b"x")
        slicer.dicomDatabase.addInstance(folder / f"{uid}.dcm", uid, "1.9")
    return uids


def page(panel):
    """What the check page says now: {check: (state, text with code)}."""
    if panel.module.export.export is None:
        panel.ui.dicomButton.click()
    return {line.name: (line.state, line.text, line.code) for line in panel.module.export.check()}


def fix(panel, name):
    panel.module.export.fixButtons[name].click()
    return page(panel)[name.removesuffix(" other")]


def write(panel, tmp_path):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    dialogs.answers["getExistingDirectory"] = [str(out)]
    panel.module.export.folderButton.click()
    assert boot.process_events(120, until=lambda: not panel.module.export.engine.isRunning)
    return panel.module.export.notice.message


def test_all_is_well_and_the_file_is_written_and_verified(panel, tmp_path):
    ready_case(panel, tmp_path)
    lines = page(panel)
    assert list(lines) == ["reference", "files", "study", "geometry", "empty", "terminology", "reviewer", "approval"]
    assert {state for state, _text, _code in lines.values()} == {"ok"}
    assert lines["files"][1] == "All 12 source files are in the DICOM database"
    assert panel.module.export.folderButton.enabled
    assert write(panel, tmp_path) == "Written and verified: 5 frames, 1.2 mL"
    options = json.loads((slicer_temporary() / "last_export.json").read_text())
    assert options["series"] == [str(tmp_path / f"1.2.{index}.dcm") for index in range(12)]
    assert options["options"] == {"creator": "Lee^Ann", "is_unverified": False}


def slicer_temporary():
    from pathlib import Path

    return Path(slicer.app.temporaryPath)


def test_E901_a_volume_from_a_file_can_be_saved_otherwise(panel, tmp_path):
    case = panel.add(make_volume("P001"))
    assert panel.segment_this()
    lines = page(panel)
    text = "This volume came from a file, so there is no patient and series to point to. Save as .seg.nrrd or NIfTI instead."
    assert lines == {"reference": ("error", text, "E901")}
    assert not panel.module.export.folderButton.enabled
    dialogs.answers["getSaveFileName"] = [(str(tmp_path / "mask.seg.nrrd"), "")]
    panel.module.export.fixButtons["reference"].click()
    with VolumeExchange.readSegmentation(tmp_path / "mask.seg.nrrd") as stored:
        assert stored.GetSegmentation().GetNthSegment(0).GetName() == "Left atrium (AI)"
    assert case.status == CaseTable.PREDICTED


def test_E902_source_files_that_are_gone(panel, tmp_path, monkeypatch):
    ready_case(panel, tmp_path)
    for index in range(3):
        (tmp_path / f"1.2.{index}.dcm").unlink()
    slicer.dicomDatabase._instances.pop("1.2.7")
    text = "4 of 12 source files are no longer in the DICOM database."
    assert page(panel)["files"] == ("error", text, "E902")
    assert panel.module.export.fixButtons["files"].text == "Import folder again…"
    imported = []
    monkeypatch.setattr("TransMedSegLib.DicomExport.importFolder", lambda folder: (imported.append(folder), play_series(tmp_path)))
    dialogs.answers["getExistingDirectory"] = [str(tmp_path)]
    assert fix(panel, "files") == ("ok", "All 12 source files are in the DICOM database", "")
    assert imported == [str(tmp_path)]


def parents(node):
    """Names of the items above a node in the subject hierarchy, from below."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item, names = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)), []
    while item != hierarchy.GetSceneItemID():
        names.append(hierarchy.GetItemName(item))
        item = hierarchy.GetItemParent(item)
    return names


def move_to_top(node):
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), hierarchy.GetSceneItemID())


def headers(monkeypatch, **values):
    """What the files in the DICOM database say, whatever is in them."""
    tags = {"0020,000D": "1.8", "0020,000E": "1.9", "0010,0020": "P001", **values}
    monkeypatch.setattr(type(slicer.dicomDatabase), "fileValue", lambda self, path, tag: tags.get(tag, ""))


def test_a_segmentation_that_is_not_under_the_study_of_its_volume_is_put_there(panel, tmp_path):
    case = ready_case(panel, tmp_path)
    move_to_top(case.segmentation)
    name = case.segmentation.GetName()
    assert page(panel)["study"] == ("warning", f"'{name}' is not under the study of its volume.", "")
    assert panel.module.export.folderButton.enabled, "our own export reads patient and study from the source files"
    assert panel.module.export.fixButtons["study"].text == "Put under study"
    assert fix(panel, "study") == ("ok", "Volume and segmentation are under one study", "")
    assert parents(case.segmentation) == parents(case.volume) == ["Study"]
    assert "study" not in panel.module.export.fixButtons


def test_a_volume_that_is_not_under_a_study_is_put_under_that_of_its_files(panel, tmp_path, monkeypatch):
    case = ready_case(panel, tmp_path)
    headers(monkeypatch, **{"0008,1030": "Heart MRI", "0008,0020": "20240131", "0010,0010": "Phantom"})
    for node in (case.volume, case.segmentation):
        move_to_top(node)
    assert page(panel)["study"] == ("warning", "'P001' is not under a study, so other exports of Slicer do not know its patient.", "")
    assert fix(panel, "study")[0] == "ok"
    assert parents(case.volume) == parents(case.segmentation) == ["Heart MRI (20240131)", "Phantom (P001)"]
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    study = hierarchy.GetItemByUID("DICOM", "1.8")
    assert hierarchy.GetItemAttribute(study, "DICOM.StudyDate") == "20240131" and hierarchy.GetItemByUID("DICOM", "1.9")


def test_the_study_that_the_scene_has_is_not_made_twice(panel, tmp_path, monkeypatch):
    case = ready_case(panel, tmp_path)
    headers(monkeypatch)
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Of another series")
    hierarchy.SetItemUID(study, "DICOM", "1.8")
    move_to_top(case.volume)
    assert fix_after_page(panel, "study")[0] == "ok"
    assert parents(case.volume) == parents(case.segmentation) == ["Of another series"]


def fix_after_page(panel, name):
    page(panel)
    return fix(panel, name)


def test_without_source_files_there_is_no_study_to_put_it_under(panel, tmp_path):
    case = ready_case(panel, tmp_path)
    move_to_top(case.volume)
    slicer.dicomDatabase._instances.clear()
    assert page(panel)["study"][0] == "warning"
    assert "study" not in panel.module.export.fixButtons and "files" in panel.module.export.fixButtons


def test_E903_a_segment_without_code(panel, tmp_path):
    case = ready_case(panel, tmp_path)
    segment = case.segmentation.GetSegmentation().GetNthSegment(0)
    segment.RemoveTag("TerminologyEntry")
    assert page(panel)["terminology"] == ("error", "Segment 'Left atrium (AI)' has no medical code.", "E903")
    assert fix(panel, "terminology")[0] == "ok"
    assert Terminology.hasTerminology(segment)


def test_E904_an_empty_segment_is_left_out_and_an_empty_segmentation_refused(panel, tmp_path):
    case = ready_case(panel, tmp_path)
    segmentation = case.segmentation.GetSegmentation()
    segmentation.AddEmptySegment("vein", "Pulmonary vein")
    assert page(panel)["empty"] == ("warning", "'Pulmonary vein' is empty and will be left out.", "E904")
    assert fix(panel, "empty")[0] == "ok"
    assert segmentation.GetNumberOfSegments() == 1
    VolumeExchange.writeMask(case.segmentation, segmentation.GetNthSegmentID(0), np.zeros((12, 20, 24), bool), case.volume)
    assert page(panel)["empty"] == ("error", "The segmentation is empty: there is nothing to write.", "E904")


def test_E905_a_mask_on_another_grid_is_resampled_when_asked(panel, tmp_path):
    case = ready_case(panel, tmp_path)
    name = case.segmentation.GetSegmentation().GetNthSegmentID(0)
    coarse = make_volume("coarse", (6, 10, 12), np.zeros((6, 10, 12), bool), np.array([[1.8, 0, 0, -30], [0, 2.2, 0, 12], [0, 0, 5.0, 41], [0, 0, 0, 1.0]]))
    mask = np.zeros((6, 10, 12), bool)
    mask[2:4, 3:7, 4:8] = True
    VolumeExchange.writeMask(case.segmentation, name, mask, coarse)
    assert page(panel)["geometry"] == ("error", "The mask is on another grid than the source images.", "E905")
    assert fix(panel, "geometry")[0] == "ok"
    assert VolumeExchange.maskOf(case.segmentation, name, case.volume).any()


def test_E906_a_Slicer_without_highdicom(panel, tmp_path, monkeypatch):
    ready_case(panel, tmp_path)
    page(panel)
    monkeypatch.setattr(DicomPackages, "areFit", lambda: False)
    assert write(panel, tmp_path) == "DICOM-SEG needs the Python package highdicom. [E906]"
    assert list(panel.module.export.notice.buttons) == ["Save .seg.nrrd instead", "Copy for bug report"]
    assert page(panel)["packages"] == ("error", "DICOM-SEG needs the Python package highdicom.", "E906")
    assert panel.module.export.fixButtons["packages"].text == "Install for this module alone…"
    assert not panel.module.export.folderButton.enabled
    saves_instead(panel, tmp_path, panel.module.export.fixButtons["packages other"])


def saves_instead(panel, tmp_path, button):
    """The button saves another format."""
    assert button.text == "Save .seg.nrrd instead"
    dialogs.answers["getSaveFileName"] = [(str(tmp_path / "instead.seg.nrrd"), "")]
    button.click()
    assert (tmp_path / "instead.seg.nrrd").stat().st_size > 0


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("E907", "The headers are refused.", "The headers are refused. [E907]"),
        ("E908", "The written file differs from the mask (3 slices). It was deleted; please report this.", None),
        ("", "Boom", "DICOM-SEG could not be written: The program stopped with an error: Boom [E907]"),
    ],
)
def test_E907_E908_what_the_engine_refuses_leaves_no_file(panel, tmp_path, code, message, said):
    ready_case(panel, tmp_path)
    page(panel)
    install_stub(tmp_path, act="refuse", code=code, message=message)
    assert write(panel, tmp_path) == (said or f"{message} [{code}]")
    assert list((tmp_path / "out").iterdir()) == []
    buttons = panel.module.export.notice.buttons
    buttons["Copy for bug report"].click()
    assert message in qt.QApplication.clipboard().text()
    saves_instead(panel, tmp_path, buttons["Save .seg.nrrd instead"])


def test_E909_nobody_has_approved_it(panel, tmp_path):
    case = ready_case(panel, tmp_path)
    case.setStatus(CaseTable.PREDICTED)
    text = "This segmentation has not been approved by a person."
    assert page(panel)["approval"] == ("error", text, "E909")
    assert [panel.module.export.fixButtons[name].text for name in ("approval", "approval other")] == ["Approve", "Export as 'unverified'"]
    assert fix(panel, "approval other") == ("warning", "Exported as 'unverified': nobody has approved it.", "E909")
    assert write(panel, tmp_path).startswith("Written")
    assert json.loads((slicer_temporary() / "last_export.json").read_text())["options"]["is_unverified"] is True


def test_E909_can_be_approved_on_the_page(panel, tmp_path):
    case = ready_case(panel, tmp_path)
    case.setStatus(CaseTable.PREDICTED)
    page(panel)
    assert fix(panel, "approval") == ("ok", "Approved by a person", "")
    assert case.status == CaseTable.APPROVED and panel.module.export.folderButton.enabled


def test_the_reviewer_may_be_left_out_and_names_are_turned_as_DICOM_writes_them(panel, tmp_path):
    ready_case(panel, tmp_path)
    page(panel)
    panel.module.export.reviewerLineEdit.text = ""
    panel.module.export.reviewerLineEdit.editingFinished.emit()
    assert page(panel)["reviewer"][0] == "warning"
    assert DicomExport.personName("  Ann  Mary Lee ") == "Lee^Ann Mary"
    assert DicomExport.personName("Lee^Ann") == "Lee^Ann"
    assert DicomExport.personName("Lee") == "Lee"


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nii.gz", ".stl"])
def test_other_formats(panel, tmp_path, ending):
    case = panel.add(make_volume("P001"))
    assert panel.segment_this()
    folder = tmp_path / "saved"
    folder.mkdir()
    SaveAs.save(case, folder / f"mask{ending}")
    assert any(path.name.endswith(ending) and path.stat().st_size > 0 for path in folder.iterdir())
    if ending == ".nii.gz":
        from semiseg.data.files import read_labels

        volume, names = read_labels(folder / f"mask{ending}", "mask")
        assert names == {1: "Left atrium (AI)"}
        assert volume.array.sum() == VolumeExchange.maskOf(case.segmentation, case.segmentation.GetSegmentation().GetNthSegmentID(0), case.volume).sum()
    with pytest.raises(ValueError):
        SaveAs.save(case, folder / "mask.obj")
