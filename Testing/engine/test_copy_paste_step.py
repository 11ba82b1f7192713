"""One self-training step of BCP, looked at from inside: what is mixed with what, and which voxels count as what."""

from __future__ import annotations

import pytest
import torch
from training_cases import UNMOVED, MemoryCases, last_stage, make_batches, make_method, steps

from semiseg.methods.copy_paste import box_mask, mix
from semiseg.methods.pseudo_label import pseudo_labels
from semiseg.networks.output import NetworkOutput

MIXED = {"mixing": 1.0, "labels_from": "patches", "perturb": False}


@pytest.fixture(scope="module")
def batch():
    return make_batches(MemoryCases(), counts=(4, 4), augment=UNMOVED).batch(0)


@pytest.fixture
def step(batch):
    """A step under a teacher that sees speckles, so that the component filter has work to do."""
    method, seen = make_method("bcp", **MIXED).train(), []
    method.core.teacher.forward = _speckles
    method.core.student.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    found = method.core.self_train(batch)
    return method, found, seen[0]


def _speckles(images: torch.Tensor) -> NetworkOutput:
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(5))
    return NetworkOutput(torch.cat([torch.zeros_like(noise), 20 * (noise - 0.95)], dim=1), {})


def _frame(batch) -> torch.Tensor:
    """The box of this step: the first draw of the batch's generator decides whether to mix."""
    generator = torch.Generator().manual_seed(batch.seed)
    torch.rand((), generator=generator)
    return box_mask(tuple(batch.labeled.shape[2:]), generator)


def test_labeled_frames_hold_unlabeled_cores_and_the_other_way_round(step, batch):
    """Equations 1 and 2: X_in from the even samples of both streams, X_out from the odd ones, one box for all."""
    _, found, images = step
    frame, pseudo = _frame(batch), pseudo_labels(_speckles(batch.unlabeled).logits)[0]
    inward = mix(batch.labeled[0::2], batch.unlabeled[0::2], frame)
    outward = mix(batch.unlabeled[1::2], batch.labeled[1::2], frame)
    assert torch.equal(images, torch.cat([inward, outward]))
    labels = torch.cat([mix(batch.labels[0::2], pseudo[0::2], frame), mix(pseudo[1::2], batch.labels[1::2], frame)])
    assert torch.equal(found.labels, labels)
    assert 0 < (~frame).sum() < frame.numel()


def test_the_truth_of_a_pair_of_mixtures_is_one_whole_labeled_patch(step, batch):
    """The frame of one and the core of the other: every voxel of a patch once, so that TSA sees labeled anatomy whole."""
    _, found, _ = step
    inward, outward = found.is_truth[:2], found.is_truth[2:]
    assert (inward ^ outward).all()
    assert found.is_truth.sum() == batch.labels[0::2].numel()


def test_foreground_that_the_component_filter_removed_is_neither_truth_nor_pseudo_label(step):
    """It is background to the loss, and nothing that statistics of the unlabeled features may learn from."""
    _, found, _ = step
    frame = found.is_truth[0]
    removed = torch.cat([~found.untouched[0::2] & ~frame, ~found.untouched[1::2] & frame])
    assert removed[:2].any() and removed[2:].any()
    assert torch.equal(found.is_pseudo, ~found.is_truth & ~removed)
    assert (found.labels[removed] == 0).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_clustering_loss_stays_a_small_part_of_the_gradient(seed):
    """As a sum over raw products it would swamp the segmentation at the published weight of 0.01; as a bounded mean it cannot."""
    batches = make_batches(MemoryCases())
    method = make_method("graphcl", seed=seed)
    steps(method, batches, 3)
    student = [parameter for parameter in method.core.student.parameters() if parameter.requires_grad]

    def norm(*names: str) -> float:
        torch.manual_seed(0)
        losses = method.train()(batches.batch(7), last_stage(method))
        slopes = torch.autograd.grad(sum(losses[name] for name in names), student, allow_unused=True)
        return float(torch.stack([slope.norm() for slope in slopes if slope is not None]).norm())

    segmentation, clustering = norm("in", "out"), norm("clustering")
    assert 0 < clustering < 0.1 * segmentation
