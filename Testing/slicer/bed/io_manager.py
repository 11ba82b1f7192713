"""Stand-in for qSlicerCoreIOManager: which file is what, and how it gets into the scene and out of it.

`slicer.util.loadVolume`, `saveNode`, `saveScene` and the like are Slicer's own Python; they end here. Reading and
writing is done by the genuine C++ storage nodes.
"""

import os
import shutil
from pathlib import Path

import slicer
import vtk
from PySide6 import QtCore
from PySide6.QtCore import Signal

from . import dialogs
from .pythonqt.wrapped import stand_in

FILE_TYPES = {
    ".seg.nrrd": "SegmentationFile",
    ".seg.nhdr": "SegmentationFile",
    ".nrrd": "VolumeFile",
    ".nhdr": "VolumeFile",
    ".nii": "VolumeFile",
    ".nii.gz": "VolumeFile",
    ".mha": "VolumeFile",
    ".mhd": "VolumeFile",
    ".dcm": "VolumeFile",
    ".vtp": "ModelFile",
    ".vtk": "ModelFile",
    ".stl": "ModelFile",
    ".ply": "ModelFile",
    ".obj": "ModelFile",
    ".csv": "TableFile",
    ".tsv": "TableFile",
    ".mrk.json": "MarkupsFile",
    ".h5": "TransformFile",
    ".tfm": "TransformFile",
    ".ctbl": "ColorTableFile",
    ".txt": "TextFile",
    ".mrml": "SceneFile",
    ".mrb": "SceneFile",
}

_WRITER_FORMATS = {
    "vtkMRMLScalarVolumeNode": ["NRRD (.nrrd)", "NIfTI (.nii.gz)", "NIfTI (.nii)", "MetaImage (.mha)"],
    "vtkMRMLLabelMapVolumeNode": ["NRRD (.nrrd)", "NIfTI (.nii.gz)", "NIfTI (.nii)", "MetaImage (.mha)"],
    "vtkMRMLSegmentationNode": ["Segmentation (.seg.nrrd)"],
    "vtkMRMLModelNode": ["VTK (.vtk)", "PolyData (.vtp)", "STL (.stl)", "PLY (.ply)", "OBJ (.obj)"],
    "vtkMRMLTableNode": ["Table (.csv)", "Table (.tsv)"],
}


def _logic(name):
    return slicer.app.moduleManager().module(name).logic()


@stand_in("newFileLoaded(qSlicerIO::IOProperties)", "fileSaved(qSlicerIO::IOProperties)")
class CoreIOManager(QtCore.QObject):
    """Properties are dictionaries, with the keys of qSlicerIO::IOProperties."""

    newFileLoaded = Signal(dict)
    fileSaved = Signal(dict)

    # Questions about files

    def extractKnownExtension(self, path, node=None):
        lower = str(path).lower()
        known = max((ending for ending in FILE_TYPES if lower.endswith(ending)), key=len, default="")
        return str(path)[len(str(path)) - len(known) :] if known else Path(path).suffix

    def fileType(self, path):
        return FILE_TYPES.get(self.extractKnownExtension(path).lower(), "NoFile")

    def fileWriterExtensions(self, node, *_):
        return _WRITER_FORMATS.get(node.GetClassName(), ["All files (*)"])

    def fileWriterFileType(self, node, *_):
        return node.GetClassName()

    def registeredFileReaderCount(self, file_type):
        return int(file_type in FILE_TYPES.values())

    def openSaveDataDialog(self):
        """The dialog is not shown: the answer says whether everything was saved. Without one it is cancelled."""
        dialogs.record("openSaveDataDialog", "")
        answers = dialogs.answers.get("openSaveDataDialog")
        return bool(answers and answers.pop(0))

    # Reading

    def loadNodes(self, file_type, properties, loaded_nodes=None, messages=None):
        """Reads a file into the scene. Returns False, with a message, where that fails."""
        path = str(properties.get("fileName") or properties["fileNames"][0])
        problem = None
        if not os.path.exists(path):
            problem = f"file not found: {path}"
        elif file_type == "SceneFile":
            problem = None if self._load_scene(path, properties) else f"cannot read the scene {path}"
        else:
            node = self._load_node(file_type, path, properties)
            problem = None if node is not None else f"cannot read {path} as {file_type}"
            if node is not None and loaded_nodes is not None:
                loaded_nodes.AddItem(node)
        if problem and messages is not None:
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, problem)
        if not problem:
            self.newFileLoaded.emit(dict(properties, fileType=file_type))
        return problem is None

    def _load_scene(self, path, properties):
        scene = slicer.mrmlScene
        clear = bool(properties.get("clear", False))
        if path.lower().endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, clear))
        scene.SetURL(path)
        return bool(scene.Connect() if clear else scene.Import())

    def _load_node(self, file_type, path, properties):
        name = properties.get("name") or Path(path).name[: -len(self.extractKnownExtension(path)) or None]
        if file_type == "VolumeFile":
            return self._load_volume(path, name, properties)
        if file_type == "SegmentationFile":
            return self._load_segmentation(path, name, properties)
        readers = {
            "ModelFile": lambda: _logic("Models").AddModel(path, slicer.vtkMRMLStorageNode.CoordinateSystemLPS),
            "TableFile": lambda: _logic("Tables").AddTable(path, name),
            "TransformFile": lambda: _logic("Transforms").AddTransform(path, slicer.mrmlScene),
            "ColorTableFile": lambda: _logic("Colors").LoadColorFile(path, name),
            "MarkupsFile": lambda: slicer.mrmlScene.GetNodeByID(_logic("Markups").LoadMarkups(path, name) or ""),
        }
        return readers[file_type]() if file_type in readers else None

    def _load_volume(self, path, name, properties):
        # Bits of vtkSlicerVolumesLogic::LoadingOptions.
        options = (
            (1 if properties.get("labelmap") else 0)
            | (2 if properties.get("center") else 0)
            | (4 if properties.get("singleFile") else 0)
            | (8 if properties.get("autoWindowLevel", True) else 0)
            | (16 if properties.get("discardOrientation") else 0)
        )
        node = _logic("Volumes").AddArchetypeVolume(path, name, options)
        if node is not None and properties.get("show", True):
            selection = slicer.app.applicationLogic().GetSelectionNode()
            selection.SetActiveVolumeID(node.GetID())
            slicer.app.applicationLogic().PropagateVolumeSelection()
        return node

    def _load_segmentation(self, path, name, properties):
        opacities = bool(properties.get("autoOpacities", True))
        return _logic("Segmentations").LoadSegmentationFromFile(path, opacities, name)

    # Writing

    def saveNodes(self, file_type, properties, messages=None):
        """Writes one node, or the scene for file type SceneFile."""
        path = str(properties["fileName"])
        if file_type == "SceneFile":
            saved = self._save_scene(path)
        else:
            node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
            saved = self._save_node(node, path, properties)
        if not saved and messages is not None:
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"cannot write {path}")
        if saved:
            self.fileSaved.emit(dict(properties, fileType=file_type))
        return saved

    def _save_scene(self, path):
        scene = slicer.mrmlScene
        if path.lower().endswith(".mrb"):
            if os.path.exists(path):
                os.remove(path)
            return bool(scene.WriteToMRB(path, None))
        if path.lower().endswith(".mrml"):
            scene.SetURL(path)
            scene.SetRootDirectory(str(Path(path).parent))
            return bool(scene.Commit())
        return bool(scene.SaveSceneToSlicerDataBundleDirectory(path, None))

    def _save_node(self, node, path, properties):
        node.AddDefaultStorageNode(path)
        storage = node.GetStorageNode()
        if storage is None:
            return False
        storage.SetFileName(path)
        if "useCompression" in properties:
            storage.SetUseCompression(int(properties["useCompression"]))
        return bool(storage.WriteData(node))

    def exportNodes(self, node_ids, paths, properties=None, harden=False, messages=None):
        """Writes copies: the nodes keep their storage nodes and file names."""
        for node_id, path in zip(node_ids, paths):
            node = slicer.mrmlScene.GetNodeByID(node_id)
            storage = node.CreateDefaultStorageNode()
            storage.UnRegister(None)
            storage.SetFileName(str(path))
            if harden or not storage.WriteData(node):
                if messages is not None:
                    messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"cannot export {path}")
                return False
        return True


def copy_terminologies(folder, target):
    """Copies terminology files where the Terminologies logic looks: 5.13 wants names that end in .term.json."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(folder).glob("*.json")):
        shutil.copy(path, target / (path.name.removesuffix(".json").removesuffix(".term") + ".term.json"))
