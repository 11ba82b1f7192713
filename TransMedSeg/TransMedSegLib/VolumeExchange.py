"""MRML volumes and segmentations to files and back, each voxel at its place.

Files are in LPS, the scene is in RAS; Slicer's storage nodes do the change of signs. Masks travel as .seg.nrrd.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

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
    matrix, own = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    image.GetImageToWorldMatrix(own)
    if np.allclose(slicer.util.arrayFromVTKMatrix(own), slicer.util.arrayFromVTKMatrix(matrix), atol=1e-6):
        return _placed(image, size[::-1])
    grid = slicer.vtkOrientedImageData()
    grid.SetDimensions(*size)
    grid.SetGeometryFromImageToWorldMatrix(matrix)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(image, grid, placed, False, False)
    voxels = numpy_support.vtk_to_numpy(placed.GetPointData().GetScalars())
    return voxels.reshape(size[::-1]) > 0


def _placed(image, shape):
    """The foreground of an image whose voxels are voxels of the grid, on the whole grid [slice, row, column]."""
    mask = np.zeros(shape, bool)
    extent = np.array(image.GetExtent()).reshape(3, 2)[::-1]
    voxels = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    voxels = voxels.reshape(extent[:, 1] - extent[:, 0] + 1)
    low, high = np.maximum(extent[:, 0], 0), np.minimum(extent[:, 1] + 1, shape)
    if (low < high).all():
        inside = tuple(slice(a - e, b - e) for a, b, e in zip(low, high, extent[:, 0]))
        mask[tuple(map(slice, low, high))] = voxels[inside] > 0
    return mask


def boxOf(mask):
    """The smallest box around a mask, as slices; None where the mask is empty."""
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    if not len(slices):
        return None
    part = mask[slices[0] : slices[-1] + 1]
    rows, columns = np.flatnonzero(part.any(axis=(0, 2))), np.flatnonzero(part.any(axis=(0, 1)))
    return tuple(slice(int(one[0]), int(one[-1]) + 1) for one in (slices, rows, columns))


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
    box = boxOf(mask) or (slice(0, 1),) * 3
    image = slicer.vtkOrientedImageData()
    image.ShallowCopy(imageOf(mask[box]))
    image.SetExtent(*(limit for one in box[::-1] for limit in (one.start, one.stop - 1)))
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
