"""The logics of Slicer's C++ modules. slicer-core has the classes; the application would create and connect them."""

from pathlib import Path

import slicer
import vtk

from .colors import write_color_files
from .modules import qSlicerAbstractCoreModule

LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Models": "vtkSlicerModelsLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "SegmentEditor": "vtkSlicerSegmentEditorLogic",
    "Data": "vtkSlicerDataModuleLogic",
}
"""Module name -> class of its logic, in the order of creation: subject hierarchy before what uses it."""


def make_application_logic(scene):
    """Returns the application logic, with the scene's slice orientations and without any view."""
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetTemporaryPath(slicer.app.temporaryPath)
    logic.SetHomeDirectory(slicer.app.slicerHome)
    logic.SetShareDirectory("share")
    write_color_files(Path(slicer.app.slicerHome) / "share" / "ColorFiles")
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    return logic


def add_module_logics(application_logic, scene, shared_folder):
    """Creates every logic and the module that owns it.

    Args:
        shared_folder: where C++ modules look for their files. Terminologies lie in its subfolder Terminologies.
    """
    for name, class_name in LOGICS.items():
        logic = getattr(slicer, class_name)()
        if hasattr(logic, "SetModuleShareDirectory"):
            logic.SetModuleShareDirectory(str(shared_folder / name))
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        application_logic.SetModuleLogic(name, logic)
        slicer.app.moduleManager().add(qSlicerAbstractCoreModule(name, logic=logic))
