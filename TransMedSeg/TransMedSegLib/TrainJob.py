"""From the training panel to a job of the engine: what is missing, the files of scene nodes, the options."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from slicer.i18n import tr as _

from .Computer import freeDiskGb, isWritable, resolveDevice
from .Messages import message, withCode
from .TrainParameters import ScoreOn

NEEDED_DISK_GB = 2.0
"""Prepared cases, states and the model of a run; measured runs need less."""
SCENE_CASES = "cases"
"""Folder in a run folder with the volumes of the scene as files."""


def whyNotStart(parameters) -> str:
    """Why a training cannot be started yet; empty when it can."""
    if not parameters.labeledPaths and not parameters.labeledVolumes:
        return withCode("E801", message("E801"))
    if parameters.scoreOn == ScoreOn.Own and not parameters.heldOutPaths:
        return _("Drop the volumes to check on, or hold out some labeled ones.")
    if not parameters.structure.strip():
        return _("Name the structure that the masks show.")
    if parameters.assumedSpacing.strip() and assumedSpacing(parameters) is None:
        return _("Write the spacing of files without one as three numbers in mm, such as 0.7, 0.9, 2.5.")
    if not str(parameters.runsFolder).strip(". "):
        return _("Choose a folder for the runs.")
    return ""


def assumedSpacing(parameters) -> list[float] | None:
    """(columns, rows, slices) in mm of files that state none; None where such files are refused, or the text is no spacing."""
    try:
        sides = [float(part) for part in parameters.assumedSpacing.split(",")]
    except ValueError:
        return None
    return sides if len(sides) == 3 and all(math.isfinite(side) and side > 0 for side in sides) else None


def folderProblem(folder: Path) -> tuple[str, str]:
    """Code and text when a run cannot be written into a folder; two empty texts when it can."""
    if not isWritable(folder):
        return "E809", _("The runs folder {folder} is not writable. Choose another one.").format(folder=folder)
    free = freeDiskGb(folder)
    if free < NEEDED_DISK_GB:
        return "E105", message("E105", needed_gb=NEEDED_DISK_GB, free_gb=free, folder=folder)
    return "", ""


def trainOptions(parameters, runDir: Path) -> dict:
    """Options of the verb `train`. Volumes of the scene are written into the run folder."""
    labeled, unlabeled = exportNodes(parameters, Path(runDir) / SCENE_CASES)
    own, leaveOneOut = parameters.scoreOn == ScoreOn.Own, parameters.scoreOn == ScoreOn.LeaveOneOut
    spacing = assumedSpacing(parameters)
    return {
        "labeled": [str(path) for path in [*parameters.labeledPaths, *labeled]],
        "unlabeled": [str(path) for path in [*parameters.unlabeledPaths, *unlabeled]],
        "held_out": [str(path) for path in parameters.heldOutPaths] if own else [],
        "masks": json.loads(parameters.chosenMasks),
        "resample_masks": json.loads(parameters.resampledMasks),
        "assumed_spacing_mm": None if spacing is None else spacing[::-1],  # the engine counts slices first
        "different_unlabeled": "leave_out" if parameters.leaveOutDifferent else "use",
        "num_validation": 0 if own or leaveOneOut else parameters.numValidation,
        "labels": [{"value": parameters.labelValue, "name": parameters.structure.strip()}],
        "other_values": "background" if parameters.otherValuesAreBackground else "refuse",
        "method": parameters.method,
        "goal": parameters.goal.value,
        "device": resolveDevice(parameters.device),
        "seed": parameters.seed,
        "baseline": parameters.measureGain and not leaveOneOut,  # then every run that leaves one out measures it
        "method_options": json.loads(parameters.methodOptions or "{}"),
        "network": parameters.network,
        "network_options": json.loads(parameters.networkOptions or "{}"),
    }


def fingerprint(parameters) -> str:
    """Changes with everything that decides which cases are used and how they are prepared."""
    nodes = [*parameters.labeledVolumes, *parameters.labeledSegmentations, *parameters.unlabeledVolumes]
    return json.dumps(
        [
            [str(path) for path in parameters.labeledPaths],
            [str(path) for path in parameters.unlabeledPaths],
            [str(path) for path in parameters.heldOutPaths],
            [(node.GetID(), node.GetMTime()) for node in nodes if node is not None],
            parameters.chosenMasks,
            parameters.resampledMasks,
            parameters.leaveOutDifferent,
            parameters.scoreOn.value,
            parameters.numValidation,
            parameters.structure,
            parameters.labelValue,
            parameters.otherValuesAreBackground,
            parameters.assumedSpacing,
            parameters.device,
            parameters.seed,
        ]
    )


def exportNodes(parameters, folder: Path) -> tuple[list[Path], list[Path]]:
    """Writes the scene's volumes and segmentations as files that the engine pairs by name.

    Returns:
        Folders with labeled and with unlabeled cases; none where the scene gives none.
    """
    from .VolumeExchange import writeSegmentation, writeVolume

    pairs = list(zip(parameters.labeledVolumes, parameters.labeledSegmentations))
    names = {nodeId: name for name, nodeId in nodesByFile(parameters).items()}
    for volumeNode, segmentationNode in pairs:
        name = names[volumeNode.GetID()]
        target = folder / "labeled"
        target.mkdir(parents=True, exist_ok=True)
        writeVolume(volumeNode, target / f"{name}.nrrd")
        writeSegmentation(segmentationNode, target / f"{name}_label.seg.nrrd", volumeNode)
    for volumeNode in parameters.unlabeledVolumes:
        target = folder / "unlabeled"
        target.mkdir(parents=True, exist_ok=True)
        writeVolume(volumeNode, target / f"{names[volumeNode.GetID()]}.nrrd")
    return [folder / "labeled"] if pairs else [], [folder / "unlabeled"] if len(parameters.unlabeledVolumes) else []


def nodesByFile(parameters) -> dict[str, str]:
    """The IDs of the scene's volumes by the names of their files, without ending."""
    taken: set[str] = set()
    nodes = [node for node in (*parameters.labeledVolumes, *parameters.unlabeledVolumes) if node is not None]
    return {_fileName(node.GetName(), taken): node.GetID() for node in dict.fromkeys(nodes)}


def _fileName(name: str, taken: set[str]) -> str:
    """A name of a node as a file name that no other node has."""
    base = re.sub(r"[^\w\-]+", "_", name).strip("_") or "volume"
    result, number = base, 2
    while result.lower() in taken:
        result, number = f"{base}_{number}", number + 1
    taken.add(result.lower())
    return result
