"""Pseudo-labels are as large as the labeled structures, whatever the network finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import CPU, PATCH, MemoryCases, make_method

from semiseg.data.batches import CaseStore
from semiseg.training import case_labels
from semiseg.training.case_labels import CaseLabels
from semiseg.training.volume_match import matching_threshold


@pytest.mark.parametrize("target", [20.0, 50.0, 70.0])
def test_the_threshold_gives_the_volume(target):
    assert 100 * (1 - matching_threshold(lambda at: 100 * (1 - at), target)) == pytest.approx(target, rel=0.05)


def test_a_threshold_that_fits_stays():
    assert matching_threshold(lambda at: 100.0, 99.0) == 0.5


@pytest.mark.parametrize(("volume", "end"), [(1e6, 0.97), (1.0, 0.25)])
def test_what_cannot_fit_ends_at_the_limit(volume, end):
    """Ever larger or smaller volumes: the last try is the closest to the limit."""
    assert matching_threshold(lambda at: volume * (1 - at), 100.0) == pytest.approx(end, abs=0.02)


def soft_balls(cases, scale):
    """Maps of a network that finds balls of the right place and ``scale`` times the radius, unsure at their edge."""

    def maps_of(network, image, patch_size):
        label = next(label for known, label in (cases.arrays(index) for index in range(6)) if known is image)
        inside = np.argwhere(label > 0)
        distance = np.sqrt(((np.indices(label.shape).reshape(3, -1).T - inside.mean(0)) ** 2).sum(1)).reshape(label.shape)
        radius = scale * (3 * len(inside) / (4 * np.pi)) ** (1 / 3)
        return torch.from_numpy(1 / (1 + np.exp((distance - radius) / 1.5))).float()[None]

    return maps_of


@pytest.mark.parametrize("scale", [1.3, 0.8])
@pytest.mark.parametrize("matches", [True, False])
def test_labels_have_the_volume_of_the_labeled_structure(scale, matches, monkeypatch):
    cases, told = MemoryCases(), []
    monkeypatch.setattr(case_labels, "whole_case_maps", soft_balls(cases, scale))
    method = make_method("transmedseg", match_volume=matches)
    store = CaseStore(cases, [0, 1, 2, 3], CPU, 10**9)
    labels = CaseLabels(cases, store, [2, 3], PATCH, None, lambda kind, **values: told.append(values))
    assert labels(method, 4)
    found = np.mean([np.count_nonzero(store._pseudo[index]) for index in (2, 3)])
    drawn = np.mean([np.count_nonzero(cases.arrays(index)[1]) for index in (0, 1)])
    thresholds = [values["value"] for values in told if values.get("name") == "pseudo_label_threshold"]
    if matches:
        assert found == pytest.approx(drawn, rel=0.1)
        assert len(thresholds) == 1 and (thresholds[0] > 0.5) == (scale > 1)
    else:
        assert abs(found / drawn - 1) > 0.3 and not thresholds


def test_several_structures_have_no_single_threshold():
    assert not make_method("transmedseg", num_classes=3, match_volume=True).matches_volume
