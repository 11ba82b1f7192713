"""Pictures of the segmentation panel and of the views: held-out phantoms, the model of picture_run.py, nothing painted in."""

import picture_run
from picture_sheet import HOME, beside, titled

WIDTH = 560
VIEW, LARGE_VIEW = (300, 300), (400, 400)
VIEWS = ("Axial", "Sagittal", "Coronal")
GRAY = 239
SECTIONS = ("casesCollapsibleButton", "segmentCollapsibleButton", "correctCollapsibleButton", "compareCollapsibleButton", "exportCollapsibleButton")


def shoot(sheet, work, python):
    import qt
    from segment_builders import Panel

    from TransMedSegLib import ModelList

    qt.QSettings().setValue("TransMedSeg/Python", str(python))
    panel = Panel()
    try:
        panel.segment.models.choose(work / "runs" / picture_run.RUN / "model.pt")
        truths = [_add(panel, work, number) for number in range(1, picture_run.COHORT["held-out"] + 1)]
        panel.ui.segmentAllButton.click()
        _shoot_running(sheet, panel)
        assert panel.wait(500), panel.segment.run.log()
        assert all(case.segmentation is not None for case in panel.desk.cases()), panel.segment.notice.message
        for case, truth in zip(panel.desk.cases(), truths):
            assert panel.compare(case.segmentation, truth, 120)
        panel.desk.open(panel.desk.cases()[0])
        _shoot_panel(sheet, panel)
        _shoot_views(sheet, panel, truths[0])
        _shoot_compare(sheet, panel)
        _shoot_correct(sheet, panel, truths[0])
        _shoot_models(sheet, panel, work)
    finally:
        panel.close()
        for key in (ModelList.FOLDER_SETTING, ModelList.OTHERS_SETTING, ModelList.LAST_SETTING, "TransMedSeg/Python"):
            qt.QSettings().remove(key)


def _add(panel, work, number):
    """Adds a held-out phantom to the list of cases, and its label to the scene. Returns the segmentation of the label."""
    import slicer

    folder = work / "phantoms" / "heldout"
    volume = slicer.util.loadVolume(str(folder / "images" / f"heldout{number:03d}.nii.gz"), {"show": False})
    volume.SetName(f"P{number:03d}")
    panel.add(volume)  # before there is a segmentation on it, which would be taken for the work of the user
    truth = slicer.util.loadSegmentation(str(folder / "labels" / f"heldout{number:03d}.nii.gz"))
    truth.SetName(f"P{number:03d} truth")
    truth.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = truth.GetSegmentation().GetNthSegment(0)
    segment.SetName("left atrium")
    segment.SetColor(0.0, 0.62, 0.45)
    truth.GetDisplayNode().SetVisibility(False)
    return truth


def _open_only(panel, *names):
    from bed import boot

    for name in SECTIONS:
        panel.ui.__dict__[name].collapsed = name not in names
    boot.process_events(0.4)


def _grab(panel, width=WIDTH):
    from bed import render

    return render.grab(panel.widget.parent, width=width)


def _row(panel, position, foreground=None, size=VIEW):
    """One picture a view, with the name of the view above it."""
    from bed import render

    volume = panel.desk.current.volume
    return [titled(render.slice_view(name, volume, foreground=foreground, position=position, size=size), name) for name in VIEWS]


def _middle(case):
    """The middle of the mask in RAS."""
    import numpy as np

    from TransMedSegLib.VolumeExchange import maskOf, positionRas

    mask = maskOf(case.segmentation, case.segmentation.GetSegmentation().GetNthSegmentID(0), case.volume)
    return positionRas(case.volume, np.argwhere(mask).mean(axis=0))


def _shoot_running(sheet, panel):
    """A case is being segmented. The engine works on while the picture is taken, but is not heard."""
    from bed import boot

    assert boot.process_events(100, until=lambda: panel.ui.progressLabel.text.endswith(" left")), panel.segment.notice.message
    with panel.segment.run.held():
        _open_only(panel, *SECTIONS[:2])
        sheet.write("segment-running", _grab(panel))


def _shoot_panel(sheet, panel):
    """The panel as it opens with the results of all cases: in the dark theme, and beside the views as in the application."""
    from bed import render

    case = panel.desk.current
    _open_only(panel, *SECTIONS[:2])
    with render.theme("dark"):
        sheet.write("segment-panel-dark", _grab(panel))
    middle = _middle(case)
    render.show_in_3d(case.segmentation)
    model = titled(render.three_d_view(size=LARGE_VIEW, azimuth=30), "3D")
    case.segmentation.GetDisplayNode().SetVisibility3D(False)
    axial, sagittal, coronal = _row(panel, middle, size=LARGE_VIEW)
    grid = render.tile([[axial, model], [coronal, sagittal]], color=GRAY)
    sheet.write("segment-overview", beside(_grab(panel), grid, GRAY))


def _shoot_views(sheet, panel, truth):
    """A and B as outlines, filled, as errors; the map of doubt; in 3-D."""
    from bed import render

    ui, case = panel.ui, panel.desk.current
    ui.aSelector.setCurrentNode(case.segmentation)
    ui.bSelector.setCurrentNode(truth)
    middle = _middle(case)
    for radio, name in ((ui.outlineRadioButton, "outline"), (ui.fillRadioButton, "fill"), (ui.errorsRadioButton, "errors")):
        radio.click()
        sheet.write(f"segment-{name}", render.tile([_row(panel, middle)], color=GRAY))
    ui.outlineRadioButton.click()
    worst = panel.module.doubt._slices[0].position
    sheet.write("segment-doubt", render.tile([_row(panel, worst, case.doubtMap)], color=GRAY))
    truth.GetDisplayNode().SetVisibility(False)
    render.show_in_3d(case.segmentation)
    sheet.write("segment-3d", render.tile([[render.three_d_view(size=(420, 380), azimuth=angle) for angle in (30, 150)]]))
    case.segmentation.GetDisplayNode().SetVisibility3D(False)


def _shoot_compare(sheet, panel):
    panel.ui.plotButton.checked = True
    _open_only(panel, "compareCollapsibleButton")
    sheet.write("segment-compare", _grab(panel, WIDTH + 80))


def _shoot_correct(sheet, panel, truth):
    """Two prompts where the mask differs most from the truth; left without, right with them."""
    from bed import boot, render
    from test_segment_prompts import place, row

    from TransMedSegLib.VolumeExchange import positionRas

    case = panel.desk.current
    _open_only(panel, "correctCollapsibleButton")
    truth.GetDisplayNode().SetVisibility(False)
    missing, extra = _largest_errors(case, truth)
    where = positionRas(case.volume, missing)
    before = [titled(picture[22:], f"{name}, before") for picture, name in zip(_row(panel, where), VIEWS)]
    row(panel).add()
    place(panel, where)
    row(panel).remove()
    place(panel, positionRas(case.volume, extra))
    boot.process_events(0.3)
    after = [titled(picture[22:], f"{name}, after") for picture, name in zip(_row(panel, where), VIEWS)]
    sheet.write("segment-prompts", render.tile([before, after], color=GRAY))
    sheet.write("segment-correct", _grab(panel))


def _largest_errors(case, truth):
    """The deepest voxels [slice, row, column] of what is missing and of what is too much."""
    import numpy as np
    from scipy import ndimage

    from TransMedSegLib.VolumeExchange import maskOf

    mask, wanted = (maskOf(node, node.GetSegmentation().GetNthSegmentID(0), case.volume) for node in (case.segmentation, truth))
    spacing = case.volume.GetSpacing()[::-1]
    return [np.unravel_index(ndimage.distance_transform_edt(part, spacing).argmax(), part.shape) for part in (wanted & ~mask, mask & ~wanted)]


def _shoot_models(sheet, panel, work):
    """The dialog of models with both models of the run."""
    import shutil
    import tempfile
    from pathlib import Path

    from bed import boot, render

    from TransMedSegLib import ModelList

    with tempfile.TemporaryDirectory() as folder:
        ModelList.setModelsFolder(Path(folder) / "models")
        given = Path(folder) / "labels-only"
        given.mkdir()
        shutil.copy(work / "runs" / picture_run.RUN / "baseline" / "model.pt", given)
        panel.ui.manageButton.click()
        dialog = panel.segment.models.dialog
        dialog.add([given / "model.pt", panel.segment.model])
        for shown, place in ((folder, HOME), (str(work / "runs"), f"{HOME}/runs")):
            dialog.ui.cardText.setPlainText(dialog.ui.cardText.toPlainText().replace(shown, place))
            dialog.ui.modelsFolderLabel.text = dialog.ui.modelsFolderLabel.text.replace(shown, place)
        boot.process_events(0.3)
        sheet.write("segment-models", render.grab(dialog.widget, width=760))
        dialog.widget.hide()
