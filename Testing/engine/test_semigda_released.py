"""What SemiGDA's released code does beside the paper, here as options: boxes swapped between images, and drawn latents."""

from __future__ import annotations

import pytest
import torch
from tiny_batches import at, tiny_batch, tiny_task

from semiseg.losses.consistency import gaussian_rampup
from semiseg.losses.latent import draw_latent, encode_labels, soft_dice_loss
from semiseg.methods.copy_paste import box_mask
from semiseg.methods.semigda import SEGMENT, SemiGDA, _Branches


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _method(**options) -> SemiGDA:
    torch.manual_seed(0)
    return SemiGDA(tiny_task(), SemiGDA.Options(**options))


def _random_logits(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(3 * torch.randn(4, 2, 16, 16, 16, generator=_generator(seed + branch)) for branch in range(2))


def test_swapped_boxes_hold_the_truth_where_the_image_is_labeled_and_the_other_branch_elsewhere():
    method, batch = _method(copy_paste=True), tiny_batch()
    images = torch.cat([batch.labeled, batch.unlabeled])
    said, found = _random_logits(10), _random_logits(20)
    seen = []
    method._branches = lambda mixed, _, decodes: seen.append((mixed, decodes)) or _Branches(None, None, found)
    loss = method._copy_paste(images, _Branches(None, None, said), encode_labels(batch.labels, 2), seed=7)
    frame = box_mask((16, 16, 16), _generator(7))
    assert 0.2 < (~frame).float().mean() < 0.4, "two thirds of every side"
    inward, outward = torch.where(frame, batch.labeled, batch.unlabeled), torch.where(frame, batch.unlabeled, batch.labeled)
    assert len(seen) == 1 and torch.equal(seen[0][0], torch.cat([inward, outward])) and seen[0][1]
    truth, expected = batch.labels[:, None].float(), 0.0
    for logits, other in zip(found, reversed(said), strict=True):
        taught = other[2:].softmax(1)[:, 1:]
        target = torch.cat([torch.where(frame, truth, taught), torch.where(frame, taught, truth)])
        expected += soft_dice_loss(logits.softmax(1)[:, 1:], target)
    torch.testing.assert_close(loss, expected)


def test_swapped_boxes_count_from_a_third_of_the_last_stage_on_and_by_its_ramp():
    method, batch = _method(copy_paste=True), tiny_batch()
    terms = {fraction: method(batch, at(SEGMENT, fraction)) for fraction in (0.33, 0.4, 1.0)}
    assert "mask_copy_paste" not in terms[0.33]
    early, late = terms[0.4]["mask_copy_paste"], terms[1.0]["mask_copy_paste"]
    torch.testing.assert_close(early, gaussian_rampup(0.4) * late)
    assert 0.01 < late < 0.2 and gaussian_rampup(1.0) == 1  # at most one of each branch, times 0.1


@pytest.mark.parametrize(("probability", "fewest", "most"), [(0.0, 0, 0), (0.5, 6, 18), (1.0, 24, 24)])
def test_latents_are_drawn_in_the_stated_share_of_the_steps(probability, fewest, most):
    """Of the whole batch or of none of it."""
    method, images = _method(latent_noise=probability), tiny_batch().labeled
    network, seen = method.network, []
    network.mapping.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        encoding = network.encoder(network.as_code(images))
        for seed in range(24):
            method._branches(images, _generator(seed), decodes=False)
    mean = network.standardize(encoding.mean)
    drawn = [network.standardize(draw_latent(encoding.mean, encoding.log_variance, _generator(seed))) for seed in range(24)]
    assert (drawn[0] - mean).abs().mean() > 0.1
    is_drawn = [torch.equal(latent, one) for latent, one in zip(seen, drawn, strict=True)]
    assert all(one or torch.equal(latent, mean) for one, latent in zip(is_drawn, seen, strict=True))
    assert fewest <= sum(is_drawn) <= most
