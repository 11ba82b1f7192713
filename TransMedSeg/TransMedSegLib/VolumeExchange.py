"""MRML volumes and segmentations to files and back, each voxel at its place.

Files are in LPS, the scene is in RAS; Slicer's storage nodes do the change of signs. Masks travel as .seg.nrrd.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import vtk
from vtk.util import numpy_support

import slicer

REFERENCE = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()


def writeVolume(volumeNode, path):
    """Writes the voxels of a volume as .nrrd, as they are stored: a transform above the node is left out.

    Raises:
        OSError: The file could not be written.
    """
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(0)
    if not storage.WriteData(volumeNode):
        raise OSError(f"{path} could not be written.")


def writeSegmentation(segmentationNode, path, volumeNode=None):
    """Writes every segment with its names, codes and colors as .seg.nrrd.

    Args:
        segmentationNode: May be empty: then a file without segments results.
        path: A new file appears whole or not at all.
        volumeNode: Where given, its grid becomes the reference geometry of the file.

    Raises:
        OSError: The file could not be written.
    """
    path = Path(path)
    if volumeNode is not None:
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    part = path.with_name(f".part-{path.name}")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(part))
    storage.SetUseCompression(1)
    storage.SetCropToMinimumExtent(False)
    if not storage.WriteData(segmentationNode) or not part.exists():
        part.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written.")
    part.replace(path)


@contextmanager
def readSegmentation(path):
    """Reads a .seg.nrrd into a segmentation node that lives as long as the context.

    Raises:
        OSError: The file is missing or cannot be read.
    """
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName("file")
    node.HideFromEditorsOn()
    slicer.mrmlScene.AddNode(node)
    try:
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(path))
        if not Path(path).is_file() or not storage.ReadData(node):
            raise OSError(f"{path} cannot be read.")
        yield node
    finally:
        slicer.mrmlScene.RemoveNode(node)


def maskOf(segmentationNode, segmentId, volumeNode):
    """A segment on the grid of a volume: bool [slice, row, column]. Other grids are sampled at the nearest voxel."""
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if segment is None or (segment.GetRepresentation(name) is None and not _makeLabelmaps(segmentationNode)):
        return np.zeros(volumeNode.GetImageData().GetDimensions()[::-1], bool)
    if segmentationNode.GetTransformNodeID() != volumeNode.GetTransformNodeID():
        array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentId, volumeNode)
        return array.astype(bool)
    return _sampled(segmentationNode, segmentId, volumeNode)


def _sampled(segmentationNode, segmentId, volumeNode):
    """As slicer.util.arrayFromSegmentBinaryLabelmap, without nodes in between: adding them wakes up every observer."""
    image, placed = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    size = volumeNode.GetImageData().GetDimensions()
    if not segmentationNode.GetBinaryLabelmapRepresentation(segmentId, image) or image.GetNumberOfPoints() == 0:
        return np.zeros(size[::-1], bool)
    grid = slicer.vtkOrientedImageData()
    grid.SetDimensions(*size)
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    grid.SetGeometryFromImageToWorldMatrix(matrix)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(image, grid, placed, False, False)
    voxels = numpy_support.vtk_to_numpy(placed.GetPointData().GetScalars())
    return voxels.reshape(size[::-1]) > 0


def _makeLabelmaps(segmentationNode):
    """A segmentation that came as surfaces has no voxels yet."""
    segmentation = segmentationNode.GetSegmentation()
    return segmentation.GetNumberOfSegments() > 0 and segmentationNode.CreateBinaryLabelmapRepresentation()


def writeMask(segmentationNode, segmentId, mask, volumeNode):
    """Puts a mask into a segment. Segments that shared its labelmap keep their voxels.

    Args:
        mask: [slice, row, column] on the grid of `volumeNode`.
    """
    segmentation = segmentationNode.GetSegmentation()
    segmentation.SeparateSegmentLabelmap(segmentId)
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(imageOf(mask))
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    image.SetGeometryFromImageToWorldMatrix(matrix)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetBinaryLabelmapToSegment(image, segmentationNode, segmentId, logic.MODE_REPLACE)


def imageOf(mask):
    """A VTK image of a mask [slice, row, column], without geometry."""
    voxels = np.ascontiguousarray(mask, dtype=np.uint8)
    image = vtk.vtkImageData()
    image.SetDimensions(*voxels.shape[::-1])
    scalars = numpy_support.numpy_to_vtk(voxels.ravel(), deep=True)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def readVolume(path, name):
    """Loads a map such as the doubt into a volume node.

    Raises:
        OSError: It cannot be read.
    """
    try:
        return slicer.util.loadVolume(str(path), properties={"name": name, "show": False})
    except RuntimeError as error:
        raise OSError(f"{path} cannot be read.") from error


def voxelVolumeMl(volumeNode):
    """Milliliters of one voxel, also of a sheared grid."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return abs(matrix.Determinant()) / 1000.0


def positionRas(volumeNode, kji):
    """World position (R, A, S) in mm of a voxel given as [slice, row, column], with the transform above the node."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    point = matrix.MultiplyPoint([*map(float, kji[::-1]), 1.0])[:3]
    transform = volumeNode.GetParentTransformNode()
    if transform is None:
        return tuple(point)
    general = vtk.vtkGeneralTransform()
    transform.GetTransformToWorld(general)
    return tuple(general.TransformPoint(point))
