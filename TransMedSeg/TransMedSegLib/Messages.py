"""The window's own messages with a code, in one table; those of the engine come with their words. docs/messages.md explains all codes."""

from __future__ import annotations

import functools

from slicer.i18n import tr as _


def message(code: str, **values: object) -> str:
    """Returns the text of a code with its values filled in.

    Raises:
        KeyError: There is no such code, or a value is missing.
    """
    return _group(code[1:2])[code].format(**values)


def withCode(code: str, text: str) -> str:
    """Returns a text with its code behind it, so that a user can search for it."""
    return f"{text} [{code}]" if code else text


@functools.cache
def _group(hundred: str) -> dict[str, str]:
    """The texts whose codes begin with this digit, in the language of the application.

    Kept: a translation looks at the call stack, which takes milliseconds, and the language changes only with a restart.
    """
    makers = {
        "1": _setupTexts,
        "2": _gpuTexts,
        "3": _inputTexts,
        "4": _modelTexts,
        "5": _runTexts,
        "6": _editTexts,
        "7": _compareTexts,
        "8": _trainingTexts,
        "9": _exportTexts,
    }
    return makers[hundred]()


def texts() -> dict[str, str]:
    """All codes and their texts."""
    return {code: text for hundred in "123456789" for code, text in _group(hundred).items()}


def forgetTexts() -> None:
    """Reads the texts anew, in the present language."""
    _group.cache_clear()


def _setupTexts() -> dict[str, str]:
    return {
        "E101": _("This module needs Slicer {needed} or newer; you have {found}."),
        "E102": _("The extension 'PyTorch' is not installed. Install it in the Extensions Manager and restart Slicer."),
        "E103": _(
            "The package server cannot be reached. Behind a hospital proxy, ask IT for its address, or install from a folder of wheels."
        ),
        "E104": _("The network replaces security certificates. Packages were not installed. Install from a folder of wheels."),
        "E105": _("Needed {needed_gb} GB, free {free_gb} GB in {folder}. Free some space or choose another folder. Nothing was changed."),
        "E106": _("Slicer is installed in a folder you may not write to ({folder}). Install Slicer for this user only, or ask IT."),
        "E107": _("Installation did not finish: {reason}. Slicer itself is unchanged."),
        "E108": _("The installation changed {package} from {before} to {after}, which Slicer needs unchanged. Repair restores {before}."),
        "E109": _("Some files are in use. Restart Slicer to finish; the module continues by itself."),
        "E110": _("Another module is installing packages. We start when it is done."),
        "E111": _("Cancelled. Packages added so far were removed."),
        "E112": _("PyTorch is installed but does not start: {reason}. Installing it again usually helps."),
    }


def _gpuTexts() -> dict[str, str]:
    return {
        "E201": _("No NVIDIA GPU found. Everything runs on the CPU, which is much slower."),
        "E202": _("Your driver {driver} is too old for CUDA {cuda} (it needs {needed} or newer). Update the NVIDIA driver, then check again."),
        "E203": _("This PyTorch was built for CPU only, but {gpu} is in this computer. Install PyTorch with CUDA."),
        "E204": _("The installed PyTorch is too old for {gpu}. Install a PyTorch with a newer CUDA."),
        "E206": _("The GPU ran out of memory during training. Smaller patches or batches need less; the run can be resumed."),
        "E207": _("The graphics driver stopped. Your run is safe at iteration {iteration}. Restart the computer, then resume."),
        "E208": _("Another program uses {used_gb} GB of {gpu}; {free_gb} GB is free."),
    }


def _inputTexts() -> dict[str, str]:
    return {
        "E301": _("Choose a volume first."),
        "E302": _("'{name}' is {kind}; a 3D scalar volume is needed."),
        "E303": _("'{name}' is moved by transform '{transform}'. The result would be in the wrong place."),
        "E304": _(
            "Slices of '{name}' are not evenly spaced ({low}–{high} mm). The model gets it resampled; the mask comes back on the original slices."
        ),
        "E305": _("The image axes of '{name}' are not at right angles. The model gets it resampled; the mask comes back on the original voxels."),
        "E306": _("Spacing is missing in '{name}', so milliliters and millimeters will be wrong."),
        "E307": _("This model was trained on {trained} mm; '{name}' has {found} mm. Expect poor results."),
        "E308": _("'{name}' looks like {found}; the model is for {expected}."),
        "E309": _("'{name}' contains no usable values."),
        "E310": _("{size} needs {needed_gb} GB of memory; {free_gb} GB is free. Draw a box around the heart."),
        "E311": _("'{name}' cannot be read ({reason}). Skipped."),
        "E313": _("The volume was closed. The result is kept in '{file}'."),
    }


def _modelTexts() -> dict[str, str]:
    return {
        "E401": _("This model is not on this computer. Download it on another computer and add it from its file. Link: {link}"),
        "E402": _("The model file is damaged or was changed (its hash does not match). It was not used."),
        "E403": _("This file is not a TransMedSeg model, or it contains code. It was not opened."),
        "E404": _("This model needs TransMedSeg {needed}; you have {found}."),
        "E405": _("The model folder {folder} is not available."),
        "E406": _("This model may be used for non-commercial research only."),
    }


def _runTexts() -> dict[str, str]:
    return {
        "E501": _("The computing program could not be started: {reason}. A virus scanner may block it."),
        "E502": _("The program stopped with an error: {reason}"),
        "E503": _(
            "The system ended the program, most likely because memory ran out ({total_gb} GB in this computer). Close other programs, then try again."
        ),
        "E504": _("No progress for {seconds} s."),
        "E505": _("The program finished but left no result. Disk full? Free: {free_gb} GB in {folder}."),
        "E506": _("No left atrium was found. Possible reasons: other modality, heart not in view, wrong orientation."),
        "E507": _("Cancelled after {seconds} s."),
        "E508": _("Training continues in the background."),
        "E509": _("{done} done, {failed} failed ({which})."),
        "E510": _("Another copy of the engine answered ({found} instead of {expected}). The run was stopped."),
    }


def _editTexts() -> dict[str, str]:
    return {
        "E601": _("That point is outside the image."),
        "E603": _("This segment is protected because you edited it."),
        "E604": _("The new area overlaps '{segment}' ({volume_ml} mL)."),
        "E605": _("Nothing to undo (10 steps are kept)."),
        "E606": _("Autosave could not write to {folder}; your edits are only in memory."),
    }


def _compareTexts() -> dict[str, str]:
    return {
        "E701": _("B was resampled to A's grid for comparison (nearest neighbor)."),
        "E702": _("A and B lie in different places (centers {distance_mm} mm apart). No numbers are shown."),
        "E703": _("Both masks are empty."),
        "E704": _("Which value is the {structure}? Found: {values}."),
    }


def _trainingTexts() -> dict[str, str]:
    return {
        "E801": _("At least 2 labeled volumes are needed (4 or more recommended)."),
        "E802": _(
            "No unlabeled volumes: training will use labels only. That is allowed, but adding unlabeled volumes is what this tool is for."
        ),
        "E805": _("{count} of {total} unlabeled volumes differ strongly in spacing or intensity."),
        "E807": _("Disk full: the run was paused at iteration {iteration}. Free at least 1 GB, then resume."),
        "E808": _("The run was interrupted by sleep for {duration} and continues."),
        "E809": _("The run folder is not writable or is used by another computer (lock by {host}, {time}). It can be viewed."),
        "E810": _("This run was made with TransMedSeg {found}; you have {expected}. It can be viewed and used but not resumed."),
        "E811": _("Validation has fallen since iteration {iteration}; the model of iteration {iteration} (Dice {dice}) is kept. Stopping would be fine."),
        "E812": _("A run is already using {device}."),
    }


def _exportTexts() -> dict[str, str]:
    return {
        "E901": _("This volume came from a file, so there is no patient and series to point to. Save as .seg.nrrd or NIfTI instead."),
        "E902": _("{missing} of {total} source files are no longer in the DICOM database."),
        "E903": _("Segment '{segment}' has no medical code."),
        "E904": _("'{segment}' is empty and will be left out."),
        "E905": _("The mask is on another grid than the source images."),
        "E906": _("DICOM-SEG needs the Python package {package}."),
        "E907": _("DICOM-SEG could not be written: {reason}"),
        "E909": _("This segmentation has not been approved by a person."),
    }
