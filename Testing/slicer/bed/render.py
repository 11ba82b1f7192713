"""Pictures of slice views, 3-D views and panels, without a display.

The views are drawn by Slicer's own displayable managers, into an EGL render window. A picture from here is rendered
by slicer-core and must be labeled so; it is not a screenshot of the Slicer application.

    picture = render.slice_view("Axial", volume)
    render.write_png("views.png", render.tile([[picture, render.three_d_view()]]))
    render.grab(panel.parent, "panel.png", width=480)

Images are arrays [row, column, RGB] of uint8.
"""

from contextlib import contextmanager

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from . import views

_SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
)
_THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
)


def slice_view(
    orientation,
    background=None,
    foreground=None,
    foreground_opacity=0.5,
    position=None,
    size=(400, 400),
    zoom=1.0,
    ruler=False,
):
    """Renders one slice with every visible segmentation, markup and model on it.

    Args:
        orientation: "Axial", "Sagittal" or "Coronal".
        background: volume node shown in gray, or in the colors of its display node.
        foreground: volume node blended over it, such as an uncertainty map.
        position: point (R, A, S) in mm through which the slice goes; by default the middle of the background.
        size: (width, height) in pixels.
        zoom: above 1 shows a smaller part, around `position`.
    """
    with _slice_view(orientation, background, foreground, foreground_opacity, size) as (window, logic):
        node = logic.GetSliceNode()
        if zoom != 1.0:
            width, height, depth = node.GetFieldOfView()
            node.SetFieldOfView(width / zoom, height / zoom, depth)
        if position is not None:
            if zoom != 1.0:
                node.JumpSliceByCentering(*position)
            else:
                node.JumpSliceByOffsetting(*position)
        if ruler:
            node.SetRulerType(node.RulerTypeThin)
        logic.UpdatePipeline()
        return _pixels(window)


def three_d_view(size=(400, 400), azimuth=0.0, elevation=0.0, zoom=1.0, axes=True):
    """Renders the 3-D view from the front, turned by the two angles (degrees), with a small cross of axes.

    A segmentation shows there only with a closed surface; see `show_in_3d`.
    """
    with _three_d_view(size, axes) as (window, renderer):
        renderer.SetBackground2(0.71, 0.71, 0.9)
        renderer.SetBackground(0.45, 0.45, 0.65)
        renderer.GradientBackgroundOn()
        camera = renderer.GetActiveCamera()
        camera.SetPosition(0, 500, 0)
        camera.SetFocalPoint(0, 0, 0)
        camera.SetViewUp(0, 0, 1)
        renderer.ResetCamera()
        camera.Azimuth(azimuth)
        camera.Elevation(elevation)
        camera.OrthogonalizeViewUp()
        camera.Zoom(zoom)
        renderer.ResetCameraClippingRange()
        return _pixels(window)


def show_in_3d(segmentation_node):
    """Makes the closed surfaces of a segmentation."""
    segmentation_node.CreateClosedSurfaceRepresentation()
    segmentation_node.GetDisplayNode().SetVisibility3D(True)


def grab(widget, path=None, width=None, height=None):
    """Paints a widget, with everything in it, as wide as asked and as high as it needs.

    Returns:
        The picture; also written to `path` where that is given.
    """
    from PySide6 import QtGui

    from . import boot

    wanted = widget.sizeHint() if callable(widget.sizeHint) else widget.sizeHint
    widget.resize(width or wanted.width(), height or wanted.height())
    widget.show()
    boot.process_events(0.05)
    image = widget.grab().toImage().convertToFormat(QtGui.QImage.Format_RGB888)
    # Lines of a QImage are padded to four bytes.
    lines = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    picture = lines[:, : image.width() * 3].reshape(image.height(), image.width(), 3).copy()
    if path:
        write_png(path, picture)
    return picture


@contextmanager
def theme(name):
    """Inside, panels are painted in the theme "light" or "dark".

    Slicer has both; a panel with fixed colors becomes unreadable in one of them.
    """
    from PySide6 import QtGui, QtWidgets

    before = QtWidgets.QApplication.palette()
    if name == "dark":
        # Qt derives the shades of buttons, frames and disabled texts from these two.
        palette = QtGui.QPalette(QtGui.QColor(50, 50, 50), QtGui.QColor(45, 45, 45))
        palette.setColor(QtGui.QPalette.Highlight, before.color(QtGui.QPalette.Highlight))
        QtWidgets.QApplication.setPalette(palette)
    try:
        yield
    finally:
        QtWidgets.QApplication.setPalette(before)


def tile(rows, gap=2, color=0):
    """Puts pictures together; `rows` is a list of lists of pictures. Smaller ones are padded below and right."""
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    widths = [max(row[i].shape[1] for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    whole = np.full(
        (sum(heights) + gap * (len(heights) - 1), sum(widths) + gap * (len(widths) - 1), 3), color, np.uint8
    )
    top = 0
    for row, height in zip(rows, heights):
        left = 0
        for picture, width in zip(row, widths):
            whole[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            left += width + gap
        top += height + gap
    return whole


def write_png(path, picture):
    """Writes a picture."""
    from PIL import Image

    Image.fromarray(picture).save(path)


def _window(size):
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(*size)
    renderer = vtk.vtkRenderer()
    window.AddRenderer(renderer)
    # Displayable managers observe the interactor, so there must be one.
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    interactor.Initialize()
    return window, renderer, interactor


def _pixels(window):
    window.Render()
    reader = vtk.vtkWindowToImageFilter()
    reader.SetInput(window)
    reader.ReadFrontBufferOff()
    reader.Update()
    image = reader.GetOutput()
    width, height, _ = image.GetDimensions()
    # VTK counts rows from below.
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()


def _manager_group(factory, names, renderer):
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    group.Initialize(factory, renderer)
    return group


@contextmanager
def _slice_view(orientation, background, foreground, foreground_opacity, size):
    window, renderer, _ = _window(size)
    renderer.GetActiveCamera().ParallelProjectionOn()
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    group = _manager_group(factory, _SLICE_MANAGERS, renderer)
    logic = slicer.vtkMRMLSliceLogic()
    application_logic = slicer.app.applicationLogic()
    logic.SetMRMLApplicationLogic(application_logic)
    application_logic.GetSliceLogics().AddItem(logic)
    logic.SetMRMLScene(slicer.mrmlScene)
    node = logic.AddSliceNode("Picture")
    node.SetOrientation(orientation)
    node.SetMappedInLayout(1)
    layers = logic.GetSliceCompositeNode()
    layers.SetBackgroundVolumeID(background.GetID() if background is not None else None)
    layers.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
    layers.SetForegroundOpacity(foreground_opacity)
    logic.ResizeSliceNode(*size)
    logic.FitSliceToBackground(*size)
    logic.UpdatePipeline()
    _add_image(renderer, logic)
    # Only now: a manager that adds its actors before the image does would be painted over. (Measured: a fill of
    # opacity 0.35 was then blended with black.)
    group.SetMRMLDisplayableNode(node)
    try:
        yield window, logic
    finally:
        group.SetMRMLDisplayableNode(None)
        views.close(logic)
        window.Finalize()


def _add_image(renderer, logic):
    """The image itself is no manager's work; in Slicer the slice widget draws it."""
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.SetInputConnection(logic.GetImageDataConnection())
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    actor.GetProperty().SetDisplayLocationToBackground()
    renderer.AddViewProp(actor)


@contextmanager
def _three_d_view(size, axes):
    window, renderer, _ = _window(size)
    factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    group = _manager_group(factory, _THREE_D_MANAGERS, renderer)
    logic = slicer.vtkMRMLViewLogic()
    application_logic = slicer.app.applicationLogic()
    logic.SetMRMLApplicationLogic(application_logic)
    application_logic.GetViewLogics().AddItem(logic)
    logic.SetMRMLScene(slicer.mrmlScene)
    node = logic.AddViewNode("1")
    node.SetMappedInLayout(1)
    node.SetBoxVisible(0)
    node.SetAxisLabelsVisible(0)
    node.SetOrientationMarkerType(node.OrientationMarkerTypeAxes if axes else node.OrientationMarkerTypeNone)
    group.SetMRMLDisplayableNode(node)
    try:
        yield window, renderer
    finally:
        group.SetMRMLDisplayableNode(None)
        application_logic.GetViewLogics().RemoveItem(logic)
        slicer.mrmlScene.RemoveNode(node)
        logic.SetMRMLScene(None)
        window.Finalize()
