"""The module TransMedSeg as its user meets it: cases, segmenting, correcting, comparing, approving."""

import numpy as np
import pytest
import slicer
from segment_builders import Panel, ball, install_stub, make_volume

from TransMedSegLib import CaseTable, CompareTable, Review
from TransMedSegLib.Terminology import tagOf


@pytest.fixture
def panel(tmp_path):
    install_stub(tmp_path)
    one = Panel()
    one.choose_model(tmp_path)
    yield one
    one.close()


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
