"""How long a model takes for a case on this computer, once it has been measured."""

import json

import slicer
from slicer.i18n import tr as _

from .Computer import knownGpus
from .ModelFile import hashOf
from .RunState import aboutText

_SETTING = "TransMedSeg/SecondsPerMegavoxel"


class CaseClock:
    """Takes the time of each case from the engine's own events, so that waiting for the window does not count.

    Loading the engine and the model is over with the first event of progress; what it takes is not part of a case.
    """

    def __init__(self):
        self._since = None

    def hear(self, event):
        """Returns the seconds of the case that this event ends; None for every other event."""
        now, seconds = event.get("time"), None
        if now is None:
            return None
        if event["kind"] == "case" and event.get("status") == "done" and self._since is not None:
            seconds = max(float(now) - self._since, 0.0)
        if event["kind"] == "case" or (event["kind"] == "progress" and self._since is None):
            self._since = float(now)
        return seconds


def remember(modelPath, device, volumeNode, seconds):
    """Keeps what was measured for a model on a device, for each million voxels."""
    known, key = _known(), _key(modelPath, device)
    voxels = volumeNode.GetImageData().GetNumberOfPoints()
    if key and voxels and seconds > 0:
        known[key] = seconds / voxels * 1e6
        slicer.app.userSettings().setValue(_SETTING, json.dumps(dict(list(known.items())[-50:])))


def estimate(modelPath, device, volumeNodes):
    """Seconds that some volumes will take; None where nothing was measured with this model on this device."""
    perMegavoxel = _known().get(_key(modelPath, device))
    images = [node.GetImageData() for node in volumeNodes]
    if perMegavoxel is None or not images:
        return None
    return perMegavoxel * sum(image.GetNumberOfPoints() for image in images if image is not None) / 1e6


def estimateText(modelPath, device, volumeNodes):
    """The estimate in words; "" where nothing was measured."""
    seconds = estimate(modelPath, device, volumeNodes)
    if seconds is None:
        return ""
    text = _("about {duration} for this case") if len(volumeNodes) == 1 else _("about {duration}")
    return text.format(duration=aboutText(seconds))


def _known():
    try:
        return dict(json.loads(slicer.util.settingsValue(_SETTING, "") or "{}"))
    except ValueError:
        return {}


def _key(modelPath, device):
    """A model by its hash and a device as it is meant; "" where the model cannot be read."""
    if device == "auto":
        device = knownGpus()[0].device if knownGpus() else "cpu"
    try:
        return f"{hashOf(modelPath)[:12]} {device}"
    except OSError:
        return ""
