"""What is wrong with a volume before it is given to the model, as message codes with the numbers they need."""

import math
import os
from dataclasses import dataclass, field

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from .EvenGrid import areOblique, areUneven, axesOf, evenStepMm, sliceGapsMm
from .Messages import message
from .RegionBox import sizeOf

_AIR_HU = -500
"""Values below are air on CT; MRI has none, as it is stored from 0 upward or scaled to a few units around it."""
_BYTES_PER_VOXEL = 24
"""Memory of the engine for each voxel: float image, two float classes twice, label map. An estimate."""


@dataclass(frozen=True)
class Problem:
    """A message about a volume.

    Attributes:
        code: Of the message.
        values: For the placeholders of its text.
        blocks: The case cannot be segmented before it is solved; otherwise the user may go on.
    """

    code: str
    values: dict = field(default_factory=dict)
    blocks: bool = True

    @property
    def text(self):
        return message(self.code, **self.values)


def check(volumeNode, freeBytes=None, ignored=()):
    """Lists the problems of a volume, the gravest first.

    Args:
        volumeNode: None stands for "nothing chosen".
        freeBytes: Free memory; asked from the system where it is left out.
        ignored: Codes that the user has decided to ignore for this volume.
    """
    if volumeNode is None:
        return [Problem("E301")]
    kind = _kindProblem(volumeNode)
    if kind:
        return [kind]
    freeBytes = _freeMemory() if freeBytes is None else freeBytes
    found = [
        _transformProblem(volumeNode),
        _axesProblem(volumeNode),
        _valueProblem(volumeNode),
        _sizeProblem(volumeNode, freeBytes),
        _spacingProblem(volumeNode),
    ]
    return [one for one in found if one is not None and one.code not in ignored]


def _kindProblem(node):
    name = node.GetName() or ""
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return Problem("E309", {"name": name})
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        return Problem("E302", {"name": name, "kind": _("a label map")})
    if node.IsA("vtkMRMLMultiVolumeNode"):
        return Problem("E302", {"name": name, "kind": _("a time series")})
    if image.GetNumberOfScalarComponents() != 1:
        isColor = image.GetNumberOfScalarComponents() in (3, 4)
        kind = _("a color image") if isColor else _("a time series")
        return Problem("E302", {"name": name, "kind": kind})
    if min(image.GetDimensions()) < 2:
        return Problem("E302", {"name": name, "kind": _("a single slice")})
    return None


def _transformProblem(node):
    transform = node.GetParentTransformNode()
    if transform is None:
        return None
    if transform.IsTransformToWorldLinear():
        return Problem("E303", {"name": node.GetName(), "transform": transform.GetName()})
    gaps = sliceGapsMm(node)
    if areUneven(gaps):
        low, high, step = (f"{value:.2g}" for value in (gaps.min(), gaps.max(), evenStepMm(gaps)))
        return Problem("E304", {"name": node.GetName(), "low": low, "high": high, "step": step}, blocks=False)
    if areOblique(axesOf(node)):
        return Problem("E305", {"name": node.GetName()}, blocks=False)  # how Slicer loads a series with a tilted gantry
    return Problem("E303", {"name": node.GetName(), "transform": transform.GetName()})


def _axesProblem(node):
    directions = [[0.0] * 3 for _ in range(3)]
    node.GetIJKToRASDirections(directions)
    if node.GetParentTransformNode() is None and areOblique(np.array(directions)):
        return Problem("E305", {"name": node.GetName()}, blocks=False)
    return None


def _valueProblem(node):
    array = slicer.util.arrayFromVolume(node)
    low, high = node.GetImageData().GetScalarRange()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        finite = array[np.isfinite(array)]
        if finite.size == 0 or finite.min() == finite.max():
            return Problem("E309", {"name": node.GetName()})
        return None
    if low == high:
        return Problem("E309", {"name": node.GetName()})
    return None


def _sizeProblem(node, freeBytes):
    size = sizeOf(node)
    needed = math.prod(size) * _BYTES_PER_VOXEL
    if freeBytes and needed > freeBytes:
        return Problem(
            "E310",
            {
                "size": "×".join(map(str, size)),
                "needed_gb": f"{needed / 2**30:.1f}",
                "free_gb": f"{freeBytes / 2**30:.1f}",
            },
        )
    return None


def modalityProblem(node, isForCt):
    """A Problem where a volume looks like CT and the model is for MRI, or the other way round; otherwise None.

    Args:
        node: The volume.
        isForCt: What the model is for; None where that is not known.
    """
    low = node.GetImageData().GetScalarRange()[0]
    if isForCt is False and low <= _AIR_HU:
        values = {"found": _("CT (values from {low})").format(low=f"{low:.0f}"), "expected": _("MRI")}
    elif isForCt and low >= 0:
        values = {"found": _("MRI (no values below 0)"), "expected": _("CT")}
    else:
        return None
    return Problem("E308", {"name": node.GetName(), **values}, blocks=False)


def _spacingProblem(node):
    spacing = node.GetSpacing()
    if min(spacing) <= 0 or not all(map(math.isfinite, spacing)):
        return Problem("E306", {"name": node.GetName()})
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASDirectionMatrix(matrix)
    isDefault = all(abs(matrix.GetElement(i, j)) == float(i == j) for i in range(3) for j in range(3))
    if spacing == (1.0, 1.0, 1.0) and node.GetOrigin() == (0.0, 0.0, 0.0) and isDefault:
        return Problem("E306", {"name": node.GetName()}, blocks=False)
    return None


def _freeMemory():
    """Bytes of memory that programs can still take; 0 where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            lines = dict(line.split(":", 1) for line in stream)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
