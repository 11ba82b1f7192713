"""What the training panel is doing."""

from __future__ import annotations

import enum


class PanelState(enum.Enum):
    """Every change goes through `TrainPanel.setState`."""

    NotReady = "not ready"
    Ready = "ready"
    Installing = "installing"
    Running = "running"
    Stopping = "stopping"
    Failed = "failed"
