"""Stand-in for Slicer's DICOMUtils: a folder into the DICOM database, series of the database into the scene.

Voxels and geometry are read by the genuine C++ that Slicer's scalar volume plugin calls
(vtkSlicerVolumesLogic.AddArchetypeScalarVolume). What is left out: the other plugins, the choice between readings of one
series, the check of the spacing with its grid transform.
"""

from pathlib import Path

import numpy as np
import slicer
import vtk

_RESULTS = ("SEG", "SR", "PR", "KO", "REG", "RTSTRUCT", "RTDOSE")


def importDicom(dicomDataDir, dicomDatabase=None, copyFiles=False):
    """Indexes every DICOM file of a folder and its subfolders; other files are passed over, as the indexer does."""
    import pydicom

    database = slicer.dicomDatabase if dicomDatabase is None else dicomDatabase
    for path in sorted(Path(dicomDataDir).rglob("*")):
        if path.is_file():
            try:
                database.insert(path.as_posix(), copyFiles)
            except (pydicom.errors.InvalidDicomError, AttributeError):
                continue
    return True


def loadSeriesByUID(seriesUIDs):
    """Loads image series as scalar volumes.

    Returns:
        IDs of the nodes.
    """
    if not isinstance(seriesUIDs, list):
        raise ValueError("loadSeriesByUID expects a list of UIDs")
    nodes = (_load(uid) for uid in seriesUIDs)
    return [node.GetID() for node in nodes if node is not None]


def _load(series):
    files = slicer.dicomDatabase.filesForSeries(series)
    modality = slicer.dicomDatabase.fileValue(files[0], "0008,0060") if files else ""
    if not files or modality in _RESULTS:
        return None
    files = sorted(files, key=_distance) if len(files) > 1 else files
    names = vtk.vtkStringArray()
    for path in files:
        names.InsertNextValue(path)
    number = slicer.dicomDatabase.fileValue(files[0], "0020,0011")
    description = slicer.dicomDatabase.fileValue(files[0], "0008,103e")
    name = f"{number}: {description}" if number and description else description or "volume"
    node = slicer.modules.volumes.logic().AddArchetypeScalarVolume(files[0], name, 0, names)
    if node is not None:
        # As the plugin's setVolumeNodeProperties: the i-th UID is that of the i-th slice.
        node.SetAttribute("DICOM.instanceUIDs", " ".join(slicer.dicomDatabase.instanceForFile(path) for path in files))
        _put_under_study(node, files[0], series)
    return node


def _put_under_study(node, path, series):
    """Into the tree by the genuine C++ that Slicer's plugin calls; the names it gives patient and study are left out."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    hierarchy.SetItemUID(hierarchy.GetItemByDataNode(node), slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMUIDName(), series)
    patient, study = (slicer.dicomDatabase.fileValue(path, tag) for tag in ("0010,0020", "0020,000D"))
    slicer.vtkSlicerSubjectHierarchyModuleLogic.InsertDicomSeriesInHierarchy(hierarchy, patient, study, series)


def _distance(path):
    """Where an image lies along the normal of its plane, row x column."""
    position = [float(mm) for mm in slicer.dicomDatabase.fileValue(path, "0020,0032").split("\\")]
    cosines = [float(one) for one in slicer.dicomDatabase.fileValue(path, "0020,0037").split("\\")]
    return float(np.dot(np.cross(cosines[:3], cosines[3:]), position))
