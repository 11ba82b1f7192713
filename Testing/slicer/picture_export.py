"""Pictures of the check page of the DICOM export: a phantom as a DICOM series, segmented by the model, written and read back."""

import tempfile
from pathlib import Path

import picture_run

WIDTH = 620


def shoot(sheet, work, python):
    import qt
    import slicer
    from segment_builders import Panel

    from TransMedSegLib import ModelList

    slicer.dicomDatabase._instances.clear()
    qt.QSettings().setValue("TransMedSeg/Python", str(python))
    qt.QSettings().setValue("TransMedSeg/Reviewer", "Reviewer")
    panel = Panel()
    try:
        with tempfile.TemporaryDirectory() as folder:
            _shoot(sheet, panel, work, Path(folder))
    finally:
        panel.close()
        for key in (ModelList.OTHERS_SETTING, ModelList.LAST_SETTING, "TransMedSeg/Python", "TransMedSeg/Reviewer"):
            qt.QSettings().remove(key)


def _shoot(sheet, panel, work, folder):
    from bed import boot, dialogs, render

    panel.segment.models.choose(work / "runs" / picture_run.RUN / "model.pt")
    panel.module.cases.add([_series(work, folder / "series")])
    assert panel.segment_this(300), panel.segment.run.log()
    ui, export = panel.ui, panel.module.export
    for button in (ui.casesCollapsibleButton, ui.segmentCollapsibleButton):
        button.collapsed = True
    ui.exportCollapsibleButton.collapsed = False
    ui.dicomButton.click()
    boot.process_events(0.3)
    sheet.write("segment-export", render.grab(panel.widget.parent, width=WIDTH))
    panel.desk.review.approve(panel.desk.current)
    panel.desk.refresh()
    (folder / "out").mkdir()
    dialogs.answers["getExistingDirectory"] = [str(folder / "out")]
    export.folderButton.click()
    assert boot.process_events(300, until=lambda: not export.engine.isRunning)
    assert export.notice.message.startswith("Written and verified"), export.notice.message
    boot.process_events(0.3)
    sheet.write("segment-exported", render.grab(panel.widget.parent, width=WIDTH))


def _series(work, folder):
    """A held-out phantom as a DICOM series. Returns its folder."""
    import numpy as np
    import slicer
    import synthetic_series

    volume = slicer.util.loadVolume(str(work / "phantoms" / "heldout" / "images" / "heldout001.nii.gz"), {"show": False})
    array = slicer.util.arrayFromVolume(volume).copy()
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    volume.GetIJKToRASMatrix(matrix)
    affine = np.diag([-1.0, -1, 1, 1]) @ slicer.util.arrayFromVTKMatrix(matrix)  # DICOM counts in LPS
    spacing = np.array(volume.GetSpacing())
    builder = synthetic_series.SeriesBuilder(
        folder, array.shape, tuple(spacing[::-1]), (affine[:3, :3] / spacing)[:, ::-1], affine[:3, 3], patient_name="Phantom"
    )
    builder.pixels = np.round(array).astype(np.int16)
    slicer.mrmlScene.RemoveNode(volume)
    return builder.write()
