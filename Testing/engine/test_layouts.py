"""Public data sets are recognized, read in their published order, and refused with a reason where they are half or other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import layout_builders as made
import numpy as np
import pytest

from semiseg.data.cases import Case, CaseList, find_cases, find_cohort
from semiseg.data.files import read_labels, read_volume
from semiseg.data.layouts import LAYOUTS, find_layout
from semiseg.errors import InputError


def ids(cases: tuple[Case, ...]) -> list[str]:
    return [case.id for case in cases]


def roles(found: CaseList) -> tuple[list[str], list[str], list[str]]:
    return ids(found.labeled), ids(found.unlabeled), ids(found.held_out)


def names_of(found: CaseList) -> list[str]:
    return [label["name"] for label in found.layout.labels]


def assert_readable(found: CaseList) -> None:
    """Every case's image, and its mask where it has one, on one grid; unlabeled cases have none."""
    for case in (*found.labeled, *found.held_out):
        image, mask = read_volume(case.image), read_labels(case.label)[0]
        assert image.array.shape == mask.array.shape == made.SHAPE, case.id
        assert mask.array.max() == len(found.layout.labels)
    assert all(case.label is None and read_volume(case.image).array.ndim == 3 for case in found.unlabeled)


# ACDC


@pytest.mark.parametrize("slices", ["data/slices", "data"])
def test_acdc_takes_the_first_patients_of_the_list(tmp_path, slices):
    patients = made.write_acdc(tmp_path, slices=slices)
    found = find_cohort(tmp_path, num_labeled=2)
    assert found.layout.name == "acdc" and found.notes[0] == "Layout: ACDC slices (SSL4MIS)."
    assert ids(found.labeled) == [f"{patient}_frame0{frame}" for patient in patients[:2] for frame in (1, 2)]
    assert {case.patient for case in found.unlabeled} == set(patients[2:])
    assert ids(found.held_out) == ["patient900_frame01", "patient901_frame01"]
    assert "first 48 slices" in found.notes[1] and "2 of 4 patients" in found.notes[1]
    assert names_of(found) == ["right ventricle", "myocardium", "left ventricle"] and found.layout.network == "unet2d"


def test_acdc_slices_are_stacked_by_number_and_volumes_are_slice_first(tmp_path):
    made.write_acdc(tmp_path, num_slices=12)
    found = find_cohort(tmp_path)
    image, label = made.balls(41, 3, (12, 20, 24))
    first = found.labeled[0]
    assert first.id == "patient004_frame01" and np.array_equal(read_volume(first.image).array, image)
    assert np.array_equal(read_labels(first.label)[0].array, label)
    assert read_volume(found.held_out[0].image, None, (10.0, 1.5, 1.5)).geometry.describe() == "24×20×5 at 1.5×1.5×10 mm"


def test_acdc_scores_on_the_test_volumes_where_they_are(tmp_path):
    made.write_acdc(tmp_path)
    made.write_list(tmp_path / "test.list", ["patient950_frame01", "patient951_frame01"])
    assert ids(find_cohort(tmp_path).held_out) == ["patient900_frame01", "patient901_frame01"]  # the list alone is not the volumes
    made.write_arrays(tmp_path / "data" / "patient950_frame01.h5", *made.balls(1, 3))
    found = find_cohort(tmp_path)
    assert ids(found.held_out) == ["patient950_frame01"]
    assert [(one.id, one.role) for one in found.refused] == [("patient951_frame01", "held_out")]


def test_an_acdc_frame_with_a_missing_slice_is_refused_and_the_others_stay(tmp_path):
    made.write_acdc(tmp_path)
    (tmp_path / "data/slices/patient004_frame02_slice_7.h5").unlink()
    found = find_cohort(tmp_path, num_labeled=2)
    assert [(one.id, one.role) for one in found.refused] == [("patient004_frame02", "labeled")]
    assert "1 of its 12 slices" in found.refused[0].reason and "slice_7" in found.refused[0].reason
    assert len(found.labeled) == 3


# Pancreas


def test_pancreas_lists_decide(tmp_path):
    made.write_pancreas(tmp_path, [5, 1, 9, 12, 30], lists=True)
    found = find_cohort(tmp_path)
    assert roles(found) == (["0005", "0001"], ["0009", "0012"], ["0030"])
    assert roles(find_cohort(tmp_path, num_labeled=3))[0] == ["0005", "0001", "0009"]
    assert found.layout.assumed_spacing_mm == (1.0, 1.0, 1.0)
    assert_readable(found)


def test_pancreas_without_lists_follows_the_published_numbers(tmp_path):
    made.write_pancreas(tmp_path / "Pancreas_h5", [*range(1, 17), 63, 64, 82], False, "image{:04d}_norm.h5")
    found = find_cohort(tmp_path / "Pancreas_h5")
    assert ids(found.labeled) == [f"{number:04d}" for number in range(1, 13)]
    assert ids(found.unlabeled) == ["0013", "0014", "0015", "0016", "0063"] and ids(found.held_out) == ["0064", "0082"]


def test_a_file_named_test_is_not_enough_for_pancreas(tmp_path):
    (tmp_path / "test.txt").write_text("a note\n")
    made.write_pancreas(tmp_path, [1, 2, 3], lists=False)
    assert find_layout(tmp_path) is None


# Synapse and AMOS


def test_resized_synapse_chooses_the_list_by_its_length(tmp_path):
    made.write_resized(tmp_path, ["0001", "0002", "0003", "0005", "0006", "0008"], 13)
    found = find_cohort(tmp_path)
    assert roles(found) == (["0002", "0003"], ["0001", "0005"], ["0008"])
    assert roles(find_cohort(tmp_path, num_labeled=3))[0] == ["0001", "0002", "0003"]
    assert found.layout.preprocessing["window"] == [-75.0, 275.0] and names_of(found)[9] == "portal and splenic veins"
    assert_readable(found)
    with pytest.raises(InputError, match=r"lists of 2 \(20 %\), 3 \(40 %\)"):
        find_cohort(tmp_path, num_labeled=5)


def test_resized_amos_is_told_from_synapse_and_says_that_mri_is_among_it(tmp_path):
    made.write_resized(tmp_path, ["amos_0001", "amos_0002", "amos_0003", "amos_0507", "amos_0006", "amos_0008"], 15)
    found = find_cohort(tmp_path)
    assert found.layout.name == "amos_npy" and names_of(found)[-1] == "prostate or uterus"
    assert any("MRI" in note for note in found.notes)
    assert_readable(found)


@pytest.mark.parametrize("base", ["", "RawData/Training"])
def test_synapse_as_downloaded_uses_the_published_cases(tmp_path, base):
    numbers = ["0001", "0002", "0004", "0006", "0023", "0034", "0036", "0039"]
    made.write_ct(tmp_path / base, "img", "label", [(f"img{n}.nii.gz", f"label{n}.nii.gz") for n in numbers], 13)
    found = find_cohort(tmp_path)
    assert roles(found) == (["0002", "0023", "0034", "0039"], ["0001"], ["0004", "0036"])
    assert found.layout.preprocessing["spacing_mm"] == [3.0, 1.5, 1.5]
    assert_readable(found)
    assert roles(find_cohort(tmp_path, num_labeled=3))[0] == ["0001", "0002", "0023"]



def test_synapse_in_decathlon_folders_pairs_img_and_label(tmp_path):
    made.write_ct(tmp_path, "imagesTr", "labelsTr", [("img0001.nii.gz", "label0001.nii.gz"), ("img0002.nii.gz", None)], 13)
    found = find_cohort(tmp_path, num_labeled=1)
    assert ids(found.labeled) == ["0001"]
    assert [(one.id, one.code) for one in found.refused] == [("0002", "E311")]


def test_synapse_slices_become_volumes(tmp_path):
    for number in (5, 6, 7, 9, 10):
        image, label = made.balls(number, 8)
        for place in range(len(image)):
            made.write_arrays(tmp_path / "train_npz" / f"case{number:04d}_slice{place:03d}.npz", image[place], label[place])
    made.write_arrays(tmp_path / "test_vol_h5" / "case0001.npy.h5", *made.balls(1, 8))
    found = find_cohort(tmp_path)
    assert roles(found) == (["case0005", "case0006", "case0007", "case0009"], ["case0010"], ["case0001"])
    assert found.layout.network == "unet2d" and names_of(found)[0] == "aorta"
    assert_readable(found)


def test_amos_takes_ct_and_holds_the_validation_part_out(tmp_path):
    train = [1, 4, 6, 7, 507]
    made.write_ct(tmp_path, "imagesTr", "labelsTr", [(f"amos_{n:04d}.nii.gz", f"amos_{n:04d}.nii.gz") for n in train], 15)
    made.write_ct(tmp_path, "imagesVa", "labelsVa", [("amos_0008.nii.gz", "amos_0008.nii.gz")], 15)
    made.write_ct(tmp_path, "imagesTs", "", [("amos_0002.nii.gz", None), ("amos_0510.nii.gz", None)], 15)
    made.write_dataset_json(tmp_path, name="AMOS", labels={"0": "background", "1": "spleen"}, modality={"0": "CT"})
    found = find_cohort(tmp_path, num_labeled=2)
    assert found.layout.name == "amos"
    assert roles(found) == (["amos_0001", "amos_0004"], ["amos_0006", "amos_0007", "amos_0002"], ["amos_0008"])
    assert [one.id for one in found.refused] == ["amos_0507"] and "MRI" in found.refused[0].reason
    assert_readable(found)


# Folders with dataset.json


def test_decathlon_keeps_the_order_and_the_names_of_dataset_json(tmp_path):
    made.write_decathlon(tmp_path, ["p_7", "p_2", "p_5", "p_1", "p_3"])
    (tmp_path / "imagesTr" / "._p_7.nii.gz").write_bytes(b"left by macOS")
    made.write_nifti(tmp_path / "imagesTr" / "p_8.nii.gz", made.balls(8)[0])
    found = find_cohort(tmp_path, num_labeled=2)
    assert found.layout.name == "decathlon" and found.notes[0] == "Layout: Medical Segmentation Decathlon, Pancreas."
    assert roles(found) == (["p_7", "p_2"], ["p_5", "p_1", "t_9"], ["p_3"])
    assert found.layout.labels == ({"value": 1, "name": "pancreas"}, {"value": 2, "name": "cancer"})
    assert not found.layout.window_from_labels  # MRI
    assert [(one.id, one.code) for one in found.refused] == [("p_8", "E311")]
    assert_readable(found)


def test_decathlon_reports_a_listed_image_that_is_gone(tmp_path):
    made.write_decathlon(tmp_path, ["p_1", "p_2", "p_3", "p_4"])
    (tmp_path / "imagesTr" / "p_2.nii.gz").unlink()
    assert {one.id for one in find_cohort(tmp_path).refused} == {"p_2"}


def test_nnunet_reads_names_channels_and_scored_test_cases(tmp_path):
    made.write_nnunet(tmp_path, ["case_10", "case_2", "case_1"], scored=["case_20"])
    found = find_cohort(tmp_path)
    assert found.layout.name == "nnunet" and found.layout.window_from_labels
    assert roles(found) == (["case_1", "case_2", "case_10"], [], ["case_20"])
    assert found.layout.labels == ({"value": 1, "name": "kidney"}, {"value": 2, "name": "tumor"})
    assert_readable(found)


def test_nnunet_without_test_masks_holds_the_last_patients_out(tmp_path):
    made.write_nnunet(tmp_path, [f"case_{number}" for number in range(6)])
    made.write_ct(tmp_path, "imagesTs", "", [("u_1_0000.nii.gz", None)], 2)
    assert roles(find_cohort(tmp_path)) == ([f"case_{n}" for n in range(5)], ["u_1"], ["case_5"])


def test_an_unrelated_dataset_json_changes_nothing(tmp_path):
    made.write_ct(tmp_path, ".", ".", [("a.nii.gz", "a_seg.nii.gz")], 1)
    made.write_dataset_json(tmp_path, author="somebody")
    assert find_cohort(tmp_path).layout is None and ids(find_cohort(tmp_path).labeled) == ["a"]


# Half, wrong and neighboring folders


def _acdc_lists_only(folder: Path) -> None:
    made.write_list(folder / "train_slices.list", ["patient001_frame01_slice_1"])


def _acdc_empty_list(folder: Path) -> None:
    (folder / "train_slices.list").write_text("\n")


def _pancreas_lists_only(folder: Path) -> None:
    made.write_list(folder / "train_lab.txt", ["0001.h5"])


def _pancreas_without_test_list(folder: Path) -> None:
    made.write_pancreas(folder, [1, 2, 3, 4], lists=True)
    (folder / "test.txt").unlink()


def _resized_without_splits(folder: Path) -> None:
    (folder / "npy").mkdir()
    np.save(folder / "npy" / "0001_image.npy", np.zeros(made.SHAPE))


def _synapse_without_masks(folder: Path) -> None:
    made.write_ct(folder, "img", "label", [("img0001.nii.gz", None)], 1)


def _slices_without_volumes(folder: Path) -> None:
    made.write_arrays(folder / "train_npz" / "case0005_slice000.npz", np.zeros((4, 4)), np.zeros((4, 4)))


def _amos_without_masks(folder: Path) -> None:
    made.write_ct(folder, "imagesTr", "labelsTr", [("amos_0001.nii.gz", None)], 1)


def _json_without_masks(folder: Path) -> None:
    made.write_ct(folder, "imagesTr", "labelsTr", [("a.nii.gz", None)], 1)
    made.write_dataset_json(folder, labels={"0": "background", "1": "liver"}, modality={"0": "CT"})


def _json_broken(folder: Path) -> None:
    (folder / "dataset.json").write_text('{"labels": ')


def _json_four_channels(folder: Path) -> None:
    made.write_nnunet(folder, ["a", "b"])
    made.write_dataset_json(folder, labels={"background": 0, "tumor": 1}, channel_names={"0": "T1", "1": "T2"})


def _json_regions(folder: Path) -> None:
    made.write_nnunet(folder, ["a", "b"])
    made.write_dataset_json(folder, labels={"background": 0, "whole": [1, 2]}, channel_names={"0": "T1"})


def _json_ignore(folder: Path) -> None:
    made.write_nnunet(folder, ["a", "b"])
    made.write_dataset_json(folder, labels={"background": 0, "tumor": 1, "ignore": 2}, channel_names={"0": "T1"})


def _json_background_alone(folder: Path) -> None:
    made.write_nnunet(folder, ["a", "b"])
    made.write_dataset_json(folder, labels={"background": 0}, channel_names={"0": "T1"})


HALVES = {
    "lists of ACDC alone": (_acdc_lists_only, "E311", r"no slice such as patient001_frame01_slice_1\.h5"),
    "an empty list": (_acdc_empty_list, "E311", "is empty"),
    "lists of Pancreas alone": (_pancreas_lists_only, "E311", "none such as 0001.h5"),
    "Pancreas without a test list": (_pancreas_without_test_list, "E311", "test.txt is missing"),
    "npy without splits": (_resized_without_splits, "E311", "splits"),
    "Synapse without masks": (_synapse_without_masks, "E311", "no mask such as label0001"),
    "slices without volumes": (_slices_without_volumes, "E311", "test_vol_h5 is missing"),
    "AMOS without masks": (_amos_without_masks, "E311", "labelsTr holds no mask"),
    "Decathlon without labelsTr": (_json_without_masks, "E311", "folder labelsTr is missing"),
    "a cut dataset.json": (_json_broken, "E311", "cannot be read"),
    "two channels": (_json_four_channels, "E302", r"2 channels \(T1, T2\)"),
    "regions": (_json_regions, "E704", "region"),
    "a label to ignore": (_json_ignore, "E704", "ignore"),
    "no structure": (_json_background_alone, "E704", "no structure"),
}


@pytest.mark.parametrize("name", HALVES)
def test_half_a_data_set_says_what_is_missing(tmp_path, name):
    write, code, pattern = HALVES[name]
    write(tmp_path)
    with pytest.raises(InputError, match=pattern) as raised:
        find_cohort(tmp_path)
    assert raised.value.code == code and raised.value.path is not None


def test_the_folder_above_a_data_set_names_it(tmp_path):
    made.write_acdc(tmp_path / "ACDC", num_patients=2)
    made.write_nnunet(tmp_path / "Dataset001_X", ["a", "b"])
    with pytest.raises(InputError, match="above a data set: ACDC, Dataset001_X") as raised:
        find_cohort(tmp_path)
    assert "such as ACDC" in raised.value.hint


def test_no_layout_sees_itself_in_another(tmp_path):
    """Each folder is recognized by one reader alone; AMOS also is a Decathlon folder and comes first."""
    made.write_acdc(tmp_path / "acdc", num_patients=2)
    made.write_pancreas(tmp_path / "pancreas", [1, 2, 3, 64], lists=True)
    made.write_resized(tmp_path / "resized", ["0001", "0002", "0003", "0005", "0006", "0008"], 13)
    made.write_ct(tmp_path / "synapse", "img", "label", [("img0001.nii.gz", "label0001.nii.gz")], 13)
    made.write_decathlon(tmp_path / "decathlon", ["p_1", "p_2", "p_3"])
    made.write_nnunet(tmp_path / "nnunet", ["a", "b", "c"])
    for folder in tmp_path.iterdir():
        found = [reader(folder, None) for reader in LAYOUTS]
        assert [one.layout.name for one in found if one is not None] == [folder.name if folder.name != "resized" else "synapse_npy"]


def test_files_named_one_by_one_are_no_layout(tmp_path):
    made.write_acdc(tmp_path, num_patients=2)
    first = sorted((tmp_path / "data/slices").glob("patient001_frame01_*"))
    assert find_cases(first[:1], [tmp_path / "data/slices"]).layout is None


def test_every_layout_is_in_the_documentation():
    text = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    for name in ("ACDC", "Pancreas-CT", "Synapse", "AMOS", "Medical Segmentation Decathlon", "nnU-Net", "left atrium"):
        assert re.search(rf"^## .*{re.escape(name)}", text, re.MULTILINE | re.IGNORECASE), name
    known = {reader.__module__.rsplit(".", 1)[-1] for reader in LAYOUTS}
    assert known == {path.stem for path in Path(made.__file__).parents[2].glob("TransMedSeg/semiseg/data/layouts/*.py")} - {"__init__", "lists"}


def test_a_note_names_every_layout_as_plain_json(tmp_path):
    """The layout goes into job.json: nothing in it may be other than JSON."""
    made.write_nnunet(tmp_path, ["a", "b", "c"])
    layout = find_layout(tmp_path).layout
    assert json.loads(json.dumps([list(layout.labels), layout.preprocessing])) == [list(layout.labels), layout.preprocessing]
