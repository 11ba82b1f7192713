"""The slice views Red, Yellow and Green as nodes and logics, without a window.

The bed plays Slicer without a main window, where there is none of them. A test of a module that shows a volume or
jumps to a slice opens them first:

    views.open_slice_views()
    slicer.util.setSliceViewerLayers(background=volume)
    slicer.modules.markups.logic().JumpSlicesToLocation(r, a, s, True)
    assert views.slice_position("Red") == ...
"""

import slicer

ORIENTATIONS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}

_logics = {}


def open_slice_views(size=(256, 256)):
    """Creates the three views. Returns {name: vtkMRMLSliceLogic}."""
    application_logic = slicer.app.applicationLogic()
    for name, orientation in ORIENTATIONS.items():
        if name in _logics:
            continue
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(application_logic)
        application_logic.GetSliceLogics().AddItem(logic)
        logic.SetMRMLScene(slicer.mrmlScene)
        node = logic.AddSliceNode(name)
        node.SetOrientation(orientation)
        node.SetMappedInLayout(1)
        logic.ResizeSliceNode(*size)
        _logics[name] = logic
    return dict(_logics)


def close_slice_views():
    """Removes the views and their nodes."""
    for name in list(_logics):
        close(_logics.pop(name))


def slice_position(name):
    """Returns the center (R, A, S) of a view in mm."""
    matrix = _logics[name].GetSliceNode().GetSliceToRAS()
    return tuple(matrix.GetElement(row, 3) for row in range(3))


def close(logic):
    """Takes one slice logic out of the application and removes every node it made."""
    nodes = [
        logic.GetSliceModelNode(),
        logic.GetSliceModelTransformNode(),
        logic.GetSliceDisplayNode(),
        logic.GetSliceCompositeNode(),
        logic.GetSliceNode(),
    ]
    slicer.app.applicationLogic().GetSliceLogics().RemoveItem(logic)
    logic.SetMRMLScene(None)  # or it would create its nodes again
    for node in nodes:
        if node is not None and slicer.mrmlScene.IsNodePresent(node):
            slicer.mrmlScene.RemoveNode(node)
