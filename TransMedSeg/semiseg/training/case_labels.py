"""Pseudo-labels of whole unlabeled cases, made anew a few times in a stage.

A teacher that labels a patch at a time sees each place from one side only. Here the deployed network labels every unlabeled case window by window,
the overlaps are averaged, and training cuts patches from the result until the next round. On the left atrium at a quarter of the resolution these
labels got better from round to round, and cost less than a teacher's pass in every step (docs/decisions.md).
"""

from __future__ import annotations

import math
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..data.atomic import replacing
from ..data.batches import REFUSED, CaseStore
from ..data.cache import PreparedSet
from ..distributed import World, any_rank, from_owner
from ..errors import InputError
from ..methods.base import AbstractMethod
from .label_plausibility import implausible_cases, words_for_refused
from .volume_match import MOST_CASES, matching_threshold
from .whole_case import whole_case_maps

FOLDER = "case_labels"
"""In the run folder, one file a round, until the training ends: a resumed run must continue with the labels it had."""


class CaseLabels:
    """Labels the unlabeled cases of a store, and finds the labels of a stopped run again.

    Args:
        prepared: The prepared set.
        store: Where training cuts its patches.
        indices: The unlabeled cases.
        patch_size: Of training.
        run_dir: The run folder; None keeps nothing, and such a training cannot be resumed.
        report: Takes events.
        world: Ranks share the cases.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        store: CaseStore,
        indices: list[int],
        patch_size: tuple[int, int, int],
        run_dir: Path | None,
        report: Callable[..., None],
        world: World = World(),
    ) -> None:
        self._prepared, self._store, self._indices, self._patch_size = prepared, store, indices, patch_size
        self._folder = None if run_dir is None else run_dir / FOLDER
        self._report, self._world = report, world

    def __call__(self, method: AbstractMethod, iteration: int, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Labels every case with the deployed network of this moment; reports the labels' share of foreground and their entropy.

        Returns:
            False when it was asked to stop: nothing has changed then, and the round is made when the run continues.
        """
        network = method.deployed
        was_training = network.training
        network.eval()
        labels, entropies = {}, []
        matches = method.matches_volume
        started = time.monotonic()
        for place, index in enumerate(self._indices):
            if any_rank(should_stop()):
                network.train(was_training)
                return False
            owner = place % self._world.size
            label = torch.zeros(self._prepared.shape(index), dtype=torch.uint8)
            if owner == self._world.rank:
                maps = whole_case_maps(network, self._prepared.arrays(index)[0], self._patch_size)
                entropies.append(_mean_entropy(maps))
                # Where the threshold is chosen afterward, the map itself goes round, in steps of 1/255.
                label = (255 * maps[0]).round().to("cpu", torch.uint8) if matches else method.label_case(maps).to("cpu", torch.uint8)
            labels[index] = from_owner(label, owner).numpy()
            done, spent = place + 1, time.monotonic() - started
            left = len(self._indices) - done
            self._report(
                "progress", what="labeling cases", done=done, total=len(self._indices), rate_per_s=done / max(spent, 1e-6), eta_s=left * spent / done
            )  # fmt: skip
        network.train(was_training)
        if matches:
            labels = self._matched(method, labels, iteration)
        share = float(np.mean([(label > 0).mean() for label in labels.values()]))
        self._refuse_implausible(labels, iteration)
        self._write(iteration, labels)
        self._take(labels)
        self._report("scalar", name="pseudo_label_share", value=share, step=iteration)
        self._report("scalar", name="pseudo_label_entropy", value=float(np.mean(entropies or [0.0])), step=iteration)
        return True

    def _refuse_implausible(self, labels: dict[int, np.ndarray], iteration: int) -> None:
        """Puts labels in their place that nothing is learned from, and says so."""
        refused = implausible_cases({index: self._volume_ml(index, label) for index, label in labels.items()}, self._drawn_ml())
        for index in refused:
            labels[index] = np.full_like(labels[index], REFUSED)
        self._report("scalar", name="pseudo_label_refused", value=len(refused) / len(labels), step=iteration)
        if refused:
            names = [self._prepared.cases[index].id for index in refused]
            self._report("warning", code="", message=words_for_refused(names, len(labels)), hint="")

    def _volume_ml(self, index: int, label: np.ndarray) -> float:
        """Of all structures of a case together."""
        return float(np.count_nonzero(label) * np.prod(self._prepared.cases[index].spacing_mm) / 1000)

    def _drawn_ml(self) -> list[float]:
        """Of each labeled case."""
        return [self._volume_ml(index, self._prepared.arrays(index)[1]) for index in self._prepared.indices("labeled")]

    def _matched(self, method: AbstractMethod, maps: dict[int, np.ndarray], iteration: int) -> dict[int, np.ndarray]:
        """Labels (slice, row, column) uint8 from the maps of all cases (0 to 255), at the threshold that gives them the mean volume of the labeled structure."""
        device = next(method.parameters()).device

        def label(index: int, threshold: float) -> np.ndarray:
            return method.label_case(torch.from_numpy(maps[index])[None].to(device) / 255, threshold).to("cpu", torch.uint8).numpy()

        target = float(np.mean(self._drawn_ml()))
        some = self._indices[:: math.ceil(len(self._indices) / MOST_CASES)]
        threshold = matching_threshold(lambda at: float(np.mean([self._volume_ml(index, label(index, at)) for index in some])), target)
        self._report("scalar", name="pseudo_label_threshold", value=threshold, step=iteration)
        return {index: label(index, threshold) for index in maps}

    def restore(self, iteration: int) -> None:
        """Takes the labels that a run at this iteration was using.

        Raises:
            InputError: They are gone or damaged.
        """
        rounds = [] if self._folder is None else sorted(int(path.stem) for path in self._folder.glob("[0-9]*.npz"))
        past = [done for done in rounds if done < iteration]  # a round at this very iteration is made anew
        if not past:
            if not self._store.is_labeled(self._indices):
                raise InputError(
                    "The pseudo-labels that this run was using are gone.",
                    path=self._folder,
                    hint="Delete resume.pt in the run folder to start the training anew.",
                )
            return
        path = self._folder / f"{past[-1]}.npz"
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
                self._take({index: stored[f"case_{index}"] for index in self._indices})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"The pseudo-labels of this run cannot be read: {error}.",
                path=path,
                hint="Delete resume.pt in the run folder to start the training anew.",
            ) from error

    def forget(self) -> None:
        """Removes what was kept for resuming: the training has ended, or starts anew."""
        if self._folder is not None and self._world.is_main:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _take(self, labels: dict[int, np.ndarray]) -> None:
        for index, label in labels.items():
            self._store.set_label(index, label)

    def _write(self, iteration: int, labels: dict[int, np.ndarray]) -> None:
        if self._folder is None or not self._world.is_main:
            return
        with replacing(self._folder / f"{iteration}.npz") as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **{f"case_{index}": label for index, label in labels.items()})


def _mean_entropy(maps: torch.Tensor) -> float:
    """Of all voxels, as a share of the largest possible."""
    p = torch.cat([maps, 1 - maps]) if len(maps) == 1 else maps
    return float(-(p * p.clamp_min(1e-8).log()).sum(0).mean() / np.log(len(p)))
