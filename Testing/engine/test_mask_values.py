"""Masks with several values: what is refused, what the table says of them, and that the others can be background."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from test_prepare import change_mask, cohort, ids, one_thread, row, run, value_nobody_named  # noqa: F401 (fixtures)
from test_worker import last_result, options
from test_worker import run as run_job

from semiseg.data.cache import PreparedSet
from semiseg.data.files import read_volume, write_volume
from semiseg.errors import InputError
from semiseg.protocol import ExitCode

ATRIUM = ({"value": 420, "name": "left atrium"},)


def forget_names(folder) -> None:
    """Removes the files that say what the values of the masks are."""
    for path in folder.glob("*/*_seg.json"):
        path.unlink()


def several_values(folder) -> int:
    """Every mask gets values 1 and 2 beside the structure, which becomes 420, and no names. Returns its voxels in labeled_01."""
    forget_names(folder)
    for path in sorted(folder.glob("*/*_seg.nii.gz")):
        mask = read_volume(path)
        array = np.where(mask.array > 0, 420, 0).astype(np.uint16)
        array[0, 0, :4], array[0, 1, :3] = 1, 2
        write_volume(path, mask.with_array(array))
    return int(np.count_nonzero(read_volume(folder / "labeled" / "labeled_01_seg.nii.gz").array == 420))


def test_a_refused_mask_is_listed_with_all_of_its_values(cohort):  # noqa: F811
    several_values(cohort)
    with pytest.raises(InputError, match="E801"):
        run(cohort)
    rows = list(csv.DictReader((cohort / "out" / "cases.csv").read_text(encoding="utf-8").splitlines()))
    found = {one["case"]: (one["code"], one["mask_values"]) for one in rows if one["mask"]}
    assert found["labeled_01"] == ("E704", "1 2 420") and {values for _code, values in found.values()} == {"1 2 420"}
    assert {one["mask_values"] for one in rows if not one["mask"]} == {""}
    assert PreparedSet.load(cohort / "out").cases[0].mask_values == [1, 2, 420]


def test_the_other_values_are_background_where_a_person_says_so(cohort):  # noqa: F811
    count = several_values(cohort)
    prepared = run(cohort, labels=ATRIUM, other_values="background")
    case = row(prepared, "labeled_01")
    assert (case.status, case.code, case.mask_values) == ("used", "", [])
    assert case.label_voxels == [6000 - count, count]
    _image, label = prepared.arrays(prepared.cases.index(case))
    assert set(np.unique(label)) == {0, 1}
    with pytest.raises(InputError, match="E801"):  # the permission is part of what makes prepared arrays fit
        run(cohort, labels=ATRIUM)


def test_a_mask_with_none_of_the_named_values_is_refused_all_the_same(cohort):  # noqa: F811
    change_mask(cohort, lambda mask: mask.with_array((mask.array > 0).astype(np.uint8) * 7))
    case = row(run(cohort, other_values="background"), "labeled_01")
    assert (case.code, case.mask_values) == ("E704", [7])
    assert "values nobody named: 7 (" in case.reason


def test_where_the_file_names_the_structure_its_value_alone_is_listed(cohort):  # noqa: F811
    """The name in the file outweighs a value, so that another answer would be of no use."""
    value_nobody_named(cohort)
    assert row(run(cohort), "labeled_01").mask_values == [1]
    forget_names(cohort)
    assert row(run(cohort), "labeled_01").mask_values == [1, 9]


def test_an_image_in_place_of_a_mask_has_no_list_of_values(cohort):  # noqa: F811
    forget_names(cohort)
    change_mask(cohort, lambda mask: mask.with_array(np.arange(6000, dtype=np.uint16).reshape(mask.array.shape)))
    case = row(run(cohort), "labeled_01")
    assert (case.code, case.mask_values) == ("E704", [])


def test_an_unknown_choice_is_refused(cohort):  # noqa: F811
    with pytest.raises(InputError, match="other_values is 'refuse' or 'background'; got 'ignore'"):
        run(cohort, other_values="ignore")


def test_a_case_with_other_values_is_learned_from_looked_at_and_scored(cohort, tmp_path):  # noqa: F811
    several_values(cohort)
    held_out = [str(cohort / "heldout")]
    job = options(cohort, held_out=held_out, labels=list(ATRIUM), other_values="background", method="supervised", best_on_test=2)
    job["training"]["iterations"] = 2
    assert run_job(tmp_path / "run", "train", job) == ExitCode.FINISHED
    result = last_result(tmp_path / "run")
    assert result["scored"] == 1 and result["refused"] == [] and list(result["best_on_test"]["looks"]) == ["1", "2"]
