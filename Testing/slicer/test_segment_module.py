# ruff: noqa: F811 (fixtures are imported)
"""The module TransMedSeg as its user meets it: cases, segmenting, correcting, comparing, approving."""

import re
import sys

import numpy as np
import pytest
import slicer
from bed import boot
from segment_builders import Panel, ball, install_stub, make_volume, panel  # noqa: F401 (panel is a fixture)

from semiseg.protocol import process_exists
from TransMedSegLib import CaseTable, CompareTable, Review
from TransMedSegLib.LabeledList import trainParameters
from TransMedSegLib.PanelState import PanelState
from TransMedSegLib.Terminology import tagOf
from TransMedSegLib.VolumeExchange import maskOf


def first_segment(case):
    return case.segmentation.GetSegmentation().GetNthSegment(0)


def test_the_thin_path_from_volume_to_approval(panel):
    case = panel.add(make_volume("P001"))
    assert panel.ui.segmentButton.enabled
    assert panel.segment_this()
    assert panel.segment.notice.message == ""
    assert case.status == CaseTable.PREDICTED
    segment = first_segment(case)
    assert segment.GetName() == "Left atrium (AI)"
    assert "SCT^82471001^Left atrium" in tagOf(segment, "TerminologyEntry")
    assert np.allclose(segment.GetColor(), (203 / 255, 108 / 255, 81 / 255), atol=1e-6)
    assert tagOf(segment, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
    assert panel.ui.plausibilityLabel.text.endswith("one connected piece, touches no image border")
    truth = CaseTable.Case(make_volume("truth")).makeSegmentation()
    truth.GetSegmentation().AddEmptySegment("LA", "left atrium")
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        ball((12, 20, 24), (6, 9, 13), 4.5).astype(np.uint8), truth, "LA", case.volume
    )
    assert panel.compare(case.segmentation, truth)
    assert panel.module.compare.notice.message == ""
    assert 0.8 < case.number("Dice") < 1
    assert panel.ui.scoreTable.rowCount == 1
    panel.ui.approveButton.click()
    assert case.status == CaseTable.APPROVED
    assert Review.isLocked(segment)
    assert len(CompareTable.rows(CompareTable.find())) == 1


def test_the_panel_is_in_one_state_at_a_time(panel, tmp_path, monkeypatch):
    """All six, as a user meets them; the buttons follow."""
    panel.add(make_volume("P001"))
    page, seen = panel.module.setupPage, []
    look = lambda: seen.append((panel.module.state.name, re.match(r"[^–…]*", panel.ui.statusLabel.text)[0].strip()))
    look()
    install_stub(tmp_path, act="wait")
    panel.ui.segmentButton.click()
    look()
    panel.ui.cancelButton.click()
    look()
    assert not panel.ui.segmentButton.enabled and not panel.ui.cancelButton.enabled
    assert panel.wait() and panel.module.state == PanelState.Ready and panel.ui.segmentButton.enabled
    install_stub(tmp_path, act="crash")
    assert panel.segment_this()
    look()
    assert panel.ui.segmentButton.enabled, "a failure does not lock the panel"
    for name in ("isInstalling", "isReady"):
        with monkeypatch.context() as patch:
            patch.setattr(type(page), name, property(lambda self, value=name == "isInstalling": value))
            panel.module._onSetup()
            look()
            assert not panel.ui.segmentButton.enabled
    states = [("Ready", "Ready"), ("Running", "Segmenting"), ("Stopping", "Stopping"), ("Failed", "Segmentation failed"), ("Installing", "Installing")]
    assert seen[:-1] == states, "the line at the top says so"
    assert seen[-1][0] == "NotReady" and seen[-1][1].startswith("Not set up yet")


# Coming and going


def test_every_widget_of_the_ui_file_is_known_and_every_button_has_a_tip(panel):
    buttons = [widget for widget in vars(panel.ui).values() if type(widget).__name__ == "QPushButton"]
    assert len(buttons) > 20
    assert [button.objectName for button in buttons if not button.toolTip] == []


def test_keys_live_only_while_the_module_is_open(panel):
    assert len(panel.widget._shortcuts) == 5
    assert panel.ui.segmentEditor._shortcuts_installed and panel.ui.segmentEditor._views_observed
    panel.representation.exit()
    assert panel.widget._shortcuts == []
    assert not panel.ui.segmentEditor._shortcuts_installed and not panel.ui.segmentEditor._views_observed
    panel.representation.enter()
    assert len(panel.widget._shortcuts) == 5


def test_an_editor_of_another_panel_is_left_alone_after_the_end(panel):
    """The node of Segment Editor is shared by all editors: one whose panel is gone must not follow what is chosen in another."""
    panel.add(make_volume("P001"))
    assert panel.segment_this()
    editor = panel.ui.segmentEditor
    node, seen = editor.mrmlSegmentEditorNode(), []
    editor.connect("currentSegmentIDChanged(QString)", seen.append)
    panel.close()
    assert editor.mrmlSegmentEditorNode() is None
    node.SetSelectedSegmentID("another")
    boot.process_events()
    assert seen == []


def test_the_undo_key_takes_back_one_AI_write(panel):
    case = panel.add(make_volume("P001"))
    assert panel.segment_this()
    assert panel.ui.segmentEditor.segmentationNode() is case.segmentation
    name = case.segmentation.GetSegmentation().GetNthSegmentID(0)
    before = maskOf(case.segmentation, name, case.volume)
    slicer.util.arrayFromVolume(case.volume)[6:9, 2:6, 2:6] = 200
    assert panel.segment_this()
    assert not np.array_equal(maskOf(case.segmentation, name, case.volume), before)
    panel.module.correct.undo()
    assert np.array_equal(maskOf(case.segmentation, name, case.volume), before)
    assert case.status == CaseTable.PREDICTED


def test_the_result_goes_to_the_volume_it_was_made_from_whatever_is_open_then(panel, tmp_path):
    install_stub(tmp_path, delay=0.5)
    first, second = panel.add(make_volume("P001")), panel.add(make_volume("P002"))
    panel.desk.open(first)
    panel.ui.segmentButton.click()
    panel.desk.open(second)
    assert panel.wait()
    assert first.segmentation is not None and second.segmentation is None
    assert panel.desk.current == second


def test_segmenting_all_then_approving_leads_through_the_cases(panel, tmp_path):
    install_stub(tmp_path, doubtful=[3, 8])
    for number in range(3):
        panel.add(make_volume(f"P00{number}", seed=number))
    panel.ui.segmentAllButton.click()
    assert panel.wait()
    assert panel.ui.progressLabel.text == "3 cases done"
    assert [case.status for case in panel.desk.cases()] == ["Predicted"] * 3
    seen = []
    for _ in range(3):
        seen.append(panel.desk.current.name)
        panel.ui.approveButton.click()
    assert sorted(seen) == ["P000", "P001", "P002"]
    assert panel.ui.whyLabel.text == "Every case was looked at by a person."
    panel.desk.open(panel.desk.cases()[1])
    panel.ui.labeledButton.click()
    assert [node.GetName() for node in trainParameters().labeledVolumes] == ["P001"]
    assert panel.ui.caseTable.item(1, 1).text() == "Approved ✓"


def test_doubt_is_listed_shown_and_jumped_to(panel, tmp_path):
    install_stub(tmp_path, doubtful=[3, 8])
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    view.SetLayoutName("Red")
    view.SetOrientationToAxial()
    panel.add(make_volume("P001"))
    assert panel.segment_this()
    assert panel.ui.doubtLabel.text == "slices worth a look:"
    assert ["3" in panel.ui.doubtList.item(0).text(), "8" in panel.ui.doubtList.item(1).text(), panel.ui.doubtList.count] == [True, True, 2]
    panel.ui.doubtList.setCurrentRow(1)
    assert view.GetSliceOffset() == pytest.approx(40 + 8 * 2.5)
    slicer.mrmlScene.RemoveNode(view)  # it outlives a cleared scene, and other tests have views of this name


def test_pieces_can_be_kept_or_removed(panel):
    mask = ball((12, 20, 24), (6, 9, 12), 4)
    mask[2, 2, 2] = True
    case = panel.add(make_volume("P001", mask=mask))
    assert panel.segment_this()
    assert "two pieces" in panel.ui.plausibilityLabel.text and not panel.ui.removePiecesButton.isHidden()
    panel.ui.removePiecesButton.click()
    assert "one connected piece" in panel.ui.plausibilityLabel.text and panel.ui.removePiecesButton.isHidden()
    name = case.segmentation.GetSegmentation().GetNthSegmentID(0)
    mask[2, 2, 2] = False
    assert np.array_equal(maskOf(case.segmentation, name, case.volume), mask)
    assert case.status == CaseTable.PREDICTED


def test_the_scene_may_be_closed_while_the_engine_works(panel, tmp_path):
    install_stub(tmp_path, delay=0.8)
    panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    slicer.mrmlScene.Clear()
    assert panel.wait()
    assert panel.segment.notice.message.endswith("[E313]")
    assert not panel.ui.segmentButton.enabled
    assert panel.ui.caseTable.rowCount == 0
    panel.add(make_volume("P002"))
    assert panel.ui.caseTable.rowCount == 1


def test_the_engine_ends_with_the_module(panel, tmp_path):
    install_stub(tmp_path, act="wait")
    panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    process = panel.segment.run._process
    assert boot.process_events(120, until=lambda: process.pid)
    folder = panel.segment.run.runDir
    panel.close()
    assert boot.process_events(120, until=lambda: not process_exists(process.pid) or process._isAlive() is False)
    assert not folder.exists()


def test_reload_makes_a_new_panel_that_works(panel, tmp_path):
    case = panel.add(make_volume("P001"))
    library = {name: one for name, one in sys.modules.items() if name.split(".")[0] == "TransMedSegLib"}
    panel.widget.onReload()
    assert sys.modules["TransMedSegLib.Review"] is not library["TransMedSegLib.Review"]
    again = slicer.modules.TransMedSegWidget
    assert again is not panel.widget
    assert again.ui.caseTable.rowCount == 1
    again.ui.segmentButton.click()
    assert boot.process_events(120, until=lambda: not again.module.segment.isRunning)
    assert case.status == "Predicted"
    again.cleanup()


def test_the_module_works_without_its_panel(panel, tmp_path):
    ended = []
    volume = make_volume("P001")
    run = panel.widget.logic.segment([volume], tmp_path / "model.pt", onEnded=ended.append)
    assert boot.process_events(120, until=lambda: ended)
    assert [outcome.status for outcome in ended[0]] == ["done"]
    assert CaseTable.caseOf(volume).segmentation is not None
    run.discard()


def test_the_window_imports_only_the_protocol_of_the_engine():
    """No torch, no numpy-heavy packages: what opening the panel loads is looked at in a fresh process by its imports."""
    import ast
    from pathlib import Path

    ours = Path(Review.__file__).parent
    for path in [*ours.glob("*.py"), ours.parent / "TransMedSeg.py", ours.parent.parent / "TransMedSegTrain" / "TransMedSegTrain.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.split(".")[0] not in ("torch", "scipy", "h5py", "SimpleITK", "pydicom", "highdicom"), path.name
                if name.split(".")[0] == "semiseg" and path.name != "StartEngine.py":
                    imported = {alias.name for alias in node.names}
                    assert name == "semiseg.protocol" or imported <= {"protocol", "__version__"}, path.name


def test_functions_are_short_and_files_too():
    import ast
    from pathlib import Path

    library = Path(Review.__file__).parent
    modules = [library.parent / "TransMedSeg.py", library.parent.parent / "TransMedSegTrain" / "TransMedSegTrain.py"]
    files = [*library.glob("*.py"), *modules]
    assert len(files) > 70
    for path in files:
        assert len(path.read_text().splitlines()) <= 310, path.name
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno - node.lineno + 1 < 50, (path.name, node.name)


def test_every_visible_text_goes_through_the_translation(panel):
    """With a translation that marks every text, no text without the mark may be left that Python has put on the panel."""
    panel.close()
    slicer.app._language = _Backwards()
    try:
        CaseTable.statusTexts.cache_clear()
        other = Panel()
        other.add(make_volume("p"))
        texts = [other.ui.segmentAllButton.toolTip, other.ui.approveButton.toolTip, other.ui.compareButton.toolTip]
        texts += [other.ui.caseTable.horizontalHeaderItem(0).text(), other.ui.caseTable.item(0, 1).text()]
        texts += [other.ui.dicomButton.toolTip, other.ui.removeButton.toolTip]
        assert [text for text in texts if not text.startswith("«")] == []
        other.close()
    finally:
        slicer.app.setTranslations({})
        CaseTable.statusTexts.cache_clear()


class _Backwards(dict):
    """A language in which every text begins with «."""

    def get(self, text, default=None):
        return f"«{text}"


def test_masks_of_the_case_before_are_not_shown_over_another_case(panel):
    first, second = (panel.add(make_volume(name)) for name in ("P001", "P002"))
    panel.ui.segmentAllButton.click()
    assert panel.wait()
    panel.desk.open(first)
    truth = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "P001 truth")
    truth.CreateDefaultDisplayNodes()
    truth.GetSegmentation().AddEmptySegment("truth", "truth")
    panel.ui.aSelector.setCurrentNode(first.segmentation)
    panel.ui.bSelector.setCurrentNode(truth)
    panel.desk.refresh()
    assert panel.ui.aSelector.currentNode() is first.segmentation, "the open case keeps what was chosen"
    panel.desk.open(second)
    panel.ui.outlineRadioButton.click()
    assert panel.ui.aSelector.currentNode() is second.segmentation
    assert panel.ui.bSelector.currentNode() is None
    assert second.segmentation.GetDisplayNode().GetVisibility() and not first.segmentation.GetDisplayNode().GetVisibility()
