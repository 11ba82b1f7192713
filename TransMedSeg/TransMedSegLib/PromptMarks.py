"""What a user has marked on the image, as text in a tag of the segment and as markups in the views.

The tag is what counts: the undo history of the Segment Editor, the scene and .seg.nrrd files keep it with the voxels,
so a mark comes and goes with what it has changed. The markups are made from it and are not saved.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import slicer
import vtk

from .Terminology import tagOf

PROMPTS_TAG = "TransMedSeg.Prompts"
POINT, STROKE, BOX = "point", "stroke", "box"
_ATTRIBUTE = "TransMedSeg.Prompt"
_CLASSES = {POINT: "vtkMRMLMarkupsFiducialNode", STROKE: "vtkMRMLMarkupsCurveNode", BOX: "vtkMRMLMarkupsROINode"}
# Orange and blue are told apart by nearly everybody; see also Overlay.
_COLORS = {True: (0.0, 0.45, 0.70), False: (0.90, 0.60, 0.0)}


@dataclass(frozen=True)
class Mark:
    """One prompt.

    Attributes:
        kind: POINT, STROKE or BOX.
        isAdding: Whether it says "this belongs to it"; True for a box.
        points: (R, A, S) in mm in the world. Of a box: its center, and half of its edges as three vectors.
    """

    kind: str
    isAdding: bool
    points: tuple

    @property
    def text(self):
        numbers = " ".join(f"{number:.3f}" for point in self.points for number in point)
        return f"{'+' if self.isAdding else '-'} {self.kind} {numbers}"


def markFrom(text):
    """The mark that a text stands for.

    Raises:
        ValueError: It is no text of a mark.
    """
    sign, kind, *numbers = text.split()
    points = np.array([float(one) for one in numbers]).reshape(-1, 3)
    if sign not in "+-" or kind not in _CLASSES or (kind == BOX and len(points) != 4):
        raise ValueError(f"{text!r} is no prompt.")
    return Mark(kind, sign == "+", tuple(map(tuple, points.tolist())))


def marksOf(segment):
    """The marks that a segment was corrected with, in order. What is not understood is left out."""
    marks = []
    for text in tagOf(segment, PROMPTS_TAG).split(";") if segment is not None else ():
        try:
            marks.append(markFrom(text))
        except ValueError:
            continue  # the tag is empty, or of another version
    return marks


def setMarks(segment, marks):
    if marks:
        segment.SetTag(PROMPTS_TAG, ";".join(mark.text for mark in marks))
    else:
        segment.RemoveTag(PROMPTS_TAG)


# Markups


def newMarkup(kind, isAdding):
    """An empty markup to be placed by the user."""
    node = slicer.mrmlScene.AddNewNodeByClass(_CLASSES[kind], "＋" if isAdding else "－")
    node.SetSaveWithScene(False)
    node.SetUndoEnabled(False)
    node.SetAttribute(_ATTRIBUTE, "new")
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetSelectedColor(*_COLORS[isAdding])
    display.SetColor(*_COLORS[isAdding])
    display.SetActiveColor(*_COLORS[isAdding])
    display.SetPointLabelsVisibility(False)
    display.SetPropertiesLabelVisibility(False)
    display.SetGlyphScale(1.8)
    if kind == STROKE:
        node.SetCurveTypeToLinear()
    if kind == BOX:
        display.SetFillOpacity(0.05)
    return node


def markOfMarkup(node, kind, isAdding):
    """The mark that a user has placed; None where nothing is placed."""
    if kind == BOX:
        size = np.zeros(3)
        node.GetSizeWorld(size)
        if node.GetNumberOfDefinedControlPoints() == 0 or not (size > 0).all():
            return None
        matrix = slicer.util.arrayFromVTKMatrix(node.GetObjectToWorldMatrix())
        axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0) * size / 2
        return Mark(kind, True, tuple(map(tuple, [matrix[:3, 3].tolist(), *axes.T.tolist()])))
    points = []
    for index in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(index) == node.PositionDefined:
            points.append(tuple(node.GetNthControlPointPositionWorld(index)))
    return Mark(kind, isAdding, tuple(points)) if points else None


def showMarks(marks):
    """Makes the markups in the views those of some marks, and only those."""
    wanted = {mark.text: mark for mark in marks}
    for node in slicer.util.getNodesByClass("vtkMRMLMarkupsNode"):
        text = node.GetAttribute(_ATTRIBUTE)
        if text is None or text == "new":
            continue
        if wanted.pop(text, None) is None:
            slicer.mrmlScene.RemoveNode(node)
    for text, mark in wanted.items():
        node = newMarkup(mark.kind, mark.isAdding)
        if mark.kind == BOX:
            center, *axes = map(np.array, mark.points)
            lengths = [np.linalg.norm(axis) for axis in axes]
            matrix = np.eye(4)
            matrix[:3, :3], matrix[:3, 3] = np.stack([a / n for a, n in zip(axes, lengths)], axis=1), center
            node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(matrix))
            node.SetSize(*(2 * length for length in lengths))
        else:
            for point in mark.points:
                node.AddControlPoint(vtk.vtkVector3d(*point))
        node.SetLocked(True)
        node.SetAttribute(_ATTRIBUTE, text)


def shownMarks():
    """Texts of the marks that are in the views."""
    nodes = slicer.util.getNodesByClass("vtkMRMLMarkupsNode")
    return sorted(text for node in nodes if (text := node.GetAttribute(_ATTRIBUTE)) not in (None, "new"))


# Voxels


def voxelsOf(mark, volumeNode):
    """The voxels of a point or a stroke [number, (slice, row, column)]; those outside of the image are left out."""
    ijk = _toIjk(mark.points, volumeNode)
    steps = [np.abs(np.diff(pair, axis=0)).max() for pair in pairwise(ijk)]
    parts = [np.linspace(a, b, int(np.ceil(2 * n)) + 1) for a, b, n in zip(ijk[:-1], ijk[1:], steps)]
    dense = np.concatenate([ijk[:1], *parts])
    voxels = np.unique(np.floor(dense + 0.5).astype(int)[:, ::-1], axis=0)
    shape = volumeNode.GetImageData().GetDimensions()[::-1]
    return voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]


def insideOf(center, axes, volumeNode):
    """Where a box of the world lies in an image.

    Args:
        center: (R, A, S) in mm.
        axes: Half of its edges, three vectors in mm.

    Returns:
        The slices [slice, row, column] of the image that hold it, and which voxels in there belong to it. None where
        the box and the image do not meet.
    """
    center = np.asarray(center, float)
    ijk = _toIjk([center, *(center + np.asarray(axis) for axis in axes)], volumeNode)[:, ::-1]
    middle, edges = ijk[0], (ijk[1:] - ijk[0]).T
    shape = np.array(volumeNode.GetImageData().GetDimensions()[::-1])
    half = np.abs(edges).sum(axis=1)
    low = np.maximum(np.ceil(middle - half - 1e-3).astype(int), 0)
    high = np.minimum(np.floor(middle + half + 1e-3).astype(int) + 1, shape)
    if (low >= high).any():
        return None
    place = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high)), indexing="ij"), axis=-1) - middle
    inside = (np.abs(place @ np.linalg.inv(edges).T) <= 1 + 1e-3).all(axis=-1)
    return (tuple(map(slice, low.tolist(), high.tolist())), inside) if inside.any() else None


def _toIjk(points, volumeNode):
    """Points of the world in voxels (column, row, slice), with the transform above the volume."""
    general = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, volumeNode.GetParentTransformNode(), general)
    local = np.array([general.TransformPoint(tuple(map(float, point))) for point in points])
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetRASToIJKMatrix(matrix)
    return (np.c_[local, np.ones(len(local))] @ slicer.util.arrayFromVTKMatrix(matrix).T)[:, :3]
