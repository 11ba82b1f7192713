"""A segmentation becomes a DICOM-SEG: the engine call that writes and verifies it, and the way in and out of the database.

The engine writes in a process of its own, where Slicer's highdicom is not fit with packages of its own (DicomPackages), so
that those of the running Slicer do not matter.
"""

import re
import tempfile
from pathlib import Path

import slicer

from . import DicomPackages
from .DicomChecks import emptySegments
from .EngineProcess import EngineProcess
from .Messages import message
from .RunState import State
from .VolumeExchange import writeSegmentation

TRACKING_TAGS = {"DICOM.TrackingID": "tracking_id", "DICOM.TrackingUID": "tracking_uid"}
"""Tags of a segment that keep its identity over exports, also when it is renamed, and what the engine calls them."""


def personName(text):
    """A name as DICOM writes it: "Ann Lee" -> "Lee^Ann"; one with ^ stays as it is."""
    text = re.sub(r"\s+", " ", text.strip())
    if "^" in text or " " not in text:
        return text
    given, family = text.rsplit(" ", 1)
    return f"{family}^{given}"


class DicomExport:
    """One call of the engine's `export-seg`.

    Args:
        onWritten: Called with the engine's result (path, message, sop_instance_uid, ...) after the file was read back.
        onFailed: Called as onFailed(code, text).
    """

    def __init__(self, onWritten, onFailed):
        self._onWritten, self._onFailed = onWritten, onFailed
        self._folder = self._process = None
        self._written = []

    @property
    def isRunning(self):
        return self._process is not None and self._process.ending is None

    def start(self, export, output):
        """Writes the segmentation for the engine and starts it.

        Args:
            output: A folder, or the DICOM file to write.
        """
        if not DicomPackages.areFit():
            self._onFailed("E906", message("E906", package="highdicom"))
            return
        self._folder = tempfile.TemporaryDirectory(prefix="TransMedSeg-", dir=slicer.app.temporaryPath)
        mask = Path(self._folder.name) / "mask.seg.nrrd"
        try:
            writeSegmentation(export.segmentation, mask, export.volume)
        except OSError as error:
            self._onFailed("E907", message("E907", reason=str(error)))
            self.discard()
            return
        empty = emptySegments(export)
        self._written = [segment for segmentId, segment in export.segments() if segmentId not in empty]
        packages = DicomPackages.folderForEngine()
        self._process = EngineProcess(Path(self._folder.name), onEnded=self._onEnded, packages=packages)
        options = {
            "series": export.sourceFiles(),
            "segmentation": str(mask),
            "output": str(output),
            "options": {"creator": personName(export.reviewer) or None, "is_unverified": export.isUnverified},
        }
        self._process.start("export-seg", options, detached=False)

    def _onEnded(self, ending):
        if ending.state is State.Finished:
            rememberTracking(self._written, ending.result.get("segments", []))
            self._onWritten(ending.result)
        else:
            text = ending.text if ending.code.startswith("E9") else message("E907", reason=ending.text)
            self._onFailed(ending.code if ending.code.startswith("E9") else "E907", text)
        self.discard()

    def discard(self):
        """Ends the engine where it still runs, and removes the files."""
        if self.isRunning:
            self._process.letGo()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def rememberTracking(segments, written):
    """Keeps with each segment the tracking identifiers it was written under; they are saved with the scene.

    Args:
        segments: Those with voxels, in their order.
        written: What the engine says of each.
    """
    if len(segments) != len(written):
        return
    for segment, facts in zip(segments, written):
        for tag, key in TRACKING_TAGS.items():
            if facts.get(key):
                segment.SetTag(tag, facts[key])


def importFolder(folder):
    """Adds the DICOM files of a folder to the database, where they stay; other files are passed over."""
    from DICOMLib import DICOMUtils

    DICOMUtils.importDicom(str(folder), slicer.dicomDatabase)


def moveToDatabase(path, instanceUid):
    """Adds a written file to the DICOM database; where the database made a copy of its own, the file is removed."""
    slicer.dicomDatabase.insert(str(path))
    kept = slicer.dicomDatabase.fileForInstance(instanceUid)
    if kept and Path(kept) != Path(path):
        Path(path).unlink(missing_ok=True)
