"""What became of each volume: the record that lies beside its masks and marks it done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

_ENDING = ".prediction.json"


@dataclass(frozen=True)
class CaseResult:
    """What became of one volume; kept beside its masks as ``<id>.prediction.json``.

    Args:
        id: Name of the case and of its files.
        status: ``"done"``, ``"skipped"`` (done before, nothing has changed) or ``"failed"``.
        source: Volume file or DICOM folder.
        key: Changes with the source, the model and the options.
        code: Code of the message of a failed case.
        reason: Why it failed, in one or two sentences.
        volumes_ml: By structure.
        notes: ``{"code", "message", "hint"}`` of what the reader must know.
        files: Names of what was written.
        time_s: Reading, segmenting and writing.
    """

    id: str
    status: str
    source: str
    key: str = ""
    code: str = ""
    reason: str = ""
    volumes_ml: dict[str, float] = field(default_factory=dict)
    notes: list[dict[str, str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    time_s: float = 0.0


def record_path(out_dir: Path, case_id: str) -> Path:
    """Where the record of a case lies."""
    return out_dir / f"{case_id}{_ENDING}"


def read_results(out_dir: Path) -> list[CaseResult]:
    """The results of all processes from the records they left, by case id; records of another version are left out."""
    found = (_read(path) for path in sorted(Path(out_dir).glob(f"*{_ENDING}")))
    return [result for result in found if result is not None]


def done_before(path: Path, key: str) -> CaseResult | None:
    """The result of an earlier run with the same source, model and options whose files are still there."""
    result = _read(path)
    if result is None or result.status != "done" or result.key != key:
        return None
    is_whole = all((path.parent / name).is_file() for name in result.files)
    return replace(result, status="skipped") if is_whole else None


def summary(results: Sequence[CaseResult]) -> str:
    """One sentence: how many are done and which failed with which code."""
    failed = [result for result in results if result.status == "failed"]
    skipped = sum(result.status == "skipped" for result in results)
    text = f"{len(results) - len(failed)} done"
    text += f" ({skipped} of them before)" if skipped else ""
    if not failed:
        return text + "."
    return text + f", {len(failed)} failed ({', '.join(f'{one.id}: {one.code or one.reason}' for one in failed)})."


def _read(path: Path) -> CaseResult | None:
    """None where there is no record, or one that this version cannot read: the case is then segmented anew."""
    try:
        return CaseResult(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
