"""Stand-in for slicer.dicomDatabase (ctkDICOMDatabase): finds files by UID. Enough to export and to load series.

It reads headers with pydicom, which is in Slicer; without it, files can be added by UID (`addInstance`).
"""

import shutil
from pathlib import Path

import slicer
from PySide6 import QtCore
from PySide6.QtCore import Property, Signal

from .pythonqt.wrapped import stand_in


@stand_in("databaseChanged()", "seriesAdded(QString)")
class ctkDICOMDatabase(QtCore.QObject):
    """Kept in memory. Patients are named by their ID."""

    databaseChanged = Signal()
    seriesAdded = Signal(str)

    _instances = None
    """SOP instance UID -> (file, series, study, patient), in the order of adding."""

    def __init__(self):
        QtCore.QObject.__init__(self)
        self._instances = {}

    isOpen = Property(bool, lambda self: True)
    databaseDirectory = Property(str, lambda self: str(Path(slicer.app.temporaryPath) / "DICOM database"))

    def addInstance(self, path, instance, series, study="", patient=""):
        """For tests: makes a file known without reading it."""
        new = series not in {entry[1] for entry in self._instances.values()}
        self._instances[instance] = (str(path), series, study, patient)
        if new:
            self.seriesAdded.emit(series)
        self.databaseChanged.emit()

    def insert(self, path, storeFile=True, *_):
        """Reads the header of a DICOM file and adds it; with `storeFile` the database keeps a copy of its own."""
        import pydicom

        header = pydicom.dcmread(path, stop_before_pixels=True)
        instance, series, study = header.SOPInstanceUID, header.SeriesInstanceUID, header.get("StudyInstanceUID", "")
        if storeFile:
            kept = Path(self.databaseDirectory) / "dicom" / study / series / f"{instance}.dcm"
            kept.parent.mkdir(parents=True, exist_ok=True)
            path = shutil.copyfile(path, kept)
        self.addInstance(path, instance, series, study, header.get("PatientID", ""))

    def importFolder(self, folder):
        """For tests: adds every file of a folder. Raises where one is not DICOM."""
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            self.insert(str(path), False)

    def removeSeries(self, series, *_):
        self._instances = {uid: entry for uid, entry in self._instances.items() if entry[1] != series}
        self.databaseChanged.emit()
        return True

    def _distinct(self, column, where, value):
        found = (entry[column] for entry in self._instances.values() if where is None or entry[where] == value)
        return list(dict.fromkeys(found))

    def patients(self):
        return self._distinct(3, None, None)

    def studiesForPatient(self, patient):
        return self._distinct(2, 3, patient)

    def seriesForStudy(self, study):
        return self._distinct(1, 2, study)

    def filesForSeries(self, series, *_):
        return self._distinct(0, 1, series)

    def instancesForSeries(self, series, *_):
        return [uid for uid, entry in self._instances.items() if entry[1] == series]

    def fileForInstance(self, instance):
        """Returns "" for an unknown instance, as the real one does."""
        return self._instances.get(instance, ("",))[0]

    def seriesForFile(self, path):
        return next((entry[1] for entry in self._instances.values() if entry[0] == str(path)), "")

    def instanceForFile(self, path):
        return next((uid for uid, entry in self._instances.items() if entry[0] == str(path)), "")

    def studyForSeries(self, series):
        return next(iter(self._distinct(2, 1, series)), "")

    def patientForStudy(self, study):
        return next(iter(self._distinct(3, 2, study)), "")

    def fileValue(self, path, tag):
        """Returns a header value as text; `tag` is written "0010,0020"."""
        import pydicom

        group, element = (int(part, 16) for part in tag.split(","))
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[(group, element)])
        found = header.get((group, element))
        if found is None or found.value is None:
            return ""
        return "\\".join(map(str, found.value)) if found.VM > 1 else str(found.value)

    def instanceValue(self, instance, tag):
        return self.fileValue(self.fileForInstance(instance), tag)
