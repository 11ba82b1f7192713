"""Metrics against numbers a person can check, against a slow reference, and against medpy where it is installed."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from semiseg.metrics import near
from semiseg.metrics.overlap import dice, jaccard
from semiseg.metrics.score import BOTH_EMPTY, METRICS, PREDICTION_EMPTY, REFERENCE_EMPTY, score_masks
from semiseg.metrics.surface import diagonal, joint_box, surface, surface_distances
from semiseg.metrics.table import Table


def mask_of(text):
    """A plane drawn with # and . , one line a row."""
    return np.array([[cell == "#" for cell in line] for line in text.split()])


def slow_distances(a, b, step):
    """Surface by SciPy's erosion, distances by comparing every pair: slow and plain."""
    cross = ndimage.generate_binary_structure(a.ndim, 1)
    edge_a, edge_b = (mask ^ ndimage.binary_erosion(mask, cross) for mask in (a, b))
    points_a, points_b = (np.argwhere(edge) * np.asarray(step) for edge in (edge_a, edge_b))
    pairs = np.linalg.norm(points_a[:, None] - points_b[None], axis=2)
    return pairs.min(axis=1), pairs.min(axis=0)


@st.composite
def mask_pairs(draw):
    shape = draw(st.sampled_from([(5, 7), (4, 5, 6), (1, 6, 5), (3, 1, 7)]))
    size = int(np.prod(shape))
    masks = [np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size))).reshape(shape) for _ in range(2)]
    for mask in masks:
        mask.flat[draw(st.integers(0, size - 1))] = True
    step = tuple(draw(st.sampled_from([0.5, 1.0, 1.25, 3.0])) for _ in shape)
    return masks[0], masks[1], step


class TestByHand:
    def test_two_voxels_two_millimeters_apart(self):
        a, b = mask_of("#.... ....."), mask_of("..#.. .....")
        values, note = score_masks(a, b, (5.0, 1.0))
        assert values["hd95_voxels"] == values["asd_voxels"] == values["assd_voxels"] == 2.0
        assert values["hd95_mm"] == values["asd_mm"] == values["assd_mm"] == 2.0
        assert values["dice"] == values["jaccard"] == 0.0
        assert note == ""

    def test_two_voxels_one_row_apart_are_as_far_as_the_row_spacing(self):
        values, _ = score_masks(mask_of("#. .."), mask_of(".. #."), (5.0, 1.0))
        assert values["hd95_voxels"] == 1.0 and values["hd95_mm"] == 5.0

    def test_overlap_of_two_and_three_voxels_that_share_one(self):
        a, b = mask_of("##.."), mask_of(".###")
        assert dice(a, b) == pytest.approx(2 * 1 / 5)
        assert jaccard(a, b) == pytest.approx(1 / 4)

    def test_asd_is_directed_and_assd_is_not(self):
        a, b = mask_of("#.......#"), mask_of("#........")
        forth, back = surface_distances(a, b), surface_distances(b, a)
        assert (forth.asd, back.asd) == (4.0, 0.0)
        assert forth.assd == back.assd == pytest.approx((0 + 8 + 0) / 3)

    def test_hd95_is_the_percentile_of_both_sets_together(self):
        a = mask_of("#" * 20 + ".")
        b = mask_of("#" * 20 + "#")
        b[0, 20] = True
        distances = surface_distances(a, b)
        assert distances.hd95 == np.percentile([0.0] * 40 + [1.0], 95) == 0.0
        assert distances.to_prediction.max() == 1.0

    def test_surface_uses_faces_not_corners_and_counts_the_border(self):
        block = np.ones((3, 3, 3), bool)
        assert surface(block).sum() == 26
        drawn = mask_of(".....  .###.  .###.  .###.  .....".replace("  ", " "))
        assert np.array_equal(surface(drawn), mask_of("..... .###. .#.#. .###. ....."))
        corner_hole = mask_of("###.. ##### ##### #####")
        assert not surface(corner_hole)[1, 1]  # the hole touches it through no face

    def test_a_box_far_from_the_origin_scores_like_one_at_the_border(self):
        a, b = np.zeros((20, 30, 40), bool), np.zeros((20, 30, 40), bool)
        a[5:9, 10:15, 20:30] = True
        b[6:9, 10:16, 19:30] = True
        cut = (slice(5, 9), slice(10, 16), slice(19, 30))
        assert score_masks(a, b, (1, 2, 3))[0] == score_masks(a[cut], b[cut], (1, 2, 3))[0]

    def test_volume_is_in_milliliters(self):
        a, b = np.zeros((10, 10, 10), bool), np.zeros((10, 10, 10), bool)
        a[:2], b[:4] = True, True
        values, _ = score_masks(a, b, (2.0, 2.5, 2.0))
        assert values["volume_ml"] == pytest.approx(2.0) and values["reference_ml"] == pytest.approx(4.0)
        assert values["volume_difference_percent"] == pytest.approx(-50.0)

    def test_a_sheared_grid_measures_along_its_true_axes(self):
        step = np.array([[4.0, 0.0], [3.0, 1.0]])  # one row on is (4, 3) mm away: 5 mm
        values, _ = score_masks(mask_of("#. .."), mask_of(".. #."), step)
        assert values["hd95_mm"] == pytest.approx(5.0) and values["hd95_voxels"] == 1.0


class TestEmptyMasks:
    empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)

    def test_both_empty_is_undefined(self):
        values, note = score_masks(self.empty, self.empty, (2.0, 1.0))
        assert note == BOTH_EMPTY
        distances = [name for name in METRICS if name.endswith(("_voxels", "_mm"))]
        assert len(distances) == 6
        assert all(math.isnan(values[name]) for name in ["dice", "jaccard", *distances])
        assert math.isnan(dice(self.empty, self.empty)) and math.isnan(jaccard(self.empty, self.empty))

    @pytest.mark.parametrize("prediction_is_empty", [True, False])
    def test_one_empty_is_the_worst_case(self, prediction_is_empty):
        pair = (self.empty, self.full) if prediction_is_empty else (self.full, self.empty)
        values, note = score_masks(*pair, (2.0, 1.0))
        assert note == (PREDICTION_EMPTY if prediction_is_empty else REFERENCE_EMPTY)
        assert values["dice"] == values["jaccard"] == 0.0
        assert values["hd95_voxels"] == values["asd_voxels"] == values["assd_voxels"] == 5.0
        assert values["hd95_mm"] == values["asd_mm"] == values["assd_mm"] == pytest.approx(math.hypot(6, 4))

    def test_nothing_found_never_scores_better_than_something_found(self):
        found = np.zeros((3, 4), bool)
        found[2, 3] = True
        reference = np.zeros((3, 4), bool)
        reference[0, 0] = True
        lost, worst = score_masks(self.empty, reference, (1, 1))[0], score_masks(found, reference, (1, 1))[0]
        assert lost["hd95_mm"] > worst["hd95_mm"]

    def test_distances_refuse_an_empty_mask(self):
        with pytest.raises(ValueError, match="not empty"):
            surface_distances(self.empty, self.full)


@given(mask_pairs())
@settings(max_examples=60, deadline=None)
def test_scores_equal_a_slow_reference(pair):
    a, b, step = pair
    for unit, steps in (("voxels", (1.0,) * a.ndim), ("mm", step)):
        forth, back = slow_distances(a, b, steps)
        values, _ = score_masks(a, b, step)
        assert values[f"hd95_{unit}"] == pytest.approx(np.percentile(np.concatenate([forth, back]), 95), abs=1e-9)
        assert values[f"asd_{unit}"] == pytest.approx(forth.mean(), abs=1e-9)
        assert values[f"assd_{unit}"] == pytest.approx(np.concatenate([forth, back]).mean(), abs=1e-9)


@pytest.mark.parametrize("gap", [1, 9, 10, 11, 12, 40])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_near_and_far_voxels_are_measured_alike(axis, gap, monkeypatch):
    monkeypatch.setattr(near, "_BLOCK", 50)  # several blocks, the last one smaller
    rng = np.random.default_rng(gap)
    shape = np.array([4, 5, 6])
    shape[axis] += gap
    a, b = np.zeros(shape, bool), np.zeros(shape, bool)
    a[2:4, 2:5, 3:6] = True
    b[tuple(slice(side) for side in shape)] = rng.random(shape) < 0.02
    np.moveaxis(b, axis, 0)[:2] = False
    np.moveaxis(b, axis, 0)[-1, 1, 1] = True
    for step in ((1.0, 1.0, 1.0), (2.0, 0.7, 0.9)):
        found = surface_distances(a, b, None if step[0] == 1 else step)
        forth, back = slow_distances(a, b, step)
        np.testing.assert_allclose(found.to_reference, forth, atol=1e-9)
        np.testing.assert_allclose(found.to_prediction, back, atol=1e-9)
        assert max(found.to_reference.max(), found.to_prediction.max()) >= gap * step[axis] - 5


@pytest.mark.parametrize("within", [(8, 8, 1), (8, 1, 8)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_voxel_just_out_of_reach_is_nearer_than_one_within_reach_of_every_axis(axis, within):
    reach = near.REACH
    one, two = np.zeros((reach + 2,) * 3, bool), np.zeros((reach + 2,) * 3, bool)
    one[0, 0, 0] = two[within] = True  # the square of this distance is 129
    np.moveaxis(two, axis, 0)[reach + 1, 0, 0] = True  # and of this one 121
    assert surface_distances(one, two).asd == reach + 1
    assert surface_distances(one, two, (0.5, 0.5, 0.5)).asd == (reach + 1) / 2


@given(mask_pairs())
@settings(max_examples=60, deadline=None)
def test_identity_symmetry_and_range(pair):
    a, b, step = pair
    forth, back, same = score_masks(a, b, step)[0], score_masks(b, a, step)[0], score_masks(a, a, step)[0]
    for name in ("dice", "jaccard", "hd95_voxels", "assd_voxels", "hd95_mm", "assd_mm"):
        assert forth[name] == pytest.approx(back[name], abs=1e-12)
    assert 0 <= forth["jaccard"] <= forth["dice"] <= 1
    assert forth["dice"] == pytest.approx(2 * forth["jaccard"] / (1 + forth["jaccard"]))
    assert same["dice"] == same["jaccard"] == 1
    assert same["hd95_mm"] == same["asd_mm"] == same["assd_voxels"] == 0
    assert 0 <= forth["hd95_mm"] <= diagonal(a.shape, step)


@given(mask_pairs())
@settings(max_examples=30, deadline=None)
def test_surface_is_the_mask_without_its_erosion(pair):
    mask = pair[0]
    cross = ndimage.generate_binary_structure(mask.ndim, 1)
    assert np.array_equal(surface(mask), mask ^ ndimage.binary_erosion(mask, cross))
    box = joint_box(mask, pair[1])
    assert (mask[box].sum(), pair[1][box].sum()) == (mask.sum(), pair[1].sum())


def test_scores_equal_medpy():
    medpy = pytest.importorskip("medpy.metric.binary", reason="medpy is not installed")
    grid = np.indices((24, 40, 36)).transpose(1, 2, 3, 0)
    a = np.linalg.norm((grid - (12, 20, 18)) / (9, 14, 12), axis=-1) < 1
    b = np.linalg.norm((grid - (13, 18, 19)) / (8, 15, 12), axis=-1) < 1
    b[:2, :3, :3] = True  # a piece far away
    values, _ = score_masks(a, b, (2.0, 0.7, 0.9))
    assert values["dice"] == pytest.approx(medpy.dc(a, b), abs=1e-9)
    assert values["jaccard"] == pytest.approx(medpy.jc(a, b), abs=1e-9)
    for unit, spacing in (("voxels", None), ("mm", (2.0, 0.7, 0.9))):
        assert values[f"hd95_{unit}"] == pytest.approx(medpy.hd95(a, b, spacing), abs=1e-6)
        assert values[f"asd_{unit}"] == pytest.approx(medpy.asd(a, b, spacing), abs=1e-6)
        assert values[f"assd_{unit}"] == pytest.approx(medpy.assd(a, b, spacing), abs=1e-6)


class TestTable:
    @pytest.fixture()
    def table(self):
        table = Table()
        reference = np.zeros((4, 6, 6), np.uint8)
        reference[1:3, 1:4, 1:4], reference[3, 5, 5] = 1, 2
        good = reference.copy()
        good[1, 1, 1] = 0
        table.add("P1", good, reference, (1.0, 1.0, 1.0), {1: "left atrium", 2: "vein"})
        table.add(
            "P2", np.zeros_like(reference), np.zeros_like(reference), (1.0, 1.0, 1.0), {1: "left atrium", 2: "vein"}
        )
        table.add("P3", reference, reference, (1.0, 1.0, 1.0), {1: "left atrium", 2: "vein"})
        return table

    def test_one_row_for_each_case_and_label(self, table):
        assert [(row.case, row.label) for row in table.rows] == [
            (case, label) for case in ("P1", "P2", "P3") for label in ("left atrium", "vein")
        ]

    def test_summary_leaves_undefined_numbers_out_and_counts_them(self, table):
        found = table.summary()["left atrium"]["dice"]
        values = [2 * 17 / 35, 1.0]
        assert found["mean"] == pytest.approx(np.mean(values)) and found["sd"] == pytest.approx(np.std(values, ddof=1))
        assert found["median"] == pytest.approx(np.median(values))
        assert (found["count"], found["undefined"]) == (2, 1)
        assert table.mean("dice") == pytest.approx((np.mean(values) + 1.0) / 2)

    def test_csv_has_full_precision_and_empty_fields_for_undefined_numbers(self, table):
        rows = list(csv.DictReader(io.StringIO(table.to_csv())))
        assert float(rows[0]["dice"]) == table.rows[0].values["dice"]
        assert rows[2]["dice"] == "" and rows[2]["note"] == BOTH_EMPTY

    def test_json_survives_the_round_trip_and_is_strict(self, table):
        text = table.dumps()
        assert "NaN" not in text
        assert Table.from_json(json.loads(text)).to_csv() == table.to_csv()

    def test_text_shows_a_dash_for_undefined_numbers_and_says_why(self, table):
        lines = table.to_text(("dice", "hd95_mm")).splitlines()
        p2 = next(line for line in lines if line.startswith("P2") and "left atrium" in line)
        assert p2.split() == ["P2", "left", "atrium", "-", "-"]
        assert any(BOTH_EMPTY in line for line in lines)
        assert len({len(line) for line in lines[:2]}) == 1

    def test_one_case_has_no_spread(self):
        table = Table()
        table.add("only", np.ones((2, 2)), np.ones((2, 2)), (1.0, 1.0), {1: "x"})
        assert math.isnan(table.summary()["x"]["dice"]["sd"])
        assert "1.0000 ± -" in table.to_text(("dice",))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        score_masks(np.ones((2, 2)), np.ones((2, 3)), (1, 1))
    with pytest.raises(ValueError, match="differ in shape"):
        dice(np.ones((2, 2)), np.ones((2, 3)))
