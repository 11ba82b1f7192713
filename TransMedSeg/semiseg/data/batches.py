"""Batches for training: cases in memory, patches cut and moved on the device, no worker processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .augment import AugmentOptions, IntensityDraw, PatchDraw, change_intensity, cut_patch, draw_intensity, draw_patch
from .cache import PreparedSet
from .randomness import device_generator, generator_for, seed_for
from .transfer import to_device

REFUSED = 255
"""The pseudo-label of a voxel that is not to be learned from, such as those of a case in which nothing was found."""


class Stream:
    """The labeled or the unlabeled samples of a batch. A sample is cut when something first looks at it, so what a step leaves out costs nothing.

    Args:
        cut: Gives a sample's image (1, *space) float32 and its labels (*space) int64, or None, by its number.
        draws: One intensity change for each sample.
        cases: Index of each sample's case in the prepared set.
        places: Number of each sample among those of all ranks; None: there are no others.
        num_places: Samples of all ranks.
    """

    def __init__(
        self, cut: Callable[[int], tuple[Tensor, Tensor | None]], draws: list[IntensityDraw], cases: list[int],
        places: Sequence[int] | None = None, num_places: int = 0,
    ) -> None:  # fmt: skip
        self._cut, self.draws, self.cases = cache(cut), draws, tuple(cases)
        self.places = range(len(draws)) if places is None else places
        self.num_places = len(draws) if places is None else num_places

    @staticmethod
    def of(images: Tensor, labels: Tensor | None, draws: list[IntensityDraw], cases: list[int]) -> Stream:
        """A stream of samples that are there already: images (sample, 1, *space), labels (sample, *space) or None."""
        return Stream(lambda sample: (images[sample], None if labels is None else labels[sample]), draws, cases)

    def __getitem__(self, samples: slice) -> Stream:
        numbers = range(len(self.draws))[samples]
        return Stream(
            lambda sample: self._cut(numbers[sample]), self.draws[samples], list(self.cases[samples]), self.places[samples], self.num_places
        )

    def as_background(self) -> Stream:
        """The same samples, labeled as background everywhere."""

        def cut(sample: int) -> tuple[Tensor, Tensor]:
            image = self._cut(sample)[0]
            return image, torch.zeros_like(image[0], dtype=torch.int64)

        return Stream(cut, self.draws, list(self.cases), self.places, self.num_places)

    @cached_property
    def images(self) -> Tensor:
        """(sample, 1, *space) float32; only geometry has been changed."""
        return torch.stack([self._cut(sample)[0] for sample in range(len(self.draws))])

    @cached_property
    def labels(self) -> Tensor | None:
        """(sample, *space) int64, or None."""
        labels = [self._cut(sample)[1] for sample in range(len(self.draws))]
        return None if labels[0] is None else torch.stack(labels)

    @cached_property
    def perturbed(self) -> Tensor:
        """The images with their intensity changed: the student's view."""
        return change_intensity(self.images, self.draws)


@dataclass(frozen=True)
class Batch:
    """What a method sees in one step. Labeled and unlabeled samples are drawn separately.

    Samples come in pairs (0, 1), (2, 3), ... for methods that mix two of a kind.

    Attributes:
        labeled_stream: The samples with labels drawn by a person.
        unlabeled_stream: The others; None when the task has no unlabeled cases. Their labels are pseudo-labels, and None unless every
            unlabeled case has been labeled (``CaseStore.set_label``).
        seed: A number for everything else that a method draws in this step; the same on every rank.
    """

    labeled_stream: Stream
    unlabeled_stream: Stream | None
    seed: int

    @property
    def labeled(self) -> Tensor:
        """(num_labeled, 1, *space) float32."""
        return self.labeled_stream.images

    @property
    def labels(self) -> Tensor:
        """(num_labeled, *space) int64."""
        return self.labeled_stream.labels

    @property
    def unlabeled(self) -> Tensor | None:
        """(num_unlabeled, 1, *space) float32; None when the task has no unlabeled cases."""
        return None if self.unlabeled_stream is None else self.unlabeled_stream.images

    @property
    def unlabeled_labels(self) -> Tensor | None:
        """(num_unlabeled, *space) int64 pseudo-labels, `REFUSED` where they are not to be learned from, or None."""
        return None if self.unlabeled_stream is None else self.unlabeled_stream.labels

    @property
    def unlabeled_cases(self) -> tuple[int, ...]:
        """Index of each unlabeled sample's case in the prepared set."""
        return () if self.unlabeled_stream is None else self.unlabeled_stream.cases

    @property
    def places(self) -> tuple[list[int], int]:
        """Number of each sample, labeled ones first, in the batch of all ranks, and the size of that batch: who draws for all of them takes its own."""
        places, count = list(self.labeled_stream.places), self.labeled_stream.num_places
        if self.unlabeled_stream is None:
            return places, count
        return [*places, *(count + place for place in self.unlabeled_stream.places)], count + self.unlabeled_stream.num_places

    def part(self, labeled: slice, unlabeled: slice) -> Batch:
        """Some of the samples; the others are not cut."""
        return Batch(self.labeled_stream[labeled], None if self.unlabeled_stream is None else self.unlabeled_stream[unlabeled], self.seed)

    def perturb_labeled(self) -> Tensor:
        """The labeled images with their intensity changed."""
        return self.labeled_stream.perturbed

    def perturb_unlabeled(self) -> Tensor:
        """The unlabeled images with their intensity changed (the student's view)."""
        return self.unlabeled_stream.perturbed

    def unlabeled_noise(self) -> Tensor:
        """Standard normal noise of the shape of the unlabeled images; each sample has its own, however many ranks share the batch."""
        shape, device = self.unlabeled.shape[1:], self.unlabeled.device
        # Not the seed of the student's noise: teacher and student shall not see the same pattern.
        generators = [device_generator(device, draw.seed ^ 1) for draw in self.unlabeled_stream.draws]
        return torch.stack([torch.randn(shape, generator=one, device=device) for one in generators])


class CaseStore:
    """The prepared cases as tensors: on the device while they fit, in host memory otherwise.

    Args:
        prepared: The prepared set; its arrays are memory-mapped.
        indices: The cases that training needs.
        device: Where patches are cut.
        budget_bytes: How much of the device's memory the cases may take. Above it they stay in memory-mapped host files and the part
            around each patch is sent when it is drawn.
    """

    def __init__(self, prepared: PreparedSet, indices: list[int], device: torch.device, budget_bytes: int) -> None:
        self._prepared = prepared
        self._device = device
        self._cases: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._pseudo: dict[int, np.ndarray] = {}
        # grid_sample on a CPU has no half precision: there the images are kept as float32
        dtype = torch.float32 if device.type == "cpu" else torch.float16
        more = dtype.itemsize - torch.float16.itemsize  # than num_bytes counts, a voxel
        total = sum(prepared.num_bytes(index) + more * math.prod(prepared.shape(index)) for index in indices)
        self.is_resident = total <= budget_bytes
        if self.is_resident:
            for index in indices:
                image, label = prepared.arrays(index)
                self._cases[index] = (
                    torch.from_numpy(np.array(image)).to(device, dtype),
                    None if label is None else torch.from_numpy(np.array(label)).to(device),
                )

    def shape(self, index: int) -> tuple[int, int, int]:
        return self._prepared.shape(index)

    def num_voxels(self, index: int) -> int:
        return math.prod(self.shape(index))

    def image(self, index: int) -> np.ndarray:
        """(slice, row, column) float16 or float32, prepared."""
        return self._prepared.arrays(index)[0]

    def set_label(self, index: int, label: np.ndarray) -> None:
        """Gives an unlabeled case pseudo-labels (slice, row, column) uint8, in place of those before."""
        self._pseudo[index] = label
        if self.is_resident:
            self._cases[index] = self._cases[index][0], torch.from_numpy(label).to(self._device)

    def is_labeled(self, indices: list[int]) -> bool:
        """Whether all of these unlabeled cases have pseudo-labels."""
        return bool(self._pseudo) and all(index in self._pseudo for index in indices)

    def patch(self, index: int, draw: PatchDraw, patch_size: tuple[int, int, int], with_label: bool) -> tuple[Tensor, Tensor | None]:
        """Image (*patch_size) float32 and label (*patch_size) int64 or None of one patch, on the device."""
        if self.is_resident:
            image, label = self._cases[index]
        else:
            image_array, label_array = self._prepared.arrays(index)
            label_array = self._pseudo.get(index, label_array)
            box, draw = _around(draw, patch_size, image_array.shape)
            image = to_device(torch.from_numpy(np.array(image_array[box])), self._device).float()
            label = None if label_array is None or not with_label else to_device(torch.from_numpy(np.array(label_array[box])), self._device)
        return cut_patch(image, label if with_label else None, draw, patch_size)


def _around(
    draw: PatchDraw, patch_size: tuple[int, int, int], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], PatchDraw]:
    """The box of a case that a patch is made of, and the same draw counted from the box's corner."""
    reach = draw.reach(patch_size)
    size = np.asarray(shape)
    low = np.clip(np.floor(draw.center - reach).astype(int) - 1, 0, size - 1)
    high = np.clip(np.ceil(draw.center + reach).astype(int) + 2, low + 1, size)
    return tuple(slice(*ends) for ends in zip(low, high)), replace(draw, center=draw.center - low)


class TwoStreamBatches:
    """Endless batches of labeled and unlabeled patches.

    A batch is a function of the run's seed and the iteration alone. With several ranks each rank cuts its share of the same global batch.

    Args:
        store: The cases.
        labeled, unlabeled: Indices of the cases in each stream.
        patch_size: (slice, row, column); a first side of 1 gives 2-D batches.
        num_labeled, num_unlabeled: Samples of each stream in the *global* batch; even numbers.
        augment: How patches are moved and recolored.
        seed: The run's seed.
        rank, world_size: Of this process.

    Raises:
        InputError: No labeled case, or the batch cannot be shared by the ranks in pairs.
    """

    def __init__(
        self,
        store: CaseStore,
        labeled: list[int],
        unlabeled: list[int],
        patch_size: tuple[int, int, int],
        num_labeled: int,
        num_unlabeled: int,
        augment: AugmentOptions,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not labeled:
            raise InputError("Training needs labeled cases; none is left.", code="E801")
        for name, count in (("labeled", num_labeled), ("unlabeled", num_unlabeled)):
            if count % (2 * world_size) or (count < 2 and name == "labeled"):
                raise InputError(
                    f"The batch has {count} {name} samples for {world_size} process(es); pairs cannot be shared evenly.",
                    hint=f"Use a multiple of {2 * world_size}.",
                )
        self._store, self._labeled, self._unlabeled = store, labeled, unlabeled
        self._patch_size = patch_size
        self._counts = (num_labeled, num_unlabeled if unlabeled else 0)
        self._augment, self._seed = augment, seed
        self._rank, self._world_size = rank, world_size

    def batch(self, iteration: int) -> Batch:
        """The batch of one iteration."""
        labeled = self._stream("labeled", self._labeled, self._counts[0], iteration)
        unlabeled = self._stream("unlabeled", self._unlabeled, self._counts[1], iteration) if self._counts[1] else None
        return Batch(labeled, unlabeled, seed_for(self._seed, iteration, 0, "method"))

    @property
    def unlabeled(self) -> list[int]:
        """The cases of the unlabeled stream."""
        return self._unlabeled

    @property
    def store(self) -> CaseStore:
        return self._store

    def _stream(self, name: str, indices: list[int], count: int, iteration: int) -> Stream:
        share = count // self._world_size
        with_label = name == "labeled" or self._store.is_labeled(indices)
        cases, places, draws = [], [], []
        for sample in range(self._rank * share, (self._rank + 1) * share):
            rng = generator_for(self._seed, iteration, sample, name)
            cases.append(self._pick(indices, count, iteration, sample, name))
            places.append(draw_patch(rng, self._store.shape(cases[-1]), self._patch_size, self._augment))
            draws.append(draw_intensity(rng, self._augment.intensity, self._augment.gin))

        def cut(sample: int) -> tuple[Tensor, Tensor | None]:
            image, label = self._store.patch(cases[sample], places[sample], self._patch_size, with_label)
            if self._patch_size[0] == 1:
                image, label = image[0], None if label is None else label[0]
            return image[None], label

        return Stream(cut, draws, cases, range(self._rank * share, (self._rank + 1) * share), count)

    def _pick(self, indices: list[int], count: int, iteration: int, sample: int, name: str) -> int:
        """Every case once before any comes again, in an order shuffled anew for each round."""
        position = iteration * count + sample
        round_, place = divmod(position, len(indices))
        order = generator_for(self._seed, round_, 0, f"order of {name}").permutation(len(indices))
        return indices[order[place]]
