"""Unlabeled volumes of another site look different, those of the same site do not (E805)."""

from __future__ import annotations

import numpy as np
import pytest

from semiseg.data.cache import PreparedCase
from semiseg.data.differences import MAX_SHIFT, MIN_LABELED, MIN_UNLABELED, differences, intensity_quantiles, shift
from semiseg.data.geometry import Geometry
from semiseg.data.preprocess import Preprocessing
from semiseg.phantom import make_phantom

RANKS = 17


def cases(quantiles, spacing_mm=(2.5, 1.0, 1.0)) -> list[PreparedCase]:
    restore = Preprocessing().plan(Geometry.from_parts((8, 9, 10), spacing_mm)).to_json()
    return [PreparedCase(f"P{place}", f"P{place}", "unlabeled", "", restore=restore, quantiles=list(one)) for place, one in enumerate(quantiles)]


def one_site(count, seed, offset=0.0):
    """(volume, rank): a normal distribution whose contrast varies from volume to volume by 5 %."""
    rng = np.random.default_rng(seed)
    return np.linspace(-1.5, 1.5, RANKS) * rng.normal(1, 0.05, (count, 1)) + offset


def test_the_shift_of_sets_a_person_can_check():
    labeled, unlabeled = np.array([[0.0, 0.0], [2.0, 2.0]]), np.array([[10.0, 10.0], [12.0, 12.0]])
    whole, each = shift(labeled, unlabeled)  # 2 apart within a set; 10, 8, 12 and 10 between them
    assert whole == pytest.approx(5.0) and each.tolist() == pytest.approx([4.5, 5.5])
    assert shift(labeled, labeled)[0] == pytest.approx(0.5), "a volume and itself are a pair of two sets"


def test_sets_of_one_distribution_lie_as_far_apart_as_their_own_volumes():
    shifts = [shift(one_site(4, seed), one_site(20, 100 + seed))[0] for seed in range(40)]
    assert np.mean(shifts) == pytest.approx(1.0, abs=0.1)


def test_volumes_of_another_site_are_named_and_those_of_the_same_are_not():
    labeled, same, other = one_site(5, 1), one_site(12, 2), one_site(8, 3, offset=0.3)
    assert not any(differences(cases(same), cases(labeled)))
    found = differences(cases(np.concatenate([same, other])), cases(labeled))
    assert not any(found[:12]) and all("times as far from the labeled volumes" in one for one in found[12:])


@pytest.mark.parametrize(("num_labeled", "num_unlabeled"), [(MIN_LABELED - 1, 20), (8, MIN_UNLABELED - 1)])
def test_of_few_volumes_only_strange_ones_are_named(num_labeled, num_unlabeled):
    labeled, other = one_site(num_labeled, 1), one_site(num_unlabeled, 2, offset=0.3)
    assert not any(differences(cases(other), cases(labeled)))
    assert all("0.3" not in one and "from the nearest" in one for one in differences(cases(other + 0.6), cases(labeled)))
    assert differences(cases(other), []) == [""] * num_unlabeled


def test_equal_volumes_and_another_spacing():
    same = np.zeros((12, RANKS))
    assert not any(differences(cases(same), cases(same[:5])))
    assert all("spacing is 2.0 times" in one for one in differences(cases(same, (5.0, 1.0, 1.0)), cases(same[:5])))


def test_phantoms_of_another_scanner_are_found():
    """4 labeled ones of site A, 10 unlabeled ones of A or of C."""
    sets = {}
    for name, site, count in (("labeled", "A", 4), ("same", "A", 10), ("other", "C", 10)):
        images = [Preprocessing().apply(make_phantom((11, ord(name[0]), place), site, "quarter").image)[0] for place in range(count)]
        sets[name] = np.array([intensity_quantiles(image) for image in images])
    assert shift(sets["labeled"], sets["same"])[0] < MAX_SHIFT < shift(sets["labeled"], sets["other"])[0]
    assert not any(differences(cases(sets["same"]), cases(sets["labeled"])))
    assert sum(map(bool, differences(cases(sets["other"]), cases(sets["labeled"])))) > 5
