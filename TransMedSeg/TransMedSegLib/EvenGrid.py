"""A grid with even slices and right angles around a volume that has neither: what the model sees in its place (E304, E305).

The volume stays as it is. What the model draws comes back onto its own voxels, each at its place in the world.
"""

import itertools

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from .VolumeExchange import (
    imageOf,
    maskOf,
    positionRas,
    readSegmentation,
    readVolume,
    writeMask,
    writeSegmentation,
    writeVolume,
)

_UNEVEN = 0.01
"""Gaps between slices that differ by more than this share of their mean are uneven; less is rounding in a header."""


def sliceGapsMm(node):
    """Distances in mm of neighboring slices along the middle of the stack, with the transform above the node."""
    columns, rows, slices = node.GetImageData().GetDimensions()
    points = np.array([positionRas(node, (k, rows / 2, columns / 2)) for k in range(slices)])
    return np.linalg.norm(np.diff(points, axis=0), axis=1)


def areUneven(gaps):
    return bool(np.ptp(gaps) > _UNEVEN * gaps.mean())


def evenStepMm(gaps):
    """The distance of slices to resample to: the smallest that occurs, unless it is an outlier."""
    return float(max(gaps.min(), np.median(gaps) / 2))


def axesOf(node):
    """Steps in mm from voxel to voxel (3, 3), columns along i, j, k: means over the volume, with the transform above the node."""
    ends = [[0, size - 1] for size in node.GetImageData().GetDimensions()[::-1]]
    corners = np.array([positionRas(node, kji) for kji in itertools.product(*ends)]).reshape(2, 2, 2, 3)
    edges = [np.diff(corners, axis=axis).reshape(-1, 3).mean(axis=0) / max(1, ends[axis][1]) for axis in (2, 1, 0)]
    return np.array(edges).T


def areOblique(axes):
    """Whether axes (3, 3), in columns, are not at right angles."""
    directions = axes / np.linalg.norm(axes, axis=0)
    return not np.allclose(directions.T @ directions, np.eye(3), atol=1e-3)


def needsEvenGrid(node):
    """Whether a volume has to be resampled for a model: uneven slices, or axes that are not at right angles."""
    transform = node.GetParentTransformNode()
    isWarped = transform is not None and not transform.IsTransformToWorldLinear()
    return areOblique(axesOf(node)) or (isWarped and areUneven(sliceGapsMm(node)))


class EvenGrid:
    """The even grid around a volume as it lies in the world.

    Args:
        volumeNode: The volume.
        region: The box that the model may see (RegionBox.Region); None for all of it.
    """

    def __init__(self, volumeNode, region=None):
        axes = axesOf(volumeNode)
        directions = _rightAngles(axes)
        spacing = np.linalg.norm(axes, axis=0)
        spacing[2] = evenStepMm(np.abs(_gapsAlong(volumeNode, directions[:, 2])))
        box = region.box if region is not None else tuple(slice(0, size) for size in volumeNode.GetImageData().GetDimensions()[::-1])
        along = _outline(volumeNode, box) @ directions
        low, high = along.min(axis=0), along.max(axis=0)
        self.size = tuple(int(n) for n in np.ceil(np.round((high - low) / spacing, 3)) + 1)
        self.affine = np.eye(4)
        """(i, j, k) of the even grid to world (R, A, S) in mm."""
        self.affine[:3, :3] = directions * spacing
        self.affine[:3, 3] = directions @ low

    def write(self, volumeNode, path):
        """Writes the volume resampled onto this grid; what lies outside of it gets its lowest value.

        Raises:
            OSError: The file could not be written.
        """
        way = vtk.vtkGeneralTransform()
        way.PostMultiply()
        way.Concatenate(_matrix(self.affine))
        transform = volumeNode.GetParentTransformNode()
        if transform is not None:
            back = vtk.vtkGeneralTransform()
            transform.GetTransformFromWorld(back)
            way.Concatenate(back)
        way.Concatenate(_matrix(np.linalg.inv(_affineOf(volumeNode))))
        low = volumeNode.GetImageData().GetScalarRange()[0]
        even = self._node()
        even.SetAndObserveImageData(_resliced(volumeNode.GetImageData(), way, self.size, True, low))
        writeVolume(even, path)

    def bringBack(self, files, volumeNode):
        """Puts what the engine wrote for this grid onto the voxels of the volume, in new files beside the others.

        Args:
            files: {"mask": path, "doubt": path}; the doubt may be missing.

        Returns:
            The same with the paths of the new files.

        Raises:
            OSError: A file cannot be read or written.
        """
        found = {"mask": files["mask"].with_name(f"original-{files['mask'].name}")}
        with readSegmentation(files["mask"]) as stored:
            even = self._node()
            even.SetAndObserveImageData(_emptyImage(self.size))
            names = stored.GetSegmentation().GetSegmentIDs()
            masks = {name: self._sampled(imageOf(maskOf(stored, name, even)), volumeNode, False) > 0 for name in names}
            for name, mask in masks.items():
                writeMask(stored, name, mask, volumeNode)
            writeSegmentation(stored, found["mask"], volumeNode)
        if "doubt" in files:
            # NIfTI holds no axes that are not at right angles; NRRD does.
            found["doubt"] = files["doubt"].with_name("original-" + files["doubt"].name.removesuffix(".nii.gz") + ".nrrd")
            self._bringDoubtBack(files["doubt"], found["doubt"], volumeNode)
        return found

    def _bringDoubtBack(self, source, target, volumeNode):
        doubt = readVolume(source, "doubt")
        try:
            result = slicer.vtkMRMLScalarVolumeNode()
            slicer.util.updateVolumeFromArray(result, self._sampled(doubt.GetImageData(), volumeNode, True))
            result.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(_affineOf(volumeNode)))
            writeVolume(result, target)
        finally:
            slicer.mrmlScene.RemoveNode(doubt)

    def _sampled(self, image, volumeNode, isSmooth):
        """An image of this grid at the voxels of the volume: [slice, row, column]."""
        way = vtk.vtkGeneralTransform()
        way.PostMultiply()
        way.Concatenate(_matrix(_affineOf(volumeNode)))
        transform = volumeNode.GetParentTransformNode()
        if transform is not None:
            toWorld = vtk.vtkGeneralTransform()
            transform.GetTransformToWorld(toWorld)
            way.Concatenate(toWorld)
        way.Concatenate(_matrix(np.linalg.inv(self.affine)))
        size = volumeNode.GetImageData().GetDimensions()
        voxels = _resliced(image, way, size, isSmooth, 0.0).GetPointData().GetScalars()
        return numpy_support.vtk_to_numpy(voxels).reshape(size[::-1]).copy()

    def _node(self):
        """A volume node of this grid, outside of the scene."""
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(self.affine))
        return node


def _rightAngles(axes):
    """Directions (3, 3), in columns, at right angles: that of the columns, that of the rows turned against it, and across both."""
    first = axes[:, 0] / np.linalg.norm(axes[:, 0])
    second = axes[:, 1] - first * (first @ axes[:, 1])
    second /= np.linalg.norm(second)
    third = np.cross(first, second)
    return np.stack([first, second, third if third @ axes[:, 2] > 0 else -third], axis=1)


def _gapsAlong(node, direction):
    columns, rows, slices = node.GetImageData().GetDimensions()
    return np.diff([np.dot(positionRas(node, (k, rows / 2, columns / 2)), direction) for k in range(slices)])


def _outline(node, box):
    """World positions (n, 3) of the outermost voxels and the middle of every slice of a box."""
    slices, rows, columns = ((one.start, one.stop - 1) for one in box)
    plane = [*itertools.product(rows, columns), (sum(rows) / 2, sum(columns) / 2)]
    return np.array([positionRas(node, (k, *place)) for k in range(slices[0], slices[1] + 1) for place in plane])


def _affineOf(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _matrix(array):
    return slicer.util.vtkMatrixFromArray(array)


def _emptyImage(size):
    """Has a size and no voxels."""
    image = vtk.vtkImageData()
    image.SetDimensions(*size)
    return image


def _resliced(image, way, size, isSmooth, background):
    """An image on another grid.

    Args:
        image: Its voxels are counted from 0, without geometry, as in every volume node.
        way: From a voxel of the new grid to one of the image.
        size: Columns, rows, slices of the new grid.
        isSmooth: Linear between voxels; otherwise the nearest.
        background: Outside of the image.
    """
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(image)
    reslice.SetResliceTransform(way)
    reslice.SetInterpolationMode(vtk.VTK_RESLICE_LINEAR if isSmooth else vtk.VTK_RESLICE_NEAREST)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputExtent(0, size[0] - 1, 0, size[1] - 1, 0, size[2] - 1)
    reslice.SetBackgroundLevel(background)
    reslice.Update()
    return reslice.GetOutput()
