"""What a network sees, and that its answer comes back to the voxels it was asked about."""

from __future__ import annotations

import json

import builders
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg.data.geometry import Geometry
from semiseg.data.preprocess import Preprocessing, Restore
from semiseg.data.resample import resample, resample_labels, taps
from semiseg.data.volume import Volume
from semiseg.errors import InputError


def linear_ramp(grid: Geometry) -> np.ndarray:
    """(slice, row, column) float32 that grows linearly in the patient: 1 a mm to the left, 2 back, 3 to the head."""
    index = np.stack(np.meshgrid(*[np.arange(size) for size in grid.shape], indexing="ij"), axis=-1)
    return (grid.position_mm(index) @ np.array([1.0, 2.0, 3.0])).astype(np.float32)


def interior(array: np.ndarray, margin: int = 2) -> np.ndarray:
    return array[..., margin:-margin, margin:-margin, margin:-margin]


def test_factor_two_is_the_mean_of_eight_voxels():
    array = np.random.default_rng(0).normal(size=(6, 8, 10)).astype(np.float32)
    halved, _ = Preprocessing(spacing_mm=(2, 2, 2), intensity="none").apply(
        Volume(array, builders.geometry(array.shape, (1.0, 1.0, 1.0)))
    )
    expected = array.reshape(3, 2, 4, 2, 5, 2).mean((1, 3, 5))
    assert halved.shape == (3, 4, 5)
    assert np.abs(halved - expected).max() < 1e-6


def test_upsampling_is_trilinear_with_half_pixel_centers():
    array = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 4, 5, 6)).astype(np.float32))
    for shape in ((8, 10, 12), (7, 5, 9), (4, 5, 17)):
        expected = torch.nn.functional.interpolate(array, shape, mode="trilinear", align_corners=False)
        assert torch.allclose(resample(array, shape), expected, atol=1e-5)


def test_downsampling_by_a_fraction_covers_every_voxel_equally():
    for size_in, size_out in ((7, 3), (141, 71), (10, 9), (5, 1)):
        index, weight = taps(size_in, size_out)
        assert np.allclose(weight.sum(axis=1), 1.0)
        total = np.bincount(index.ravel(), weights=weight.ravel(), minlength=size_in)
        assert np.allclose(total, size_out / size_in)


@given(st.tuples(*[st.integers(1, 12)] * 3), st.tuples(*[st.integers(1, 12)] * 3))
@settings(max_examples=40, deadline=None)
def test_a_constant_stays_constant_for_any_sizes(shape, other):
    assert torch.allclose(resample(torch.full(shape, 3.5), other), torch.full(other, 3.5))


@pytest.mark.parametrize("direction", builders.all_orientations())
def test_positions_survive_turning_resampling_and_the_way_back(direction):
    grid = Geometry.from_parts((12, 14, 16), (2.0, 2.0, 2.0), (5.0, -7.0, 11.0), direction)
    volume = Volume(linear_ramp(grid), grid)
    prepared, restore = Preprocessing(spacing_mm=(1.0, 4.0, 2.0), intensity="none").apply(volume)
    assert np.allclose(restore.prepared.spacing_mm, (1.0, 4.0, 2.0))
    assert np.abs(interior(prepared, 1) - interior(linear_ramp(restore.prepared), 1)).max() < 1e-3
    back = restore.undo(prepared)
    assert back.shape == grid.shape
    assert np.abs(interior(back) - interior(volume.array)).max() < 1e-3


@given(st.tuples(*[st.floats(-180, 180)] * 3), st.tuples(*[st.floats(0.6, 3.0)] * 3))
@settings(max_examples=25, deadline=None)
def test_any_oblique_grid_comes_back(angles, spacing):
    grid = builders.geometry((11, 12, 13), (2.0, 1.4, 1.0), angles)
    prepared, restore = Preprocessing(spacing_mm=spacing, intensity="none").apply(Volume(linear_ramp(grid), grid))
    size_mm = np.array(grid.shape) * grid.spacing_mm
    prepared_mm = np.array(restore.shape) * restore.prepared.spacing_mm
    assert np.allclose(sorted(size_mm), sorted(prepared_mm))  # the outer faces stay
    # A box that ends within a voxel is off by at most an eighth of that voxel.
    slope_per_voxel = np.abs(grid.direction.T @ [1.0, 2.0, 3.0]) * grid.spacing_mm
    error = np.abs(restore.undo(prepared) - linear_ramp(grid))[4:-4, 4:-4, 4:-4]
    assert error.max() < slope_per_voxel.sum() / 8 + 2e-3


def test_without_spacing_and_orientation_nothing_moves():
    volume, _ = builders.make_case()
    array, restore = Preprocessing(orientation="none", intensity="none").apply(volume)
    assert np.array_equal(array, volume.array)
    assert restore.prepared.same_grid_as(volume.geometry)
    assert np.array_equal(restore.undo(array), volume.array)


def test_a_mask_comes_back_where_it_was():
    grid = builders.oblique((20, 44, 60))
    mask = builders.sphere(grid, 9.0)
    preprocessing = Preprocessing(spacing_mm=(1.2, 1.2, 1.2))
    restore = preprocessing.plan(grid)
    small = restore.forward_labels(mask)
    assert small.dtype == np.uint8
    assert small.shape == restore.shape
    one_hot = np.stack([small == 0, small == 1]).astype(np.float32)
    back = restore.undo_to_labels(one_hot)
    assert back.shape == mask.shape
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > 0.95


@pytest.mark.parametrize("slab", [1, 3, 100])
def test_undo_in_slabs_is_the_argmax_of_undo(slab):
    grid = Geometry.from_parts((9, 10, 11), (2.0, 1.0, 1.5), direction=builders.all_orientations()[29])
    restore = Preprocessing(spacing_mm=(1.7, 2.4, 1.0)).plan(grid)
    probabilities = torch.rand((3, *restore.shape), generator=torch.Generator().manual_seed(0))
    whole = restore.undo(probabilities)
    assert isinstance(whole, torch.Tensor)
    assert np.array_equal(restore.undo_to_labels(probabilities, slab), whole.argmax(0).numpy())


def test_labels_are_the_majority_and_ties_fall_to_the_background():
    labels = np.zeros((2, 2, 4), np.uint8)
    labels[..., 2:] = [[[2, 2], [2, 1]], [[2, 2], [1, 1]]]
    labels[0, :, :2] = 1
    assert resample_labels(labels, (1, 1, 2)).tolist() == [[[0, 2]]]
    assert resample_labels(labels, labels.shape).tolist() == labels.tolist()


def test_zscore_clips_and_normalizes():
    volume, _ = builders.make_case()
    volume.array[3, 4, 5] = 1e6
    array, _ = Preprocessing().apply(volume)
    assert array.dtype == np.float32
    assert abs(float(array.mean())) < 1e-4
    assert float(array.std()) == pytest.approx(1.0, abs=1e-4)
    assert float(array.max()) < 6


def test_zscore_ignores_gain_and_offset():
    volume, _ = builders.make_case()
    louder = volume.with_array(volume.array * 37.0 + 1000.0)
    assert np.abs(Preprocessing().apply(volume)[0] - Preprocessing().apply(louder)[0]).max() < 1e-3


def test_window_maps_low_and_high_to_zero_and_one():
    grid = builders.geometry((2, 2, 2))
    volume = Volume(np.array([-2000, -125, 75, 275, 3000, 0, 0, 0], np.int16).reshape(2, 2, 2), grid)
    array, _ = Preprocessing(intensity="window", window=(-125, 275)).apply(volume)
    assert np.allclose(array.ravel()[:5], [0, 0, 0.5, 1, 1])


def test_the_source_is_not_changed():
    volume, _ = builders.make_case()
    before = volume.array.copy()
    for intensity in ("zscore", "none"):
        array, _ = Preprocessing(orientation="none", intensity=intensity).apply(volume)
        array += 1
        assert np.array_equal(volume.array, before)


def test_json_gives_the_same_preprocessing_and_way_back():
    preprocessing = Preprocessing(spacing_mm=(1, 2, 3), intensity="window", window=(-10, 30))
    assert Preprocessing.from_json(json.loads(json.dumps(preprocessing.to_json()))) == preprocessing
    restore = preprocessing.plan(builders.oblique())
    again = Restore.from_json(json.loads(json.dumps(restore.to_json())))
    assert (again.shape, again.turn) == (restore.shape, restore.turn)
    assert again.prepared.same_grid_as(restore.prepared)


@pytest.mark.parametrize(
    "fields",
    [
        {"spacing_mm": (1, 1)},
        {"spacing_mm": (0, 1, 1)},
        {"spacing_mm": (1, float("nan"), 1)},
        {"orientation": "upside down"},
        {"intensity": "loud"},
        {"intensity": "window"},
        {"intensity": "window", "window": (5, 5)},
        {"clip_percentiles": (99, 1)},
    ],
)
def test_an_impossible_option_is_refused(fields):
    with pytest.raises(InputError, match="Preprocessing"):
        Preprocessing(**fields)


def test_an_option_of_a_newer_version_is_refused():
    with pytest.raises(InputError, match="sharpen"):
        Preprocessing.from_json({"sharpen": True})


def test_an_almost_constant_image_has_no_contrast_to_normalize():
    volume = Volume(np.zeros((10, 20, 30), np.float32), builders.geometry())
    volume.array[0, 0, 0] = 1
    with pytest.raises(InputError, match="E309"):
        Preprocessing().apply(volume)
