"""Leave-one-out: after the training on all labeled volumes, one run for every labeled patient without it, one after another.

Each is an ordinary run folder that waits for those before it, so that all of them go on without Slicer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from slicer.i18n import tr as _

from semiseg import protocol

from .Counted import counted
from .EngineProcess import EngineProcess
from .ModelCard import FEW_CASES
from .RunState import CLOSED_FILE, State, readJson, stateOf

FOLDS_FILE = "folds.json"
"""In the folder of the run on all labeled volumes: the names of the run folders that leave one out."""
MIN_PATIENTS = 3


def startFolds(runDir: Path, options: dict, patients: list[str], measureGain: bool, pid: int) -> list[Path]:
    """Makes and starts the runs that leave one out.

    Args:
        runDir: The run on all labeled volumes.
        options: Its options.
        patients: Name of one labeled case of every patient.
        measureGain: Whether each run trains on the labels alone as well.
        pid: The process of the run on all labeled volumes.

    Returns:
        The run folders.
    """
    folds = [runDir.with_name(f"{runDir.name}_without_{number}") for number in range(1, len(patients) + 1)]
    shared = {**options, "held_out": [], "num_validation": 0, "baseline": measureGain, "prepared": str(runDir / "prepared")}
    for fold, name in zip(folds, patients):
        protocol.write_job(fold, protocol.Job("train", {**shared, "leave_out": name}))
    protocol.write_text_atomically(runDir / FOLDS_FILE, json.dumps({"folds": [fold.name for fold in folds]}))
    queueFolds(runDir, pid)
    return folds


def queueFolds(runDir: Path, pid: int) -> None:
    """Starts those runs that are neither finished nor at work, each behind those before it.

    Args:
        runDir: The run on all labeled volumes.
        pid: Its process.
    """
    before = {runDir: pid}
    for fold in foldsOf(runDir):
        process = EngineProcess(fold)
        if _state(fold) not in (State.Finished, State.Running, State.Queued):
            process.resume(detached=True, after=before)
            process.letGo()
        before[fold] = process.pid


def stopFolds(runDir: Path, isClosed: bool) -> None:
    """Asks those that wait or work to leave, for good or until the run is resumed. One that has just been started may not show yet that it is at work."""
    for fold in foldsOf(runDir):
        if _state(fold) != State.Finished:
            if isClosed:
                (fold / CLOSED_FILE).touch()
            protocol.ask_to_stop(fold)


def foldsOf(runDir: Path) -> list[Path]:
    """The runs that belong to a run and still exist."""
    names = readJson(runDir / FOLDS_FILE).get("folds", [])
    found = [runDir.with_name(Path(str(name)).name) for name in names]
    return [fold for fold in found if (fold / protocol.JOB_FILE).exists()]


def hasLivingFolds(runDir: Path) -> bool:
    """Whether runs that use the prepared cases of this one wait or work."""
    return any(_state(fold) in (State.Running, State.Queued) for fold in foldsOf(runDir))


def _state(fold: Path) -> State:
    return stateOf(fold, protocol.read_events(fold / protocol.EVENTS_FILE)[0])


def leaveOneOutText(runDir: Path, states: Mapping[str, State] = MappingProxyType({})) -> str:
    """The estimate in a sentence, as far as it is known; empty for a run without it.

    Args:
        runDir: The run on all labeled volumes.
        states: Of the runs by the name of their folder, as far as somebody has read them already: this is asked every few seconds.
    """
    folds = foldsOf(runDir)
    if not folds:
        return ""
    results = [found for found in (readJson(fold / protocol.RESULT_FILE) for fold in folds) if found.get("scores")]
    lines = []
    failed = [fold.name for fold in folds if states.get(fold.name) in (State.Failed, State.Interrupted)]
    if len(results) < len(folds):
        lines.append(_("Leave-one-out: {done} of {total} done.").format(done=len(results), total=len(folds)))
    if failed:
        lines.append(_("Failed: {names} (see the list of runs).").format(names=", ".join(failed)))
    for label in dict.fromkeys(name for result in results for name in result["scores"]):
        dices = [dice for dice in (meanDice(result, label) for result in results) if dice is not None]
        if not dices:
            continue
        lines.append(_estimateText(label, dices))
        pairs = [(meanDice(result, label), meanDice(result.get("baseline") or {}, label)) for result in results]
        lines.append(gainText([pair for pair in pairs if None not in pair]))
    return "\n".join(line for line in lines if line)


def _estimateText(label: str, dices: list[float]) -> str:
    one = _("{label}: leave-one-out estimate {mean}, on {count} case")
    many = _("{label}: leave-one-out estimate {mean}, range {low}–{high}, on {count} cases")
    mean, low, high = (f"{value:.3f}" for value in (sum(dices) / len(dices), min(dices), max(dices)))
    return counted(len(dices), one, many, label=label, mean=mean, low=low, high=high)


def meanDice(result: dict, label: str) -> float | None:
    """The mean Dice of a result, or None where no case was scored."""
    dice = ((result.get("scores") or {}).get(label) or {}).get("dice") or {}
    return float(dice["mean"]) if dice.get("count") else None


def gainText(pairs: list[tuple[float, float]], count: int | None = None) -> str:
    """What the unlabeled volumes are worth, in a sentence.

    Args:
        pairs: Dice with unlabeled volumes, and on the labels alone.
        count: Cases behind the pairs; left out, one each.
    """
    if not pairs:
        return ""
    gain = sum(with_ - without for with_, without in pairs) / len(pairs)
    cases = len(pairs) if count is None else count
    text = _("Unlabeled volumes gain {gain} Dice.") if gain > 0 else _("Unlabeled volumes do not help here: {gain} Dice.")
    few = counted(cases, _("On {count} case this may be chance."), _("On {count} cases this may be chance."))
    many = _("Measured on {count} cases, one training each.").format(count=cases)
    return f"{text.format(gain=f'{gain:+.3f}')} {few if cases < FEW_CASES else many}"
