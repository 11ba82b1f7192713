"""Label maps against references: who belongs to whom, on which grid, and what is refused."""

import csv
import io
import json
import math

import numpy as np
import pytest

from semiseg.data.files import write_labels, write_volume
from semiseg.data.geometry import Geometry
from semiseg.data.orientation import Orientation
from semiseg.data.segmentation import Segment
from semiseg.data.volume import Volume
from semiseg.errors import InputError
from semiseg.evaluate import RESAMPLED, Pair, evaluate, pair_folders

LEFT_ATRIUM = [{"value": 1, "name": "left atrium"}]
SHAPE, SPACING_MM = (8, 10, 12), (2.0, 1.0, 1.5)


def mask(box=(slice(2, 6), slice(3, 7), slice(4, 9)), value=1, shape=SHAPE, origin_mm=(0.0, 0.0, 0.0)):
    array = np.zeros(shape, np.uint16)
    array[box] = value
    return Volume(array, Geometry.from_parts(shape, SPACING_MM, origin_mm))


def shifted():
    return mask((slice(3, 7), slice(3, 7), slice(4, 9)))


def save(path, volume, name="left atrium", value=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_labels(path, volume, [Segment(value, name)])
    return path


class Events(list):
    def __call__(self, kind, **values):
        self.append((kind, values))

    def of(self, kind):
        return [values for found, values in self if found == kind]


def score(prediction, reference, labels=LEFT_ATRIUM, tmp_path=None, **options):
    """Writes two masks, scores them, gives back the values of the first row and the events."""
    events = Events()
    pair = Pair("P1", save(tmp_path / "p" / "P1.seg.nrrd", prediction), save(tmp_path / "r" / "P1.nii.gz", reference))
    found = evaluate([pair], labels, None, events, **options)
    return found.table.rows[0].values, events


class TestScores:
    def test_numbers_a_person_can_check(self, tmp_path):
        values, _ = score(shifted(), mask(), tmp_path=tmp_path)
        assert values["dice"] == pytest.approx(3 / 4) and values["jaccard"] == pytest.approx(3 / 5)
        assert values["hd95_voxels"] == 1.0 and values["hd95_mm"] == pytest.approx(2.0)
        assert values["volume_ml"] == values["reference_ml"] == pytest.approx(4 * 4 * 5 * 3.0 / 1000)

    def test_table_is_written_in_three_forms(self, tmp_path):
        pairs = [
            Pair(name, save(tmp_path / f"p/{name}.nii.gz", shifted()), save(tmp_path / f"r/{name}.nii.gz", mask()))
            for name in ("P1", "P2")
        ]
        found = evaluate(pairs, LEFT_ATRIUM, tmp_path / "out")
        assert sorted(item.name for item in (tmp_path / "out").iterdir()) == ["dice.csv", "dice.json", "dice.txt"]
        rows = list(csv.DictReader(io.StringIO((tmp_path / "out/dice.csv").read_text())))
        assert [(row["case"], float(row["dice"])) for row in rows] == [("P1", 0.75), ("P2", 0.75)]
        fields = json.loads((tmp_path / "out/dice.json").read_text())
        assert fields["summary"]["left atrium"]["dice"]["mean"] == 0.75 == found.table.mean("dice")
        text = (tmp_path / "out/dice.txt").read_text()
        assert "0.7500 ± 0.0000" in text and "P2" in text

    def test_both_empty_is_a_dash_not_a_number(self, tmp_path):
        empty = mask((slice(0, 0),) * 3)
        values, events = score(empty, empty, tmp_path=tmp_path)
        assert math.isnan(values["dice"])
        (case,) = events.of("case")
        assert case["dice"] == {"left atrium": None} and "both masks are empty" in case["reason"]
        json.dumps(events)

    def test_structures_are_matched_by_name_then_by_value(self, tmp_path):
        prediction = save(tmp_path / "p" / "P1.seg.nrrd", mask(value=1), "Left Atrium", 1)
        write_volume(tmp_path / "r" / "P1.nii.gz", mask(value=420))  # MM-WHS' value, no names
        found = evaluate(
            [Pair("P1", prediction, tmp_path / "r/P1.nii.gz")], [{"value": 420, "name": "left atrium"}], None
        )
        assert found.table.rows[0].values["dice"] == 1.0

    def test_without_labels_the_values_of_the_reference_count(self, tmp_path):
        both = mask()
        both.array[0, 0, 0] = 5
        pair = Pair("P1", save(tmp_path / "p/P1.nii.gz", both), save(tmp_path / "r/P1.nii.gz", both))
        found = evaluate([pair], [], None)
        assert [(row.label, row.values["dice"]) for row in found.table.rows] == [("left atrium", 1.0), ("label 5", 1.0)]

    def test_a_reference_with_values_nobody_asked_for(self, tmp_path):
        with pytest.raises(InputError) as caught:
            score(mask(), mask(value=420), tmp_path=tmp_path)
        assert (
            caught.value.code == "E704"
            and "420" in str(caught.value)
            and "Which value is left atrium" in str(caught.value)
        )


class TestGrids:
    @pytest.mark.parametrize("axes, flips", [((2, 0, 1), (True, False, True)), ((0, 1, 2), (False, True, False))])
    def test_a_turned_or_flipped_prediction_is_put_in_place_exactly(self, tmp_path, axes, flips):
        turn = Orientation(axes, flips)
        prediction = shifted()
        turned = Volume(np.ascontiguousarray(turn.apply(prediction.array)), turn.apply_to_geometry(prediction.geometry))
        values, events = score(turned, mask(), tmp_path=tmp_path)
        assert values["dice"] == pytest.approx(0.75) and not events.of("warning")

    def test_a_prediction_cut_to_its_box_is_put_in_place_exactly(self, tmp_path):
        whole = shifted()
        cut = Volume(
            whole.array[2:, 2:9, 3:].copy(),
            Geometry.from_parts((6, 7, 9), SPACING_MM, tuple(whole.geometry.position_mm(np.array([2, 2, 3])))),
        )
        values, events = score(cut, mask(), tmp_path=tmp_path)
        assert values["dice"] == pytest.approx(0.75) and not events.of("warning")

    def finer(self):
        array = np.repeat(np.repeat(np.repeat(shifted().array, 2, 0), 2, 1), 2, 2)
        spacing = tuple(mm / 2 for mm in SPACING_MM)
        x, y, z = (-mm / 4 for mm in SPACING_MM[::-1])
        return Volume(array, Geometry.from_parts(array.shape, spacing, (x, y, z)))

    def test_another_grid_is_refused_unless_resampling_is_asked_for(self, tmp_path):
        with pytest.raises(InputError) as caught:
            score(self.finer(), mask(), tmp_path=tmp_path)
        assert caught.value.code == "E701" and "allow resampling" in str(caught.value)
        values, events = score(self.finer(), mask(), tmp_path=tmp_path, resample=True)
        assert values["dice"] == pytest.approx(0.75)
        (warning,) = events.of("warning")
        assert warning["code"] == "E701" and "nearest neighbor" in warning["message"]

    def test_a_mask_that_a_person_let_be_resampled_is_scored_on_the_grid_of_the_prediction(self, tmp_path):
        prediction, finer = save(tmp_path / "p/P1.nii.gz", mask()), save(tmp_path / "r/P1.nii.gz", self.finer())
        found = evaluate([Pair("P1", prediction, finer, resample_reference=True)], LEFT_ATRIUM, tmp_path)
        (row,) = found.table.rows
        assert row.values["dice"] == pytest.approx(0.75) and row.note == RESAMPLED
        assert RESAMPLED in (tmp_path / "dice.csv").read_text() and f"P1, left atrium: {RESAMPLED}." in (tmp_path / "dice.txt").read_text()
        same = save(tmp_path / "r/P2.nii.gz", shifted())
        (row,) = evaluate([Pair("P1", prediction, same, resample_reference=True)], LEFT_ATRIUM, None).table.rows
        assert row.note == "", "a mask on the same lattice stays as it was drawn"
        far = save(tmp_path / "r/P3.nii.gz", mask(origin_mm=(312.25, 0.0, 0.0)))
        with pytest.raises(InputError, match="different places"):
            evaluate([Pair("P1", prediction, far, resample_reference=True)], LEFT_ATRIUM, None)

    @pytest.mark.parametrize("resample", [False, True])
    def test_masks_in_different_places_get_no_numbers(self, tmp_path, resample):
        far = mask(origin_mm=(312.25, 0.0, 0.0))
        with pytest.raises(InputError) as caught:
            score(far, mask(), tmp_path=tmp_path, resample=resample)
        assert caught.value.code == "E702" and "centers 312 mm apart" in str(caught.value)


class TestPairs:
    def test_names_are_paired_without_their_words_for_mask(self, tmp_path):
        for name in ("P1.seg.nrrd", "P1.nii.gz", "P2.nii.gz", "P2.probability.nii.gz", "P3.nii.gz"):
            save(tmp_path / "p" / name, mask())
        for name in ("P1_seg.nii.gz", "P2_label.nrrd", "P4_mask.nii.gz"):
            save(tmp_path / "r" / name, mask())
        pairs, loose = pair_folders(tmp_path / "p", tmp_path / "r")
        assert [(pair.case, pair.prediction.name, pair.reference.name) for pair in pairs] == [
            ("P1", "P1.seg.nrrd", "P1_seg.nii.gz"),
            ("P2", "P2.nii.gz", "P2_label.nrrd"),
        ]
        assert loose == [
            "The prediction P3.nii.gz has no reference.",
            "The reference P4_mask.nii.gz has no prediction.",
        ]

    def test_two_files_are_a_pair_whatever_their_names(self, tmp_path):
        one, other = save(tmp_path / "a.nii.gz", mask()), save(tmp_path / "b_seg.nrrd", mask())
        assert pair_folders(one, other) == ([Pair("a", one, other)], [])

    def test_the_folders_of_a_prediction_are_found(self, tmp_path):
        from tiny_model import box_volume, write_tiny_model

        from semiseg.predict import predict

        model = write_tiny_model(tmp_path / "model.pt")
        write_volume(tmp_path / "images" / "P1.nii.gz", box_volume())
        reference = box_volume().with_array((box_volume().array > 0.5).astype(np.uint8))
        save(tmp_path / "labels" / "P1_seg.nii.gz", reference)
        predict(model, tmp_path / "images", tmp_path / "out")
        pairs, loose = pair_folders(tmp_path / "out", tmp_path / "labels")
        assert loose == [] and evaluate(pairs, LEFT_ATRIUM, None).table.mean("dice") == 1.0

    def test_nothing_there(self, tmp_path):
        (tmp_path / "empty").mkdir()
        for folder in (tmp_path / "empty", tmp_path / "none"):
            with pytest.raises(InputError) as caught:
                pair_folders(folder, folder)
            assert caught.value.code == "E311"
        with pytest.raises(InputError, match="no pair"):
            evaluate([], LEFT_ATRIUM, None)


def test_a_pair_that_cannot_be_scored_never_stops_the_others(tmp_path):
    good = Pair("P1", save(tmp_path / "p/P1.nii.gz", mask()), save(tmp_path / "r/P1.nii.gz", mask()))
    (tmp_path / "p/P2.nii.gz").write_bytes(b"")
    bad = Pair("P2", tmp_path / "p/P2.nii.gz", save(tmp_path / "r/P2.nii.gz", mask()))
    events = Events()
    found = evaluate([bad, good], LEFT_ATRIUM, tmp_path / "out", events)
    assert [row.case for row in found.table.rows] == ["P1"]
    assert [(one["case"], one["code"]) for one in found.refused] == [("P2", "E311")]
    assert [event["status"] for event in events.of("case")] == ["refused", "scored"]
    assert [(event["done"], event["eta_s"] is None) for event in events.of("progress")] == [(0, True), (1, False), (2, False)]


def test_an_unwritable_folder(tmp_path):
    (tmp_path / "out").write_text("a file")
    pair = Pair("P1", save(tmp_path / "p/P1.nii.gz", mask()), save(tmp_path / "r/P1.nii.gz", mask()))
    with pytest.raises(InputError) as caught:
        evaluate([pair], LEFT_ATRIUM, tmp_path / "out")
    assert caught.value.code == "E809"
