"""The three tables of cases in the training panel: what was dropped, and what the engine says of every case."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from .FileDrop import FileDrop
from .Messages import withCode
from .TrainJob import SCENE_CASES, nodesByFile

CASES_FILE = Path("prepared") / "cases.csv"
"""Written by the engine in the run folder: every case, what it is used for, or why not."""

_FILE_FILTER = "*.nrrd *.nhdr *.nii *.nii.gz *.mha *.mhd *.h5 *.hdf5 *.seg.nrrd"
_GOOD, _DOUBTFUL, _BAD, _OPEN = "✓", "⚠", "✗", "…"


@dataclass(frozen=True)
class CaseRow:
    """What the engine says of one case.

    Attributes:
        role: "labeled", "unlabeled", "validation" or "held out".
        isUsed: False when it was refused.
        image: File or folder it came from.
        maskValues: Of a mask that was refused because nobody named some of its values: what to choose the structure from.
        sameAs: Name of the case that shows the same scan and is used instead (E804).
    """

    name: str
    role: str
    isUsed: bool
    reason: str = ""
    code: str = ""
    size: str = ""
    spacing: str = ""
    image: str = ""
    patient: str = ""
    maskValues: tuple[int, ...] = ()
    sameAs: str = ""

    @property
    def mark(self) -> str:
        return _BAD if not self.isUsed else _DOUBTFUL if self.code else _GOOD


def readCases(runDir: Path) -> list[CaseRow]:
    """The engine's table of a run; empty while there is none."""
    path = Path(runDir) / CASES_FILE
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        return [_rowFrom(fields) for fields in csv.DictReader(stream)]


def _rowFrom(fields: dict) -> CaseRow:
    use = fields.get("use") or ""
    isRefused = use.startswith("refused")
    role = use.removeprefix("refused (").removesuffix(")") if isRefused else use
    columns = {"reason": "reason", "code": "code", "size": "size", "image": "image", "patient": "patient", "spacing": "spacing_mm", "sameAs": "same_as"}
    texts = {name: fields.get(column) or "" for name, column in columns.items()}  # tables of older engines have fewer columns
    values = tuple(int(value) for value in (fields.get("mask_values") or "").split())
    return CaseRow(fields.get("case") or "", role, not isRefused, maskValues=values, **texts)


class TrainCases:
    """Binds the tables to the parameter node; lists cannot be bound by the parameter node itself.

    Args:
        ui: Widgets by name.
        onChanged: Called when the user changed a list.
    """

    def __init__(self, ui, onChanged) -> None:
        self.ui = ui
        self._onChanged = onChanged
        self._parameters = None
        self._rows: list[CaseRow] = []
        self._tables = {"labeled": ui.labeledTable, "unlabeled": ui.unlabeledTable, "heldOut": ui.heldOutTable}
        self._drops = []
        for role, table in self._tables.items():
            self._prepareTable(role, table)

    def _prepareTable(self, role: str, table) -> None:
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels(["", _("Name"), _("Size, spacing (mm)"), _("Reason")])
        table.verticalHeader().hide()
        header = table.horizontalHeader()
        header.setStretchLastSection(True)
        header.setHighlightSections(False)  # bold headings would not fit into their columns
        table.setWordWrap(False)
        table.setColumnWidth(0, 26)
        table.setColumnWidth(1, 96)
        table.setColumnWidth(2, 180)
        table.setTextElideMode(qt.Qt.ElideMiddle)  # names of one study often differ only at their ends
        widgets = (table, self.ui.labeledHintLabel) if role == "labeled" else (table,)
        self._drops += [FileDrop(widget, lambda paths, role=role: self.add(role, paths)) for widget in widgets]
        getattr(self.ui, f"{role}AddFilesButton").connect("clicked()", lambda role=role: self._chooseFiles(role))
        getattr(self.ui, f"{role}AddFolderButton").connect("clicked()", lambda role=role: self._chooseFolder(role))
        getattr(self.ui, f"{role}RemoveButton").connect("clicked()", lambda role=role: self.removeSelected(role))
        table.connect("itemSelectionChanged()", lambda role=role: self._showRemove(role))
        self._showRemove(role)

    def setParameters(self, parameters) -> None:
        self._parameters = parameters
        self._rows = []
        self.refresh()

    def setRows(self, rows: list[CaseRow]) -> None:
        """Shows what the engine found instead of what was dropped; an empty list shows what was dropped."""
        self._rows = rows
        self.refresh()

    @property
    def rows(self) -> list[CaseRow]:
        return self._rows

    def used(self, role: str) -> int:
        """How many cases of a role the engine will use."""
        return sum(row.isUsed and row.role == role for row in self._rows)

    def labeledPatients(self) -> list[str]:
        """The name of one used labeled case of every patient."""
        first: dict[str, str] = {}
        for row in self._rows:
            if row.isUsed and row.role == "labeled":
                first.setdefault(row.patient or row.name, row.name)
        return list(first.values())

    def add(self, role: str, paths: list[Path]) -> None:
        """Adds files and folders to a list; what is in it already is not added twice."""
        paths = [Path(path) for path in paths]
        known = self._paths(role)
        new = [path for path in dict.fromkeys(paths) if path not in list(known)]
        if new and self._parameters is not None:
            setattr(self._parameters, f"{role}Paths", [*known, *new])
            self._changed()

    def addNodes(self, volumeNode, segmentationNode) -> None:
        """Adds a volume of the scene: labeled with its segmentation, else unlabeled."""
        parameters = self._parameters
        if segmentationNode is not None:
            pairs = [pair for pair in zip(parameters.labeledVolumes, parameters.labeledSegmentations) if pair[0] is not volumeNode]
            pairs.append((volumeNode, segmentationNode))
            parameters.labeledVolumes = [pair[0] for pair in pairs]
            parameters.labeledSegmentations = [pair[1] for pair in pairs]
        elif volumeNode not in list(parameters.unlabeledVolumes):
            parameters.unlabeledVolumes = [*parameters.unlabeledVolumes, volumeNode]
        self._changed()

    def forgetLostNodes(self) -> None:
        """Drops volumes that left the scene."""
        parameters = self._parameters
        pairs = list(zip(parameters.labeledVolumes, parameters.labeledSegmentations))
        kept = [pair for pair in pairs if None not in pair]
        if len(kept) < len(pairs):
            parameters.labeledVolumes = [pair[0] for pair in kept]
            parameters.labeledSegmentations = [pair[1] for pair in kept]
        if None in list(parameters.unlabeledVolumes):
            parameters.unlabeledVolumes = [node for node in parameters.unlabeledVolumes if node is not None]

    def removeSelected(self, role: str) -> None:
        """Takes the files, folders or nodes of the selected rows from the list; asks where others go with them."""
        origins = self._selectedOrigins(role)
        if not origins or not self._mayRemove(role, origins):
            return
        parameters = self._parameters
        setattr(parameters, f"{role}Paths", [path for path in self._paths(role) if str(path) not in origins])
        if role == "labeled":
            pairs = [pair for pair in zip(parameters.labeledVolumes, parameters.labeledSegmentations) if pair[0].GetID() not in origins]
            parameters.labeledVolumes = [pair[0] for pair in pairs]
            parameters.labeledSegmentations = [pair[1] for pair in pairs]
        elif role == "unlabeled":
            parameters.unlabeledVolumes = [node for node in parameters.unlabeledVolumes if node.GetID() not in origins]
        self._changed()

    def _selectedOrigins(self, role: str) -> list[str]:
        """What the selected rows came from, an entry for each row."""
        table = self._tables[role]
        return [self._originOf(table, index.row()) for index in table.selectionModel().selectedRows()]

    def _originOf(self, table, row: int) -> str:
        return table.item(row, 0).data(qt.Qt.UserRole)

    def _mayRemove(self, role: str, origins: list[str]) -> bool:
        """Volumes that came in one folder go together."""
        table = self._tables[role]
        everything = [self._originOf(table, row) for row in range(table.rowCount)]
        wider = [one for one in dict.fromkeys(origins) if everything.count(one) > origins.count(one)]
        if not wider:
            return True
        names = ", ".join(f"'{Path(one).name}'" for one in wider)
        question = _("Added as a folder: {names}. Take all of its volumes from the list? No file is deleted.")
        return slicer.util.confirmOkCancelDisplay(question.format(names=names))

    def _showRemove(self, role: str) -> None:
        button = getattr(self.ui, f"{role}RemoveButton")
        button.enabled = bool(self._tables[role].selectionModel().selectedRows())
        button.toolTip = _("Take the selected rows from the list. No file is deleted.") if button.enabled else _("Select a row first")

    def _paths(self, role: str) -> list[Path]:
        return list(getattr(self._parameters, f"{role}Paths")) if self._parameters is not None else []

    def _changed(self) -> None:
        self._rows = []
        self.refresh()
        self._onChanged()

    def _chooseFiles(self, role: str) -> None:
        found = qt.QFileDialog.getOpenFileNames(None, _("Choose volumes"), "", _("Volumes") + f" ({_FILE_FILTER})")
        # PythonQt returns the names alone, PySide the names and the filter.
        names = found[0] if isinstance(found, tuple) else found
        self.add(role, [Path(name) for name in names])

    def _chooseFolder(self, role: str) -> None:
        name = qt.QFileDialog.getExistingDirectory(None, _("Choose a folder with volumes"))
        if name:
            self.add(role, [Path(name)])

    def refresh(self) -> None:
        """Fills the tables and the counts in the headings."""
        parts = {"labeled": ("labeled", "validation"), "unlabeled": ("unlabeled",), "heldOut": ("held out",)}
        for role, roles in parts.items():
            # What needs a look comes first.
            rows = sorted((row for row in self._rows if row.role in roles), key=lambda row: (row.isUsed, not row.code))
            if self._rows:
                lines = [self._resultLine(row, role) for row in rows]
            else:
                lines = self._droppedLines(role)
            self._fill(self._tables[role], lines)
            self._showCounts(role, rows)

    def _resultLine(self, row: CaseRow, role: str) -> tuple:
        reason = withCode(row.code, row.reason)
        if not reason and row.role == "validation":
            reason = _("Held out: watches the training")
        image = Path(row.image)
        origin = next((path for path in self._paths(role) if image.is_relative_to(path)), row.image)
        if SCENE_CASES in image.parts and self._parameters is not None:
            origin = nodesByFile(self._parameters).get(image.stem, origin)
        return row.mark, row.name, ", ".join(part for part in (row.size, row.spacing) if part), reason, str(origin)

    def _droppedLines(self, role: str) -> list[tuple]:
        lines = [(_OPEN, path.name, "", _("Not checked yet"), str(path)) for path in self._paths(role)]
        if self._parameters is not None and role in ("labeled", "unlabeled"):
            nodes = self._parameters.labeledVolumes if role == "labeled" else self._parameters.unlabeledVolumes
            lines += [(_OPEN, node.GetName(), _("of the scene"), _("Not checked yet"), node.GetID()) for node in nodes if node is not None]
        return lines

    def _fill(self, table, lines: list[tuple]) -> None:
        table.setRowCount(len(lines))
        table.clearSpans()
        for row, (*texts, origin) in enumerate(lines):
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text if column else origin)
                table.setItem(row, column, item)
            table.item(row, 0).setData(qt.Qt.UserRole, origin)
            if texts[3] and not texts[2]:  # a reason may take the place of the size that is not known
                table.item(row, 2).setText(texts[3])
                table.item(row, 2).setToolTip(texts[3])
                table.setSpan(row, 2, 1, 2)
        table.clearSelection()  # other rows are where the selected ones were

    def _showCounts(self, role: str, rows: list[CaseRow]) -> None:
        if role == "heldOut":
            return
        title = _("1  Labeled volumes") if role == "labeled" else _("2  Unlabeled volumes")
        good, rest = sum(row.isUsed for row in rows), sum(not row.isUsed for row in rows)
        counts = f"   {good} {_GOOD}  {rest} {_BAD}" if rows else ""
        getattr(self.ui, f"{role}CollapsibleButton").text = title + counts
