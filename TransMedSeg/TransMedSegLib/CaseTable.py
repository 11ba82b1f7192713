"""The cases of the scene: a volume node, its segmentation, and what is known of them, kept as attributes of the nodes.

Everything is saved with the scene.
"""

from functools import cache
from pathlib import Path

import slicer
from slicer.i18n import tr as _

PREFIX = "TransMedSeg."
STATUS = PREFIX + "Status"
SEGMENTATION = PREFIX + "segmentation"
DOUBT_MAP = PREFIX + "doubt"
LABELED = PREFIX + "Labeled"

TO_DO, PREDICTED, EDITED, APPROVED = "ToDo", "Predicted", "Edited", "Approved"
ENDINGS = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")

_SMALLEST_FILE = 1024
"""Bytes. A pointer of Git LFS or of a cloud drive is smaller; a volume is larger."""


@cache
def statusTexts():
    """What the table shows for each status, in the user's language."""
    return {TO_DO: _("To do"), PREDICTED: _("Predicted"), EDITED: _("Edited"), APPROVED: _("Approved")}


class Case:
    """One volume and what belongs to it."""

    def __init__(self, volumeNode):
        self.volume = volumeNode

    def __eq__(self, other):
        return isinstance(other, Case) and other.volume is self.volume

    def __hash__(self):
        return hash(self.volume)

    @property
    def id(self):
        return self.volume.GetID()

    @property
    def name(self):
        return self.volume.GetName() or ""

    @property
    def status(self):
        return self.volume.GetAttribute(STATUS) or TO_DO

    def setStatus(self, status):
        if status != self.volume.GetAttribute(STATUS):
            self.volume.SetAttribute(STATUS, status)

    @property
    def segmentation(self):
        """The segmentation node; None before there is one."""
        return self.volume.GetNodeReference(SEGMENTATION)

    @property
    def doubtMap(self):
        return self.volume.GetNodeReference(DOUBT_MAP)

    def setDoubtMap(self, node):
        before = self.doubtMap
        if before is not None and before is not node:
            slicer.mrmlScene.RemoveNode(before)
        self.volume.SetNodeReferenceID(DOUBT_MAP, node.GetID() if node else None)

    def number(self, name):
        """A number kept with the case, such as "VolumeMl", "Dice", "Doubt"; None where it is not known."""
        text = self.volume.GetAttribute(PREFIX + name)
        return float(text) if text else None

    def setNumber(self, name, value):
        self.volume.SetAttribute(PREFIX + name, None if value is None else repr(float(value)))

    def noteMask(self, volumeMl):
        """The mask is another one: it has its own volume, and no Dice until it is compared again."""
        self.setNumber("VolumeMl", volumeMl)
        self.setNumber("Dice", None)

    @property
    def isLabeled(self):
        return self.volume.GetAttribute(LABELED) == "1"

    def setLabeled(self, labeled):
        """Puts the case on the list of labeled volumes of the training module, or takes it off."""
        if labeled == self.isLabeled:
            return
        from .LabeledList import setOnList

        self.volume.SetAttribute(LABELED, "1" if labeled else None)
        setOnList(self.volume, self.segmentation, labeled)

    def makeSegmentation(self):
        """The segmentation node, made where there is none: on the volume's grid and under the same study."""
        node = self.segmentation
        if node is None:
            name = _("{case} segmentation").format(case=self.name)
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
            node.CreateDefaultDisplayNodes()
            self.volume.SetNodeReferenceID(SEGMENTATION, node.GetID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(self.volume)
        # A volume under a transform is shown moved; its mask moves with it.
        node.SetAndObserveTransformNodeID(self.volume.GetTransformNodeID())
        placeBeside(node, self.volume)
        return node

    def adoptSegmentation(self, node):
        """Takes a segmentation that the user already has as that of the case."""
        self.volume.SetNodeReferenceID(SEGMENTATION, node.GetID())


def placeBeside(node, volumeNode):
    """Puts a node under the study (or folder) of a volume in the subject hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    volumeItem = hierarchy.GetItemByDataNode(volumeNode)
    if not volumeItem:
        return
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    parent = hierarchy.GetItemParent(volumeItem)
    if hierarchy.GetItemParent(item) != parent:
        hierarchy.SetItemParent(item, parent)


def cases():
    """Every case of the scene, in the order they were added."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [Case(node) for node in nodes if node.GetAttribute(STATUS)]


def caseOf(volumeNode):
    """The case of a volume; None where the volume is not on the list."""
    return Case(volumeNode) if volumeNode is not None and volumeNode.GetAttribute(STATUS) else None


def addCase(volumeNode):
    """Puts a volume of the scene on the list and takes a segmentation that refers to it along."""
    case = Case(volumeNode)
    if not volumeNode.GetAttribute(STATUS):
        volumeNode.SetAttribute(STATUS, TO_DO)
    if case.segmentation is None:
        found = _segmentationOn(volumeNode)
        if found is not None:
            case.adoptSegmentation(found)
            if case.status == TO_DO and found.GetSegmentation().GetNumberOfSegments():
                case.setStatus(EDITED)
    return case


def _segmentationOn(volumeNode):
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetNodeReference(role) is volumeNode:
            return node
    return None


def removeCase(case):
    """Takes a case off the list; its nodes stay in the scene."""
    case.volume.SetAttribute(STATUS, None)
    case.setLabeled(False)


def findFiles(paths):
    """Lists what can be loaded: volume files, also inside of folders, and folders of DICOM files.

    Returns:
        (volume files, DICOM folders), each sorted. A folder that holds volume files is not looked at for DICOM.
    """
    files, folders = [], []
    for path in map(Path, paths):
        if path.is_file():
            files.append(path)
            continue
        inside = [one for one in path.rglob("*") if one.is_file() and not one.name.startswith(".")]
        volumes = [one for one in inside if isVolumeFile(one)]
        files += volumes
        if not volumes and any(_isDicom(one) for one in inside[:50]):
            folders.append(path)
    return sorted(set(files)), sorted(set(folders))


def isVolumeFile(path):
    """Whether a file's name says that it is an image; masks (.seg.nrrd) are not."""
    return path.name.lower().endswith(ENDINGS) and not isMaskFile(path)


def isMaskFile(path):
    """Whether a file's name says that it is a segmentation."""
    return path.name.lower().endswith((".seg.nrrd", ".seg.nhdr"))


def _isDicom(path):
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def loadFile(path):
    """Loads one volume file and puts it on the list.

    Raises:
        OSError: It cannot be read.
    """
    try:
        node = slicer.util.loadVolume(str(path), properties={"show": False})
    except (RuntimeError, ValueError) as error:
        raise OSError(f"{path} cannot be read.") from error
    return addCase(node)


def loadMask(path):
    """Loads a segmentation file, which is no case.

    Raises:
        OSError: It cannot be read.
    """
    try:
        return slicer.util.loadSegmentation(str(path))
    except (RuntimeError, ValueError) as error:
        raise OSError(f"{path} cannot be read.") from error


def unreadableReason(path):
    """Why a volume file probably cannot be read, for E311."""
    path = Path(path)
    size = path.stat().st_size if path.is_file() else 0
    if not size:
        return _("the file is empty or missing")
    if size < _SMALLEST_FILE:
        return _("the file is {size} bytes, it looks like a placeholder").format(size=size)
    return _("it is damaged or of an unknown kind")


def loadDicomFolder(folder):
    """Imports a folder into the DICOM database, loads its series and puts the volumes on the list."""
    from DICOMLib import DICOMUtils

    DICOMUtils.importDicom(str(folder), slicer.dicomDatabase)
    # The database keeps paths as Qt writes them, with "/" also on Windows.
    files = (path.as_posix() for path in Path(folder).rglob("*") if path.is_file())
    series = set(map(slicer.dicomDatabase.seriesForFile, files))
    nodes = [slicer.mrmlScene.GetNodeByID(one) for one in DICOMUtils.loadSeriesByUID(sorted(series - {""}))]
    volumes = [node for node in nodes if node is not None and node.IsA("vtkMRMLScalarVolumeNode")]
    return [addCase(node) for node in volumes]
