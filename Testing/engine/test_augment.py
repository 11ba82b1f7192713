"""Draw, then apply: image and label move together, the same draw gives the same patch, and whole voxels stay whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from semiseg.data.augment import AugmentOptions, PatchDraw, change_intensity, cut_patch, draw_intensity, draw_patch
from semiseg.data.randomness import device_generator, generator_for, seed_for
from semiseg.methods.presets import FAITHFUL_LA

ON_GRID = AugmentOptions(flip_axes=(0, 1, 2), quarter_turns=True, rotation_deg=0.0, scale=0.0)
STILL = AugmentOptions(flip_axes=(), rotation_deg=0.0, scale=0.0)

sides = st.integers(5, 14)
shapes = st.tuples(sides, sides, sides)
seeds = st.integers(0, 2**31)
quick = settings(max_examples=40, deadline=None)


def rng_of(seed):
    return np.random.default_rng(seed)


def positions(draw, patch):
    """(3, *patch) where in the case each voxel of the patch comes from, straight from the definition."""
    centered = np.indices(patch).reshape(3, -1) - (np.array(patch)[:, None] - 1) / 2
    if draw.bend is not None:
        nodes = np.meshgrid(*[np.linspace(0, side - 1, count) for side, count in zip(draw.bend.shape[1:], patch)], indexing="ij")
        centered = centered + np.stack([map_coordinates(shift, nodes, order=1) for shift in draw.bend]).reshape(3, -1)
    return (draw.center[:, None] + draw.matrix @ centered).reshape(3, *patch)


def cut(case, draw, patch):
    image, label = cut_patch(torch.from_numpy(case.astype(np.float32)), torch.from_numpy(case.astype(np.uint8)), draw, patch)
    return image.numpy(), label.numpy()


@quick
@given(shapes, shapes, seeds, st.floats(0, 180), st.floats(0, 0.9), st.sampled_from([0.0, 0.1, 0.3]))
def test_image_and_label_move_together(shape, patch, seed, rotation, scale, elastic):
    """Image and label both hold a voxel's number along an axis: wherever the patch looks into the case, they agree."""
    draw = draw_patch(rng_of(seed), shape, patch, AugmentOptions((0, 1, 2), True, rotation, scale, elastic=elastic))
    place = positions(draw, patch)
    inside = np.all([(p > 0.01) & (p < n - 1.01) for p, n in zip(place, shape)], axis=0)
    for axis in range(3):
        image, label = cut(np.indices(shape)[axis], draw, patch)
        np.testing.assert_allclose(image[inside], place[axis][inside], atol=2e-3)
        assert (np.abs(label - place[axis])[inside] <= 0.502).all()


@quick
@given(shapes, shapes, seeds)
def test_outside_the_case_the_image_has_its_edge_and_the_label_nothing(shape, patch, seed):
    draw = draw_patch(rng_of(seed), shape, patch, AugmentOptions((), False, 90.0, 0.5))
    place = positions(draw, patch)
    outside = np.any([(p < -0.51) | (p > n - 0.49) for p, n in zip(place, shape)], axis=0)
    image, label = cut(np.ones(shape), draw, patch)
    np.testing.assert_allclose(image, 1, atol=1e-5)
    assert (label[outside] == 0).all()
    inside = np.all([(p > -0.49) & (p < n - 0.51) for p, n in zip(place, shape)], axis=0)
    assert (label[inside] == 1).all()


@quick
@given(shapes, shapes, seeds, st.booleans())
def test_the_same_draw_gives_the_same_patch(shape, patch, seed, on_grid):
    options = ON_GRID if on_grid else AugmentOptions()
    draws = [draw_patch(rng_of(seed), shape, patch, options) for _ in range(2)]
    np.testing.assert_array_equal(draws[0].center, draws[1].center)
    np.testing.assert_array_equal(draws[0].matrix, draws[1].matrix)
    case = rng_of(seed).normal(size=shape)
    for first, second in zip(cut(case, draws[0], patch), cut(case, draws[1], patch)):
        np.testing.assert_array_equal(first, second)


def test_different_seeds_draw_differently():
    draws = [draw_patch(rng_of(seed), (20, 20, 20), (8, 8, 8), AugmentOptions()) for seed in range(8)]
    assert len({draw.center.tobytes() for draw in draws}) == len({draw.matrix.tobytes() for draw in draws}) == 8


@quick
@given(shapes, seeds, st.data())
def test_an_unturned_draw_copies_voxels(shape, seed, data):
    patch = tuple(data.draw(st.integers(1, side)) for side in shape)
    draw = draw_patch(rng_of(seed), shape, patch, STILL)
    corner = (draw.center - (np.array(patch) - 1) / 2).astype(int)
    case = rng_of(seed).normal(size=shape).astype(np.float32)
    box = tuple(slice(first, first + side) for first, side in zip(corner, patch))
    image, label = cut_patch(torch.from_numpy(case), torch.from_numpy((case > 0).astype(np.uint8)), draw, patch)
    assert case[box].shape == patch, "inside the case"
    np.testing.assert_array_equal(image.numpy(), case[box])
    np.testing.assert_array_equal(label.numpy(), (case > 0)[box])
    assert image.dtype == torch.float32 and label.dtype == torch.int64


@quick
@given(seeds, st.integers(3, 9), st.integers(3, 9))
def test_flips_and_quarter_turns_copy_voxels(seed, depth, side):
    """With a patch as large as the case, what comes out is the case flipped and turned, voxel by voxel."""
    shape = (depth, side, side)
    draw = draw_patch(rng_of(seed), shape, shape, ON_GRID)
    case = rng_of(seed).normal(size=shape).astype(np.float32)
    image, label = cut_patch(torch.from_numpy(case), torch.from_numpy((case > 0).astype(np.uint8)), draw, shape)
    allowed = [
        np.rot90(np.flip(case, axes), turns, (1, 2)) for turns in range(4) for axes in ((), (0,), (1,), (0, 1))
    ]  # the eight symmetries of a square, and both directions of the slices
    same = [np.array_equal(image.numpy(), one) for one in allowed]
    assert sum(same) == 1
    np.testing.assert_array_equal(label.numpy(), allowed[same.index(True)] > 0)


def test_every_flip_and_turn_occurs_and_no_other():
    found = set()
    for seed in range(300):
        matrix = draw_patch(rng_of(seed), (9, 9, 9), (5, 5, 5), AugmentOptions((1, 2), True, 0.0, 0.0)).matrix
        found.add(tuple(matrix.astype(int).ravel()))
    assert len(found) == 8
    assert all(matrix[0] == 1 for matrix in found), "the slice axis was not to be flipped"


def test_the_authors_patches_are_mirror_images_alone():
    """A quarter turn and exactly one flip, always: the four reflections of a square, the image as it was never among them."""
    found = set()
    for seed in range(200):
        matrix = draw_patch(rng_of(seed), (9, 9, 9), (5, 5, 5), AugmentOptions(**FAITHFUL_LA.augment)).matrix
        assert np.linalg.det(matrix) < 0 and matrix[0, 0] == 1
        found.add(tuple(matrix.astype(int).ravel()))
    assert len(found) == 4


def test_half_of_the_draws_flip_an_axis():
    options = AugmentOptions((1,), False, 0.0, 0.0)
    flipped = [draw_patch(rng_of(seed), (9, 9, 9), (5, 5, 5), options).matrix[1, 1] < 0 for seed in range(400)]
    assert 0.4 < np.mean(flipped) < 0.6


@quick
@given(seeds, shapes, shapes)
def test_without_interpolation_a_case_of_any_size_is_copied(seed, shape, patch):
    """Smaller cases than the patch, and sides that may not be turned into each other, too: only values of the case come out."""
    draw = draw_patch(rng_of(seed), shape, patch, ON_GRID)
    case = rng_of(seed).normal(size=shape).astype(np.float32)
    image, _ = cut_patch(torch.from_numpy(case), None, draw, patch)
    assert np.isin(image.numpy(), case).all()
    assert image.shape == patch
    place = positions(draw, patch)
    np.testing.assert_array_equal(place, np.rint(place))
    for axis, (p, n) in enumerate(zip(place, shape)):
        assert (p.min() >= 0 and p.max() < n) or patch[axis] > n, "unnecessarily outside"


def test_positions_are_even_over_the_case():
    starts = [int(draw_patch(rng_of(seed), (8, 8, 8), (6, 6, 6), STILL).center[0] - 2.5) for seed in range(600)]
    assert sorted(set(starts)) == [0, 1, 2]
    assert np.bincount(starts).min() > 140


@quick
@given(seeds, st.floats(0, 180), st.floats(0, 0.9))
def test_a_slice_stays_in_its_slice(seed, rotation, scale):
    options = AugmentOptions((0, 1, 2), True, rotation, scale)
    draw = draw_patch(rng_of(seed), (9, 20, 20), (1, 8, 8), options)
    place = positions(draw, (1, 8, 8))
    np.testing.assert_allclose(place[0], round(draw.center[0]), atol=1e-6)
    np.testing.assert_allclose(draw.matrix[0], [1, 0, 0], atol=1e-9)


def test_a_patch_without_a_label_is_only_an_image():
    draw = PatchDraw(np.array([2.0, 2.0, 2.0]), np.eye(3))
    assert cut_patch(torch.zeros(5, 5, 5), None, draw, (3, 3, 3))[1] is None


@pytest.mark.parametrize("values", [{"flip_axes": (3,)}, {"rotation_deg": -1.0}, {"scale": 1.0}, {"intensity": 3.0}])
def test_impossible_options_are_refused(values):
    with pytest.raises(ValueError, match="flip_axes|rotation_deg"):
        AugmentOptions(**values)


# Intensity


def images(seed=0, dims=3):
    return torch.randn(2, 1, *[8] * dims, generator=torch.Generator().manual_seed(seed))


def draws_of(seed, strength, count=2):
    return [draw_intensity(rng_of(seed * 100 + index), strength) for index in range(count)]


@pytest.mark.parametrize("dims", (2, 3))
@quick
@given(seed=st.integers(0, 10_000), strength=st.floats(0.1, 2.0))
def test_intensity_changes_are_finite_repeatable_and_leave_their_input_alone(dims, seed, strength):
    x = images(seed, dims)
    before = x.clone()
    draws = draws_of(seed, strength)
    first, second = change_intensity(x, draws), change_intensity(x, draws)
    assert torch.isfinite(first).all() and first.shape == x.shape
    assert torch.equal(first, second) and torch.equal(x, before)
    assert torch.equal(first[1:], change_intensity(x[1:], draws[1:])), "a sample's change depends on its draw alone"


def test_strength_zero_changes_nothing():
    x = images()
    for seed in range(20):
        torch.testing.assert_close(change_intensity(x, draws_of(seed, 0.0)), x, rtol=0, atol=0)


def test_most_draws_change_something():
    x = images()
    assert sum(not torch.equal(change_intensity(x, draws_of(seed, 1.0)), x) for seed in range(20)) == 20


def test_an_empty_image_stays_finite():
    for seed in range(20):
        assert torch.isfinite(change_intensity(torch.zeros(2, 1, 8, 8, 8), draws_of(seed, 1.0))).all()


def _draw(**changes):
    from dataclasses import replace

    return replace(draw_intensity(rng_of(0), 0.0), **changes)


def test_blur_keeps_a_flat_image_up_to_the_border():
    x = torch.full((1, 1, 8, 8, 8), 3.0)
    torch.testing.assert_close(change_intensity(x, [_draw(blur_voxels=1.0)]), x)
    sharp = images()[:1]
    assert change_intensity(sharp, [_draw(blur_voxels=1.0)]).std() < 0.7 * sharp.std()


@pytest.mark.parametrize("inverted", (False, True))
def test_the_contrast_curve_keeps_order_mean_and_spread(inverted):
    x = images()[:1]
    changed = change_intensity(x, [_draw(gamma=0.5, inverted=inverted)])
    assert not torch.allclose(changed, x)
    assert torch.equal(changed.flatten().argsort(), x.flatten().argsort())
    torch.testing.assert_close(torch.stack(torch.std_mean(changed)), torch.stack(torch.std_mean(x)), rtol=1e-4, atol=1e-4)


def test_the_curve_bends_the_end_it_is_said_to_bend():
    x = torch.linspace(0, 1, 512).view(1, 1, 8, 8, 8)

    def slopes(inverted):
        steps = change_intensity(x, [_draw(gamma=0.5, inverted=inverted)]).flatten().diff()
        return steps[0] / steps[-1]

    assert slopes(False) < 0.1 and slopes(True) > 10


def test_gain_offset_and_noise_have_their_stated_size():
    x = images()[:1]
    torch.testing.assert_close(change_intensity(x, [_draw(log_gain=0.5, offset=0.25)]), x * np.exp(0.5) + 0.25)
    noise = change_intensity(x, [_draw(noise=0.2)]) - x
    assert 0.17 < noise.std() < 0.23
    other = change_intensity(x, [_draw(noise=0.2, seed=1)]) - x
    assert not torch.equal(noise, other)


# Contrast by a random network (GIN)


@pytest.mark.parametrize("dims", (2, 3))
@quick
@given(seed=seeds)
def test_a_random_network_keeps_mean_and_spread_and_depends_on_its_seed_alone(dims, seed):
    x = 3 + 2 * images(seed, dims)[:1]
    changed = change_intensity(x, [_draw(gin=True, seed=seed)])
    assert changed.shape == x.shape and torch.isfinite(changed).all()
    torch.testing.assert_close(torch.stack(torch.std_mean(changed)), torch.stack(torch.std_mean(x)), rtol=1e-3, atol=1e-3)
    assert torch.equal(changed, change_intensity(x, [_draw(gin=True, seed=seed)]))
    assert not torch.equal(changed, change_intensity(x, [_draw(gin=True, seed=seed + 1)]))


def test_random_networks_turn_contrast_around_and_see_no_more_than_four_voxels_far():
    """What a curve that keeps order cannot do, and what labels need: nothing moves."""
    ramp = torch.linspace(-1, 1, 16).view(1, 1, 16, 1, 1).expand(1, 1, 16, 16, 16).contiguous()
    signs = [torch.corrcoef(torch.stack([change_intensity(ramp, [_draw(gin=True, seed=seed)]).flatten(), ramp.flatten()]))[0, 1] for seed in range(60)]
    assert 0.05 < np.mean([float(sign) < -0.5 for sign in signs]) < 0.5
    spot = torch.zeros(1, 1, 17, 17, 17)
    spot[..., 8, 8, 8] = 1
    for seed in range(20):
        changed = change_intensity(spot, [_draw(gin=True, seed=seed)])
        far = changed[..., :4, :, :]
        assert float(far.max() - far.min()) < 1e-4 < float(changed.max() - changed.min())


def test_a_flat_image_stays_flat_under_a_random_network():
    for seed in range(20):
        changed = change_intensity(torch.full((1, 1, 6, 6, 6), 2.0), [_draw(gin=True, seed=seed)])
        torch.testing.assert_close(changed, torch.full((1, 1, 6, 6, 6), 2.0), rtol=0, atol=1e-3)


def test_as_many_samples_pass_a_random_network_as_asked():
    share = np.mean([draw_intensity(rng_of(seed), 1.0, 0.7).gin for seed in range(600)])
    assert 0.63 < share < 0.77
    assert not any(draw_intensity(rng_of(seed), 1.0).gin for seed in range(100))
    with pytest.raises(ValueError, match="gin is a probability"):
        AugmentOptions(gin=1.5)


# Random numbers by purpose


def test_every_purpose_sample_iteration_and_seed_has_numbers_of_its_own():
    asked = [(0, 0, 0, "a"), (1, 0, 0, "a"), (0, 1, 0, "a"), (0, 0, 1, "a"), (0, 0, 0, "b")]
    assert len({seed_for(*one) for one in asked}) == 5
    assert seed_for(*asked[0]) == seed_for(*asked[0]) < 2**63
    assert generator_for(*asked[0]).random() == generator_for(*asked[0]).random()
    numbers = [torch.randn(3, generator=device_generator("cpu", 5)) for _ in range(2)]
    assert torch.equal(*numbers)


def test_an_elastic_patch_reaches_as_far_as_it_says():
    """So that a case kept outside the device's memory sends enough of itself."""
    patch = (12, 10, 8)
    for seed in range(50):
        draw = draw_patch(rng_of(seed), (40, 40, 40), patch, AugmentOptions(elastic=0.3))
        span = np.abs(positions(draw, patch) - draw.center[:, None, None, None]).max((1, 2, 3))
        assert (span <= draw.reach(patch) + 1e-9).all()


def test_an_elastic_slice_stays_in_its_plane():
    draw = draw_patch(rng_of(3), (9, 20, 20), (1, 8, 8), AugmentOptions((1, 2), False, 20.0, 0.1, elastic=0.3))
    assert (draw.bend[0] == 0).all()
    assert np.ptp(draw.bend[1:], axis=(2, 3)).min() > 0
    assert np.ptp(draw.bend, axis=1).max() == 0  # the same for every "slice" of nodes


@pytest.mark.parametrize("elastic", (-0.1, 0.6))
def test_an_elastic_strength_that_folds_is_refused(elastic):
    with pytest.raises(ValueError, match="elastic is 0 to 0.5"):
        AugmentOptions(elastic=elastic)
