"""Hands approved cases to the training module: its list of labeled volumes is in its parameter node, in the scene."""

import slicer

from .TrainParameters import TrainParameters

_MODULE = "TransMedSegTrain"


def trainParameters():
    """The parameters of the training module, made as that module makes them where it was not opened yet."""
    node = slicer.mrmlScene.GetSingletonNode(_MODULE, "vtkMRMLScriptedModuleNode")
    if node is None:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetSingletonTag(_MODULE)
        node.SetName(_MODULE)
        node.SetModuleName(_MODULE)
        node.SetAttribute("ModuleName", _MODULE)
        node = slicer.mrmlScene.AddNode(node)
    return TrainParameters(node)


def setOnList(volumeNode, segmentationNode, isOn):
    """Puts a volume with its segmentation on the list, or takes it off."""
    parameters = trainParameters()
    pairs = list(zip(parameters.labeledVolumes, parameters.labeledSegmentations))
    pairs = [pair for pair in pairs if pair[0] is not volumeNode and None not in pair]
    if isOn:
        pairs.append((volumeNode, segmentationNode))
    parameters.labeledVolumes = [pair[0] for pair in pairs]
    parameters.labeledSegmentations = [pair[1] for pair in pairs]
