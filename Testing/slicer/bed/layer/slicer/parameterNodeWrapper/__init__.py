"""Stand-in for slicer.parameterNodeWrapper: a class with typed parameters, kept in a MRML node and bound to widgets.

    @parameterNodeWrapper
    class MyParameterNode:
        inputVolume: vtkMRMLScalarVolumeNode
        threshold: Annotated[float, WithinRange(0, 1)] = 0.5

Read annotations.py (what may be said about a parameter), storage.py (how a value becomes text in the node),
binding.py (which widget shows which type), wrapper.py (the decorator). Not here, though Slicer has them: parameter
packs, dictionaries, tuples, unions, and the creation of widgets.
"""

from .annotations import (
    Choice,
    Decimals,
    Default,
    Exclude,
    FloatRange,
    Maximum,
    Minimum,
    NotNone,
    RangeBounds,
    SingleStep,
    Validator,
    WithinRange,
)
from .binding import GuiConnector, createGuiConnector, parameterNodeGuiConnector
from .wrapper import (
    SlicerParameterNamePropertyName,
    findChildWidgetForParameter,
    isParameterNodeWrapper,
    parameterNodeWrapper,
)

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "FloatRange",
    "GuiConnector",
    "Maximum",
    "Minimum",
    "NotNone",
    "RangeBounds",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "createGuiConnector",
    "findChildWidgetForParameter",
    "isParameterNodeWrapper",
    "parameterNodeGuiConnector",
    "parameterNodeWrapper",
]
