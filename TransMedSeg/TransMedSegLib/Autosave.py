"""Keeps the segmentations of unsaved work in files, and offers them again after a crash.

Each case has `<id>.seg.nrrd` and `<id>.json` (name, time, process) in the autosave folder. A file whose process is
gone was left by a crash; closing Slicer or the scene in the ordinary way removes the files.
"""

import json
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import qt
import slicer

from semiseg.protocol import process_exists, write_text_atomically

from .CaseTable import APPROVED, EDITED, cases
from .VolumeExchange import readSegmentation, writeSegmentation

EVERY_MS = 2 * 60 * 1000
_FOLDER_KEY = "TransMedSeg/AutosaveFolder"


@dataclass(frozen=True)
class Leftover:
    """Unsaved work of a Slicer that is gone.

    Attributes:
        key: Name of the two files.
        case: Name of the volume.
        time: When it was saved, seconds since 1970.
        source: What identifies the volume; see :func:`identity`.
    """

    key: str
    case: str
    time: float
    source: str
    folder: Path

    @property
    def clock(self):
        return time.strftime("%H:%M", time.localtime(self.time))

    @property
    def path(self):
        return self.folder / f"{self.key}.seg.nrrd"

    def delete(self):
        for path in (self.path, self.folder / f"{self.key}.json"):
            path.unlink(missing_ok=True)


def autosaveFolder():
    """Where the files are: as the user chose, else beside Slicer's settings."""
    chosen = slicer.util.settingsValue(_FOLDER_KEY, "")
    return Path(chosen) if chosen else Path(slicer.app.slicerUserSettingsFilePath).parent / "TransMedSeg" / "Autosave"


def setAutosaveFolder(folder):
    qt.QSettings().setValue(_FOLDER_KEY, str(folder))


def identity(volumeNode):
    """Tells whether two nodes are the same image: the DICOM instances, else grid and voxels. No patient's name."""
    uids = volumeNode.GetAttribute("DICOM.instanceUIDs")
    if uids:
        return f"dicom-{zlib.crc32(uids.encode()):08x}"
    voxels = slicer.util.arrayFromVolume(volumeNode)
    middle = voxels[voxels.shape[0] // 2]
    return f"voxels-{'x'.join(map(str, voxels.shape))}-{zlib.crc32(middle.tobytes()):08x}"


class Autosave:
    """Saves every two minutes, and when asked.

    Args:
        onFailed: Called as onFailed(folder, reason) when a file cannot be written.
    """

    def __init__(self, onFailed):
        self._onFailed = onFailed
        self._saved = {}
        self._timer = qt.QTimer()
        self._timer.setInterval(EVERY_MS)
        self._timer.connect("timeout()", self.saveAll)

    def start(self):
        self._timer.start()

    def stop(self):
        self._timer.stop()

    def saveAll(self):
        """Saves each case that a person has edited or approved and that has changed since the last time."""
        for case in cases():
            if case.status in (EDITED, APPROVED):
                self.save(case)

    def save(self, case):
        """Saves one case. Returns whether it is in a file now."""
        node = case.segmentation
        if node is None or not node.GetSegmentation().GetNumberOfSegments():
            return False
        state = _state(node)
        if self._saved.get(case.id) == state:
            return True
        folder = autosaveFolder()
        key = f"{identity(case.volume)}-{os.getpid()}"
        facts = {"case": case.name, "time": time.time(), "source": identity(case.volume), "pid": os.getpid()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            writeSegmentation(node, folder / f"{key}.seg.nrrd", case.volume)
            write_text_atomically(folder / f"{key}.json", json.dumps(facts) + "\n")
        except OSError as error:
            self._onFailed(folder, str(error))
            return False
        self._saved[case.id] = state
        return True

    def forget(self):
        """Removes the files of this Slicer: its work was saved, or given up on purpose."""
        self._saved.clear()
        folder = autosaveFolder()
        if folder.is_dir():
            for path in folder.glob(f"*-{os.getpid()}.*"):
                path.unlink(missing_ok=True)


def _state(segmentationNode):
    segmentation = segmentationNode.GetSegmentation()
    return (segmentation.GetMTime(), *(segmentation.GetNthSegment(i).GetMTime() for i in range(segmentation.GetNumberOfSegments())))


def leftovers():
    """Unsaved work of a Slicer that crashed, newest first. A pair of files that makes no sense is passed over."""
    found = []
    folder = autosaveFolder()
    for path in folder.glob("*.json") if folder.is_dir() else ():
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            one = Leftover(path.stem, str(facts["case"]), float(facts["time"]), str(facts["source"]), folder)
            pid = int(facts["pid"])
        except (ValueError, KeyError, TypeError):
            continue
        if pid != os.getpid() and not process_exists(pid) and one.path.is_file():
            found.append(one)
    return sorted(found, key=lambda one: -one.time)


def restore(leftover, caseList):
    """Puts autosaved work back: into the case of the same image, else into a segmentation of its own.

    Returns:
        The case; None where its image is not in the scene.

    Raises:
        OSError: The file cannot be read.
    """
    case = next((one for one in caseList if identity(one.volume) == leftover.source), None)
    with readSegmentation(leftover.path) as stored:
        if case is None:
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", leftover.case)
            node.CreateDefaultDisplayNodes()
        else:
            node = case.makeSegmentation()
        node.GetSegmentation().RemoveAllSegments()
        node.GetSegmentation().DeepCopy(stored.GetSegmentation())
    if case is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(case.volume)
        case.setStatus(EDITED)
    return case
