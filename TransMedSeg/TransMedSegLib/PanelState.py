"""What a panel is doing."""

from __future__ import annotations

import enum


class PanelState(enum.Enum):
    """The training panel keeps it (`TrainPanel.setState`); that of the segmentation follows from its parts (`SegmentModule.state`)."""

    NotReady = "not ready"
    Ready = "ready"
    Installing = "installing"
    Running = "running"
    Stopping = "stopping"
    Failed = "failed"
