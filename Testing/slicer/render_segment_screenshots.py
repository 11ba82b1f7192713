"""Pictures of the segmentation panel and its views, rendered on slicer-core with an emulated Qt layer.

    QT_QPA_PLATFORM=offscreen python Testing/slicer/render_segment_screenshots.py [OUTPUT_FOLDER]

The hearts are phantoms. The masks are those of a stub engine, the "truth" is the label of the phantom: the pictures
show what the module looks like, not how good a model is.
"""

import json
import stat
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
sys.path[:0] = [str(HERE), str(REPOSITORY / "TransMedSeg")]

LABEL = "Phantom data. Rendered on slicer-core with an emulated Qt layer; not a screenshot of 3D Slicer."
WIDTH = 560
NUM_CASES = 4


def main(out_dir):
    from bed import boot, views

    boot.start()
    views.open_slice_views()
    from segment_builders import Panel, install_stub

    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        use_blurred_label(install_stub(folder))
        panel = Panel()
        panel.choose_model(folder)
        name_model(panel)
        truths = [add_phantom(panel, number) for number in range(NUM_CASES)]
        panel.ui.segmentAllButton.click()
        assert panel.wait(300)
        assert all(case.segmentation is not None for case in panel.desk.cases()), panel.segment.run.log()
        for case, truth in zip(panel.desk.cases(), truths):
            assert panel.compare(case.segmentation, truth)
        shoot(panel, truths, out_dir)
        shoot_models(panel, folder, out_dir)
        panel.close()
    boot.quit_application()


def use_blurred_label(program):
    """The stub finds the left atrium as bright voxels of an image in which the label was hidden, smoothed: a model that errs."""
    text = program.read_text()
    text = text.replace(
        "    mask = (volume.array > plan.get(\"threshold\", 100)).astype(np.uint8)\n",
        "    from scipy import ndimage\n"
        "    hidden = np.load(Path(__file__).with_name(path.stem + \".npy\")).astype(np.float32)\n"
        "    noise = ndimage.gaussian_filter(np.random.default_rng(len(inputs_seen)).normal(0, 1, hidden.shape), 4)\n"
        "    soft = ndimage.gaussian_filter(hidden, 2.2) + 1.1 * noise / noise.std() * 0.12\n"
        "    inputs_seen.append(path)\n"
        "    found, _ = ndimage.label(soft > 0.5)\n"
        "    mask = (found == np.bincount(found.ravel())[1:].argmax() + 1).astype(np.uint8)\n",
    )  # fmt: skip
    text = text.replace("    doubt = np.zeros(mask.shape, np.float32)\n", "    p = np.clip(soft, 1e-4, 1 - 1e-4).astype(np.float32)\n    doubt = (-(p * np.log2(p) + (1 - p) * np.log2(1 - p))).astype(np.float32)\n    doubt[doubt < 0.6] = 0\n")
    text = text.replace("VERBS = {", "inputs_seen = []\nVERBS = {", 1)
    program.write_text(text)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (program.parent / "stub.json").write_text(json.dumps({}))


def name_model(panel):
    """The stub's model gets the card of a model that was handed on; no Dice, for it was not measured."""
    from TransMedSegLib.ModelCard import cardOf

    terms = {"license": "CC BY-NC 4.0", "convention": "veins cut at the ostium, mitral plane flat"}
    cardOf(panel.segment.model).noted(name="Example model", version="1.2", **terms)
    panel.segment.models.enter()


def shoot_models(panel, folder, out_dir):
    """The dialog of models, with one added from a file. No path of this computer is in the picture."""
    import qt
    from bed import boot, render
    from segment_builders import write_model

    from TransMedSegLib import ModelList

    ModelList.setModelsFolder(folder / "models")
    try:
        panel.ui.manageButton.click()
        dialog = panel.segment.models.dialog
        write_model(folder / "given" / "model.pt", name="Another example", license="CC BY 4.0", training={"method": "supervised", "preset": "plus", "cases": {"labeled": 12, "unlabeled": 0}})
        dialog.add([folder / "given" / "model.pt", panel.segment.model])
        for text in (dialog.ui.cardText.toPlainText(), dialog.ui.modelsFolderLabel.text):
            shown = text.replace(str(folder), "/home/me")
            dialog.ui.cardText.setPlainText(shown) if "\n" in text else setattr(dialog.ui.modelsFolderLabel, "text", shown)
        boot.process_events(0.3)
        render.write_png(out_dir / "segment-models.png", labeled(render.grab(dialog.widget, width=760)))
    finally:
        qt.QSettings().remove(ModelList.FOLDER_SETTING)
        qt.QSettings().remove(ModelList.OTHERS_SETTING)


def add_phantom(panel, number):
    """Adds a phantom to the list of cases, and its label to the scene. Returns the segmentation node of the label."""
    import numpy as np
    import slicer
    from semiseg.phantom.phantom import make_phantom

    phantom = make_phantom(number + 3, size="half")
    geometry = phantom.image.geometry
    node = slicer.util.addVolumeFromArray(np.ascontiguousarray(phantom.image.array), name=f"P{number + 1:03d}")
    affine = np.array(geometry.affine, float)[:, [2, 1, 0, 3]]
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.diag([-1.0, -1, 1, 1]) @ affine))
    label = np.ascontiguousarray(phantom.label.array) > 0
    np.save(panel.segment.model.parent / f"c{number + 1:03d}.npy", label)
    panel.add(node)  # before there is a segmentation on it, which would be taken for the work of the user
    truth = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{node.GetName()} truth")
    truth.CreateDefaultDisplayNodes()
    truth.SetReferenceImageGeometryParameterFromVolumeNode(node)
    truth.GetSegmentation().AddEmptySegment("truth", "left atrium (truth)", (0.0, 0.62, 0.45))
    slicer.util.updateSegmentBinaryLabelmapFromArray(label.astype(np.uint8), truth, "truth", node)
    truth.GetDisplayNode().SetVisibility(False)
    return truth


def shoot(panel, truths, out_dir):
    """Takes every picture of the first case."""
    from bed import boot, render

    from TransMedSegLib.VolumeExchange import positionRas

    ui = panel.ui
    panel.desk.open(panel.desk.cases()[0])
    case = panel.desk.current
    ui.aSelector.setCurrentNode(case.segmentation)
    ui.bSelector.setCurrentNode(truths[0])
    ui.statusLabel.text = ""
    size = case.volume.GetImageData().GetDimensions()[::-1]
    middle = positionRas(case.volume, [length / 2 for length in size])
    for radio, name in ((ui.outlineRadioButton, "outline"), (ui.fillRadioButton, "fill"), (ui.errorsRadioButton, "errors")):
        radio.click()
        row = [render.slice_view(one, case.volume, position=middle, size=(360, 360)) for one in ("Axial", "Sagittal", "Coronal")]
        render.write_png(out_dir / f"segment-{name}.png", labeled(render.tile([row])))
    ui.outlineRadioButton.click()
    worst = panel.module.doubt._slices[0].position
    map_row = [render.slice_view(one, case.volume, foreground=case.doubtMap, position=worst, size=(360, 360)) for one in ("Axial", "Sagittal", "Coronal")]
    render.write_png(out_dir / "segment-doubt.png", labeled(render.tile([map_row])))
    truths[0].GetDisplayNode().SetVisibility(False)
    render.show_in_3d(case.segmentation)
    render.write_png(out_dir / "segment-3d.png", labeled(render.three_d_view(size=(480, 420), azimuth=30)))
    shoot_panel(panel, out_dir)
    boot.process_events()


def shoot_panel(panel, out_dir):
    """The panel in two halves: as it opens, and with the sections below."""
    from bed import boot, render

    ui = panel.ui
    upper, lower = (ui.casesCollapsibleButton, ui.segmentCollapsibleButton), (ui.correctCollapsibleButton, ui.compareCollapsibleButton, ui.exportCollapsibleButton)
    boot.process_events(0.3)
    render.write_png(out_dir / "segment-panel.png", labeled(render.grab(panel.widget.parent, width=WIDTH)))
    for button in upper:
        button.collapsed = True
    for button in lower:
        button.collapsed = False
    ui.correctCollapsibleButton.collapsed = True
    ui.plotButton.checked = True
    ui.dicomButton.click()
    boot.process_events(0.3)
    render.write_png(out_dir / "segment-compare.png", labeled(render.grab(panel.widget.parent, width=WIDTH + 80)))
    ui.correctCollapsibleButton.collapsed = False
    ui.compareCollapsibleButton.collapsed = ui.exportCollapsibleButton.collapsed = True
    boot.process_events(0.3)
    render.write_png(out_dir / "segment-correct.png", labeled(render.grab(panel.widget.parent, width=WIDTH)))


def labeled(picture):
    """Writes below the picture what it is."""
    import numpy as np
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (picture.shape[1], 18), (255, 255, 255))
    ImageDraw.Draw(strip).text((6, 3), LABEL, fill=(90, 90, 90))
    return np.vstack([picture, np.asarray(strip)])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "Resources" / "Screenshots")
