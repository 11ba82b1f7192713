"""A person chooses another mask for a case, or lets one on another grid be resampled; nothing else changes."""

from __future__ import annotations

import builders
import numpy as np
from test_prepare import cohort, mask_with_half_the_slices, one_thread, row, run  # noqa: F401 (fixtures)

from semiseg.data.cases import find_cases, with_masks
from semiseg.data.files import read_volume, write_volume
from semiseg.data.geometry import Geometry
from semiseg.data.nearest import nearest_on_grid
from semiseg.data.volume import Volume


def coarse(mask: Volume) -> Volume:
    """Every second slice, twice as thick."""
    affine = mask.geometry.affine.copy()
    affine[:, 0] *= 2
    return Volume(mask.array[::2].copy(), Geometry(mask.array[::2].shape, affine))


def on_coarse_grid(folder) -> Volume:
    """The mask of labeled_01 on a coarser grid. Returns the mask as it was."""
    path = folder / "labeled" / "labeled_01_seg.nii.gz"
    mask = read_volume(path)
    write_volume(path, coarse(mask))
    return mask


def image_of(folder) -> str:
    return str(folder / "labeled" / "labeled_01.nii.gz")


def test_a_mask_on_another_grid_is_resampled_where_a_person_asks_for_it(cohort):  # noqa: F811
    mask = on_coarse_grid(cohort)
    assert row(run(cohort), "labeled_01").code == "E803"
    prepared = run(cohort, resample_masks=(image_of(cohort),))
    case = row(prepared, "labeled_01")
    assert (case.status, case.code) == ("used", "")
    assert case.reason == "Its mask was resampled to the image's grid (nearest neighbor)." and case.is_mask_resampled
    assert not row(prepared, "labeled_00").is_mask_resampled
    near = np.floor(np.arange(len(mask.array)) / 2 + 0.5).astype(int)
    padded = np.concatenate([mask.array[::2], np.zeros_like(mask.array[:1])])
    assert case.label_voxels[1] == np.count_nonzero(padded[near])
    assert row(run(cohort), "labeled_01").status == "refused", "the permission is part of what makes prepared arrays fit"


def test_a_mask_that_fits_is_not_resampled(cohort):  # noqa: F811
    before = row(run(cohort), "labeled_01")
    after = row(run(cohort, resample_masks=(image_of(cohort),)), "labeled_01")
    assert after.reason == "" and after.label_voxels == before.label_voxels


def test_another_mask_takes_the_place_of_the_one_found_by_name(cohort):  # noqa: F811
    good = read_volume(cohort / "labeled" / "labeled_01_seg.nii.gz")
    mask_with_half_the_slices(cohort)
    other = cohort / "elsewhere" / "corrected.nii.gz"
    other.parent.mkdir()
    write_volume(other, good)
    case = row(run(cohort, masks={image_of(cohort): str(other)}), "labeled_01")
    assert (case.status, case.label) == ("used", str(other))
    assert case.label_voxels[1] == np.count_nonzero(good.array)


def test_an_image_that_is_no_labeled_case_is_passed_over(cohort):  # noqa: F811
    found = find_cases((cohort / "labeled",), (cohort / "unlabeled",))
    assert with_masks(found, {str(cohort / "unlabeled" / "unlabeled_00.nii.gz"): "x.nii.gz"}) == found


def test_nearest_is_exact_on_the_same_lattice_and_background_outside():
    mask = Volume((np.arange(6000).reshape(10, 20, 30) % 7).astype(np.uint8), builders.geometry())
    shifted = mask.geometry.affine.copy()
    shifted[:3, 3] += shifted[:3, 0] * 3
    moved = nearest_on_grid(mask, Geometry((10, 20, 30), shifted)).array
    assert np.array_equal(moved[:7], mask.array[3:]) and not moved[7:].any()
