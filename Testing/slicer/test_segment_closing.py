# ruff: noqa: F811 (fixtures are imported)
"""Slicer or the scene is closed while something computes (E508)."""

import os

import slicer
from bed import boot, dialogs
from closing_bed import window  # noqa: F401 (fixture)
from segment_builders import install_stub, make_volume, panel  # noqa: F401 (panel is a fixture)

from semiseg.protocol import process_exists
from TransMedSegLib import CaseTable

RUNNING = "A segmentation is running. [E508]"


def running(panel, tmp_path, **plan):
    """A segmentation that waits, with a child of its own. Returns its process."""
    install_stub(tmp_path, **(plan or {"act": "wait"}))
    panel.representation.exit()
    slicer.util.selectModule("TransMedSeg")
    case = panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    assert boot.process_events(120, until=lambda: panel.segment.run._process.pid)
    return case, panel.segment.run._process


def test_E508_waiting_keeps_slicer_open_until_the_result_is_there(panel, window, tmp_path):
    case, _process = running(panel, tmp_path, delay=2)
    window.moduleSelector().leave()
    dialogs.answers["QMessageBox"] = ["Wait"]
    assert not window.close() and window.isVisible()
    assert dialogs.shown[-1].text == RUNNING and dialogs.shown[-1].buttons == ("Wait", "Stop and close")
    assert window.moduleSelector().selectedModule == "TransMedSeg", "where its progress is shown"
    assert panel.segment.notice.message == "Slicer stays open until the segmentation is done."
    assert not panel.ui.progressBar.isHidden()
    assert panel.wait() and case.status == CaseTable.PREDICTED
    assert panel.segment.notice.message == "The segmentation is done. Save the scene, then close Slicer."
    count = len(dialogs.shown)
    assert window.close() and len(dialogs.shown) == count, "nothing is asked any more"


def test_E508_stop_and_close_ends_everything_that_was_started(panel, window, tmp_path):
    program = install_stub(tmp_path, act="wait")
    spawn = 'child = __import__("subprocess").Popen([sys.executable, "-c", "import time; time.sleep(600)"])\n    report("state", message=str(child.pid))\n'
    program.write_text(program.read_text().replace('act = plan.get("act", "")\n', f'act = plan.get("act", "")\n    {spawn}'))
    panel.add(make_volume("P001"))
    panel.ui.segmentButton.click()
    process, heard = panel.segment.run._process, []
    process._onEvents = heard.extend
    assert boot.process_events(120, until=lambda: any(event["kind"] == "state" for event in heard))
    child = int(next(event["message"] for event in heard if event["kind"] == "state"))
    dialogs.answers["QMessageBox"] = ["Stop and close"]
    assert window.close()
    assert dialogs.shown[-1].text == RUNNING
    assert process_exists(child), "it ends with Slicer: its user may still decide not to close"
    panel.close()
    assert boot.process_events(120, until=lambda: not process._isAlive() and _isGone(child))


def _isGone(pid):
    """A child of a dead parent may stay a zombie where nobody collects it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
            return stream.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return not process_exists(pid)


def test_E508_the_result_of_a_closed_scene_is_kept_where_the_user_waits(panel, window, tmp_path):
    running(panel, tmp_path, delay=2)
    dialogs.answers["QMessageBox"] = ["Wait"]
    slicer.mrmlScene.Clear()
    assert dialogs.shown[-1].text == RUNNING
    assert panel.wait()
    kept = panel.segment.notice.message.split("'")[1]
    assert panel.segment.notice.message.endswith("[E313]") and os.path.getsize(kept) > 0


def test_E508_a_closed_scene_can_stop_the_segmentation(panel, window, tmp_path):
    _case, process = running(panel, tmp_path)
    pid = process.pid
    dialogs.answers["QMessageBox"] = ["Stop and close"]
    slicer.mrmlScene.Clear()
    assert panel.wait()
    assert panel.ui.progressLabel.text.startswith("Cancelled after ")
    assert not process_exists(pid)


def test_E508_no_result_goes_into_a_scene_that_is_being_closed(panel, window, tmp_path, monkeypatch):
    """The engine finishes while the question is on the screen."""
    case, process = running(panel, tmp_path, delay=2)
    seen = []

    def answer(consequences):
        assert boot.process_events(120, until=lambda: not process._isAlive())
        boot.process_events(0.5)  # more than a look at the events takes
        seen.append(case.status)
        return True

    monkeypatch.setattr("TransMedSegLib.SegmentClosing.askToWait", answer)
    slicer.mrmlScene.Clear()
    assert seen == ["ToDo"]
    assert panel.wait() and panel.segment.notice.message.endswith("[E313]")


def test_E508_who_is_not_segmenting_is_not_asked(panel, window):
    panel.add(make_volume("P001"))
    assert window.close() and dialogs.shown == []
    slicer.mrmlScene.Clear()
    assert dialogs.shown == []
