# ruff: noqa: F811 (fixtures are imported)
"""The buttons below the messages of the segmentation module: which are offered, and that each does what it says."""

import numpy as np
import pytest
import qt
import slicer
from bed import boot, dialogs
from segment_builders import install_stub, make_volume, panel, write_model  # noqa: F401 (panel is a fixture)
from test_models import dialog, folder, said  # noqa: F401 (fixtures)

from TransMedSegLib import CaseTable, CaseTime, GpuUsers, ModelList, TimeFrames, VolumeExchange


def buttons(panel):
    return list(panel.segment.notice.buttons)


# A GPU that is too small


def full_gpu(panel, tmp_path):
    """A case for which the memory of the GPU was not enough. Returns what is said."""
    reason = "The GPU ran out of memory (needs about 5.1 GB, free 3.2 GB). One window of 112×112×80 at a time is still too much."
    install_stub(tmp_path, failures={"c001": {"code": "E205", "reason": reason}})
    panel.desk.parameters.device = "cuda:0"
    panel.add(make_volume("P001"))
    assert panel.segment_this()
    return f"{reason} [E205]"


def test_E205_tells_how_long_the_CPU_takes(panel, tmp_path):
    CaseTime.remember(panel.segment.model, "cpu", make_volume("measured"), 240)
    assert said(panel) == "" and full_gpu(panel, tmp_path) == said(panel)
    assert buttons(panel) == ["Run on the CPU (about 4 min for this case)", "Who uses the GPU?"]


def test_E205_names_the_programs_on_the_GPU(panel, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '4321, /usr/bin/python3, 5222'\n")
    program.chmod(0o755)
    monkeypatch.setattr(GpuUsers.shutil, "which", lambda name: str(program))
    first = full_gpu(panel, tmp_path).removesuffix(" [E205]")
    panel.segment.notice.buttons["Who uses the GPU?"].click()
    assert boot.process_events(120, until=lambda: said(panel))
    assert said(panel) == f"{first}\nThese programs use the GPU:\npython3 (process 4321): 5.1 GB [E205]"
    assert buttons(panel) == ["Run on the CPU"]


# Time series


def time_series(name="P001", frames=5):
    """A volume of five frames; the ball of the stub engine is bright in the third one alone."""
    still = make_volume("still")
    array = np.repeat(slicer.util.arrayFromVolume(still)[..., None], frames, axis=3).astype(np.int16)
    array[..., [0, 1, 3, 4]] = np.minimum(array[..., [0, 1, 3, 4]], 90)
    node = slicer.util.addVolumeFromArray(array, name=name, nodeClassName="vtkMRMLVectorVolumeNode")
    node.CopyOrientation(still)
    slicer.mrmlScene.RemoveNode(still)
    return node


def test_E302_a_frame_of_a_time_series_is_picked_and_segmented(panel):
    series = time_series()
    panel.add(series)
    panel.ui.segmentButton.click()
    assert said(panel) == "'P001' is a time series; a 3D scalar volume is needed. [E302]"
    assert buttons(panel) == ["Pick a time frame…"]
    panel.segment.notice.buttons["Pick a time frame…"].click()
    assert said(panel).endswith("[E302]"), "who wants none is asked again"
    dialogs.answers["getInt"] = [3]
    panel.segment.notice.buttons["Pick a time frame…"].click()
    assert panel.wait()
    case = panel.desk.current
    assert (case.name, case.status) == ("P001 frame 3", CaseTable.PREDICTED)
    assert [one.name for one in panel.desk.cases()] == ["P001 frame 3"]
    assert slicer.mrmlScene.IsNodePresent(series), "the series itself stays in the scene"
    assert VolumeExchange.positionRas(case.volume, (3, 4, 5)) == VolumeExchange.positionRas(series, (3, 4, 5))
    assert np.array_equal(slicer.util.arrayFromVolume(case.volume), slicer.util.arrayFromVolume(series)[..., 2])


def test_E302_a_color_image_has_no_frames(panel):
    panel.add(slicer.util.addVolumeFromArray(np.zeros((4, 5, 6, 3), np.uint8), name="P001", nodeClassName="vtkMRMLVectorVolumeNode"))
    panel.ui.segmentButton.click()
    assert said(panel) == "'P001' is a color image; a 3D scalar volume is needed. [E302]" and buttons(panel) == []
    assert TimeFrames.frameCount(make_volume("still")) == 0


# Transforms


def test_E303_a_transform_can_be_ignored_and_stays(panel):
    case = panel.add(make_volume("P001"))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([-1.0, 1, 1, 1])))
    case.volume.SetAndObserveTransformNodeID(transform.GetID())
    panel.ui.segmentButton.click()
    assert said(panel) == "'P001' is moved by transform 'T'. The result would be in the wrong place. [E303]"
    panel.segment.notice.buttons["Ignore it for this run"].click()
    assert panel.wait() and case.status == CaseTable.PREDICTED
    assert case.volume.GetParentTransformNode() is transform


# Models


def test_E401_a_model_may_come_from_a_file(panel, dialog, tmp_path):
    path = ModelList.add(write_model(tmp_path / "given" / "model.pt"), url="https://example.org/LA.zip")
    panel.segment.models.choose(path)
    path.unlink()
    panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert said(panel).startswith("This model is not on this computer. Download it on another computer and add it from its file.")
    assert buttons(panel) == ["Add model from file…", "Download again…"]
    dialogs.answers["getOpenFileNames"] = [([str(tmp_path / "given" / "model.pt")], "")]
    panel.segment.notice.buttons["Add model from file…"].click()
    assert panel.segment.model.is_file() and panel.ui.modelCardLabel.text


def test_E404_leads_to_the_update(panel, tmp_path):
    panel.segment.models.choose(write_model(tmp_path / "model.pt", format_version=2, semiseg_version="1.4"))
    panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert said(panel) == "This model needs TransMedSeg 1.4; you have 0.1.0. [E404]"
    assert buttons(panel) == ["Update…", "Manage…"]
    panel.segment.notice.buttons["Update…"].click()
    assert [one.kind for one in dialogs.shown] == ["openExtensionsManagerDialog"]


@pytest.mark.parametrize("ends", ["no network", "no program", "no space"])
def test_E401_E501_E105_a_download_that_fails_offers_another_way(dialog, tmp_path, monkeypatch, ends):
    stub = tmp_path / "python"
    answer = '{"kind": "disk", "total": 3221225472}' if ends == "no space" else ""
    stub.write_text(f"#!/bin/sh\necho '{answer}'\n")
    stub.chmod(0o755)
    monkeypatch.setattr("TransMedSegLib.ModelDownload.freeDiskGb", lambda folder: 0.4)
    qt.QSettings().setValue("TransMedSeg/Python", str(tmp_path / "absent" if ends == "no program" else stub))
    dialog.ui.urlLineEdit.text = "https://example.org/LA.zip"
    dialog.ui.downloadButton.click()
    assert boot.process_events(120, until=lambda: dialog.notice.message)
    text, code, offered = {
        "no network": ("This model is not on this computer. Download it on another computer and add it from its file. Link: https://example.org/LA.zip", "E401", ["Download again", "Add model from file…"]),
        "no program": ("No such file or directory. A virus scanner may block it.", "E501", ["Download again", "Details"]),
        "no space": (f"Needed 3.0 GB, free 0.4 GB in {ModelList.modelsFolder()}. Free some space or choose another folder. Nothing was changed.", "E105", ["Download again"]),
    }[ends]
    assert dialog.notice.message.endswith(f"{text} [{code}]") and list(dialog.notice.buttons) == offered
    assert boot.process_events(120, until=lambda: dialog.ui.downloadButton.enabled)


# The program


def test_E501_tells_which_program_it_is(panel, tmp_path):
    panel.add(make_volume("P001"))
    qt.QSettings().setValue("TransMedSeg/Python", str(tmp_path / "absent"))
    assert panel.segment_this()
    assert said(panel) == "The computing program could not be started: No such file or directory. A virus scanner may block it. [E501]"
    assert buttons(panel) == ["Details", "Show log", "Copy for bug report"]
    panel.segment.notice.buttons["Details"].click()
    assert dialogs.texts() == [f"Program: {tmp_path / 'absent'}\nIt is not there.\nIt is named in the settings as TransMedSeg/Python; empty means Slicer's own."]


def test_E502_shows_its_log_and_a_report_names_the_computer_and_nobody(panel, tmp_path):
    from TransMedSegLib import Computer

    Computer.setGpus([Computer.Gpu(0, "RTX 4090", 24.0, 22.1, "570.1", "8.9")])
    install_stub(tmp_path, act="crash")
    panel.add(make_volume("Miller, Ann"))
    assert panel.segment_this()
    assert said(panel) == "The program stopped with an error: RuntimeError: the stub crashes [E502]"
    panel.segment.notice.buttons["Show log"].click()
    assert "RuntimeError: the stub crashes" in dialogs.texts()[-1]
    panel.segment._onEnded(panel.segment.run._process.ending)
    panel.segment.notice.buttons["Copy for bug report"].click()
    report = qt.QApplication.clipboard().text()
    Computer.setGpus([])
    assert report.startswith("TransMedSeg ") and "RTX 4090, driver 570.1" in report and "E502" in report
    assert "Miller" not in report and str(tmp_path) not in report


def test_E504_who_waits_is_not_asked_again_and_the_run_goes_on(panel, tmp_path, monkeypatch):
    monkeypatch.setattr("TransMedSegLib.EngineProcess.SILENCE_SECONDS", 0.4)
    install_stub(tmp_path, act="wait")
    panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert boot.process_events(120, until=lambda: said(panel))
    assert said(panel) == "No progress for 0 s. [E504]" and buttons(panel) == ["Wait", "Stop"]
    panel.segment.notice.buttons["Wait"].click()
    assert said(panel) == "" and panel.segment.isRunning
    panel.ui.cancelButton.click()
    assert panel.wait()


def test_E509_names_five_cases_shows_all_and_tries_them_again(panel, tmp_path):
    install_stub(tmp_path, failures={f"c{number:03d}": {"code": "E311", "reason": f"'c{number:03d}' cannot be read."} for number in range(1, 8)})
    for number in range(1, 9):
        panel.add(make_volume(f"P{number}", seed=number))
    panel.ui.segmentAllButton.click()
    assert panel.wait()
    named = ", ".join(f"P{number}: E311" for number in range(1, 6))
    assert said(panel) == f"1 done, 7 failed ({named} and 2 more). [E509]"
    panel.segment.notice.buttons["Show"].click()
    assert len(said(panel).splitlines()) == 7
    install_stub(tmp_path)
    panel.segment.notice.buttons["Try these again"].click()
    assert panel.wait() and {case.status for case in panel.desk.cases()} == {CaseTable.PREDICTED}


def test_a_message_of_many_lines_is_never_cut():
    from TransMedSegLib.Notice import Notice

    notice = Notice()
    notice.resize(300, 20)
    notice.say("Each of these words needs its place. " * 20, "E502")
    notice.show()
    boot.process_events(0.05)
    label = notice._label
    assert label.minimumHeight >= label.heightForWidth(label.width) > 100
    notice.say("Short.")
    boot.process_events(0.05)
    assert label.minimumHeight < 60
    notice.hide()
