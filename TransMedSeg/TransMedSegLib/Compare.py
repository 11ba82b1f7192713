"""A against B, for example the model against a reference: numbers from the engine, masks on one grid.

A and B are each a segment of a segmentation or a value of a label map. Both are put on the grid of A, and the engine's
`evaluate` scores them with B as the reference.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer

from .EngineProcess import EngineProcess
from .Messages import message
from .RunState import Ending, State
from .Terminology import LEFT_ATRIUM
from .VolumeExchange import REFERENCE, maskOf, positionRas, writeVolume

_SAME_GRID_MM = 1e-3


class Refused(Exception):
    """The comparison makes no sense as asked; `code` says why and the text is for the user."""

    def __init__(self, code, text):
        Exception.__init__(self, text)
        self.code = code


@dataclass(frozen=True)
class Side:
    """A or B.

    Attributes:
        node: Segmentation or label map volume.
        part: Segment ID, or the value as text; "" takes the only one.
    """

    node: object
    part: str = ""

    @property
    def isLabelMap(self):
        return self.node.IsA("vtkMRMLLabelMapVolumeNode")

    def parts(self):
        """{part: what to call it} to choose from."""
        if self.isLabelMap:
            values = np.unique(slicer.util.arrayFromVolume(self.node))
            return {str(int(value)): str(int(value)) for value in values if value}
        segmentation = self.node.GetSegmentation()
        ids = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
        return {one: segmentation.GetSegment(one).GetName() for one in ids}

    def chosen(self):
        """The part that is compared.

        Raises:
            Refused: There are several values and none was chosen (E704).
        """
        parts = self.parts()
        if self.part in parts:
            return self.part
        if len(parts) > 1 and self.isLabelMap:
            raise Refused("E704", message("E704", structure=LEFT_ATRIUM, values=" / ".join(parts)))
        return next(iter(parts), "")

    def mask(self, gridNode):
        """The voxels on the grid of a volume: bool [slice, row, column]."""
        part = self.chosen()
        if not self.isLabelMap:
            return maskOf(self.node, part, gridNode)
        if not part:
            return np.zeros(gridNode.GetImageData().GetDimensions()[::-1], bool)
        if self.node is gridNode:
            return slicer.util.arrayFromVolume(self.node) == int(part)
        return _labelMapOn(self.node, int(part), gridNode)

    def grid(self):
        """The volume on whose grid the mask lies; None where the segmentation refers to no volume."""
        return self.node if self.isLabelMap else self.node.GetNodeReference(REFERENCE)


def _labelMapOn(node, value, gridNode):
    """One value of a label map on the grid of another volume, by way of a segmentation."""
    temporary = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "comparison")
    try:
        temporary.SetReferenceImageGeometryParameterFromVolumeNode(node)
        temporary.SetAndObserveTransformNodeID(node.GetTransformNodeID())
        segmentId = temporary.GetSegmentation().AddEmptySegment("value")
        array = (slicer.util.arrayFromVolume(node) == value).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, temporary, segmentId, node)
        return maskOf(temporary, segmentId, gridNode)
    finally:
        slicer.mrmlScene.RemoveNode(temporary)


def _corners(volumeNode):
    """(8, 3) world positions in mm of the corner voxels."""
    size = volumeNode.GetImageData().GetDimensions()[::-1]
    ends = [(0, length - 1) for length in size]
    return np.array([positionRas(volumeNode, (k, j, i)) for k in ends[0] for j in ends[1] for i in ends[2]])


def isSameGrid(one, other):
    """Whether two volumes have their voxels at the same places."""
    same = one.GetImageData().GetDimensions() == other.GetImageData().GetDimensions()
    return same and np.allclose(_corners(one), _corners(other), atol=_SAME_GRID_MM)


def distanceApartMm(one, other):
    """How far apart two volumes are, from middle to middle, where their boxes do not touch; 0 where they do."""
    a, b = _corners(one), _corners(other)
    if (a.min(axis=0) > b.max(axis=0)).any() or (b.min(axis=0) > a.max(axis=0)).any():
        return float(np.linalg.norm(a.mean(axis=0) - b.mean(axis=0)))
    return 0.0


@dataclass(frozen=True)
class Scores:
    """The numbers of one comparison; NaN where a number is not defined.

    Attributes:
        case: Name of the row.
        values: By metric as the engine names them: dice, hd95_mm, asd_mm, volume_ml, reference_ml, ...
        note: Such as "both masks are empty".
        worstSlice: Index of the slice with most voxels that differ.
    """

    case: str
    values: dict
    note: str
    worstSlice: int


class Comparison:
    """One comparison; makes the masks at once and asks the engine for the numbers.

    Args:
        a: What is judged.
        b: What it is judged against.

    Raises:
        Refused: The sides lie in different places (E702), or a value has to be chosen (E704).
    """

    def __init__(self, a, b, caseName):
        from .Overlay import worstSlice

        self.a, self.b, self.caseName = a, b, caseName
        self.grid = a.grid() or b.grid()
        if self.grid is None:
            raise Refused("E301", message("E301"))
        other = b.grid() or self.grid
        apart = distanceApartMm(self.grid, other)
        if apart:
            raise Refused("E702", message("E702", distance_mm=f"{apart:.0f}"))
        self.isResampled = other is not self.grid and not isSameGrid(self.grid, other)
        self.maskA, self.maskB = a.mask(self.grid), b.mask(self.grid)
        self.worst = worstSlice(self.maskA, self.maskB)
        self._folder = self._process = None
        self._onScores = self._onFailed = None

    @property
    def isEmpty(self):
        """Whether both masks are empty (E703)."""
        return not self.maskA.any() and not self.maskB.any()

    @property
    def isRunning(self):
        return self._process is not None and self._process.ending is None

    def score(self, onScores, onFailed):
        """Starts the engine.

        Args:
            onScores: Called as onScores(Scores).
            onFailed: Called as onFailed(code, text).
        """
        self._onScores, self._onFailed = onScores, onFailed
        self._folder = tempfile.TemporaryDirectory(prefix="TransMedSeg-", dir=slicer.app.temporaryPath)
        folder = Path(self._folder.name)
        try:
            for name, mask in (("a", self.maskA), ("b", self.maskB)):
                (folder / name).mkdir()
                _writeMask(mask, self.grid, folder / name / "c001.nrrd")
        except OSError as error:
            self.discard()
            onFailed("E502", message("E502", reason=str(error)))
            return
        self._process = EngineProcess(folder, onEnded=self._onEnded)
        options = {
            "predictions": str(folder / "a" / "c001.nrrd"),
            "references": str(folder / "b" / "c001.nrrd"),
            "labels": [{"value": 1, "name": LEFT_ATRIUM}],
        }
        self._process.start("evaluate", options, detached=False)

    def _onEnded(self, ending: Ending):
        if ending.state is not State.Finished:
            self._onFailed(ending.code or "E502", ending.text or message("E502", reason=ending.state.value))
        else:
            try:
                document = json.loads((Path(self._folder.name) / "dice.json").read_text(encoding="utf-8"))
                row = document["rows"][0]
                values = {name: float("nan") if value is None else float(value) for name, value in row["values"].items()}
                scores = Scores(self.caseName, values, str(row.get("note", "")), self.worst)
            except (OSError, ValueError, KeyError, IndexError) as error:
                self._onFailed("E502", message("E502", reason=f"{type(error).__name__}: {error}"))
            else:
                self._onScores(scores)
        self.discard()

    def discard(self):
        """Ends the engine where it still runs, and removes the files."""
        if self.isRunning:
            self._process.letGo()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _writeMask(mask, gridNode, path):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "comparison")
    try:
        node.CopyOrientation(gridNode)
        slicer.util.updateVolumeFromArray(node, mask.astype(np.uint8))
        writeVolume(node, path)
    finally:
        slicer.mrmlScene.RemoveNode(node)
