"""What a panel is doing."""

from __future__ import annotations

import enum

from slicer.i18n import tr as _


class PanelState(enum.Enum):
    """The training panel keeps it (`TrainPanel.setState`); that of the segmentation follows from its parts (`SegmentModule.state`)."""

    NotReady = "not ready"
    Ready = "ready"
    Installing = "installing"
    Checking = "checking"
    Running = "running"
    Stopping = "stopping"
    Failed = "failed"


def trainingText(state: PanelState) -> str:
    """What the training panel is doing, for the line at the top; empty where the set-up page has more to say."""
    texts = {
        PanelState.Checking: _("Checking the volumes first"),
        PanelState.Running: _("Training"),
        PanelState.Stopping: _("Saving the training"),
        PanelState.Failed: _("Training failed"),
    }
    return texts.get(state, "")


def segmentingText(state: PanelState) -> str:
    """What the segmentation panel is doing, likewise."""
    return {PanelState.Running: _("Segmenting"), PanelState.Stopping: _("Stopping"), PanelState.Failed: _("Segmentation failed")}.get(state, "")
