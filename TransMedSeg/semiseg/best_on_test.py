"""Best on test: the highest of several scores on the held-out cases while a run trains. Many papers print it. It chooses nothing here.

The protocol is the last checkpoint. How far "best" lies above "last" says how much of a published figure was found by looking at the test cases.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .data.atomic import write_json
from .data.cache import PreparedCase, PreparedSet
from .data.checks import mask_channels, mask_on_image
from .data.files import read_labels, read_volume
from .data.naming import ending
from .data.nearest import nearest_on_grid
from .errors import InputError
from .inference.model_file import write_model
from .inference.segmenter import Segmenter, SegmentOptions
from .methods.base import AbstractMethod
from .metrics.overlap import dice
from .metrics.table import Table

LOOKS_FILE = "best_on_test.json"
"""In the run folder: the scores so far, so that a resumed run keeps them."""

SCALAR = "held_out_dice"

Report = Callable[..., None]
MakeCard = Callable[[dict[str, Any]], dict[str, Any]]


class HeldOutLooks:
    """Segments and scores the held-out cases at even distances in a training, as they are at its end.

    Args:
        prepared: The prepared set.
        run_dir: The run folder.
        make_card: Gives a model card around the facts of its training.
        count: Looks, the score of the last checkpoint included.
        iterations: Of the whole training.
        device: Where the network runs.
        report: Takes events.
        is_resumed: Whether the run continues: else what was seen before belongs to another one.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        run_dir: Path,
        make_card: MakeCard,
        count: int,
        iterations: int,
        device: torch.device,
        report: Report,
        is_resumed: bool,
    ) -> None:
        self._prepared, self._run_dir, self._make_card = prepared, run_dir, make_card
        self._device, self._report = device, report
        self._at = {round(iterations * place / count) for place in range(1, count)} - {0, iterations}
        self._path = run_dir / LOOKS_FILE
        if not is_resumed:
            self._path.unlink(missing_ok=True)
        self._seen = _read(self._path)

    def __call__(self, method: AbstractMethod, iteration: int) -> None:
        """After every step; does something in a few of them. Weights, modes and random numbers stay as they are."""
        if iteration not in self._at:
            return
        # Building a network draws its starting weights, and a training with looks must be the training without.
        with torch.random.fork_rng(devices=[]):
            found = self._score(method)
        if math.isnan(found):
            return  # nothing there and nothing found, in every case
        self._seen[iteration] = found
        write_json(self._path, {"dice": {str(place): value for place, value in self._seen.items()}})
        self._report("scalar", name=SCALAR, value=found, step=iteration)

    def best(self, last: Table, iteration: int) -> dict[str, Any]:
        """``dice`` of the best look and its ``iteration``, the last checkpoint among them; ``looks`` by iteration. Empty without a number."""
        end = mean_dice([(row.case, row.values["dice"]) for row in last.rows])
        looks = self._seen if math.isnan(end) else {**self._seen, iteration: end}
        if not looks:
            return {}
        place = max(looks, key=lambda one: looks[one])
        return {"dice": looks[place], "iteration": place, "looks": {str(one): value for one, value in sorted(looks.items())}}

    def _score(self, method: AbstractMethod) -> float:
        path = self._run_dir / "looked_at.pt"
        try:
            write_model(path, self._make_card({}), method.deployed.state_dict())
            segmenter = Segmenter(path, self._device)
        finally:
            path.unlink(missing_ok=True)
        values = []
        for index in self._prepared.indices("held_out"):
            case = self._prepared.cases[index]
            try:
                values += [(case.id, value) for value in self._dice_of(case, segmenter)]
            except InputError as error:
                self._report("warning", code=error.code, message=f"{case.id} was not looked at: {error.message}", hint=error.hint)
        return mean_dice(values)

    def _dice_of(self, case: PreparedCase, segmenter: Segmenter) -> list[float]:
        """Of every structure, on the case's own grid."""
        image = read_volume(Path(case.image), case.id, segmenter.assumed_spacing_mm)
        mask, names = read_labels(Path(case.label), case.id, segmenter.assumed_spacing_mm)
        if case.is_mask_resampled:
            mask = nearest_on_grid(mask, image.geometry)
        mask = mask_on_image(mask, image, case.id, may_be_smaller=ending(Path(case.label)) == ".seg.nrrd")
        # Values that nobody named have refused the case before, or they are background.
        truth = mask_channels(mask, self._prepared.labels, case.id, names, other_values="background")
        found = segmenter.segment(image, SegmentOptions(), name=case.id).labels.array
        return [dice(found == int(label["value"]), truth == place) for place, label in enumerate(self._prepared.labels, start=1)]


def mean_dice(values: list[tuple[str, float]]) -> float:
    """The mean over cases of each case's mean over its structures, as the tables have it; NaN is left out, and is the mean of nothing."""
    by_case: dict[str, list[float]] = {}
    for case, value in values:
        if not math.isnan(value):
            by_case.setdefault(case, []).append(value)
    return float(np.mean([np.mean(one) for one in by_case.values()])) if by_case else math.nan


def _read(path: Path) -> dict[int, float]:
    try:
        return {int(place): float(value) for place, value in json.loads(path.read_text(encoding="utf-8"))["dice"].items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}  # what was seen is lost, the training is not
