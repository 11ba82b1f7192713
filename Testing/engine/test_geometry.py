"""Positions in the patient survive every turn, resampling and way back."""

from __future__ import annotations

import builders
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg.data.geometry import Geometry, flip_ras_lps
from semiseg.data.orientation import Orientation, place_on_grid
from semiseg.data.volume import Volume

angles = st.floats(-180, 180)
lengths = st.floats(0.2, 8.0)
shapes = st.tuples(*[st.integers(2, 9)] * 3)
grids = st.builds(
    lambda shape, spacing, turn: builders.geometry(shape, spacing, turn),
    shapes,
    st.tuples(lengths, lengths, lengths),
    st.tuples(angles, angles, angles),
)


@given(grids)
@settings(max_examples=50, deadline=None)
def test_ras_and_lps_twice_is_nothing(grid):
    assert np.array_equal(flip_ras_lps(flip_ras_lps(grid.affine)), grid.affine)
    assert flip_ras_lps(grid.affine)[0, 3] == -grid.affine[0, 3]
    assert flip_ras_lps(grid.affine)[2, 3] == grid.affine[2, 3]


@given(grids, st.lists(st.floats(-20, 20), min_size=3, max_size=3))
@settings(max_examples=50, deadline=None)
def test_index_of_undoes_position_mm(grid, index):
    assert np.allclose(grid.index_of(grid.position_mm(np.array(index))), index, atol=1e-6)


@given(grids)
@settings(max_examples=50, deadline=None)
def test_parts_make_the_same_grid_again(grid):
    again = Geometry.from_parts(grid.shape, grid.spacing_mm, tuple(grid.origin_mm), grid.direction)
    assert again.same_grid_as(grid, 1e-6)
    assert grid.is_orthogonal
    assert grid.voxel_volume_ml == pytest.approx(np.prod(grid.spacing_mm) / 1000)


@given(grids)
@settings(max_examples=50, deadline=None)
def test_turned_voxels_keep_their_position(grid):
    turn = Orientation.to_canonical(grid)
    index = np.stack(np.meshgrid(*[np.arange(size) for size in grid.shape], indexing="ij"), axis=0)
    turned_index, turned = turn.apply(index), turn.apply_to_geometry(grid)
    assert turned.shape == turned_index.shape[1:]
    there = grid.position_mm(np.moveaxis(turned_index, 0, -1))
    here = turned.position_mm(np.stack(np.meshgrid(*[np.arange(n) for n in turned.shape], indexing="ij"), axis=-1))
    assert np.allclose(there, here, atol=1e-6)
    assert np.array_equal(turn.undo(turned_index), index)
    # Canonical: no axis runs backwards, and none is nearer to another axis of the patient.
    assert Orientation.to_canonical(turned) == Orientation()


@pytest.mark.parametrize("direction", builders.all_orientations())
def test_each_of_48_orientations_becomes_canonical(direction):
    grid = Geometry.from_parts((4, 5, 6), (3.0, 2.0, 1.0), (7.0, 8.0, 9.0), direction)
    turned = Orientation.to_canonical(grid).apply_to_geometry(grid)
    assert np.allclose(turned.direction, [[0, 0, 1], [0, 1, 0], [1, 0, 0]])
    assert sorted(turned.spacing_mm) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("direction", builders.all_orientations())
def test_a_mask_stored_in_another_orientation_is_placed_exactly(direction):
    grid = Geometry.from_parts((4, 5, 6), (2.0, 2.0, 2.0), (7.0, 8.0, 9.0), direction)
    mask = Volume(np.arange(120).reshape(4, 5, 6), grid)
    turn = Orientation.to_canonical(grid)
    turned = Volume(turn.apply(mask.array), turn.apply_to_geometry(grid))
    placed = place_on_grid(turned, grid)
    assert placed is not None
    assert np.array_equal(placed.array, mask.array)


def test_a_cut_out_is_placed_only_when_allowed():
    grid = builders.oblique()
    mask = builders.sphere(grid)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.position_mm([1, 2, 3])
    part = Volume(mask[1:9, 2:18, 3:27], Geometry((8, 16, 24), affine))
    assert place_on_grid(part, grid) is None
    assert np.array_equal(place_on_grid(part, grid, may_be_smaller=True).array[1:9, 2:18, 3:27], part.array)
    outside = affine.copy()
    outside[:3, 3] = grid.position_mm([5, 2, 3])
    assert place_on_grid(Volume(part.array, Geometry(part.array.shape, outside)), grid, may_be_smaller=True) is None


@pytest.mark.parametrize("shift", [(0.3, 0.0, 0.0), (0.0, 0.02, 0.0)])
def test_a_shifted_mask_is_on_another_grid(shift):
    grid = builders.oblique()
    affine = grid.affine.copy()
    affine[:3, 3] = grid.position_mm(shift)
    assert place_on_grid(Volume(builders.sphere(grid), Geometry(grid.shape, affine)), grid) is None


def test_a_finer_mask_is_on_another_grid():
    grid = builders.geometry(spacing_mm=(2.0, 1.0, 1.0))
    finer = builders.geometry(spacing_mm=(1.0, 1.0, 1.0))
    assert place_on_grid(Volume(builders.sphere(finer), finer), grid) is None


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_an_impossible_affine_is_refused(affine):
    with pytest.raises(ValueError, match="affine"):
        Geometry((2, 2, 2), affine)


def test_shear_is_noticed():
    affine = builders.oblique().affine.copy()
    affine[:3, 0] += 0.1 * affine[:3, 1]
    assert not Geometry((2, 3, 4), affine).is_orthogonal


def test_a_volume_needs_the_shape_of_its_grid():
    with pytest.raises(ValueError, match="does not fit"):
        Volume(np.zeros((2, 3, 4)), builders.oblique())
