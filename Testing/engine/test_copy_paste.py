"""Copy-paste: the box, the mixture and the region-wise loss in the forms of the authors' code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from semiseg.methods.copy_paste import box_mask, copy_paste_loss, mix, region_dice


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((112, 112, 80), (74, 74, 53)),
        ((256, 256), (170, 170)),
        ((96, 96, 96), (64, 64, 64)),
        ((48, 64, 64), (32, 42, 42)),
    ],
)
def test_box_has_the_published_size(shape, box):
    for seed in range(5):
        frame = box_mask(shape, _generator(seed))
        where = (~frame).nonzero()
        sides = where.amax(0) - where.amin(0) + 1
        assert tuple(sides.tolist()) == box
        assert (~frame).sum() == torch.tensor(box).prod()  # solid


def test_corner_is_uniform_and_seeded():
    generator = _generator(1)
    corners = [(~box_mask((9, 12), generator)).nonzero().amin(0).tolist() for _ in range(600)]
    assert {row for row, _ in corners} == {0, 1, 2} and {column for _, column in corners} == {0, 1, 2, 3}
    counts = torch.bincount(torch.tensor([column for _, column in corners]))
    assert (counts > 110).all()
    assert torch.equal(box_mask((9, 12), _generator(3)), box_mask((9, 12), _generator(3)))


def test_tiny_maps_have_a_box_too():
    assert box_mask((1, 3, 3), _generator()).all()  # floor(2/3) = 0: a box without a voxel
    assert (~box_mask((2, 2), _generator())).sum() == 1


def test_mix_takes_the_box_from_the_second():
    frame = box_mask((6, 6), _generator())
    image = mix(torch.zeros(2, 1, 6, 6), torch.ones(2, 1, 6, 6), frame)
    assert torch.equal(image[0, 0] == 0, frame) and torch.equal(image[1, 0] == 1, ~frame)
    labels = mix(torch.zeros(6, 6, dtype=torch.int64), torch.full((6, 6), 3), frame)
    assert labels.dtype == torch.int64 and labels.sum() == 3 * (~frame).sum()


def _case(num_classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = _generator(seed)
    logits = torch.randn(2, num_classes, 6, 5, 6, dtype=torch.float64, generator=generator)
    return logits, torch.randint(num_classes, (2, 6, 5, 6), generator=generator), box_mask((6, 5, 6), generator)


def _reference(logits, labels, region, form):
    """Region-wise Dice and cross-entropy written with one-hot labels, straight from the formulas."""
    p, m = logits.softmax(1), region.double()
    y = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).double()
    space = (2, 3, 4)
    if form == "la":
        dice = (2 * (m * p * y).sum(space) + 1e-5) / ((m * (p + y)).sum(space) + 1e-5)
    else:
        everything = (0, 2, 3, 4)
        squares = (m * p**2).sum(everything) + (m * y**2).sum(everything)
        dice = (2 * (m * p * y).sum(everything) + 1e-10) / (squares + 1e-10)
    ce = (m * F.cross_entropy(logits, labels, reduction="none")).sum() / (m.expand(labels.shape).sum() + 1e-16)
    return 1 - dice.mean(), ce


@pytest.mark.parametrize("form", ["la", "acdc"])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_loss_matches_the_formulas(form, num_classes):
    logits, labels, frame = _case(num_classes)
    outer, inner = _reference(logits, labels, frame, form), _reference(logits, labels, ~frame, form)
    expected = 0.5 * (sum(outer) + 0.5 * sum(inner))
    torch.testing.assert_close(copy_paste_loss(logits, labels, frame, 1.0, 0.5, form=form), expected)
    torch.testing.assert_close(
        region_dice(logits.softmax(1), labels, frame.expand(2, 6, 5, 6).double(), form), outer[0]
    )


def test_each_region_is_normalized_by_its_own_size():
    logits = torch.zeros(1, 2, 12, 12)
    labels, frame = torch.zeros(1, 12, 12, dtype=torch.int64), box_mask((12, 12), _generator())
    logits.requires_grad_()
    copy_paste_loss(logits, labels, frame, 1.0, 1.0).backward()
    gradient = logits.grad[0, 0].abs()
    assert (gradient[~frame].mean() / gradient[frame].mean()).item() == pytest.approx(80 / 64, rel=0.05)


def test_weight_zero_on_a_region_stops_its_gradient():
    logits, labels, frame = _case(3)
    logits.requires_grad_()
    copy_paste_loss(logits, labels, frame, 1.0, 0.0).backward()
    assert (logits.grad[:, :, ~frame] == 0).all() and (logits.grad[:, :, frame] != 0).any()


def test_voxel_weights_leave_a_refused_sample_out():
    logits, labels, frame = _case(2)
    logits.requires_grad_()
    weight = torch.tensor([1.0, 0.0])[:, None, None, None]
    loss = copy_paste_loss(logits, labels, frame, 0.5, 1.0, weight_BX=weight, form="present")
    loss.backward()
    assert (logits.grad[1] == 0).all() and (logits.grad[0] != 0).any()
    torch.testing.assert_close(loss, copy_paste_loss(logits[:1], labels[:1], frame, 0.5, 1.0, form="present"))


def test_a_class_missing_everywhere_is_perfect_in_the_published_form_and_skipped_in_ours():
    labels = torch.zeros(1, 4, 4, 4, dtype=torch.int64)
    logits = torch.zeros(1, 3, 4, 4, 4)
    logits[:, 0], logits[:, 2] = 2.0, -60.0  # class 1 is predicted a little, class 2 never
    whole = torch.ones(1, 4, 4, 4)
    p = logits.softmax(1)
    background = 2 * p[:, 0].sum() / (p[:, 0].sum() + 64)
    assert region_dice(p, labels, whole, "la").item() == pytest.approx(1 - (background.item() + 0 + 1) / 3, abs=1e-5)
    assert region_dice(p, labels, whole, "present").item() == pytest.approx(1 - background.item() / 2, abs=1e-5)


@pytest.mark.parametrize("form", ["la", "acdc", "present"])
def test_perfect_prediction_costs_nothing_and_empty_regions_stay_finite(form):
    labels = torch.zeros(1, 6, 6, 6, dtype=torch.int64)
    labels[:, 2:5, 2:5, 2:5] = 1
    logits = (F.one_hot(labels, 2).movedim(-1, 1).float() * 2 - 1) * 60
    frame = box_mask((6, 6, 6), _generator())
    assert copy_paste_loss(logits, labels, frame, 1.0, 0.5, form=form).item() == pytest.approx(0, abs=1e-4)
    logits = logits.clone().requires_grad_()
    loss = copy_paste_loss(-logits, labels, torch.ones(6, 6, 6, dtype=torch.bool), 1.0, 1.0, form=form)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_loss_is_worked_out_in_fp32_and_unknown_forms_are_refused():
    logits, labels, frame = _case(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = copy_paste_loss(logits.bfloat16(), labels, frame, 1.0, 0.5)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), copy_paste_loss(logits, labels, frame, 1.0, 0.5), rtol=2e-2, atol=0)
    with pytest.raises(ValueError, match="form"):
        copy_paste_loss(logits, labels, frame, 1.0, 0.5, form="dice")
