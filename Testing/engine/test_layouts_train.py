"""What a recognized layout changes in a job, and the way from its files to a Dice table in 3-D."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import layout_builders as made
import numpy as np
import pytest
import torch

from semiseg.cli import main
from semiseg.data.cache import PreparedCase, source_key
from semiseg.data.cases import find_cases, find_cohort
from semiseg.data.duplicates import find_duplicates, thumbnail
from semiseg.data.files import read_labels, read_volume
from semiseg.data.naming import natural_order
from semiseg.data.slices import files_of, first_slices, slice_of
from semiseg.data.window import window_under_masks
from semiseg.errors import InputError
from semiseg.protocol import read_job
from semiseg.train_job import TrainJob, resolve

CPU = torch.device("cpu")
REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


def resolved(folder: Path, **fields: object) -> TrainJob:
    return resolve(TrainJob(labeled=[str(folder)], method="supervised", **fields), CPU).job


# Slice files


def test_slices_are_ordered_by_number_in_either_spelling():
    names = ["a_slice_10.h5", "a_slice_2.h5", "b_slice003.npz", "c.h5", "a_slice_1.txt"]
    assert [slice_of(name) for name in names] == [("a", 10), ("a", 2), ("b", 3), None, None]
    assert first_slices(names) == ["a_slice_2.h5", "b_slice003.npz", "c.h5", "a_slice_1.txt"]


def test_a_gap_between_slices_is_refused(tmp_path):
    for number in (1, 2, 4):
        made.write_arrays(tmp_path / f"a_slice_{number}.h5", np.zeros((4, 4)), np.zeros((4, 4)))
    with pytest.raises(InputError, match="missing: 3 of 1 to 4"):
        files_of(tmp_path / "a_slice_1.h5")


def test_slices_of_unequal_size_are_refused(tmp_path):
    for number, size in ((1, 4), (2, 5)):
        made.write_arrays(tmp_path / f"a_slice_{number}.h5", np.zeros((4, size)), np.zeros((4, size)))
    with pytest.raises(InputError, match=r"a_slice_2.h5' is 4 × 5") as raised:
        read_volume(tmp_path / "a_slice_1.h5")
    assert raised.value.code == "E302"


def test_a_change_in_any_slice_is_seen(tmp_path):
    for number in (1, 2, 3):
        made.write_arrays(tmp_path / f"a_slice_{number}.h5", np.zeros((4, 4)), np.zeros((4, 4)))
    before = source_key([tmp_path / "a_slice_1.h5"], {})
    assert before == source_key([tmp_path / "a_slice_1.h5"], {})
    made.write_arrays(tmp_path / "a_slice_3.h5", np.ones((4, 5)), np.zeros((4, 5)))
    assert before != source_key([tmp_path / "a_slice_1.h5"], {})


def test_a_folder_of_slices_is_a_folder_of_volumes_to_everybody(tmp_path):
    made.write_acdc(tmp_path, num_patients=2)
    found = find_cases((), [tmp_path / "data" / "slices"])
    assert [case.id for case in found.unlabeled] == [f"patient00{n}_frame0{k}" for n in (1, 2) for k in (1, 2)]
    assert all(read_volume(case.image).array.shape == (12, 20, 24) for case in found.unlabeled)


def test_two_phases_of_one_patient_are_no_duplicates(tmp_path):
    made.write_acdc(tmp_path, num_patients=1)
    volumes = {f"patient001_frame0{k}": read_volume(tmp_path / f"data/slices/patient001_frame0{k}_slice_1.h5") for k in (1, 2)}
    one = volumes["patient001_frame01"]
    volumes["patient001_frame02"] = one.with_array(one.array * 1.01)  # nearly the same picture

    def cases(patients: list[str]) -> list[PreparedCase]:
        return [
            PreparedCase(name, patient, "labeled", name, content=name, thumbnail=thumbnail(volume))
            for patient, (name, volume) in zip(patients, volumes.items())
        ]

    read = lambda case: volumes[case.id]
    assert find_duplicates(cases(["patient001", "patient001"]), read) == []
    assert [pair[:2] for pair in find_duplicates(cases(["patient001", "patient002"]), read)] == [(0, 1)]


# What a layout fills in


def test_acdc_brings_network_structures_and_spacing(tmp_path):
    made.write_acdc(tmp_path)
    job = resolved(tmp_path)
    assert job.network == "unet2d" and job.training["patch_size"][0] == 1 and job.assumed_spacing_mm == [10.0, 1.5, 1.5]
    assert [label["name"] for label in job.labels] == ["right ventricle", "myocardium", "left ventricle"]


def test_what_the_job_says_wins_over_the_layout(tmp_path):
    made.write_acdc(tmp_path)
    labels = [{"value": 1, "name": "RV"}, {"value": 2, "name": "Myo"}, {"value": 3, "name": "LV"}]
    job = resolved(tmp_path, network="vnet", labels=labels, assumed_spacing_mm=[8.0, 1.4, 1.4], preprocessing={"spacing_mm": [8.0, 2.8, 2.8]})
    assert (job.network, job.labels, job.assumed_spacing_mm) == ("vnet", labels, [8.0, 1.4, 1.4])
    assert list(job.preprocessing["spacing_mm"]) == [8.0, 2.8, 2.8] and job.training["patch_size"][0] == 16


def test_ct_window_and_grid_are_those_of_the_layout_even_where_patch_and_network_are_given(tmp_path):
    names = [(f"img{n:04d}.nii.gz", f"label{n:04d}.nii.gz") for n in (1, 2, 3, 4)]
    made.write_ct(tmp_path, "img", "label", names, 13)
    job = resolved(tmp_path, network="unet3d", num_labeled=3, training={"patch_size": [16, 16, 16]})
    assert job.preprocessing["intensity"] == "window" and list(job.preprocessing["window"]) == [-75.0, 275.0]
    assert list(job.preprocessing["spacing_mm"]) == [3.0, 1.5, 1.5] and len(job.labels) == 13


def _amos(folder: Path) -> None:
    names = [f"amos_{number:04d}.nii.gz" for number in (1, 4, 6)]
    made.write_ct(folder, "imagesTr", "labelsTr", [(name, name) for name in names], 15)
    made.write_ct(folder, "imagesVa", "labelsVa", [("amos_0008.nii.gz", "amos_0008.nii.gz")], 15)


def _synapse(folder: Path) -> None:
    made.write_ct(folder, "img", "label", [(f"img{n:04d}.nii.gz", f"label{n:04d}.nii.gz") for n in (1, 2, 3, 4)], 13)


def _synapse_slices(folder: Path) -> None:
    for number in (5, 6, 7):
        image, label = made.balls(number, 8)
        for place in range(len(image)):
            made.write_arrays(folder / "train_npz" / f"case{number:04d}_slice{place:03d}.npz", image[place], label[place])
    made.write_arrays(folder / "test_vol_h5" / "case0001.npy.h5", *made.balls(1, 8))


LAYOUTS = {
    "synapse": (_synapse, [-75.0, 275.0], [3.0, 1.5, 1.5], None, 13),
    "amos": (_amos, [-75.0, 275.0], [3.0, 1.5, 1.5], None, 15),
    "synapse_npy": (lambda folder: made.write_resized(folder, ["0001", "0002", "0003", "0005", "0006", "0008"], 13), [-75.0, 275.0], "free", [1.0, 1.0, 1.0], 13),
    "amos_npy": (lambda folder: made.write_resized(folder, [f"amos_000{n}" for n in (1, 2, 3, 5, 6, 8)], 15), [-75.0, 275.0], "free", [1.0, 1.0, 1.0], 15),
    "synapse_slices": (_synapse_slices, [0.0, 1.0], "free", [3.0, 0.75, 0.75], 8),
    "pancreas": (lambda folder: made.write_pancreas(folder, [5, 1, 9, 12, 30], lists=True), [0.0, 1.0], "free", [1.0, 1.0, 1.0], 1),
    "left atrium": (lambda folder: made.write_left_atrium(folder, 3, 1), None, "free", None, 1),
    "acdc": (made.write_acdc, None, "free", [10.0, 1.5, 1.5], 3),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_window_spacing_and_structures_of_each_published_data_set_reach_the_job(name, tmp_path):
    write, window, grid, assumed, num_structures = LAYOUTS[name]
    write(tmp_path)
    job = resolved(tmp_path, num_labeled=3 if "npy" not in name else None)
    assert job.preprocessing["intensity"] == ("zscore" if window is None else "window") and list(job.preprocessing["window"] or []) == (window or [])
    if grid != "free":  # else the plan for the computer chooses it
        assert list(job.preprocessing["spacing_mm"]) == grid
    assert (list(job.assumed_spacing_mm) if job.assumed_spacing_mm else None) == assumed and len(job.labels) == num_structures


def test_decathlon_ct_measures_its_window_under_the_masks(tmp_path):
    made.write_decathlon(tmp_path / "ct", ["p_1", "p_2", "p_3"], modality="CT")
    low, high = resolved(tmp_path / "ct").preprocessing["window"]
    # Structures are 0.2 + 0.6 * {1/2, 1} of 500 units from -200, with noise of 0.03: about 50 and 200.
    assert -5 < low < 50 and 200 < high < 255
    made.write_decathlon(tmp_path / "mr", ["p_1", "p_2", "p_3"], modality="MRI")
    assert resolved(tmp_path / "mr").preprocessing["intensity"] == "zscore"


def test_a_resolved_job_stays_as_it_is_when_the_data_are_gone(tmp_path):
    made.write_nnunet(tmp_path / "set", ["a", "b", "c"])
    job = resolved(tmp_path / "set")
    again = resolve(replace(job, labeled=[str(tmp_path / "gone")]), CPU).job
    assert replace(again, labeled=job.labeled) == job


def test_a_window_needs_a_readable_mask(tmp_path):
    assert window_under_masks([]) == (-175.0, 250.0)
    made.write_nnunet(tmp_path, ["a", "b", "c"])
    cases = find_cohort(tmp_path).labeled
    cases[0].label.write_bytes(b"cut off")
    assert window_under_masks(cases) != (-175.0, 250.0)


def test_your_own_folder_is_the_left_atrium_as_before(tmp_path):
    made.write_ct(tmp_path, ".", ".", [(f"{name}.nii.gz", f"{name}_seg.nii.gz") for name in "abc"], 1)
    job = resolved(tmp_path)
    assert job.labels == [{"value": 1, "name": "left atrium"}] and job.network == "vnet" and job.assumed_spacing_mm is None


# From files to Dice


@pytest.fixture(scope="module")
def acdc_run(tmp_path_factory):
    """(run folder, data folder): a small U-Net on the slices of two of four patients, by the command line."""
    data, run = tmp_path_factory.mktemp("acdc"), tmp_path_factory.mktemp("runs") / "run"
    made.write_acdc(data, num_patients=4, num_slices=6, shape=(28, 32))
    words = ["train", str(run), "--labeled", str(data), "--num-labeled", "2", "--method", "supervised", "--device", "cpu"]
    for setting in (
        "network_options.width=8", "network_options.depth=3", "network_options.dropout=0", "training.patch_size=[1,32,32]",
        "training.iterations=120", "training.learning_rate=0.01", "training.warmup_iterations=5", "training.batch_labeled=4", "threads=1",
        "augment.elastic=0",  # in 120 steps on 28 x 32 pixels, bends are more than can be learned
    ):  # fmt: skip
        words += ["--set", setting]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        assert main(words) == 0, (run / "log.txt").read_text()
    return run, data


def test_slices_train_and_volumes_are_scored_in_3d_by_name(acdc_run):
    run, _ = acdc_run
    result = json.loads((run / "result.json").read_text())
    assert result["cases"] == {"labeled": 4, "unlabeled": 4, "validation": 0, "held_out": 2} and result["network"] == "unet2d"
    rows = list(csv.DictReader((run / "dice.csv").read_text().splitlines()))
    scored = [row for row in rows if row["case"].startswith("patient90")]
    assert {(row["case"], row["label"]) for row in scored} == {
        (f"patient90{n}_frame01", name) for n in (0, 1) for name in ("right ventricle", "myocardium", "left ventricle")
    }
    assert np.mean([float(row["dice"]) for row in scored]) > 0.7, "a bright ball of three shells should be learned"


def test_the_dice_of_the_table_is_that_of_the_whole_volume(acdc_run):
    run, data = acdc_run
    found = read_labels(run / "segmentations" / "patient900_frame01.nii.gz")[0]
    truth = read_labels(data / "data" / "patient900_frame01.h5", None, (10.0, 1.5, 1.5))[0]
    assert found.geometry.max_difference_mm(truth.geometry) < 1e-3
    rows = csv.DictReader((run / "dice.csv").read_text().splitlines())
    dice = {row["label"]: float(row["dice"]) for row in rows if row["case"] == "patient900_frame01"}
    for value, name in enumerate(("right ventricle", "myocardium", "left ventricle"), start=1):
        a, b = found.array == value, truth.array == value
        assert dice[name] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-3)


def test_every_case_is_reported_and_the_layout_named(acdc_run):
    run, _ = acdc_run
    messages = json.loads((run / "prepared" / "cases.json").read_text())["messages"]
    assert messages[0] == "Layout: ACDC slices (SSL4MIS)." and "first 24 slices" in messages[1]
    rows = list(csv.DictReader((run / "prepared" / "cases.csv").read_text().splitlines()))
    assert len(rows) == 10 and {row["use"] for row in rows} == {"labeled", "unlabeled", "held out"}
    assert read_job(run).options["labels"][2] == {"value": 3, "name": "left ventricle"}


def test_predict_and_evaluate_take_folders_of_slices(acdc_run, tmp_path, capsys):
    run, data = acdc_run
    assert main(["predict", str(run / "model.pt"), str(data / "data" / "slices"), "--out", str(tmp_path / "masks"), "--device", "cpu"]) == 0
    masks = sorted(path.name for path in (tmp_path / "masks").glob("*.seg.nrrd"))
    assert masks == [f"patient00{n}_frame0{k}.seg.nrrd" for n in (1, 2, 3, 4) for k in (1, 2)]
    assert read_volume(tmp_path / "masks" / "patient001_frame01.nii.gz").geometry.spacing_mm == pytest.approx((10.0, 1.5, 1.5))
    assert main(["evaluate", str(tmp_path / "masks"), str(data / "data" / "slices"), "--out", str(tmp_path / "scores")]) == 0
    rows = list(csv.DictReader((tmp_path / "scores" / "dice.csv").read_text().splitlines()))
    assert {row["label"] for row in rows} >= {"right ventricle", "myocardium", "left ventricle"}  # the predictions name them
    assert {row["case"] for row in rows if row["case"].startswith("patient")} == {name.removesuffix(".seg.nrrd") for name in masks}
    assert "no prediction" not in capsys.readouterr().err


# The published data, where they are


@pytest.mark.skipif(not (REAL / "acdc_pack.py").is_file(), reason="the published ACDC slices are not beside this checkout (../shared/data)")
def test_the_published_acdc_list_gives_68_and_136_slices(tmp_path):
    sys.path.insert(0, str(REAL))
    try:
        from acdc_pack import unpack
    finally:
        sys.path.remove(str(REAL))
    lines = (REAL / "acdc" / "train_slices.list").read_text().split()
    (tmp_path / "train_slices.list").write_text("\n".join(lines))
    (tmp_path / "val.list").write_text((REAL / "acdc" / "val.list").read_text())
    (tmp_path / "data").mkdir()
    for line in lines:
        (tmp_path / "data" / f"{line}.h5").touch()  # the reader looks at names alone
    for num_patients, num_slices in ((3, 68), (7, 136), (14, 256)):
        found = find_cohort(tmp_path, num_patients)
        assert f"first {num_slices} slices" in found.notes[1] and len(found.labeled) == 2 * num_patients
        frames = {line.rsplit("_slice_", 1)[0] for line in lines[:num_slices]}
        assert {case.id for case in found.labeled} == frames
    images, labels, names = unpack((REAL / "acdc" / "patient021_frame01.stack").read_bytes())
    for name, image, label in zip(names, images, labels):
        made.write_arrays(tmp_path / "data" / f"{name}.h5", image, label)
    case = next(case for case in found.labeled if case.id == "patient021_frame01")
    order = sorted(range(len(names)), key=lambda place: natural_order(names[place]))
    assert np.array_equal(read_volume(case.image).array, images[order])
    assert set(np.unique(read_labels(case.label)[0].array)) == {0, 1, 2, 3}
