"""model.pt: weights and a card, and nothing that can run.

The file is what ``torch.save`` writes of ``{"weights": tensors by name, "card": JSON text}`` and is only ever read with
``weights_only=True``: a model from a stranger can be wrong, but it cannot run code.
"""

from __future__ import annotations

import json
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import __version__
from ..data.atomic import replacing
from ..errors import InputError
from ..networks import build_network

FORMAT = "semiseg-model"
FORMAT_VERSION = 1

REQUIRED = ("network", "labels", "preprocessing", "patch_size")
"""Fields a card must bring: ``{"name", "in_channels", "num_classes", "options"}``, ``[{"value", "name", ...}]``,
``Preprocessing.to_json()`` and the window along (slice, row, column), or (row, column) for a network of planes."""


def write_model(path: Path, card: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Writes a model file, whole or not at all.

    Args:
        path: The file; an older one is replaced.
        card: JSON values only, with the fields of ``REQUIRED``. Format and versions are filled in here.
        weights: The network's state dict; stored on the CPU and contiguous.

    Raises:
        InputError: The folder cannot be written to (E809) or the disk is full (E807).
    """
    missing = [name for name in REQUIRED if name not in card]
    if missing:
        raise ValueError(f"The card of a model lacks {', '.join(missing)}.")
    full = {"format": FORMAT, "format_version": FORMAT_VERSION, "semiseg_version": __version__, **card}
    text = json.dumps(full, ensure_ascii=False, allow_nan=False)
    # A plain dict of plain tensors: views would store their whole storage, subclasses would not load weights-only.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in weights.items()}
    with replacing(Path(path)) as temporary, open(temporary, "wb") as stream:
        torch.save({"weights": tensors, "card": text}, stream)
        stream.flush()
        os.fsync(stream.fileno())


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads a model file.

    Returns:
        The card and the weights by name, on the CPU.

    Raises:
        InputError: There is no such file (E405), it is not ours or damaged (E403), or of a newer format (E404).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"A model file was expected at '{path}', but there is none.",
            code="E405",
            hint="Check the path, or plug in the drive it lies on.",
            path=path,
        )
    document = _load(path)
    if not isinstance(document, dict) or not isinstance(document.get("card"), str):
        raise _not_ours(path, "it holds no card")
    try:
        card = json.loads(document["card"])
    except ValueError as error:
        raise _not_ours(path, f"its card is not JSON ({error})") from error
    _check_card(card, path)
    weights = document.get("weights")
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise _not_ours(path, "its weights are not tensors")
    return card, weights


def network_of(card: dict[str, Any], weights: dict[str, Tensor], path: Path) -> nn.Module:
    """Builds the network a card names and gives it its weights.

    Raises:
        InputError: Card and weights contradict each other (E403).
    """
    try:
        network, labels = card["network"], card["labels"]
        name, in_channels, num_classes = str(network["name"]), int(network["in_channels"]), int(network["num_classes"])
        if (
            in_channels != 1
            or num_classes != len(labels) + 1
            or not all("value" in one and "name" in one for one in labels)
        ):
            raise ValueError(f"{in_channels} channels and {num_classes} classes for {len(labels)} named structures")
        built = build_network(name, in_channels, num_classes, network.get("options"))
        built.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError, InputError) as error:
        reason = str(error).strip().splitlines()
        raise InputError(
            f"The model '{path.name}' contradicts itself: {' '.join(reason[:2])}.",
            code="E403",
            hint="Ask its author to export it again, or update TransMedSeg.",
            path=path,
        ) from error
    return built


def _load(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        raise _not_ours(path, "it is not in the format that PyTorch writes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns about archives that the next lines refuse anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise _not_ours(path, f"it is damaged or holds more than tensors and text: {reason[:120]}") from error


def _check_card(card: Any, path: Path) -> None:
    if not isinstance(card, dict) or card.get("format") != FORMAT or not isinstance(card.get("format_version"), int):
        raise _not_ours(path, "its card is another program's")
    if card["format_version"] > FORMAT_VERSION:
        raise InputError(
            f"This model has format {card['format_version']} (written by version {card.get('semiseg_version')}); this "
            f"version, {__version__}, reads up to format {FORMAT_VERSION}.",
            code="E404",
            hint="Update TransMedSeg.",
            path=path,
        )
    missing = [name for name in REQUIRED if name not in card]
    if missing:
        raise _not_ours(path, f"its card lacks {', '.join(missing)}")


def _not_ours(path: Path, reason: str) -> InputError:
    return InputError(
        f"'{path.name}' is not a TransMedSeg model: {reason}. It was not opened.",
        code="E403",
        hint="Choose a model.pt that TransMedSeg wrote; ask its author to export it again.",
        path=path,
    )
