"""Cases that came, went or changed their use since they were prepared are told from those that stayed."""

from __future__ import annotations

import shutil
from pathlib import Path

import builders
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
    assert changed_cases(prepared, find_cases(*sources(cohort).values())) == []


def test_new_gone_and_otherwise_used_cases_are_named(cohort):
    prepared = prepared_from(cohort)
    builders.write_case(cohort / "unlabeled", "later", 50, ".nrrd", None)
    for name in ("labeled_00.nrrd", "labeled_00_seg.nii.gz"):
        (cohort / "labeled" / name).unlink()
    image = str(cohort / "labeled" / "labeled_01.nrrd")
    found = with_masks(find_cases(*sources(cohort).values()), {image: str(cohort / "drawn_again.nii.gz")})
    assert changed_cases(prepared, found) == ["labeled_01 is used otherwise", "later is new", "labeled_00 is gone"]
