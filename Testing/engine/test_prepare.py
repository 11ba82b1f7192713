"""Folders become checked, prepared cases; every bad input is a row with a reason, and stops nothing else."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import builders
import numpy as np
import pytest
import torch

from semiseg import prepare as prepare_module
from semiseg.data.cache import PreparedSet
from semiseg.data.duplicates import aligned_correlation
from semiseg.data.files import read_volume, write_labels, write_volume
from semiseg.data.geometry import Geometry
from semiseg.data.preprocess import Preprocessing
from semiseg.data.segmentation import Segment
from semiseg.data.split import Split
from semiseg.data.volume import Volume
from semiseg.errors import InputError
from semiseg.prepare import PrepareOptions, prepare

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Reports(list):
    """Collects what ``prepare`` reports."""

    def __call__(self, kind: str, **fields) -> None:
        self.append((kind, fields))

    def of(self, kind: str) -> list[dict]:
        return [fields for found, fields in self if found == kind]

    def codes(self) -> list[str]:
        return [fields["code"] for fields in self.of("warning")]


def run(folder: Path, out: Path | None = None, reports: Reports | None = None, **options) -> PreparedSet:
    given = {"labeled": (folder / "labeled",), "unlabeled": (folder / "unlabeled",), "held_out": (folder / "heldout",)}
    given = {role: paths for role, paths in given.items() if paths[0].exists()}
    return prepare(
        PrepareOptions(**{**given, **options}), out or folder / "out", reports if reports is not None else Reports()
    )


def ids(prepared: PreparedSet, role: str) -> list[str]:
    return [prepared.cases[index].id for index in prepared.indices(role)]


def row(prepared: PreparedSet, case_id: str):
    return next(case for case in prepared.cases if case.id == case_id)


@pytest.fixture
def cohort(tmp_path) -> Path:
    return builders.write_cohort(tmp_path / "cohort")


# The good case


@pytest.mark.parametrize("ending", [*builders.FILE_FORMATS, ".h5"])
def test_a_cohort_of_any_format_is_prepared(tmp_path, ending):
    if ending == ".h5":
        folder = tmp_path / "cohort"
        for role, seeds in (("labeled", (1, 2, 3)), ("unlabeled", (4, 5)), ("heldout", (6,))):
            for seed in seeds:
                builders.write_case(folder / role / f"{role}_{seed:02d}", "mri_norm2", seed, ".h5")
    else:
        folder = builders.write_cohort(tmp_path / "cohort", ending=ending)
    prepared = run(folder, preprocessing=Preprocessing(spacing_mm=(1.3, 1.3, 1.3)))
    assert [len(prepared.indices(role)) for role in ("labeled", "unlabeled", "validation", "held_out")] == [3, 2, 0, 1]
    assert prepared.refused == []
    for index in prepared.indices("labeled"):
        image, label = prepared.arrays(index)
        assert (image.dtype, label.dtype) == (np.float16, np.uint8)
        assert image.shape == label.shape == prepared.shape(index)
        assert isinstance(image, np.memmap)
        assert image.flags.c_contiguous
        assert prepared.num_bytes(index) == image.nbytes + label.nbytes
        assert float(image[label == 1].mean()) > float(image[label == 0].mean()) + 1
    for index in prepared.indices("unlabeled"):
        assert prepared.arrays(index)[1] is None
    assert not list((folder / "out").glob("heldout*"))


def test_the_record_leads_back_to_the_source_grid(cohort):
    prepared = run(cohort, preprocessing=Preprocessing(spacing_mm=(1.0, 1.0, 1.0)))
    index = prepared.indices("labeled")[0]
    case = prepared.cases[index]
    _, label = prepared.arrays(index)
    source = read_volume(Path(case.image))
    restore = case.way_back
    assert restore.source.same_grid_as(source.geometry)
    one_hot = np.stack([label == 0, label == 1]).astype(np.float32)
    mask = read_volume(Path(case.label)).array
    back = restore.undo_to_labels(one_hot)
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > 0.9
    assert case.spacing_mm == pytest.approx((1, 1, 1), rel=0.1)
    assert case.label_voxels == [int((mask == 0).sum()), int(mask.sum())]


def test_table_lists_every_case_with_use_and_volume(cohort):
    (cohort / "labeled" / "broken.nii.gz").write_bytes(b"no volume")
    prepared = run(cohort)
    text = (cohort / "out" / "cases.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == len(prepared.cases) == 7
    by_name = {one["case"]: one for one in rows}
    assert by_name["labeled_00"]["use"] == "labeled"
    assert by_name["heldout_00"]["use"] == "held out"
    assert by_name["broken"]["use"] == "refused (labeled)"
    first = prepared.cases[prepared.indices("labeled")[0]]
    expected = first.label_voxels[1] * 2.5 * 0.9 * 0.7 / 1000
    assert float(by_name["labeled_00"]["left atrium (ml)"]) == pytest.approx(expected, abs=0.06)
    assert by_name["labeled_00"]["size"] == "30×20×10"
    assert by_name["labeled_00"]["spacing_mm"] == "0.7×0.9×2.5"


def test_what_is_saved_is_what_is_loaded(cohort):
    prepared = run(cohort)
    loaded = PreparedSet.load(cohort / "out")
    assert loaded == prepared
    assert Split.load(cohort / "out" / "split.json").labeled == tuple(ids(prepared, "labeled"))


def test_progress_counts_every_case_and_each_case_is_reported(cohort):
    reports = Reports()
    run(cohort, reports=reports)
    progress = [fields for fields in reports.of("progress") if fields["what"] == "preparing cases"]
    assert [fields["done"] for fields in progress] == list(range(7))
    assert {fields["total"] for fields in progress} == {6}
    assert progress[0]["eta_s"] is None and progress[-1]["eta_s"] == 0.0
    assert all(fields["rate_per_s"] > 0 and fields["eta_s"] >= 0 for fields in progress[1:])
    assert len(reports.of("case")) == 6


def test_validation_is_taken_from_the_labeled_patients(tmp_path):
    folder = builders.write_cohort(tmp_path, num_labeled=5)
    prepared = run(folder, num_validation=2, seed=4)
    assert (len(ids(prepared, "labeled")), len(ids(prepared, "validation"))) == (3, 2)
    index = prepared.indices("validation")[0]
    assert prepared.arrays(index)[1] is not None
    assert ids(run(folder, folder / "again", num_validation=2, seed=4), "validation") == ids(prepared, "validation")


def test_left_atrium_layout_names_its_assumed_spacing(tmp_path):
    train, test = builders.write_left_atrium_layout(tmp_path)
    prepared = prepare(PrepareOptions(labeled=(tmp_path,), num_labeled=2), tmp_path / "out")
    assert (ids(prepared, "labeled"), ids(prepared, "unlabeled")) == (train[:2], train[2:])
    assert ids(prepared, "held_out") == test
    assert any("0.625 mm" in message for message in prepared.messages)
    assert prepared.cases[0].spacing_mm == (0.625, 0.625, 0.625)


def test_values_become_channels_in_the_order_of_the_labels(tmp_path):
    folder = builders.write_cohort(tmp_path, num_labeled=2)
    for path in (folder / "labeled").glob("*_seg.nii.gz"):
        mask = read_volume(path)
        labels = np.where(mask.array > 0, 420, 0)
        labels[0, :3] = 7
        write_volume(path, mask.with_array(labels.astype(np.int16)))
        path.with_name(path.name.replace(".nii.gz", ".json")).unlink()
    for path in (folder / "heldout").iterdir():
        path.unlink()
    labels = ({"value": 420, "name": "left atrium"}, {"value": 7, "name": "wall", "code": "x"})
    prepared = run(folder, labels=labels)
    _, label = prepared.arrays(0)
    assert prepared.num_classes == 3
    assert sorted(np.unique(label)) == [0, 1, 2]
    assert prepared.cases[0].label_voxels[2] == 3 * 30
    assert prepared.labels == labels


def test_a_name_in_the_file_outweighs_its_value(tmp_path):
    folder = builders.write_cohort(tmp_path, num_labeled=2, num_held_out=0)
    for path in list((folder / "labeled").glob("*_seg.nii.gz")):
        mask = read_volume(path)
        write_labels(
            path.with_name(path.name.replace("_seg.nii.gz", ".seg.nrrd")),
            mask.with_array(mask.array * 3),
            [Segment(3, "Left Atrium")],
        )
        path.unlink()
    assert len(ids(run(folder), "labeled")) == 2


def test_the_value_of_another_named_segment_is_not_taken_for_the_structure(cohort):
    for path in list((cohort / "labeled").glob("labeled_01_seg.nii.gz")):
        mask = read_volume(path)
        both = mask.with_array(mask.array * 2)
        both.array[0, 0, :4] = 1
        segments = [Segment(1, "aorta"), Segment(2, "left atrium")]
        write_labels(path.with_name("labeled_01.seg.nrrd"), both, segments)
        path.unlink()
    bad = row(run(cohort), "labeled_01")
    assert (bad.code, "1 (4 voxels)" in bad.reason) == ("E704", True)


def test_a_slicer_segmentation_cut_to_its_segment_is_placed(tmp_path):
    folder = builders.write_cohort(tmp_path, num_labeled=2, num_held_out=0)
    for path in list((folder / "labeled").glob("*_seg.nii.gz")):
        mask = read_volume(path)
        inside = np.argwhere(mask.array)
        low, high = inside.min(0), inside.max(0) + 1
        affine = mask.geometry.affine.copy()
        affine[:3, 3] = mask.geometry.position_mm(low)
        part = mask.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        write_labels(
            path.with_name(path.name.replace("_seg.nii.gz", ".seg.nrrd")),
            Volume(part, Geometry(part.shape, affine)),
            [builders.LEFT_ATRIUM],
        )
        path.unlink()
    whole = run(builders.write_cohort(tmp_path / "whole", num_labeled=2, num_held_out=0))
    assert [case.label_voxels for case in run(folder).cases] == [case.label_voxels for case in whole.cases]


def test_dicom_series_are_prepared(tmp_path):
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    import synthetic_series

    for name, seed in (("one", 1), ("two", 2), ("three", 3)):
        folder = synthetic_series.base(tmp_path / "cohort" / "labeled" / name / "DICOM", seed=seed)
        mask = read_volume(folder).with_array(synthetic_series.chamber_mask())
        write_labels(folder.parent / "mask.seg.nrrd", mask, [builders.LEFT_ATRIUM])
    synthetic_series.missing(tmp_path / "cohort" / "unlabeled" / "gap")
    prepared = run(tmp_path / "cohort")
    assert ids(prepared, "labeled") == ["one", "three", "two"]
    assert row(prepared, "gap").code == "E304"


# The cache


def mtimes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")}


def test_unchanged_cases_are_not_prepared_again(cohort):
    run(cohort)
    before = mtimes(cohort / "out")
    run(cohort)
    assert len(before) == 8
    assert mtimes(cohort / "out") == before


def test_a_changed_source_is_prepared_again(cohort):
    run(cohort)
    before = mtimes(cohort / "out")
    builders.write_case(cohort / "labeled", "labeled_01", seed=77)
    run(cohort)
    changed = {name for name, time in mtimes(cohort / "out").items() if time != before[name]}
    assert changed == {"labeled_01.image.npy", "labeled_01.label.npy"}


@pytest.mark.parametrize(
    "options",
    [{"preprocessing": Preprocessing(spacing_mm=(2, 2, 2))}, {"labels": ({"value": 1, "name": "atrium", "code": 5},)}],
)
def test_a_changed_option_prepares_everything_again(cohort, options):
    run(cohort)
    before = mtimes(cohort / "out")
    run(cohort, **options)
    after = mtimes(cohort / "out")
    assert before.keys() == after.keys()
    assert all(after[name] != before[name] for name in before)


def test_a_damaged_array_is_prepared_again(cohort):
    run(cohort)
    path = cohort / "out" / "labeled_00.image.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    run(cohort)
    assert path.read_bytes() == whole


def test_arrays_of_cases_no_longer_used_are_removed(cohort):
    run(cohort)
    (cohort / "unlabeled" / "unlabeled_00.nii.gz").unlink()
    run(cohort)
    assert not list((cohort / "out").glob("unlabeled_00*"))
    assert len(mtimes(cohort / "out")) == 7


def test_a_case_that_loses_its_mask_loses_the_stored_mask(tmp_path):
    builders.write_left_atrium_layout(tmp_path)
    options = {"labeled": (tmp_path,), "preprocessing": Preprocessing()}
    prepare(PrepareOptions(num_labeled=3, **options), tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.label.npy"))) == 3
    prepared = prepare(PrepareOptions(num_labeled=2, **options), tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.label.npy"))) == 2
    assert prepared.arrays(2)[1] is None


def test_a_case_may_change_its_role(cohort):
    run(cohort, held_out=(cohort / "heldout",))
    prepared = run(cohort, labeled=(cohort / "labeled", cohort / "heldout"), held_out=())
    index = [case.id for case in prepared.cases].index("heldout_00")
    assert prepared.cases[index].role == "labeled"
    assert prepared.arrays(index)[1] is not None
    run(cohort, held_out=(cohort / "heldout",))
    assert not list((cohort / "out").glob("heldout*"))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1}'])
def test_a_damaged_list_of_cases_is_refused_by_load_and_mended_by_prepare(cohort, content):
    expected = run(cohort)
    (cohort / "out" / "cases.json").write_text(content)
    with pytest.raises(InputError, match="E311|E404"):
        PreparedSet.load(cohort / "out")
    assert run(cohort) == expected


def test_a_folder_without_prepared_cases_is_refused(tmp_path):
    with pytest.raises(InputError, match="E311"):
        PreparedSet.load(tmp_path)


def test_an_interrupted_preparation_goes_on(cohort, monkeypatch):
    def stop_at_third(kind, **fields):
        if kind == "progress" and fields["done"] == 3:
            raise KeyboardInterrupt

    options = PrepareOptions(labeled=(cohort / "labeled",), unlabeled=(cohort / "unlabeled",))
    with pytest.raises(KeyboardInterrupt):
        prepare(options, cohort / "out", stop_at_third)
    assert not list((cohort / "out").glob(".*"))
    assert len(prepare(options, cohort / "out").indices("labeled")) == 3


# Bad cases: one row each, the others go on


def replace_image(folder: Path, change) -> None:
    path = folder / "labeled" / "labeled_01.nii.gz"
    write_volume(path, change(read_volume(path)))


def nan_image(folder: Path) -> None:
    def change(volume: Volume) -> Volume:
        volume.array[1, 2, 3] = np.nan
        return volume

    replace_image(folder, change)


def all_zero_image(folder: Path) -> None:
    replace_image(folder, lambda volume: volume.with_array(np.zeros_like(volume.array)))


def truncated_image(folder: Path) -> None:
    path = folder / "labeled" / "labeled_01.nii.gz"
    path.write_bytes(path.read_bytes()[:5000])


def placeholder_image(folder: Path) -> None:
    (folder / "labeled" / "labeled_01.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


def deleted_while_running(folder: Path) -> None:
    path = folder / "labeled" / "labeled_01.nii.gz"
    path.unlink()
    path.symlink_to(folder / "gone.nii.gz")


def single_slice(folder: Path) -> None:
    grid = Geometry((1, 20, 30), builders.oblique().affine)
    replace_image(folder, lambda volume: Volume(volume.array[:1], grid))


def implausible_spacing(folder: Path) -> None:
    grid = builders.geometry(spacing_mm=(2500.0, 900.0, 700.0))
    replace_image(folder, lambda volume: Volume(volume.array, grid))


def sheared_axes(folder: Path) -> None:
    affine = builders.oblique().affine.copy()
    affine[:3, 0] += 0.3 * affine[:3, 1]
    path = folder / "labeled" / "labeled_01.nii.gz"
    volume = read_volume(path)
    path.unlink()
    write_volume(path.with_name("labeled_01.nrrd"), Volume(volume.array, Geometry(volume.array.shape, affine)))


def change_mask(folder: Path, change) -> None:
    path = folder / "labeled" / "labeled_01_seg.nii.gz"
    write_volume(path, change(read_volume(path)))


def mask_with_half_the_slices(folder: Path) -> None:
    change_mask(folder, lambda mask: Volume(mask.array[:5], Geometry((5, 20, 30), mask.geometry.affine)))


def mask_somewhere_else(folder: Path) -> None:
    change_mask(folder, lambda mask: Volume(mask.array, builders.geometry()))


def empty_mask(folder: Path) -> None:
    change_mask(folder, lambda mask: mask.with_array(np.zeros_like(mask.array)))


def value_nobody_named(folder: Path) -> None:
    def change(mask: Volume) -> Volume:
        mask.array[0, 0, :5] = 9
        return mask

    change_mask(folder, change)


def fractions_in_the_mask(folder: Path) -> None:
    change_mask(folder, lambda mask: mask.with_array(mask.array * np.float32(0.5)))


def no_mask(folder: Path) -> None:
    (folder / "labeled" / "labeled_01_seg.nii.gz").unlink()


BAD = {
    nan_image: ("E309", "1 of 6000 voxels (NaN"),
    all_zero_image: ("E309", "every voxel is 0"),
    truncated_image: ("E311", "cut off"),
    placeholder_image: ("E311", "looks like a placeholder"),
    deleted_while_running: ("E311", "cannot be read"),
    single_slice: ("E302", "single slice"),
    implausible_spacing: ("E306", "implausible"),
    sheared_axes: ("E305", "right angles"),
    mask_with_half_the_slices: ("E803", "another grid (30×20×5 at 0.7×0.9×2.5 mm; image 30×20×10"),
    mask_somewhere_else: ("E803", "mm away or turned"),
    empty_mask: ("E309", "is empty"),
    value_nobody_named: ("E704", "9 (5 voxels). Named: 1 = left atrium"),
    fractions_in_the_mask: ("E704", "fractions"),
    no_mask: ("", "No mask was found"),
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_case_is_refused_with_its_reason_and_the_others_go_on(cohort, spoil):
    spoil(cohort)
    reports = Reports()
    prepared = run(cohort, reports=reports)
    code, part = BAD[spoil]
    bad = row(prepared, "labeled_01")
    assert (bad.status, bad.code) == ("refused", code)
    assert part in bad.reason
    assert ids(prepared, "labeled") == ["labeled_00", "labeled_02"]
    assert ids(prepared, "unlabeled") == ["unlabeled_00", "unlabeled_01"]
    assert not list((cohort / "out").glob("labeled_01*"))
    reported = next(fields for fields in reports.of("case") if fields["id"] == "labeled_01")
    assert (reported["status"], reported["code"]) == ("refused", code)
    text = (cohort / "out" / "cases.csv").read_text(encoding="utf-8")
    assert "refused (labeled)" in text


def test_a_volume_that_does_not_fit_the_memory_is_refused_and_the_others_go_on(cohort, monkeypatch):
    real = prepare_module._prepare_case

    def scarce(case, *rest):
        if case.id == "labeled_01":
            raise MemoryError
        return real(case, *rest)

    monkeypatch.setattr(prepare_module, "_prepare_case", scarce)
    prepared = run(cohort)
    assert (row(prepared, "labeled_01").status, row(prepared, "labeled_01").code) == ("refused", "E310")
    assert ids(prepared, "labeled") == ["labeled_00", "labeled_02"]


def test_a_case_that_was_good_and_turns_bad_loses_its_arrays(cohort):
    run(cohort)
    nan_image(cohort)
    run(cohort)
    assert not list((cohort / "out").glob("labeled_01*"))


# Bad cohorts


def test_no_labels_at_all(tmp_path):
    folder = builders.write_cohort(tmp_path, num_labeled=0)
    for labeled in ((), (folder / "unlabeled",)):
        with pytest.raises(InputError, match="E801.*[Aa]t least 2"):
            prepare(PrepareOptions(labeled=labeled), tmp_path / "out")


def test_one_label_is_too_few_and_the_table_says_why(cohort):
    nan_image(cohort)
    empty = cohort / "labeled" / "labeled_02_seg.nii.gz"
    empty.unlink()
    with pytest.raises(InputError) as caught:
        run(cohort)
    assert caught.value.code == "E801"
    assert "1 can be used" in caught.value.message
    assert "labeled_01" in caught.value.message
    assert "NaN" in (cohort / "out" / "cases.csv").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="E801"):
        PrepareOptions(labeled=(cohort,), num_labeled=1)


def test_no_unlabeled_volumes_is_a_warning(tmp_path):
    folder = builders.write_cohort(tmp_path, num_unlabeled=0)
    reports = Reports()
    run(folder, reports=reports)
    assert reports.codes() == ["E802"]


def test_a_named_structure_in_no_mask_is_refused(cohort):
    labels = ({"value": 1, "name": "left atrium"}, {"value": 2, "name": "appendage"})
    with pytest.raises(InputError, match="E704.*appendage.*none of the 3"):
        run(cohort, labels=labels)


@pytest.mark.parametrize(
    "labels",
    [(), ({"value": 0, "name": "x"},), ({"value": 1, "name": "x"}, {"value": 1, "name": "y"}),
     ({"value": 1, "name": "x"}, {"value": 2, "name": "X "})],
)  # fmt: skip
def test_impossible_labels_are_refused(labels):
    with pytest.raises(InputError, match="E704"):
        PrepareOptions(labels=labels)


def test_an_unwritable_folder_is_refused(cohort):
    (cohort / "file").write_text("")
    with pytest.raises(InputError, match="E809"):
        run(cohort, cohort / "file" / "out")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may write everywhere")
def test_a_read_only_folder_is_refused(cohort):
    (cohort / "out").mkdir(mode=0o500)
    with pytest.raises(InputError, match="E809"):
        run(cohort)


def test_a_full_disk_stops_and_keeps_what_is_finished(cohort, monkeypatch):
    saved = []
    real = np.save

    def save(file, array):
        if len(saved) == 3:
            raise OSError(28, "No space left on device")
        saved.append(array)
        real(file, array)

    monkeypatch.setattr(np, "save", save)
    with pytest.raises(InputError, match="E807"):
        run(cohort)
    assert len(mtimes(cohort / "out")) == 3
    assert not list((cohort / "out").glob(".*"))


# Duplicates


def copy_case(folder: Path, source: str, target: str) -> None:
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / source, folder / target)


def test_an_unlabeled_copy_of_a_labeled_case_is_dropped(cohort):
    copy_case(cohort, "labeled/labeled_02.nii.gz", "unlabeled/copy.nii.gz")
    reports = Reports()
    prepared = run(cohort, reports=reports)
    dropped = row(prepared, "copy")
    assert (dropped.status, dropped.code) == ("refused", "E804")
    assert "labeled_02" in dropped.reason
    assert reports.codes() == ["E804"]
    assert len(ids(prepared, "labeled")) == 3
    assert dropped.same_as == "labeled_02", "which one is used instead can be read without reading the sentence"
    assert {event["id"]: event["same_as"] for event in reports.of("case") if event["same_as"]} == {"copy": "labeled_02"}
    table = csv.DictReader((cohort / "out" / "cases.csv").read_text(encoding="utf-8").splitlines())
    assert {one["case"]: one["same_as"] for one in table if one["same_as"]} == {"copy": "labeled_02"}


def test_a_held_out_copy_of_a_labeled_case_leaves_the_hold_out(cohort):
    copy_case(cohort, "labeled/labeled_00.nii.gz", "heldout/zz.nii.gz")
    copy_case(cohort, "labeled/labeled_00_seg.nii.gz", "heldout/zz_seg.nii.gz")
    prepared = run(cohort)
    assert row(prepared, "zz").code == "E804"
    assert ids(prepared, "held_out") == ["heldout_00"]


def test_an_unlabeled_copy_of_a_held_out_case_leaves_the_training(cohort):
    copy_case(cohort, "heldout/heldout_00.nii.gz", "unlabeled/copy.nii.gz")
    prepared = run(cohort)
    assert row(prepared, "copy").code == "E804"
    assert ids(prepared, "held_out") == ["heldout_00"]


def test_the_same_scan_in_another_format_turned_and_scaled_is_found(cohort):
    volume = read_volume(cohort / "labeled" / "labeled_02.nii.gz")
    flipped = Geometry(
        volume.geometry.shape,
        volume.geometry.affine @ np.array([[1, 0, 0, 0], [0, -1, 0, 19], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    )
    again = Volume((volume.array[:, ::-1] * 100 + 500).astype(np.int16), flipped)
    write_volume(cohort / "unlabeled" / "again.nrrd", again)
    assert row(run(cohort), "again").code == "E804"


def test_the_same_scan_with_another_crop_is_found():
    big = builders.geometry((16, 40, 44), (1.0, 1.0, 1.0))
    image = builders.image_of(builders.sphere(big, 9.0), 5)
    smooth = (image + np.roll(image, 1, 0) + np.roll(image, 1, 1) + np.roll(image, 1, 2)) / 4
    one = Volume(smooth[:, 3:37, 2:40], builders.geometry((16, 34, 38), (1.0, 1.0, 1.0)))
    two = Volume(smooth[:, 0:35, 5:44] * 3 + 7, builders.geometry((16, 35, 39), (1.0, 1.0, 1.0)))
    assert aligned_correlation(one, two) > 0.999
    other = builders.image_of(builders.sphere(big, 9.0), 6)
    assert aligned_correlation(one, Volume(other[:, 0:35, 5:44], two.geometry)) < 0.9
    coarser = builders.geometry((16, 35, 39), (1.0, 1.5, 1.0))
    assert aligned_correlation(one, Volume(two.array, coarser)) == 0.0


def test_patients_in_two_roles_are_told_apart(tmp_path):
    for name, seed in (("labeled/patient01_t1", 1), ("labeled/patient02_t1", 2), ("heldout/patient01_t2", 3)):
        builders.write_case(tmp_path / Path(name).parent, Path(name).name, seed)
    builders.write_case(tmp_path / "heldout", "patient03_t1", 4)
    builders.write_case(tmp_path / "unlabeled", "patient03_t2", 5, mask_ending=None)
    prepared = run(tmp_path)
    assert (row(prepared, "patient01_t2").code, row(prepared, "patient03_t2").code) == ("E804", "E804")
    assert {case.same_as for case in prepared.cases} == {""}, "two scans of one patient are not the same scan"
    assert ids(prepared, "held_out") == ["patient03_t1"]


# Unlabeled volumes that look different


def write_other_spacing(cohort: Path) -> None:
    builders.write_case(cohort / "unlabeled", "thick", 21, mask_ending=None,
                        grid=builders.geometry(spacing_mm=(6.0, 0.9, 0.7)))  # fmt: skip


def write_other_intensities(cohort: Path) -> None:
    volume = read_volume(cohort / "unlabeled" / "unlabeled_00.nii.gz")
    binary = np.random.default_rng(3).random(volume.array.shape) < 0.5
    write_volume(cohort / "unlabeled" / "thick.nii.gz", volume.with_array(binary.astype(np.float32)))


@pytest.mark.parametrize("write", [write_other_spacing, write_other_intensities])
def test_a_different_unlabeled_volume_is_named_and_left_out_on_request(cohort, write):
    write(cohort)
    reports = Reports()
    prepared = run(cohort, reports=reports)
    assert reports.codes() == ["E805"]
    assert reports.of("warning")[0]["cases"] == ["thick"]
    assert "1 of 3" in reports.of("warning")[0]["message"]
    assert (row(prepared, "thick").status, row(prepared, "thick").code) == ("used", "E805")
    prepared = run(cohort, different_unlabeled="leave_out")
    assert row(prepared, "thick").status == "refused"
    assert ids(prepared, "unlabeled") == ["unlabeled_00", "unlabeled_01"]
    assert row(run(cohort), "thick").status == "used"


def test_unknown_choice_for_different_volumes_is_refused():
    with pytest.raises(InputError, match="different_unlabeled"):
        PrepareOptions(different_unlabeled="maybe")


# Real data


@pytest.mark.slow
def test_the_scan_exported_twice_is_found_in_the_left_atrium_data(tmp_path):
    pack = SHARED_DATA / "la_pack.py"
    if not pack.is_file():
        pytest.skip("the left-atrium data is not beside the repository")
    names = ["06SR5RBREL16DQ6M8LWS", "0RZDK210BSMWAA6467LU", "9DCM2IB45SK6YKQNYUQY", "BXJWOUYP2J3EN4U92517",
             "CMPXO4J23G58J53Q98SZ"]  # fmt: skip
    command = [sys.executable, "-B", str(pack), "unpack", str(tmp_path / "la"), "--only", *names]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "la" / "train.list").write_text("\n".join(names))
    reports = Reports()
    prepared = prepare(
        PrepareOptions(labeled=(tmp_path / "la",), num_labeled=3, preprocessing=Preprocessing(spacing_mm=(1.25,) * 3)),
        tmp_path / "out",
        reports,
    )
    assert [(case.id, case.code) for case in prepared.refused] == [("CMPXO4J23G58J53Q98SZ", "E804")]
    assert "0RZDK210BSMWAA6467LU" in prepared.refused[0].reason
    assert ids(prepared, "unlabeled") == ["BXJWOUYP2J3EN4U92517"]
    assert reports.codes() == ["E804"]
    assert json.loads((tmp_path / "out" / "cases.json").read_text())["format"] == 1
