# ruff: noqa: F811 (fixtures are imported)
"""What a user drops on the panel goes where it belongs, and a gray button says why it is gray."""

import pytest
import slicer
from bed import dialogs, user
from segment_builders import draw, install_stub, make_volume, panel, write_model  # noqa: F401 (panel is a fixture)

from TransMedSegLib import ModelList


@pytest.fixture
def models(tmp_path):
    ModelList.setModelsFolder(tmp_path / "models")
    yield tmp_path
    import qt

    qt.QSettings().remove(ModelList.FOLDER_SETTING)


def test_a_model_dropped_on_the_cases_becomes_the_model(panel, models):
    path = write_model(models / "given" / "model.pt", name="from a colleague")
    assert user.drop_files(panel.ui.casesHintLabel, [path])
    assert panel.segment.model.is_relative_to(models / "models")
    assert panel.desk.cases() == [] and panel.module.cases.notice.message == ""


def test_a_file_that_is_no_model_is_named_although_the_dialog_was_closed(panel, models):
    (models / "other.pt").write_bytes(b"x" * 200)
    assert panel.segment.models.dialog.widget.isHidden()
    assert user.drop_files(panel.ui.modelComboBox, [models / "other.pt"])
    dialog = panel.segment.models.dialog
    assert dialog.notice.message.startswith("other.pt: ") and not dialog.widget.isHidden()


def test_a_mask_dropped_on_the_cases_is_loaded_to_be_compared_with(panel, tmp_path):
    case = panel.add(make_volume("P001"))
    draw(case, slicer.util.arrayFromVolume(case.volume) > 100)
    slicer.util.saveNode(case.segmentation, str(tmp_path / "colleague.seg.nrrd"))
    (tmp_path / "broken.seg.nrrd").write_bytes(b"x" * 200)
    assert user.drop_files(panel.ui.caseTable, [tmp_path / "colleague.seg.nrrd"])
    assert [one.name for one in panel.desk.cases()] == ["P001"]
    assert panel.module.cases.notice.message == "Loaded as a mask, to be chosen as A or B under Compare: colleague"
    assert isinstance(slicer.util.getNode("colleague"), slicer.vtkMRMLSegmentationNode)
    assert user.drop_files(panel.ui.caseTable, [tmp_path / "broken.seg.nrrd"])
    assert panel.module.cases.notice.message.endswith("[E311]")


def test_every_gray_button_of_the_empty_panel_says_why(panel):
    tips = {name: getattr(panel.ui, name).toolTip for name in ("nextButton", "copyButton", "csvButton", "plotButton", "exportCsvButton", "saveButton", "show3DButton")}
    assert not any(getattr(panel.ui, name).enabled for name in tips)
    assert tips.pop("nextButton") == "There are no cases yet: add a volume first"
    assert tips.pop("saveButton") == "There is nothing to export: segment this case first"
    assert tips.pop("show3DButton") == "There is no mask to show: segment this case first"
    assert set(tips.values()) == {"There is no table yet: compare two masks first"}
    case = panel.add(make_volume("P001"))
    assert panel.segment_this() and panel.compare(case.segmentation, case.segmentation)
    assert panel.ui.csvButton.toolTip == "Save the table with every digit"
    assert panel.ui.saveButton.toolTip == "Save the segmentation of the case that is open"
    assert dialogs.texts() == []


def test_headings_of_the_cases_fit_also_in_a_longer_language(tmp_path):
    from bed import boot
    from segment_builders import Panel

    install_stub(tmp_path)
    longer = {"volume mL": "Volumen in Millilitern", "status": "Bearbeitungsstand", "Dice": "Dice-Koeffizient"}
    slicer.app.setTranslations(longer)
    panel = Panel()
    try:
        panel.choose_model(tmp_path)
        panel.add(make_volume("P001"))
        assert panel.segment_this()
        boot.process_events(0.1)
        table = panel.ui.caseTable
        assert table.horizontalHeaderItem(2).text() == longer["volume mL"]
        header = table.horizontalHeader()
        for column in range(1, 4):
            assert header.sectionSize(column) >= max(header.sectionSizeHint(column), table.sizeHintForColumn(column))
    finally:
        slicer.app.setTranslations({})
        panel.close()


def test_the_lists_answer_to_the_keyboard_alone(panel):
    first, second = panel.add(make_volume("P001")), panel.add(make_volume("P002"))
    assert panel.desk.current == first
    table = panel.ui.caseTable
    table.setCurrentCell(1, 0)
    user.press(panel.ui.modelComboBox, "Return")
    assert panel.desk.current == first, "Enter elsewhere opens nothing"
    user.press(table, "Return")
    assert panel.desk.current == second
    assert panel.segment_this() and panel.compare(second.segmentation, second.segmentation)
    panel.desk.open(first)
    panel.ui.compareCollapsibleButton.collapsed = False
    panel.ui.scoreTable.setCurrentCell(0, 0)
    user.press(panel.ui.scoreTable, "Enter")
    assert panel.desk.current == second


def test_what_was_hidden_while_its_section_was_folded_stays_hidden(panel, tmp_path):
    install_stub(tmp_path, doubtful=[3, 8])
    ui = panel.ui
    for name in ("segment", "correct", "compare", "export"):
        getattr(ui, f"{name}CollapsibleButton").collapsed = False
    case = panel.add(make_volume("P001"))
    other = panel.add(make_volume("P002"))
    assert panel.segment_this()
    draw(case, slicer.util.arrayFromVolume(case.volume) > 60)
    panel.desk.review.checkNow()
    ui.dicomButton.click()
    ui.aSelector.setCurrentNode(make_labels())
    parts = ("doubtList", "unlockButton", "exportPlace", "aPartComboBox")
    assert [name for name in parts if getattr(ui, name).isHidden()] == []
    for name in ("segment", "correct", "compare", "export"):
        getattr(ui, f"{name}CollapsibleButton").collapsed = True
    ui.aSelector.setCurrentNode(case.segmentation)
    panel.desk.open(other)
    for name in ("segment", "correct", "compare", "export"):
        getattr(ui, f"{name}CollapsibleButton").collapsed = False
    assert [name for name in parts if not getattr(ui, name).isHidden()] == []


def make_labels():
    import numpy as np

    return slicer.util.addVolumeFromArray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), name="labels", nodeClassName="vtkMRMLLabelMapVolumeNode")
