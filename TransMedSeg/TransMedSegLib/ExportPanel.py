"""Section 5 of the panel: the check page of the DICOM export, and saving in other formats."""

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from . import DicomChecks, DicomExport, DicomPackages, SaveAs
from .BugReport import bugReport
from .Messages import withCode
from .Notice import Notice
from .WrappedLabel import WrappedLabel

_MARKS = {DicomChecks.OK: "✓", DicomChecks.WARNING: "⚠", DicomChecks.ERROR: "✗"}
_REVIEWER_KEY = "TransMedSeg/Reviewer"


class ExportPanel:
    """Fills the section Export.

    Args:
        desk: What the sections share.
        saveCsv: Saves the table of the comparisons.
    """

    def __init__(self, desk, saveCsv):
        self.desk, self.ui = desk, desk.ui
        self.notice = Notice()
        self.ui.exportNoticePlace.layout().addWidget(self.notice)
        self.export = None
        self.engine = DicomExport.DicomExport(self._onWritten, self._onFailed)
        self._toDatabase = False
        self._install = None
        self.fixButtons = {}
        self._tip = _("Check everything a DICOM segmentation needs, then write it")
        self._saveTip = self.ui.saveButton.toolTip
        self._nothing = _("There is nothing to export: segment this case first")
        self._makePage()
        self.ui.dicomButton.connect("clicked()", self.openPage)
        self.ui.saveButton.connect("clicked()", self._onSave)
        self.ui.exportCsvButton.connect("clicked()", saveCsv)

    def _makePage(self):
        layout = self.ui.exportPlace.layout()
        row = qt.QHBoxLayout()
        row.addWidget(qt.QLabel(_("Reviewer:")))
        self.reviewerLineEdit = qt.QLineEdit()
        self.reviewerLineEdit.setToolTip(_("Who answers for this segmentation, such as 'Ann Lee' or 'Lee^Ann'"))
        self.reviewerLineEdit.connect("editingFinished()", self._onReviewer)
        row.addWidget(self.reviewerLineEdit)
        layout.addLayout(row)
        self._lines = qt.QGridLayout()
        layout.addLayout(self._lines)
        row = qt.QHBoxLayout()
        self.folderButton = qt.QPushButton(_("Write to folder…"))
        self.databaseButton = qt.QPushButton(_("Write to DICOM database"))
        self.closeButton = qt.QPushButton(_("Close"))
        self.folderButton.connect("clicked()", self._onFolder)
        self.databaseButton.connect("clicked()", self._onDatabase)
        self.closeButton.connect("clicked()", self.closePage)
        for button in (self.folderButton, self.databaseButton, self.closeButton):
            row.addWidget(button)
        layout.addLayout(row)

    def refresh(self):
        """Shows what can be exported now."""
        case = self.desk.current
        isReady = case is not None and case.segmentation is not None
        isReady = bool(isReady and case.segmentation.GetSegmentation().GetNumberOfSegments())
        for button in (self.ui.dicomButton, self.ui.saveButton):
            button.enabled = isReady
        self.ui.dicomButton.toolTip = self._tip if isReady else self._nothing
        self.ui.saveButton.toolTip = self._saveTip if isReady else self._nothing
        if self.export is not None and (not isReady or self.export.case != case):
            self.closePage()
        elif self.export is None:
            self.ui.exportPlace.hide()
        else:
            self.check()

    # The check page

    def openPage(self):
        """Looks at everything and shows it."""
        case = self.desk.current
        self.notice.clear()
        reviewer = slicer.util.settingsValue(_REVIEWER_KEY, "")
        self.reviewerLineEdit.text = reviewer
        self.export = DicomChecks.Export(case.segmentation, case.volume, case, reviewer)
        self.ui.exportPlace.show()
        self.check()

    def closePage(self):
        self.export = None
        self.ui.exportPlace.hide()

    def check(self):
        """Shows each check with its mark, and a button where it can be mended."""
        lines = DicomChecks.checks(self.export)
        self._clearLines()
        for row, line in enumerate(lines):
            self._lines.addWidget(qt.QLabel(_MARKS[line.state]), row, 0)
            self._lines.addWidget(WrappedLabel(withCode(line.code, line.text)), row, 1)
            titles = {line.name: line.fix, f"{line.name} other": line.other}
            for column, (name, title) in enumerate(titles.items(), start=2):
                if title:
                    button = qt.QPushButton(title)
                    button.connect("clicked()", lambda name=name: self._fix(name))
                    self._lines.addWidget(button, row, column)
                    self.fixButtons[name] = button
        self._lines.setColumnStretch(1, 1)
        canWrite = all(line.state != DicomChecks.ERROR for line in lines) and not self.engine.isRunning
        for button in (self.folderButton, self.databaseButton):
            button.enabled = canWrite
            button.toolTip = "" if canWrite else _("Solve the lines marked ✗ first")
        return lines

    def _clearLines(self):
        self.fixButtons = {}
        while self._lines.count():
            widget = self._lines.takeAt(0).widget()
            widget.hide()
            widget.deleteLater()

    def _fix(self, name):
        fixes = {
            "reference": self._onSave,
            "files": self._importFolder,
            "study": lambda: DicomChecks.putBothUnderStudy(self.export),
            "geometry": lambda: DicomChecks.resampleToSource(self.export, self.desk.review, self.desk.beforeWrite),
            "empty": lambda: DicomChecks.removeEmptySegments(self.export),
            "terminology": lambda: DicomChecks.setLeftAtrium(self.export),
            "approval": lambda: self.desk.review.approve(self.export.case),
            "approval other": self._exportUnverified,
            "packages": self._installPackages,
            "packages other": self._onSave,
        }
        fixes[name]()
        if self.export is not None:
            self.check()

    def _exportUnverified(self):
        self.export.isUnverified = True

    def _importFolder(self):
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder of the source images"))
        if folder:
            DicomExport.importFolder(folder)

    def _installPackages(self):
        packages = "\n".join(DicomPackages.REQUIREMENTS)
        question = _("Download these packages and what they need into a folder of this module?\n{packages}\nSlicer's own stay as they are.")
        if self._install is None and slicer.util.confirmOkCancelDisplay(question.format(packages=packages)):
            self._startInstall(None)

    def _installFromFolder(self):
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Choose the folder with the wheels"))
        if folder and self._install is None:
            self._startInstall(Path(folder))

    def _startInstall(self, wheelFolder):
        self._install = DicomPackages.OwnPackages(self.notice.say, self._onInstalled)
        self._install.start(wheelFolder)

    def _onInstalled(self, outcome):
        self._install = None
        again = ((_("Try again"), self._installPackages), (_("Install from folder…"), self._installFromFolder)) if outcome.code else ()
        self.notice.say(outcome.text or _("Installed."), outcome.code, again)
        if self.export is not None:
            self.check()

    def _onReviewer(self):
        if self.export is not None:
            self.export.reviewer = self.reviewerLineEdit.text
            qt.QSettings().setValue(_REVIEWER_KEY, self.export.reviewer)
            self.check()

    # Writing

    def _onFolder(self):
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder for the DICOM segmentation"))
        if folder:
            self._write(folder, False)

    def _onDatabase(self):
        folder = Path(slicer.app.cachePath) / "TransMedSeg"
        folder.mkdir(parents=True, exist_ok=True)
        self._write(folder, True)

    def _write(self, folder, toDatabase):
        self._toDatabase = toDatabase
        self.notice.say(_("Writing and reading back…"))
        self.engine.start(self.export, folder)
        if self.export is not None and self.engine.isRunning:
            self.check()

    def _onWritten(self, result):
        text = result["message"]
        if self._toDatabase:
            DicomExport.moveToDatabase(result["path"], result["sop_instance_uid"])
            text = _("{text} In the DICOM database.").format(text=text)
        self.notice.say(text)
        self.desk.refresh()

    def _onFailed(self, code, text):
        self.notice.say(text, code, ((_("Save .seg.nrrd instead"), self._onSave), (_("Copy for bug report"), lambda: self._copy(text))))
        self.desk.refresh()

    def _copy(self, text):
        qt.QApplication.clipboard().setText(bugReport(text))

    def _onSave(self):
        """Asks for a file; its ending says the format."""
        case = self.desk.current
        kinds = "Segmentation (*.seg.nrrd);;NIfTI (*.nii.gz);;STL (*.stl)"
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Save the segmentation"), f"{case.segmentation.GetName()}.seg.nrrd", kinds
        )
        path = path[0] if isinstance(path, tuple) else path
        if path:
            with slicer.util.tryWithErrorDisplay(_("The segmentation could not be saved."), waitCursor=True):
                lost = SaveAs.save(case, path)
                if lost:
                    self.notice.say(lost)

    def discard(self):
        """Ends an export or an installation that is running."""
        self.engine.discard()
        if self._install is not None:
            self._install.cancel()
