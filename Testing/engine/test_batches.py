"""A batch is a function of the seed and the iteration alone: nothing else is remembered, and nobody else is needed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from training_cases import CPU, PATCH, UNMOVED, MemoryCases, make_batches

from semiseg.data.augment import AugmentOptions
from semiseg.data.batches import CaseStore
from semiseg.errors import InputError

ON_GRID = AugmentOptions((1, 2), False, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def cases():
    return MemoryCases()


def same(first, second):
    assert torch.equal(first.labeled, second.labeled) and torch.equal(first.labels, second.labels)
    assert torch.equal(first.unlabeled, second.unlabeled)
    assert first.unlabeled_cases == second.unlabeled_cases and first.seed == second.seed
    assert torch.equal(first.perturb_labeled(), second.perturb_labeled())
    assert torch.equal(first.perturb_unlabeled(), second.perturb_unlabeled())


def test_a_batch_has_what_its_docstring_says(cases):
    batch = make_batches(cases, counts=(4, 2)).batch(0)
    assert batch.labeled.shape == (4, 1, *PATCH) and batch.labeled.dtype == torch.float32
    assert batch.labels.shape == (4, *PATCH) and batch.labels.dtype == torch.int64
    assert batch.unlabeled.shape == (2, 1, *PATCH)
    assert len(batch.unlabeled_cases) == 2 and set(batch.unlabeled_cases) <= {2, 3, 4, 5}
    assert batch.labels.unique().tolist() == [0, 1]
    assert not torch.equal(batch.perturb_labeled(), batch.labeled), "perturbing is the method's choice, not done before"


def test_a_batch_depends_on_seed_and_iteration_alone(cases):
    forward = make_batches(cases)
    in_order = [forward.batch(iteration) for iteration in range(4)]
    backward = make_batches(cases)
    for iteration in reversed(range(4)):
        same(backward.batch(iteration), in_order[iteration])
    assert not torch.equal(in_order[0].labeled, in_order[1].labeled)
    assert not torch.equal(make_batches(cases, seed=1).batch(0).labeled, in_order[0].labeled)


def test_every_case_comes_once_a_round_in_an_order_of_its_own(cases):
    batches = make_batches(cases, unlabeled=(1, 2, 3, 4, 5), counts=(2, 2))
    drawn = [case for iteration in range(20) for case in batches.batch(iteration).unlabeled_cases]
    rounds = [drawn[start : start + 5] for start in range(0, 40, 5)]
    assert all(sorted(one) == [1, 2, 3, 4, 5] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert set(Counter(drawn).values()) == {8}


def test_labeled_cases_take_turns_too(cases):
    """Each case is recognized by its own constant image."""

    class Constant(MemoryCases):
        def arrays(self, index):
            image, label = super().arrays(index)
            return np.full_like(image, index), label

    batches = make_batches(Constant(), labeled=(0, 1, 2), unlabeled=(), counts=(2, 0), augment=UNMOVED)
    drawn = [int(value) for iteration in range(6) for value in batches.batch(iteration).labeled[:, 0, 0, 0, 0]]
    assert all(sorted(drawn[start : start + 3]) == [0, 1, 2] for start in range(0, 12, 3))


def test_labels_belong_to_their_images(cases):
    """Nested balls are brighter inwards, so a mask of another patch would show."""
    for iteration in range(5):
        batch = make_batches(cases).batch(iteration)
        for image, label in zip(batch.labeled[:, 0], batch.labels):
            assert image[label == 1].mean() - image[label == 0].mean() > 1.0


def test_two_ranks_cut_the_batch_of_one_process(cases):
    whole = make_batches(cases, counts=(4, 4)).batch(3)
    parts = [make_batches(cases, counts=(4, 4), rank=rank, world_size=2).batch(3) for rank in range(2)]
    for name in ("labeled", "labels", "unlabeled"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    assert torch.equal(torch.cat([part.perturb_unlabeled() for part in parts]), whole.perturb_unlabeled())
    assert sum((part.unlabeled_cases for part in parts), ()) == whole.unlabeled_cases
    assert {part.seed for part in parts} == {whole.seed}, "boxes of copy-paste are the same on every rank"


@pytest.mark.parametrize("augment", (UNMOVED, ON_GRID, AugmentOptions(), AugmentOptions(rotation_deg=90.0, scale=0.6, elastic=0.25)))
@pytest.mark.parametrize("patch", (PATCH, (24, 16, 32)), ids=("inside", "larger than a case"))
def test_a_streamed_set_gives_the_batches_of_a_resident_one(cases, augment, patch):
    resident = make_batches(cases, patch, augment)
    streamed = make_batches(cases, patch, augment, budget_bytes=0)
    assert resident._store.is_resident and not streamed._store.is_resident
    for iteration in range(3):
        one, other = resident.batch(iteration), streamed.batch(iteration)
        if augment.keeps_grid:
            same(one, other)
        torch.testing.assert_close(one.labeled, other.labeled, rtol=0, atol=2e-3)
        torch.testing.assert_close(one.unlabeled, other.unlabeled, rtol=0, atol=2e-3)
        assert (one.labels != other.labels).float().mean() < 1e-3  # a tie between two voxels may round to either


def test_a_streamed_set_reads_only_around_the_patch():
    """Cutting one corner of a large case must not send the whole of it."""
    read = []

    class Watched(np.ndarray):
        def __getitem__(self, item):
            found = super().__getitem__(item)
            read.append(found.size)
            return found

    class Large(MemoryCases):
        def arrays(self, index):
            image, label = super().arrays(index)
            return image.view(Watched), label

    _ = make_batches(Large(2, shape=(60, 60, 60)), augment=UNMOVED, labeled=(0, 1), unlabeled=(), counts=(2, 0), budget_bytes=0).batch(0).labels
    assert len(read) == 2 and max(read) < 20**3


def test_the_budget_counts_what_is_kept(cases):
    """On a CPU images are kept as float32: 4 bytes a voxel and 1 for the mask."""
    need = 5 * sum(int(np.prod(cases.shape(index))) for index in (0, 1))
    assert CaseStore(cases, [0, 1], CPU, need).is_resident
    assert not CaseStore(cases, [0, 1], CPU, need - 1).is_resident


def test_slices_make_two_dimensional_batches(cases):
    batch = make_batches(cases, (1, 16, 16)).batch(0)
    assert batch.labeled.shape == batch.unlabeled.shape == (2, 1, 16, 16)
    assert batch.labels.shape == (2, 16, 16)
    assert batch.perturb_labeled().shape == batch.labeled.shape


def test_without_unlabeled_cases_there_is_no_second_stream(cases):
    batch = make_batches(cases, unlabeled=()).batch(0)
    assert batch.unlabeled is None and batch.unlabeled_cases == () and batch.unlabeled_labels is None


def test_labeled_patches_are_the_same_whatever_a_method_does_with_the_others(cases):
    """Methods are compared on one sequence of labeled patches: it must not move with the unlabeled stream."""
    with_others, without = make_batches(cases), make_batches(cases, unlabeled=())
    fewer = make_batches(cases, unlabeled=(2, 3))
    for iteration in range(4):
        batch = with_others.batch(iteration)
        for other in (without.batch(iteration), fewer.batch(iteration)):
            assert torch.equal(other.labeled, batch.labeled) and torch.equal(other.labels, batch.labels)
            assert torch.equal(other.perturb_labeled(), batch.perturb_labeled())


def test_without_labeled_cases_there_is_no_training(cases):
    with pytest.raises(InputError) as raised:
        make_batches(cases, labeled=())
    assert raised.value.code == "E801"


@pytest.mark.parametrize(("counts", "world_size"), [((3, 2), 1), ((2, 3), 1), ((0, 2), 1), ((2, 2), 2), ((4, 6), 2)])
def test_batches_that_cannot_be_shared_in_pairs_are_refused(cases, counts, world_size):
    with pytest.raises(InputError, match="batch") as raised:
        make_batches(cases, counts=counts, world_size=world_size)
    assert f"multiple of {2 * world_size}" in raised.value.hint


def test_what_a_step_leaves_out_is_not_cut(cases, monkeypatch):
    """A sample costs time when it is looked at, once, and a part of a batch is the same samples."""
    cut = []
    patch = CaseStore.patch
    monkeypatch.setattr(CaseStore, "patch", lambda self, index, *rest: cut.append(index) or patch(self, index, *rest))
    batch = make_batches(cases, counts=(4, 4)).batch(3)
    assert not cut
    part = batch.part(slice(0, None, 2), slice(1, None, 2))
    images = part.unlabeled
    assert cut == list(batch.unlabeled_cases[1::2]) == list(part.unlabeled_cases)
    assert torch.equal(images, batch.unlabeled[1::2]) and len(cut) == 4
    assert torch.equal(part.perturb_labeled(), batch.perturb_labeled()[0::2])
    assert torch.equal(part.labels, batch.labels[0::2])
    assert len(cut) == 8, "no sample is cut twice"
