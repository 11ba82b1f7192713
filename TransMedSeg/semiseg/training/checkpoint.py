"""The state a run continues from: written whole or not at all, read without running anything in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from ..data.atomic import replacing
from ..errors import InputError
from .smaller import smaller_settings

FORMAT_VERSION = 1


def write_state(path: Path, state: dict[str, Any], identity: dict[str, Any]) -> None:
    """Saves a training state.

    Args:
        state: Tensors, numbers and nested containers of them.
        identity: What must be the same to continue: method, network, task, options. JSON values.

    Raises:
        InputError: The disk is full (E807) or the folder cannot be written (E809). The state before is still there.
    """
    content = {"format_version": FORMAT_VERSION, "identity": json.dumps(identity, sort_keys=True), "state": state}
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())


def read_state(path: Path, identity: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Reads a training state.

    Raises:
        InputError: The file is damaged, of another version (E810), or belongs to other options. Batches and patches may have become smaller:
            the state's ``changes`` then end with what and when.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        version, saved, state = content["format_version"], json.loads(content["identity"]), content["state"]
    except Exception as error:
        raise InputError(
            f"The saved state cannot be read: {error}.", path=path, hint="Delete it to start the run anew."
        ) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"This run was made with another version of the engine (state format {version}, this one reads {FORMAT_VERSION}); it can be viewed and "
            "used but not resumed.",
            code="E810",
            path=path,
        )
    wanted = json.loads(json.dumps(identity, sort_keys=True))
    length = wanted.get("training", {}).get("iterations")
    if length in state.get("lengths", []):  # the job may tell an earlier length of a training that keeps to its minutes, or the last
        saved["training"]["iterations"] = length
    changed = sorted(key for key in {*saved, *wanted} if saved.get(key) != wanted.get(key))
    smaller = smaller_settings(saved.get("training", {}), wanted.get("training", {})) if changed == ["training"] else None
    if smaller:
        state["changes"] = [*state.get("changes", []), {"iteration": state["iteration"], **smaller}]
    elif changed:
        details = "; ".join(f"{key}: {saved.get(key)} before, {wanted.get(key)} now" for key in changed)
        raise InputError(
            f"The run was started with other options and cannot be continued ({details}).",
            path=path,
            hint="Set them back, or start a new run folder.",
        )
    return state


def cloned(value: Any) -> Any:
    """A copy of nested containers whose tensors share no memory with the original."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: cloned(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [cloned(entry) for entry in value]
    return value
