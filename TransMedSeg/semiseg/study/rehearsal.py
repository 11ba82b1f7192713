"""A rehearsal: the same study in miniature, to see within minutes whether every row runs to its end and the report says what it should."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..networks import MONAI, network_entry
from ..networks.monai_network import MonaiOptions, sides_of
from .definition import Budget, DataSet, Study

_ITERATIONS, _SECONDS, _LOOKS = 24, 1.0, 2
_SIDE, _SIDE_OF_SLICES, _WIDTH = 16, 64, 4
_PHANTOMS = {"num_labeled": 4, "num_unlabeled": 4, "num_held_out": 3}


def rehearsal(study: Study) -> Study:
    """Every row on every data set once, with its own method and options: one seed, the fewest labels, few steps, small phantoms.

    What a job says of sizes is replaced by :func:`miniature` when the runs are made.
    """
    fewest = min((count for count in study.labels if count is not None), default=None)
    return replace(
        study,
        title=f"{study.title} (rehearsal)",
        data=tuple(_with_few_phantoms(data, fewest) for data in study.data),
        rows=tuple(
            replace(row, seeds=row.seeds and row.seeds[:1], labels=None if row.labels is None else [fewest]) for row in study.rows
        ),
        budget=Budget(seconds=min(_SECONDS, study.budget.seconds)) if study.budget.seconds else Budget(min(_ITERATIONS, study.budget.iterations)),
        labels=(fewest,),
        seeds=study.seeds[:1],
        limits=("This is a rehearsal: a few steps of tiny networks on small patches. Its numbers mean nothing.", *study.limits),
        best_on_test=min(_LOOKS, study.best_on_test),
        is_rehearsal=True,
    )


def miniature(options: dict[str, Any]) -> dict[str, Any]:
    """A job's own sizes in small: patch, width and grid, where it states them."""
    small = dict(options)
    training = options.get("training", {})
    if training.get("patch_size"):
        small["training"] = {**training, "patch_size": _small_patch(options, training["patch_size"])}
    if not options.get("network", "").startswith(MONAI):
        network = options.get("network_options", {})
        small["network_options"] = {**network, "width": min(_WIDTH, network.get("width", _WIDTH))}
    spacing = options.get("preprocessing", {}).get("spacing_mm")
    if spacing:
        small["preprocessing"] = {**options["preprocessing"], "spacing_mm": [2 * mm for mm in spacing]}
    return small


def _small_patch(options: dict[str, Any], patch: list[int]) -> list[int]:
    if patch[0] == 1:
        return [1, *(min(side, _SIDE_OF_SLICES) for side in patch[1:])]
    if not options.get("network", "").startswith(MONAI):
        return [min(side, _SIDE) for side in patch]
    network = network_entry(options["network"]).filled(options.get("network_options", {}))
    if sides_of(network.get("arguments", {}).get("img_size")) is not None:
        return patch  # the network takes no other
    least = network.get("downscale", MonaiOptions().downscale)
    return [min(side, most) for side, most in zip(patch, (least, 2 * least, 2 * least))]


def _with_few_phantoms(data: DataSet, fewest: int | None) -> DataSet:
    if not data.phantom:
        return data
    few = {name: min(count, data.phantom.get(name, count)) for name, count in _PHANTOMS.items()}
    labeled = {} if fewest is None else {"num_labeled": max(few["num_labeled"], fewest)}
    return replace(data, phantom={**data.phantom, **few, **labeled, "size": "quarter"})
