"""A training that ran out of GPU memory goes on with one click: with a smaller batch or patch, from its last saved state (E206)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slicer.i18n import tr as _

from semiseg import protocol

from .Notice import Action
from .RunState import State, stateOf
from .TrainFolds import foldsOf


def fixActions(runDir: Path, fixes: tuple, resume: Callable[[], None]) -> tuple[Action, ...]:
    """Buttons for what the engine said would help.

    Args:
        runDir: The run.
        fixes: Changes of its options, each enough alone, as in the engine's last event.
        resume: Continues the run.
    """
    titled = [(_title(fix, _trainingOf(runDir)), fix) for fix in fixes if isinstance(fix, dict)]
    return tuple((title, lambda fix=fix: (applyFix(runDir, fix), resume())) for title, fix in titled if title)


def applyFix(runDir: Path, fix: dict) -> None:
    """Writes the change into the job of a run, and into those that leave one of its patients out and are still to come."""
    for folder in (runDir, *foldsOf(runDir)):
        if folder != runDir and stateOf(folder, protocol.read_events(folder / protocol.EVENTS_FILE)[0]) in (State.Finished, State.Running):
            continue
        job = protocol.read_job(folder)
        options = {**job.options}
        for group, values in fix.items():
            options[group] = {**options.get(group, {}), **values}
        protocol.write_job(folder, protocol.Job(job.verb, options))


def _trainingOf(runDir: Path) -> dict:
    try:
        return protocol.read_job(runDir).options.get("training", {})
    except (OSError, protocol.ProtocolError):
        return {}


def _title(fix: dict, before: dict) -> str:
    """What a button says; empty for a change that this version of the window does not know."""
    training = fix.get("training", {})
    if "batch_labeled" in training:
        old = before.get("batch_labeled")
        if old is None:
            return _("Use batch {new}").format(new=training["batch_labeled"])
        return _("Use batch {new} instead of {old}").format(new=training["batch_labeled"], old=old)
    if "patch_size" in training:
        return _("Use smaller patch {size}").format(size="×".join(str(side) for side in training["patch_size"]))
    return ""
