"""Images find their masks by the usual names, folders their layout, and odd files are named instead of guessed."""

from __future__ import annotations

from pathlib import Path, PurePath

import builders
import pytest

from semiseg.data.cases import Case, find_cases, find_cohort
from semiseg.data.naming import natural_order, patient_of, safe_id, understand
from semiseg.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def ids(cases: tuple[Case, ...]) -> list[str]:
    return [case.id for case in cases]


PAIRS = {
    "suffix _seg": ("P1.nii.gz", "P1_seg.nii.gz", "P1"),
    "suffix _label": ("P1.nrrd", "P1_label.nrrd", "P1"),
    "suffix -label": ("P1.mha", "P1-label.nrrd", "P1"),
    "Slicer segmentation": ("P1.nrrd", "P1.seg.nrrd", "P1"),
    "Slicer default names": ("P1.nrrd", "P1-segmentation.seg.nrrd", "P1"),
    "img and mask as suffix": ("P1_img.nii", "P1_mask.nii", "P1"),
    "img and mask as prefix": ("img_P1.nii", "mask_P1.nii", "P1"),
    "MM-WHS": ("ct_train_1001_image.nii.gz", "ct_train_1001_label.nii.gz", "ct_train_1001"),
    "a folder a case": ("P1/img.nii", "P1/mask.nii", "P1"),
    "atrial challenge": ("P1/lgemri.nrrd", "P1/laendo.nrrd", "P1"),
    "LAScarQS": ("train_1/enhanced.nii.gz", "train_1/atriumSegImgMO.nii.gz", "train_1"),
    "Decathlon": ("imagesTr/la_003.nii.gz", "labelsTr/la_003.nii.gz", "la_003"),
    "nnU-Net": ("imagesTr/la_003_0000.nii.gz", "labelsTr/la_003.nii.gz", "la_003"),
    "images and masks": ("images/P1.nii", "masks/P1.nii", "P1"),
    "img and gt folders": ("img/P1.nii", "ground_truth/P1.nii", "P1"),
    "nested": ("site A/P1/scan.nii", "site A/P1/segmentation.seg.nrrd", "site A_P1"),
    "another format and case": ("P1.NII.GZ", "P1_Label.nrrd", "P1"),
    "letters of other scripts": ("Müller 中.nii", "Müller 中_seg.nii", "Müller 中"),
    "dots in the name": ("1.2.840.7.nii", "1.2.840.7_seg.nii", "1.2.840.7"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_image_and_mask_are_paired_by_name(tmp_path, name):
    image, mask, case_id = PAIRS[name]
    touch(tmp_path, image, mask)
    found = find_cohort(tmp_path)
    assert not found.refused
    assert [(case.id, case.image, case.label) for case in found.labeled] == [
        (case_id, tmp_path / image, tmp_path / mask)
    ]


def test_images_without_masks_are_unlabeled_in_one_folder(tmp_path):
    touch(tmp_path, "a.nii", "a_seg.nii", "b.nii", "b_seg.nii", "u10.nii", "u9.nii", "readme.txt", ".hidden.nii")
    found = find_cohort(tmp_path)
    assert ids(found.labeled) == ["a", "b"]
    assert ids(found.unlabeled) == ["u9", "u10"]
    assert found.held_out == ()


def test_the_last_fifth_of_the_patients_is_held_out(tmp_path):
    touch(tmp_path, *[f"p{n}_t{t}{s}.nii" for n in range(10) for t in (1, 2) for s in ("", "_seg")])
    found = find_cohort(tmp_path)
    assert ids(found.held_out) == ["p8_t1", "p8_t2", "p9_t1", "p9_t2"]
    assert len(found.labeled) == 16
    assert ids(find_cohort(tmp_path, num_held_out=1).held_out) == ["p9_t1", "p9_t2"]


def test_fewer_labeled_makes_the_rest_unlabeled_without_masks(tmp_path):
    touch(tmp_path, *[f"c{n}{s}.nii" for n in range(10) for s in ("", "_seg")], "u.nii")
    found = find_cohort(tmp_path, num_labeled=4)
    assert ids(found.labeled) == ["c0", "c1", "c2", "c3"]
    assert ids(found.unlabeled) == ["c4", "c5", "c6", "c7", "u"]
    assert all(case.label is None for case in found.unlabeled)
    assert any("left aside" in note for note in found.notes)


def test_test_images_of_public_layouts(tmp_path):
    touch(tmp_path / "msd", "imagesTr/la_1.nii.gz", "labelsTr/la_1.nii.gz", "imagesTs/la_2.nii.gz")
    found = find_cohort(tmp_path / "msd")
    assert (ids(found.labeled), ids(found.unlabeled)) == (["la_1"], ["la_2"])
    touch(
        tmp_path / "nnu", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b_0000.nii.gz", "labelsTs/b.nii.gz"
    )
    found = find_cohort(tmp_path / "nnu")
    assert (ids(found.labeled), ids(found.held_out)) == (["a"], ["b"])


def test_role_subfolders(tmp_path):
    touch(tmp_path, "labeled/a.nii", "labeled/a_seg.nii", "Unlabelled/b.nii", "held-out/c.nii", "held-out/c_seg.nii")
    found = find_cohort(tmp_path)
    assert (ids(found.labeled), ids(found.unlabeled), ids(found.held_out)) == (["a"], ["b"], ["c"])


def test_separate_folders_files_and_masks_in_the_unlabeled_one(tmp_path):
    touch(tmp_path, "x/images/a.nii", "x/masks/a.nii", "y/b.nii", "y/b_seg.nii", "y/c.nii", "z/d.nii", "z/d_seg.nii")
    found = find_cases([tmp_path / "x/images", tmp_path / "x/masks"], [tmp_path / "y"], [tmp_path / "z"])
    assert (ids(found.labeled), ids(found.unlabeled), ids(found.held_out)) == (["a"], ["b", "c"], ["d"])
    assert found.unlabeled[0].label is None
    found = find_cases([tmp_path / "y/b.nii", tmp_path / "y/b_seg.nii"], [tmp_path / "y/c.nii"])
    assert (ids(found.labeled), ids(found.unlabeled)) == (["b"], ["c"])


def test_ids_stay_unique_over_roles_and_upper_case(tmp_path):
    touch(tmp_path, "l/a.nii", "l/a_seg.nii", "u/A.nii", "u/x/a.nii", "h/a.nii", "h/a_mask.nii")
    found = find_cases([tmp_path / "l"], [tmp_path / "u"], [tmp_path / "h"])
    every = ids(found.labeled) + ids(found.unlabeled) + ids(found.held_out)
    assert len({name.lower() for name in every}) == 4


def test_the_same_file_is_taken_once(tmp_path):
    touch(tmp_path, "a.nii", "a_seg.nii")
    found = find_cases([tmp_path, tmp_path / "a.nii", tmp_path / "a_seg.nii"])
    assert ids(found.labeled) == ["a"]


def test_masks_without_image_images_without_mask_and_two_masks_are_refused(tmp_path):
    touch(tmp_path / "l", "a.nii", "b.nii", "b_seg.nii", "b_mask.nii", "c_seg.nii", "d.nii", "d.seg.nrrd")
    found = find_cases([tmp_path / "l"], [touch(tmp_path / "u", "u.nii")])
    reasons = {refusal.id: refusal.reason for refusal in found.refused}
    assert set(reasons) == {"a", "b", "c"}
    assert "No mask" in reasons["a"]
    assert "Several masks" in reasons["b"]
    assert "no image" in reasons["c"]
    assert ids(found.labeled) == ["d"]


def test_a_held_out_image_without_mask_cannot_be_scored(tmp_path):
    touch(tmp_path, "l/a.nii", "l/a_seg.nii", "h/b.nii")
    found = find_cases([tmp_path / "l"], [], [tmp_path / "h"])
    assert [(refusal.id, refusal.role) for refusal in found.refused] == [("b", "held_out")]


def test_numbers_are_channels_only_where_a_mask_says_so(tmp_path):
    touch(tmp_path / "n", "scan_0001.nii", "scan_0002.nii", "scan_0001_seg.nii", "scan_0002_seg.nii")
    assert ids(find_cohort(tmp_path / "n").labeled) == ["0001", "0002"]
    touch(tmp_path / "m", "imagesTr/a_0000.nii", "imagesTr/a_0001.nii", "labelsTr/a.nii")
    found = find_cohort(tmp_path / "m")
    assert ids(found.labeled) == ["a"]
    assert "further channel" in found.refused[0].reason


def test_wall_and_scar_files_of_the_challenges_are_left_aside(tmp_path):
    touch(tmp_path, "P1/lgemri.nrrd", "P1/laendo.nrrd", "P1/lawall.nrrd")
    found = find_cohort(tmp_path)
    assert (ids(found.labeled), found.unlabeled, found.refused) == (["P1"], (), ())


def test_a_file_still_in_the_cloud_is_found_so_that_it_can_be_refused(tmp_path):
    touch(tmp_path, ".a.nii.gz.icloud", "a_seg.nii.gz")
    assert ids(find_cohort(tmp_path).labeled) == ["a"]


def test_left_atrium_layout_keeps_the_published_order(tmp_path):
    train, test = builders.write_left_atrium_layout(tmp_path)
    assert train != sorted(train)
    found = find_cohort(tmp_path, num_labeled=3)
    assert ids(found.labeled) == train[:3]
    assert ids(found.unlabeled) == train[3:]
    assert ids(found.held_out) == test
    assert found.labeled[0].label == found.labeled[0].image
    assert all(case.label is None for case in found.unlabeled)
    assert ids(find_cases([tmp_path], num_labeled=3).labeled) == train[:3]
    assert ids(find_cohort(tmp_path).labeled) == train  # 8 are published, 4 are here


def test_a_missing_case_does_not_move_the_others_up(tmp_path):
    train, _ = builders.write_left_atrium_layout(tmp_path)
    (tmp_path / train[1] / "mri_norm2.h5").unlink()
    (tmp_path / train[1]).rmdir()
    found = find_cohort(tmp_path, num_labeled=2)
    assert ids(found.labeled) == train[:1]
    assert ids(found.unlabeled) == train[2:]
    assert (found.refused[0].id, found.refused[0].code) == (train[1], "E311")


def test_h5_file_or_case_folder_given_by_itself(tmp_path):
    train, _ = builders.write_left_atrium_layout(tmp_path)
    found = find_cases([tmp_path / train[0], tmp_path / train[1] / "mri_norm2.h5"], [tmp_path / train[2]])
    assert ids(found.labeled) == sorted(train[:2])
    assert ids(found.unlabeled) == [train[2]]
    assert found.unlabeled[0].label is None


def dicom_cohort(folder: Path) -> Path:
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    import synthetic_series

    for name in ("one", "two", "three"):
        synthetic_series.base(folder / name / "DICOM", seed=len(name))
        touch(folder, f"{name}/mask.seg.nrrd")
    return folder


def test_dicom_series_folders_are_cases_and_find_their_masks(tmp_path):
    found = find_cohort(dicom_cohort(tmp_path), num_held_out=0)
    assert ids(found.labeled) == ["one", "three", "two"]
    assert found.labeled[0].image == tmp_path / "one" / "DICOM"
    assert found.labeled[0].label == tmp_path / "one" / "mask.seg.nrrd"


def test_one_patient_id_for_all_series_is_no_patient_id(tmp_path):
    found = find_cohort(dicom_cohort(tmp_path), num_held_out=1)
    assert len({case.patient for case in found.labeled}) == 2
    assert any("Patient ID" in note for note in found.notes)


def test_dicom_patient_id_is_the_patient(tmp_path):
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    import synthetic_series

    synthetic_series.base(tmp_path / "u" / "one")
    found = find_cases([touch(tmp_path / "l", "a.nii", "a_seg.nii")], [tmp_path / "u"])
    assert [(case.id, case.patient) for case in found.unlabeled] == [("one", "LA-0001")]


@pytest.mark.parametrize("given", ["missing", "empty", "missing.nii"])
def test_missing_and_empty_folders_are_explained(tmp_path, given):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="E311"):
        find_cohort(tmp_path / given)
    if given != "empty":
        with pytest.raises(InputError, match="E311"):
            find_cases([tmp_path / given])


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("patient001_frame01", "patient001"), ("patient001_frame12", "patient001"), ("sub-01_ses-02_T1w", "sub-01"),
        ("P007_pre", "P007"), ("P007_followup", "P007"), ("06SR5RBREL16DQ6M8LWS", "06SR5RBREL16DQ6M8LWS"),
        ("la_003", "la_003"), ("ct_train_1001", "ct_train_1001"),
    ],
)  # fmt: skip
def test_patient_of_a_case_name(name, patient):
    assert patient_of(name) == patient


def test_names_become_safe_file_names():
    assert safe_id(("a/b", 'c:"d')) == "a_b_c__d"
    assert safe_id(("..",)) == "case"
    assert safe_id(("Müller", "中")) == "Müller_中"


def test_numbers_in_names_sort_as_numbers():
    assert sorted(["la_10", "la_9", "LA_1", "b"], key=natural_order) == ["b", "LA_1", "la_9", "la_10"]


def test_a_mask_word_inside_a_name_means_nothing():
    assert not understand(PurePath("segovia_01.nii")).is_mask
    assert not understand(PurePath("unlabeled/a.nii")).is_mask
    assert understand(PurePath("a_Segmentation.nii")).key == ("a",)
