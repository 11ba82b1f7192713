"""Mean, spread over seeds and over cases, and the paired bootstrap over patients against the reference row. Plain arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95

FEWEST_PATIENTS = 6
"""With fewer, an interval of 95 % holds the true mean in at most 85 % of studies: nothing is drawn as apart from zero."""

Values = Mapping[int, Mapping[str, float]]
"""A metric by seed and case; NaN is "not defined"."""


@dataclass(frozen=True)
class Interval:
    """A paired difference to the reference row.

    Attributes:
        mean: Over cases, in the unit of the metric; each case is averaged over seeds first.
        low, high: Ends of the 95 % percentile interval of the bootstrap over patients.
        num_cases: Cases that both rows have.
        num_patients: Whose cases these are.
        num_seeds: Seeds that both rows have; no other enters.
        num_above: Those of them in which the row's own mean difference is above zero. The interval holds no other trainings: one lucky seed among several can
            keep it from zero, and this number shows it.
    """

    mean: float
    low: float
    high: float
    num_cases: int
    num_patients: int
    num_seeds: int
    num_above: int


@dataclass(frozen=True)
class Summary:
    """A row of a table.

    Attributes:
        mean: Over cases, each averaged over seeds.
        sd_seeds: Standard deviation (n - 1) of the seeds' means; NaN with one seed.
        sd_cases: Standard deviation (n - 1) over cases, each averaged over seeds; NaN with one case.
        smallest, largest: Case.
        num_seeds, num_cases: That the numbers rest on.
        undefined: Values that are not defined and left out.
    """

    mean: float
    sd_seeds: float
    sd_cases: float
    smallest: float
    largest: float
    num_seeds: int
    num_cases: int
    undefined: int


def summarize(values: Values) -> Summary:
    """Mean and spreads of one row."""
    cases = case_means(values)
    known = np.array([one for one in cases.values() if not math.isnan(one)])
    seeds = [_mean([one for one in by_case.values()]) for by_case in values.values()]
    seeds = [one for one in seeds if not math.isnan(one)]
    undefined = sum(math.isnan(one) for by_case in values.values() for one in by_case.values())
    if len(known) == 0:
        return Summary(*[math.nan] * 5, num_seeds=len(seeds), num_cases=0, undefined=undefined)
    return Summary(
        float(known.mean()), _sd(np.array(seeds)), _sd(known), float(known.min()), float(known.max()), len(seeds), len(known), undefined
    )


def case_means(values: Values) -> dict[str, float]:
    """Each case averaged over the seeds in which it is defined."""
    cases = list(dict.fromkeys(case for by_case in values.values() for case in by_case))
    return {case: _mean([by_case[case] for by_case in values.values() if case in by_case]) for case in cases}


def paired_interval(
    values: Values, reference: Values, patients: Mapping[str, str] | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> Interval | None:
    """The mean difference of a row to the reference, with its bootstrap interval.

    The unit that is drawn is the patient: with replacement, as many as there are, all of a patient's cases and both rows together. Cases of one patient resemble
    each other, so drawing them separately would promise too much. Each case is averaged over the seeds that both rows have,
    so the interval says how far the difference depends on which patients were held out, and nothing about what another seed would give.

    Args:
        values: Of the row.
        reference: Of the reference row.
        patients: Whose a case is; one that is not named is a patient of its own.
        seed: Of the draws.
        resamples: Draws.

    Returns:
        None when the rows share no seed, or the cases that are defined in both are of fewer than two patients.
    """
    differences = paired_differences(values, reference)
    of_patient: dict[tuple[bool, str], list[float]] = {}
    for case, difference in differences.items():
        patient = (patients or {}).get(case)
        of_patient.setdefault((patient is not None, case if patient is None else patient), []).append(difference)
    if len(of_patient) < 2:
        return None
    sums, counts = np.array([sum(own) for own in of_patient.values()]), np.array([len(own) for own in of_patient.values()])
    drawn = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    of_seeds = [_mean(list(_differences(values[one], reference[one]).values())) for one in values if one in reference]
    num_above = sum(one > 0 for one in of_seeds)
    return Interval(float(np.mean(list(differences.values()))), float(low), float(high), len(differences), len(sums), len(of_seeds), num_above)


def paired_differences(values: Values, reference: Values) -> dict[str, float]:
    """The difference of a row to the reference for every case, seed against the same seed, averaged over the seeds in which both are defined."""
    pairs = {seed: _differences(values[seed], reference[seed]) for seed in values if seed in reference}
    return {case: difference for case, difference in case_means(pairs).items() if not math.isnan(difference)}


def coverage(num_patients: int) -> float:
    """How often a 95 % percentile interval of so many normal differences holds their mean.

    Resampled means spread by the standard deviation with n instead of n - 1, and by a normal instead of Student's distribution.
    """
    from scipy.stats import norm, t

    ends = norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt((num_patients - 1) / num_patients)
    return float(2 * t.cdf(ends, num_patients - 1) - 1)


def _differences(values: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, float]:
    return {case: value - reference[case] for case, value in values.items() if case in reference}


def _mean(values: list[float]) -> float:
    known = [one for one in values if not math.isnan(one)]
    return sum(known) / len(known) if known else math.nan


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan
