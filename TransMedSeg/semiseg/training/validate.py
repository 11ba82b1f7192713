"""Whole-volume validation during training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..data.cache import PreparedSet
from ..inference.postprocess import keep_largest_component
from ..methods.base import AbstractMethod
from .preview import write_preview
from .whole_case import whole_case_maps


class Validation:
    """Dice of the deployed network on the validation cases, on the prepared grid, cleaned as the model file will be used.

    Args:
        prepared: The prepared set.
        patch_size: Window of the network along (slice, row, column).
        report: Takes events.
        preview_dir: Where the worst case is shown, see `write_preview`; None shows none.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        patch_size: tuple[int, int, int],
        report: Callable[..., None],
        preview_dir: Path | None = None,
    ) -> None:
        self._prepared, self._report, self._preview_dir = prepared, report, preview_dir
        self._indices = prepared.indices("validation")
        self._patch_size = patch_size
        self.best: tuple[float, int] = (-1.0, 0)

    @property
    def is_possible(self) -> bool:
        return bool(self._indices)

    def __call__(self, method: AbstractMethod, iteration: int) -> None:
        """Reports ``validation_dice`` (mean over cases and structures), that of a student that is not deployed, and the worst case's slice."""
        scores, worst = self._scores(method.deployed)
        mean = float(np.mean(scores))
        self._report("scalar", name="validation_dice", value=mean, step=iteration)
        if method.student_network is not None:
            of_student = float(np.mean(self._scores(method.student_network)[0]))
            self._report("scalar", name="validation_dice_student", value=of_student, step=iteration)
        if mean > self.best[0]:
            self.best = (mean, iteration)
        if worst is not None and self._preview_dir is not None:
            self._show(*worst, iteration)

    def _scores(self, network: torch.nn.Module) -> tuple[list[float], tuple[float, int, np.ndarray] | None]:
        """Dice of every case; and Dice, place and labels of the worst."""
        was_training = network.training
        network.eval()
        scores: list[float] = []
        worst: tuple[float, int, np.ndarray] | None = None
        for index in self._indices:
            labels = self._labels(network, index)
            score = self._dice(labels, np.asarray(self._prepared.arrays(index)[1]))
            scores.append(score)
            if worst is None or score < worst[0]:
                worst = (score, index, labels)
        network.train(was_training)
        return scores, worst

    def _labels(self, network: torch.nn.Module, index: int) -> np.ndarray:
        maps = whole_case_maps(network, self._prepared.arrays(index)[0], self._patch_size)
        if len(maps) > 1:
            return maps.argmax(0).cpu().numpy()
        # What a model of one structure does when it is used; else the curve would show pieces that nobody gets to see.
        return keep_largest_component((maps[0] >= 0.5).cpu().numpy().astype(np.uint8))

    def _dice(self, labels: np.ndarray, truth: np.ndarray) -> float:
        scores = []
        for channel in range(1, self._prepared.num_classes):
            found, there = labels == channel, truth == channel
            total = int(found.sum()) + int(there.sum())
            if total:
                scores.append(2 * int((found & there).sum()) / total)
        return float(np.mean(scores)) if scores else 1.0

    def _show(self, score: float, index: int, labels: np.ndarray, iteration: int) -> None:
        image, truth = self._prepared.arrays(index)
        case = self._prepared.cases[index]
        fields = write_preview(self._preview_dir, case, np.asarray(image), labels, np.asarray(truth))
        self._report("preview", step=iteration, case=case.id, dice=score, **fields)
