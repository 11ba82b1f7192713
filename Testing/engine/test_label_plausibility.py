"""Pseudo-labels of whole cases that cannot be right are not learned from, and the run says of which cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import CPU, PATCH, MemoryCases, last_stage, make_batches, make_method

from semiseg.data.batches import REFUSED, Batch, CaseStore, Stream
from semiseg.errors import InputError
from semiseg.training import case_labels
from semiseg.training.case_labels import CaseLabels
from semiseg.training.label_plausibility import implausible_cases, words_for_refused


def test_empty_and_far_too_small_or_large_labels_are_refused():
    volumes = {4: 0.0, 5: 19.0, 6: 21.0, 7: 100.0, 8: 490.0, 9: 510.0}
    assert implausible_cases(volumes, [90.0, 100.0, 300.0]) == [4, 5, 9]
    assert implausible_cases({4: 0.0, 5: 1.0}, [0.0, 0.0]) == [], "empty masks say nothing of the size"


def test_many_names_are_cut_short():
    assert words_for_refused(["a", "b"], 9).endswith("until the next round: a, b.")
    assert words_for_refused(list("abcdefg"), 9).endswith(": a, b, c, d, e ….")


def test_a_case_in_which_nothing_was_found_is_left_out_of_the_round(monkeypatch):
    cases, told = MemoryCases(), []
    empty = cases.shape(3)

    def maps_of(network, image, patch_size):
        label = next(label for found, label in cases._cases if found.shape == image.shape and np.array_equal(found, image))
        return torch.from_numpy(np.zeros(empty) if image is cases.arrays(3)[0] else 0.9 * (label > 0)).float()[None]

    monkeypatch.setattr(case_labels, "whole_case_maps", maps_of)
    store = CaseStore(cases, [0, 1, 2, 3], CPU, 10**9)
    labels = CaseLabels(cases, store, [2, 3], PATCH, None, lambda kind, **values: told.append((kind, values)))
    assert labels(make_method("bcp"), 4)
    assert (store._pseudo[3] == REFUSED).all() and set(np.unique(store._pseudo[2])) == {0, 1}
    (warning,) = [values["message"] for kind, values in told if kind == "warning"]
    assert warning.startswith("The labels found in 1 of 2 unlabeled cases are empty") and warning.endswith(": case 3.")
    numbers = {values["name"]: values["value"] for kind, values in told if kind == "scalar"}
    assert numbers["pseudo_label_refused"] == 0.5
    assert numbers["pseudo_label_share"] == pytest.approx(np.mean([(cases.arrays(2)[1] > 0).mean(), 0.0]))


@pytest.mark.parametrize("mixing", [0.0, 1.0])
def test_nothing_is_learned_from_refused_labels(mixing):
    """Neither by the loss nor by the statistics of TSA."""
    method = make_method("transmedseg", mixing=mixing, tsa_weight=0.0, clustering_weight=0.0)
    batch = make_batches(MemoryCases()).batch(0)
    refused = torch.full_like(batch.labels, REFUSED)
    found = []
    for labels in (refused, torch.ones_like(refused)):
        stream = Stream.of(batch.unlabeled, labels, batch.unlabeled_stream.draws, list(batch.unlabeled_cases))
        step = method.core.self_train(Batch(batch.labeled_stream, stream, batch.seed))
        found.append(step)
    assert not found[0].is_pseudo.any() and found[1].is_pseudo.any()
    if mixing == 0:
        gradients = torch.autograd.grad(found[0].terms["out"], list(method.core.student.parameters()), allow_unused=True)
        assert all(gradient is None or not gradient.any() for gradient in gradients)
        assert float(found[1].terms["out"].detach()) > 0
    else:
        truth = found[0].is_truth
        per_voxel = torch.autograd.grad(sum(found[0].terms.values()), found[0].output.logits)[0].abs().sum(1)
        assert per_voxel[truth].any() and not per_voxel[~truth].any()


def test_mixing_needs_as_many_labeled_as_unlabeled_patches():
    method = make_method("bcp", mixing=1.0)
    batch = make_batches(MemoryCases(), counts=(2, 4)).batch(0)
    with pytest.raises(InputError, match="a step has 2 and 4 of them"):
        method(batch, last_stage(method))
