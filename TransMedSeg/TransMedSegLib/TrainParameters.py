"""What the training panel keeps in the scene."""

import enum
import pathlib
from typing import Annotated

import slicer
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


class Goal(enum.Enum):
    """How long to train. The members' names are stored in scenes."""

    Quick = "quick"
    Normal = "normal"
    Best = "best"

    def label(self) -> str:
        return {"quick": _("Quick"), "normal": _("Normal"), "best": _("Best")}[self.value]


class ScoreOn(enum.Enum):
    """Which volumes tell how good the model is."""

    HoldOut = "holdOut"
    LeaveOneOut = "leaveOneOut"
    Own = "own"


@parameterNodeWrapper
class TrainParameters:
    """Cases, goal and settings. Files are kept by path, volumes of the scene by node."""

    labeledPaths: list[pathlib.Path]
    unlabeledPaths: list[pathlib.Path]
    heldOutPaths: list[pathlib.Path]
    labeledVolumes: list[slicer.vtkMRMLScalarVolumeNode]
    labeledSegmentations: list[slicer.vtkMRMLSegmentationNode]
    unlabeledVolumes: list[slicer.vtkMRMLScalarVolumeNode]
    chosenMasks: str = "{}"
    """JSON: mask file by image file, in place of the one found by name."""
    resampledMasks: str = "[]"
    """JSON: image files whose masks may be resampled."""
    leaveOutDifferent: bool = False
    """Of unlabeled volumes that differ strongly."""
    scoreOn: ScoreOn = ScoreOn.HoldOut
    numValidation: Annotated[int, WithinRange(0, 50)] = 1
    goal: Goal = Goal.Normal
    device: str = "auto"
    runsFolder: pathlib.Path
    structure: str = "left atrium"
    labelValue: Annotated[int, WithinRange(1, 65535)] = 1
    otherValuesAreBackground: bool = False
    """Of the masks; else a mask with other values is refused."""
    assumedSpacing: str = ""
    """Of files that state none: "columns, rows, slices" in mm; empty refuses them."""
    method: str = "transmedseg"
    methodOptions: str = "{}"
    network: str = ""
    """Empty leaves it to the engine."""
    networkOptions: str = "{}"
    seed: Annotated[int, WithinRange(0, 999999)] = 0
    measureGain: bool = False
    run: str = ""
