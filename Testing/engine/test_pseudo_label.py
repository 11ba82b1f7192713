"""Pseudo-labels: thresholds, and largest components on host and device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from semiseg.methods import pseudo_label
from semiseg.methods.pseudo_label import hard_labels, largest_component, pseudo_labels


def test_two_class_threshold_includes_its_own_value_and_more_classes_take_the_largest():
    logits = torch.tensor([[[0.0, 0.0, 1.0], [0.0, -0.1, 2.0]]])
    assert hard_labels(logits).tolist() == [[1, 0, 1]]
    assert hard_labels(logits, threshold=0.7).tolist() == [[0, 0, 1]]
    three = torch.tensor([[[0.0, 5.0], [1.0, 2.0], [0.5, 7.0]]], requires_grad=True)
    assert hard_labels(three).tolist() == [[1, 2]] and not hard_labels(three).requires_grad


def _corner_pair(*offset: int) -> torch.Tensor:
    """Four voxels in a row and a single one that touches their end by a face, an edge or a corner."""
    labels = torch.zeros(1, 8, 8, 8, dtype=torch.int64)
    labels[0, 2:6, 3, 3] = 1
    labels[0, 5 + offset[0], 3 + offset[1], 3 + offset[2]] = 1
    return labels


@pytest.mark.parametrize(
    ("offset", "touching"),
    [((1, 0, 0), {6, 18, 26}), ((1, 1, 0), {18, 26}), ((0, 1, 1), {18, 26}), ((1, 1, 1), {26}), ((2, 0, 0), set())],
)
@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_connectivity_counts_the_named_neighbors(offset, touching, connectivity):
    labels = _corner_pair(*offset)
    kept = largest_component(labels, 2, connectivity)
    assert kept.sum() == (5 if connectivity in touching else 4)


def test_slices_are_reduced_one_by_one_with_eight_neighbors():
    labels = torch.zeros(1, 2, 6, 6, dtype=torch.int64)
    labels[0, 0, 0, 0:3] = 1  # larger within its slice
    labels[0, 0, 4, 4] = 1
    labels[0, 1, 4:6, 4] = 1
    labels[0, 1, 3, 3] = 1  # touches by a corner
    kept = largest_component(labels, 2, "slices")
    assert kept[0, 0, 4, 4] == 0 and kept.sum() == 6
    flat = largest_component(labels[0], 2)
    assert torch.equal(flat, kept[0])


def test_each_class_keeps_its_own_and_empty_samples_stay_empty():
    labels = torch.zeros(3, 4, 4, 4, dtype=torch.uint8)
    labels[0, 0, 0, :3], labels[0, 3, 3, 3] = 1, 1
    labels[0, 1, 0, :2], labels[0, 3, 0, 0] = 2, 2
    labels[2, :, 1, 1] = 2
    kept = largest_component(labels, 3)
    assert kept.dtype == torch.uint8
    assert (kept[0] == 1).sum() == 3 and (kept[0] == 2).sum() == 2
    assert (kept[1] == 0).all() and torch.equal(kept[2], labels[2])


def test_parts_above_a_share_of_the_largest_are_kept():
    labels = torch.zeros(1, 3, 3, 20, dtype=torch.int64)
    labels[0, 1, 1, :10], labels[0, 1, 1, 12:15], labels[0, 1, 1, 17] = 1, 1, 1
    assert largest_component(labels, 2, keep_share=0.2).sum() == 13
    assert largest_component(labels, 2).sum() == 10


def test_unknown_connectivity_is_refused():
    with pytest.raises(ValueError, match="connectivity"):
        largest_component(torch.zeros(1, 2, 2, 2, dtype=torch.int64), 2, 8)


def _blobs(seed: int, smooth: float, shape: tuple[int, ...] = (24, 30, 28)) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(shape)
    noise = ndimage.gaussian_filter(noise, smooth) if smooth else noise
    return noise > np.quantile(noise, 0.8)


def _spiral() -> np.ndarray:
    """One long thin path: the hardest shape for labels that spread."""
    member = np.zeros((1, 31, 31), bool)
    row, column, length, step = 15, 15, 1, 0
    while 0 <= row < 31 and 0 <= column < 31:
        for _ in range(2):
            for _ in range(length):
                if not (0 <= row < 31 and 0 <= column < 31):
                    return member
                member[0, row, column] = True
                row, column = row + (0, 1, 0, -1)[step % 4], column + (1, 0, -1, 0)[step % 4]
            step += 1
        length += 2
    return member


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("smooth", [0.0, 0.7, 1.5, 3.0])
@pytest.mark.parametrize("keep_share", [1.0, 0.2])
def test_device_algorithm_agrees_with_scipy(connectivity, smooth, keep_share):
    member = np.stack([_blobs(seed, smooth) for seed in range(3)] + [np.zeros((24, 30, 28), bool)])
    expected = np.stack([pseudo_label._largest_on_host(sample, connectivity, keep_share) for sample in member])
    found = pseudo_label._largest_on_device(torch.from_numpy(member), connectivity, keep_share)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_device_algorithm_joins_a_long_spiral():
    member = _spiral()
    assert member.sum() > 200 and ndimage.label(member, np.ones((3, 3, 3)))[1] == 1
    found = pseudo_label._largest_on_device(torch.from_numpy(member)[None], 6, 1.0)
    assert torch.equal(found[0], torch.from_numpy(member))


def test_removed_foreground_is_reported():
    logits = torch.full((1, 2, 4, 4, 4), -3.0)
    logits[:, 0] = 0.0
    logits[0, 1, 0, 0, :3], logits[0, 1, 3, 3, 3] = 3.0, 3.0
    labels, unchanged = pseudo_labels(logits)
    assert labels.sum() == 3 and (~unchanged).nonzero().tolist() == [[0, 3, 3, 3]]
