"""Cases that came, went or changed their use since they were prepared are told from those that stayed."""

from __future__ import annotations

import shutil
from pathlib import Path

import builders
import layout_builders
import pytest

from semiseg.data.cache import PreparedSet
from semiseg.data.cases import find_cases, with_masks
from semiseg.prepare import PrepareOptions, prepare
from semiseg.study.changed_data import changed_cases


@pytest.fixture
def cohort(tmp_path) -> Path:
    """Three labeled cases, two unlabeled ones of which one cannot be read and one is a copy of a labeled case, and a held-out one."""
    folder = builders.write_cohort(tmp_path, num_labeled=3, num_unlabeled=2, num_held_out=1, ending=".nrrd")
    (folder / "unlabeled" / "unlabeled_00.nrrd").write_bytes(b"NRRD0004\nno volume\n")
    shutil.copy(folder / "labeled" / "labeled_00.nrrd", folder / "unlabeled" / "unlabeled_01.nrrd")
    return folder


def sources(folder: Path) -> dict[str, tuple[Path, ...]]:
    return {"labeled": (folder / "labeled",), "unlabeled": (folder / "unlabeled",), "held_out": (folder / "heldout",)}


def prepared_from(folder: Path) -> PreparedSet:
    found = prepare(PrepareOptions(**sources(folder), num_validation=1), folder / "prepared")
    assert {case.role for case in found.cases if case.is_used} == {"labeled", "validation", "held_out"} and len(found.refused) == 2
    return found


def test_the_same_folders_have_not_changed_whatever_became_of_their_cases(cohort):
    """Refused, copied and set aside for validation: the split and the checks made that of them, not the user."""
    prepared = prepared_from(cohort)
    assert changed_cases(prepared, find_cases(*sources(cohort).values())) == []


def test_a_case_that_was_never_used_may_leave(cohort):
    prepared = prepared_from(cohort)
    (cohort / "unlabeled" / "unlabeled_00.nrrd").unlink()
    assert changed_cases(prepared, find_cases(*sources(cohort).values())) == [] == prepared.changed_sources()


def test_a_refused_case_that_is_repaired_in_place_has_changed(cohort):
    """The file that could not be read, and the copy of another case, become volumes of their own under the same names."""
    prepared = prepared_from(cohort)
    assert prepared.changed_sources() == []
    builders.write_case(cohort / "unlabeled", "unlabeled_00", 60, ".nrrd", None)
    assert PreparedSet.load(cohort / "prepared").changed_sources() == ["unlabeled_00"]
    builders.write_case(cohort / "unlabeled", "unlabeled_01", 61, ".nrrd", None)
    assert PreparedSet.load(cohort / "prepared").changed_sources() == ["unlabeled_00", "unlabeled_01"]


def test_a_refused_mask_that_was_not_there_and_came_has_changed(cohort):
    image, mask = cohort / "labeled" / "labeled_01.nrrd", cohort / "drawn_again.nii.gz"
    chosen = {str(image): str(mask)}
    prepared = prepare(PrepareOptions(**sources(cohort), masks=chosen), cohort / "prepared")
    assert [case.id for case in prepared.refused] == ["labeled_01", "unlabeled_00", "unlabeled_01"] and prepared.changed_sources() == []
    shutil.copy(cohort / "labeled" / "labeled_01_seg.nii.gz", mask)
    assert prepared.changed_sources() == ["labeled_01"]
    assert changed_cases(prepared, with_masks(find_cases(*sources(cohort).values()), chosen)) == []


def test_a_listed_case_that_was_not_there_and_came_has_changed(tmp_path):
    layout_builders.write_resized(tmp_path / "ct", ["0001", "0002", "0003", "0005", "0006", "0008"], 1)
    image, label = (tmp_path / "ct" / "npy" / f"0005_{part}.npy" for part in ("image", "label"))
    kept = image.read_bytes()
    image.unlink(), label.unlink()
    asked = {"labeled": (tmp_path / "ct",)}
    prepared = prepare(PrepareOptions(**asked), tmp_path / "prepared")
    assert [(case.id, case.role) for case in prepared.refused] == [("0005", "unlabeled")] and prepared.changed_sources() == []
    image.write_bytes(kept)
    assert prepared.changed_sources() == ["0005"]
    assert changed_cases(prepared, find_cases(*asked.values())) == [], "by its name alone nobody would notice"


def test_new_gone_and_otherwise_used_cases_are_named(cohort):
    prepared = prepared_from(cohort)
    builders.write_case(cohort / "unlabeled", "later", 50, ".nrrd", None)
    for name in ("labeled_00.nrrd", "labeled_00_seg.nii.gz"):
        (cohort / "labeled" / name).unlink()
    image = str(cohort / "labeled" / "labeled_01.nrrd")
    found = with_masks(find_cases(*sources(cohort).values()), {image: str(cohort / "drawn_again.nii.gz")})
    assert changed_cases(prepared, found) == ["labeled_01 is used otherwise", "later is new", "labeled_00 is gone"]
