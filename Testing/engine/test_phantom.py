"""Phantoms: seeded, on one grid, hard in the ways that matter, with the noise of a scanner; and cohorts of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from semiseg.data.cases import find_cohort
from semiseg.data.files import read_labels, read_volume
from semiseg.errors import InputError
from semiseg.phantom import SITES, SPACING_MM, Phantom, make_cohort, make_phantom
from semiseg.phantom.anatomy import TO_VENTRICLE, draw_heart
from semiseg.phantom.scanner import acquire
from semiseg.phantom.shapes import Bend, Ellipsoid, SmoothField, Tube, half_space, shell


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    """Ten at half resolution, the sites mixed as in a cohort."""
    return [make_phantom((50, place), site, "half") for place, site in enumerate("AACAACACAA")]


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _grid(step_mm: float, reach_mm: float = 60) -> tuple[np.ndarray, ...]:
    return (np.arange(-reach_mm, reach_mm + step_mm / 2, step_mm),) * 3


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / max(a.sum() + b.sum(), 1)


# ---- one phantom ----


def test_same_arguments_give_the_same_voxels():
    first, second = make_phantom(3, "A", "quarter"), make_phantom(3, "A", "quarter")
    np.testing.assert_array_equal(first.image.array, second.image.array)
    np.testing.assert_array_equal(first.label.array, second.label.array)
    assert first.image.same_grid_as(second.image) and first.facts == second.facts
    other = make_phantom(4, "A", "quarter")
    assert first.label.array.shape != other.label.array.shape or (first.label.array != other.label.array).any()


def test_the_site_changes_the_image_and_nothing_else():
    one, other = make_phantom(5, "A", "quarter"), make_phantom(5, "C", "quarter")
    np.testing.assert_array_equal(one.label.array, other.label.array)
    assert one.image.same_grid_as(other.image) and (one.image.array != other.image.array).mean() > 0.5


@pytest.mark.parametrize("size", SPACING_MM)
def test_image_and_label_share_a_grid_of_the_size_asked_for(size):
    image, label, facts = make_phantom(6, "A", size)
    assert image.same_grid_as(label) and image.geometry.spacing_mm == pytest.approx(SPACING_MM[size])
    assert image.array.dtype == label.array.dtype == np.uint8
    assert image.array.shape[0] * SPACING_MM[size][0] == pytest.approx(110, abs=6)
    assert min(image.array.shape[1:]) * SPACING_MM[size][1] >= 65
    assert facts["volume_ml"] == pytest.approx(label.array.sum() * np.prod(SPACING_MM[size]) / 1000, abs=0.1)


def test_all_sizes_show_the_same_patient():
    full, half = make_phantom(7, "A", "full"), make_phantom(7, "A", "half")
    assert full.facts["volume_ml"] == pytest.approx(half.facts["volume_ml"], rel=0.03)
    where = np.stack(np.nonzero(half.label.array), -1)
    there = np.rint(full.label.geometry.index_of(half.label.geometry.position_mm(where))).astype(int)
    assert full.label.array[tuple(there.T)].mean() > 0.93


def test_label_is_one_piece_and_inside_a_crop_with_a_margin(phantoms):
    for _, label, _ in phantoms:
        assert ndimage.label(label.array, np.ones((3, 3, 3)))[1] == 1
        assert 0.02 < label.array.mean() < 0.3
        _, rows, columns = np.nonzero(label.array)
        for index, size in ((rows, label.array.shape[1]), (columns, label.array.shape[2])):
            assert index.min() * 1.25 >= 4 and (size - 1 - index.max()) * 1.25 >= 4


def test_full_field_of_view_shows_a_chest_with_air_around_it():
    image, label, _ = make_phantom(8, "C", "quarter", full_field_of_view=True)
    assert image.array.shape[1] * 2.5 == pytest.approx(290, abs=5)
    assert image.array.shape[2] * 2.5 == pytest.approx(360, abs=5)
    assert label.array.mean() < 0.03
    air = image.array[:, :4, :4].mean()
    assert image.array[label.array > 0].mean() > 2.5 * air


def test_unknown_site_or_size_is_refused():
    for arguments in ((0, "D", "half"), (0, "A", "tiny")):
        with pytest.raises(ValueError, match="must be one of"):
            make_phantom(*arguments)


# ---- label conventions ----


def test_blood_goes_on_where_the_label_ends():
    points_of = np.meshgrid(*_grid(2.0, 70), indexing="ij")[::-1]
    points = np.stack(points_of).astype(np.float32)
    for seed in range(4):
        heart = draw_heart(_rng(seed))
        label, blood = heart.label(points) < 0, heart.blood(points) < 0
        behind_valve = half_space(points, heart.mitral_point, TO_VENTRICLE) < 0
        assert not (label & ~behind_valve).any()
        beyond = blood & ~label & behind_valve
        assert beyond.sum() > 0.05 * label.sum()  # veins beyond their cut
        for vein in heart.veins:
            assert 9 <= vein.cut_mm <= 28
            end = vein.mouth + vein.cut_mm * vein.direction
            outside = half_space(points, end, vein.direction) > 0
            assert any((outside & (tube.distance(points) < 0)).sum() >= 4 for tube in (vein.trunk, *vein.branches))
        through_valve = (heart.mitral_point + 6 * TO_VENTRICLE).reshape(3, 1, 1, 1).astype(np.float32)
        assert heart.ventricle.distance(through_valve).item() < 0 < heart.label(through_valve).item()


def test_rare_variants_have_their_frequency():
    hearts = [draw_heart(_rng(seed)) for seed in range(400)]
    for name in ("common_trunk", "middle_vein"):
        assert 0.14 < np.mean([name in heart.variant for heart in hearts]) < 0.26
    for heart in hearts:
        assert len(heart.veins) == 4 - ("common_trunk" in heart.variant) + ("middle_vein" in heart.variant)
        assert 1.2 <= heart.wall_mm <= 2.6 and 0.05 <= heart.scar_share <= 0.6


# ---- hardness ----


def _relative(phantom: Phantom) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image with blood at 1, inner blood, ring of 1.25 to 4 mm around the label."""
    label = phantom.label.array > 0
    inside = ndimage.binary_erosion(label, iterations=2)
    ring = ndimage.binary_dilation(label, iterations=3) & ~ndimage.binary_dilation(label)
    image = phantom.image.array.astype(float)
    return image / np.median(image[inside]), inside, ring


def test_neighbors_are_as_bright_as_the_blood(phantoms):
    shares = []
    for phantom in phantoms:
        image, inside, ring = _relative(phantom)
        shares.append((image[ring] >= np.percentile(image[inside], 16)).mean())
    assert 0.25 < np.mean(shares) < 0.6


def test_contrast_depends_on_the_site():
    contrast = {}
    for site in SITES:
        values = []
        for seed in range(3):
            image, _, ring = _relative(make_phantom((60, seed), site, "half"))
            values.append(1 - image[ring].mean())
        contrast[site] = np.mean(values)
    assert contrast["B"] < 0 < contrast["C"] and contrast["A"] > 0.1


def test_neither_intensity_nor_location_is_enough(phantoms):
    labels = [phantom.label.array > 0 for phantom in phantoms]
    thresholds = [_best_threshold(phantom.image.array, label) for phantom, label in zip(phantoms, labels, strict=True)]
    assert np.mean(thresholds) < 0.5  # an oracle's threshold and the largest piece
    shape = tuple(np.median([label.shape for label in labels], axis=0).astype(int))
    centered = np.stack([_centered(label, shape) for label in labels])
    total = centered.sum(0)
    prior = [_dice((total - one) / (len(labels) - 1) >= 0.5, one) for one in centered]
    assert 0.55 < np.mean(prior) < 0.78


def _best_threshold(image: np.ndarray, label: np.ndarray) -> float:
    best = 0.0
    for level in np.percentile(image, np.arange(30, 98, 4)):
        for chosen in (image >= level, image <= level):
            pieces, count = ndimage.label(chosen)
            if count:
                best = max(best, _dice(pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:]), label))
    return best


def _centered(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    for axis, size in enumerate(shape):
        missing = size - array.shape[axis]
        widths = [(0, 0)] * 3
        widths[axis] = (max(missing, 0) // 2, max(missing, 0) - max(missing, 0) // 2)
        start = max(-missing, 0) // 2
        array = np.pad(array, widths).take(range(start, start + size), axis)
    return array


# ---- noise ----


def test_noise_is_rician_and_has_the_asked_strength():
    air = acquire(_rng(), np.zeros((24, 40, 40), np.float32), 0.1, zero_fill=False)
    assert air.min() >= 0 and air.mean() / air.std() == pytest.approx(1.913, abs=0.05)  # Rayleigh
    blood = acquire(_rng(1), np.ones((24, 40, 40), np.float32), 0.1, zero_fill=False)
    assert blood.std() == pytest.approx(0.1, rel=0.05)


def test_zero_filling_keeps_the_acquired_voxels_where_they_are():
    image = SmoothField(_rng(2), 8.0).on((np.arange(12.0), np.arange(20.0), np.arange(21.0))) + 6
    coarse = acquire(_rng(3), image.astype(np.float32), 0.05, zero_fill=False)
    fine = acquire(_rng(3), image.astype(np.float32), 0.05, zero_fill=True)
    assert fine.shape == (24, 40, 42)
    np.testing.assert_allclose(fine[::2, ::2, ::2], coarse, atol=0.05)


def test_noise_is_correlated_as_measured_on_the_benchmark():
    fine = acquire(_rng(4), np.ones((24, 40, 40), np.float32), 0.1, zero_fill=True)
    noise = fine - ndimage.uniform_filter(fine, 9)  # the benchmark was measured without its slow changes
    for axis in range(3):
        for lag, expected in ((1, 0.81), (2, 0.43), (4, 0.0)):
            ahead = np.roll(noise, -lag, axis)
            assert (noise * ahead).mean() / noise.var() == pytest.approx(expected, abs=0.05)


# ---- shapes ----


def test_distances_are_zero_on_the_surface_and_grow_outwards():
    axes = _grid(1.0, 30)
    points = np.stack(np.meshgrid(*axes, indexing="ij")[::-1]).astype(np.float32)
    radius = np.linalg.norm(points, axis=0)
    ball = Ellipsoid((0, 0, 0), (12, 12, 12)).distance(points)
    np.testing.assert_allclose(ball[radius > 0], (radius - 12)[radius > 0], atol=1e-3)
    tube = Tube(((-50, 0, 0), (50, 0, 0)), (7, 7)).distance(points)
    np.testing.assert_allclose(tube, np.hypot(points[1], points[2]) - 7, atol=1e-3)
    layer = shell(ball, 3.0) < 0
    assert layer[(radius > 12.2) & (radius < 14.8)].all() and not layer[radius < 11.9].any()


def test_random_fields_have_unit_spread_and_do_not_depend_on_the_grid():
    field = SmoothField(_rng(5), 6.0)
    fine, coarse = field.on(_grid(2.0)), field.on(_grid(6.0))
    assert 0.85 < fine.std() < 1.15
    np.testing.assert_allclose(fine[::3, ::3, ::3], coarse, atol=1e-4)


def test_patient_box_holds_every_point_of_a_model_box():
    for seed in range(5):
        bend = Bend(_rng(seed))
        axes = _grid(4.0, 80)
        points = bend.points(axes)
        box = (np.array([-20.0, 5.0, 0.0]), np.array([10.0, 30.0, 25.0]))
        inside = np.all([(p >= low) & (p <= high) for p, low, high in zip(points, *box, strict=True)], axis=0)
        low, high = bend.patient_box(box)
        where = np.stack([axes[0][index] for index in np.nonzero(inside)[::-1]])
        assert (where.min(1) >= low).all() and (where.max(1) <= high).all()


# ---- cohorts ----


def test_cohort_has_its_parts_and_training_finds_them(tmp_path):
    events = []
    path = make_cohort(
        tmp_path, 2, 3, 2, seed=1, size="quarter", report=lambda kind, **values: events.append((kind, values))
    )
    found = find_cohort(tmp_path)
    assert [case.id for case in found.labeled] == ["labeled001", "labeled002"]
    assert len(found.unlabeled) == 3 and len(found.held_out) == 2 and not found.refused
    assert all(case.label is None for case in found.unlabeled)
    assert not list((tmp_path / "unlabeled").rglob("*labels*"))
    image, (label, names) = read_volume(found.held_out[0].image), read_labels(found.held_out[0].label)
    assert image.same_grid_as(label) and names == {1: "left atrium"} and set(np.unique(label.array)) == {0, 1}
    document = json.loads(path.read_text(encoding="utf-8"))
    assert len(document["phantoms"]) == 7 and document["recipe"]["seed"] == 1
    assert {facts["site"] for facts in document["phantoms"].values() if facts["role"] == "labeled"} == {"A"}
    assert [values["done"] for _, values in events] == list(range(1, 8)) and events[-1][1]["eta_s"] == 0


def test_a_smaller_cohort_is_the_beginning_of_a_larger_one(tmp_path):
    make_cohort(tmp_path / "small", 1, 1, 1, size="quarter")
    make_cohort(tmp_path / "large", 2, 4, 1, size="quarter")
    for name in ("labeled/images/labeled001", "unlabeled/images/unlabeled001", "heldout/labels/heldout001"):
        small, large = (read_volume(tmp_path / which / f"{name}.nii.gz") for which in ("small", "large"))
        np.testing.assert_array_equal(small.array, large.array)
    sites = [facts["site"] for facts in _phantoms_in(tmp_path / "large").values() if facts["role"] == "unlabeled"]
    assert set(sites) == {"A", "C"}


def _phantoms_in(folder) -> dict[str, dict]:
    return json.loads((folder / "cohort.json").read_text(encoding="utf-8"))["phantoms"]


def test_a_new_cohort_makes_room_and_files_of_others_are_refused(tmp_path):
    make_cohort(tmp_path, 2, 1, 1, size="quarter")
    make_cohort(tmp_path, 1, 1, 1, size="quarter", keep_answers=True)
    assert len(find_cohort(tmp_path).labeled) == 1
    assert (tmp_path / "answers" / "labels" / "unlabeled001.nii.gz").is_file()
    stranger = tmp_path / "labeled" / "images" / "mine.nii.gz"
    stranger.write_bytes(b"not to be lost")
    with pytest.raises(InputError, match=r"files of others: mine\.nii\.gz") as caught:
        make_cohort(tmp_path, 1, 0, 0, size="quarter")
    assert caught.value.code == "E809" and stranger.read_bytes() == b"not to be lost"
    assert (tmp_path / "cohort.json").is_file()


def test_an_interrupted_cohort_is_not_marked_complete_and_can_be_repeated(tmp_path):
    def stop(kind: str, **values: object) -> None:
        if values["done"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_cohort(tmp_path, 2, 1, 0, size="quarter", report=stop)
    assert not (tmp_path / "cohort.json").exists()
    make_cohort(tmp_path, 2, 1, 0, size="quarter")
    assert len(_phantoms_in(tmp_path)) == 3


@pytest.mark.parametrize(
    "arguments",
    [{"size": "tiny"}, {"num_labeled": -1}, {"site_mix": {"labeled": {"D": 1.0}}}, {"site_mix": {"test": {"A": 1.0}}}, {"site_mix": {"labeled": []}}, {"site_mix": {"labeled": ["A", "D"]}}, {"site_mix": {"labeled": "A"}}],
)
def test_wrong_options_are_explained(tmp_path, arguments):
    with pytest.raises(InputError):
        make_cohort(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_sites_may_be_listed_one_after_the_other(tmp_path):
    make_cohort(tmp_path, 4, 0, 0, size="quarter", site_mix={"labeled": ["A", "C", "B"]})
    assert [facts["site"] for facts in _phantoms_in(tmp_path).values()] == ["A", "C", "B", "B"]


def test_site_mix_is_kept_exactly(tmp_path):
    mix = {"labeled": {"A": 0.5, "B": 0.5}}
    make_cohort(tmp_path, 4, 0, 0, size="quarter", site_mix=mix)
    assert sorted(facts["site"] for facts in _phantoms_in(tmp_path).values()) == ["A", "A", "B", "B"]


# The appendage as a rare structure


def test_an_appendage_of_its_own_changes_nothing_but_its_label():
    plain, apart, removed = (make_phantom(3, "A", "quarter", appendage=value) for value in (None, True, False))
    np.testing.assert_array_equal(plain.image.array, apart.image.array)
    np.testing.assert_array_equal(plain.label.array > 0, apart.label.array > 0)
    share = (apart.label.array == 2).sum() / (apart.label.array > 0).sum()
    assert 0.005 < share < 0.15 and plain.label.array.max() == 1
    assert removed.label.array.max() == 1 and (removed.label.array > 0).sum() < (plain.label.array > 0).sum()


def test_a_rarer_appendage_is_rarer_in_its_part_alone(tmp_path):
    make_cohort(tmp_path, 4, 0, 2, size="quarter", appendage={"labeled": 0.25})
    has = {path.name[:-7]: bool((read_labels(path)[0].array == 2).any()) for path in tmp_path.rglob("labels/*.nii.gz")}
    assert has == {"labeled001": True, "labeled002": False, "labeled003": False, "labeled004": False, "heldout001": True, "heldout002": True}
    with pytest.raises(InputError, match="share of phantoms"):
        make_cohort(tmp_path / "no", 1, 0, 0, size="quarter", appendage={"labeled": 2})
