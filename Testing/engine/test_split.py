"""No patient lies in two parts, and the same seed draws the same parts."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg.data.cases import Case
from semiseg.data.split import Split, split_cases
from semiseg.errors import InputError


def case(name: str, patient: str = "") -> Case:
    return Case(name, Path(name), None, patient or name)


def cases(prefix: str, count: int) -> list[Case]:
    return [case(f"{prefix}{number}") for number in range(count)]


patients = st.lists(st.sampled_from("abcdefghijkl"), max_size=12)


@given(patients, patients, patients, st.integers(0, 3), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_parts_are_disjoint_by_patient(labeled, unlabeled, held_out, num_validation, seed):
    pools = [
        [case(f"{role}{number}", patient) for number, patient in enumerate(part)]
        for role, part in (("l", labeled), ("u", unlabeled), ("h", held_out))
    ]
    patient_of = {one.id: one.patient for pool in pools for one in pool}
    if num_validation and len(set(labeled)) - num_validation < 2:
        with pytest.raises(InputError, match="E801"):
            split_cases(*pools, num_validation=num_validation, seed=seed)
        return
    split = split_cases(*pools, num_validation=num_validation, seed=seed)
    training = {patient_of[name] for name in split.labeled + split.unlabeled}
    validation = {patient_of[name] for name in split.validation}
    unseen = {patient_of[name] for name in split.held_out}
    for one, other in itertools.combinations((training, validation, unseen), 2):
        assert not one & other
    assert len(validation) == num_validation
    # Every case is in one part or has a reason.
    everything = [*split.labeled, *split.unlabeled, *split.validation, *split.held_out, *split.dropped]
    assert sorted(everything) == sorted(patient_of)


def test_the_order_given_is_kept():
    names = [case(name) for name in ("z", "a", "m", "b")]
    split = split_cases(names, [case("y"), case("x")], [case("w"), case("v")])
    assert split.labeled == ("z", "a", "m", "b")
    assert (split.unlabeled, split.held_out) == (("y", "x"), ("w", "v"))


def test_a_seed_draws_the_same_and_another_seed_others():
    drawn = {seed: split_cases(cases("c", 20), [], num_validation=4, seed=seed).validation for seed in range(5)}
    assert drawn[0] == split_cases(cases("c", 20), [], num_validation=4, seed=0).validation
    assert len(set(drawn.values())) > 1


def test_a_case_added_later_does_not_reshuffle():
    before = set(split_cases(cases("c", 20), [], num_validation=4).validation)
    after = set(split_cases(cases("c", 21), [], num_validation=4).validation)
    assert len(before & after) >= 3


def test_reasons_name_the_patient():
    split = split_cases(
        [case("l1", "anna"), case("l2", "bert")], [case("u", "carl")], [case("h", "anna"), case("g", "carl")]
    )
    assert split.held_out == ("g",)
    assert "anna" in split.dropped["h"]
    assert "carl" in split.dropped["u"]


def test_split_is_saved_and_loaded(tmp_path):
    split = split_cases(cases("c", 9), cases("u", 3), cases("h", 2), num_validation=2, seed=3)
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split


@pytest.mark.parametrize("content", ["", "[]", '{"labeled": []}', '{"unknown": 1}'])
def test_a_damaged_split_is_refused(tmp_path, content):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(InputError, match="E311"):
        Split.load(tmp_path / "split.json")
