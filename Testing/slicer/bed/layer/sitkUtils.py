"""Stand-in for sitkUtils: volumes between MRML and SimpleITK, with their geometry (RAS there, LPS here)."""

import numpy as np
import slicer
import vtk

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def PullVolumeFromSlicer(nodeObjectOrName):
    """Returns a SimpleITK image with a copy of the voxels of a volume node."""
    import SimpleITK as sitk

    node = slicer.util.getNode(nodeObjectOrName) if isinstance(nodeObjectOrName, str) else nodeObjectOrName
    image = sitk.GetImageFromArray(slicer.util.arrayFromVolume(node), isVector=node.IsA("vtkMRMLVectorVolumeNode"))
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ijk_to_lps = _RAS_TO_LPS @ slicer.util.arrayFromVTKMatrix(matrix)
    spacing = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(ijk_to_lps[:3, 3].tolist())
    image.SetDirection((ijk_to_lps[:3, :3] / spacing).ravel().tolist())
    return image


def PushVolumeToSlicer(sitkimage, targetNode=None, name=None, className="vtkMRMLScalarVolumeNode"):
    """Puts a SimpleITK image into a volume node: `targetNode`, or a new one. Returns the node."""
    import SimpleITK as sitk

    node = targetNode or slicer.mrmlScene.AddNewNodeByClass(className, name or className)
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = np.reshape(sitkimage.GetDirection(), (3, 3)) * sitkimage.GetSpacing()
    ijk_to_lps[:3, 3] = sitkimage.GetOrigin()
    slicer.util.updateVolumeFromArray(node, sitk.GetArrayFromImage(sitkimage))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(_RAS_TO_LPS @ ijk_to_lps))
    return node
