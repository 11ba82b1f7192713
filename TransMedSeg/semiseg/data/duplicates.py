"""The same scan twice: copied, saved in another format, or exported again with another crop."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import fft

from .cache import PreparedCase
from .orientation import Orientation
from .resample import resample
from .volume import Volume

# Measured on the 90 left-atrium cases: the one scan exported twice reaches 0.966 and 0.994, other pairs 0.93 and 0.8.
MIN_LIKENESS = 0.85
MIN_CORRELATION = 0.98
_MAX_PAIRS = 100
_COARSE_VOXELS = 96
_SAMPLES = 200_000

_ROLE_RANK = {"labeled": 0, "validation": 0, "held_out": 1, "unlabeled": 2}


def content_hash(array: np.ndarray) -> str:
    """Of voxels, shape and type; the position in the patient and the file format do not matter."""
    digest = hashlib.blake2b(f"{array.shape}{array.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def thumbnail(volume: Volume) -> list[float]:
    """8 x 8 x 8 box means of the volume turned canonical, with mean 0 and length 1."""
    turned = Orientation.to_canonical(volume.geometry).apply(volume.array)
    small = resample(torch.from_numpy(np.array(turned, dtype=np.float32, order="C")), (8, 8, 8)).numpy().ravel()
    small = small - small.mean()
    return (small / max(float(np.linalg.norm(small)), 1e-12)).round(5).tolist()


def find_duplicates(
    cases: Sequence[PreparedCase],
    read: Callable[[PreparedCase], Volume],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[tuple[int, int, float]]:
    """Pairs of cases that show the same scan.

    Equal voxels are found by hash. Of the other pairs, those with nearly equal thumbnails are read again, shifted
    onto each other and correlated, the 100 most alike at most, unless both are of one patient.

    Args:
        cases: With ``content`` and ``thumbnail``.
        read: Reads the source volume of a case.
        progress: Called with the number of pairs compared and the number to compare.

    Returns:
        (index to keep, index to drop, correlation): a labeled case stays before a held-out before an unlabeled one,
        else the first. Each index is dropped at most once.
    """
    dropped: dict[int, tuple[int, int, float]] = {}

    def note(first: int, second: int, correlation: float) -> None:
        keep, drop = sorted((first, second), key=lambda index: (_ROLE_RANK[cases[index].role], index))
        if keep not in dropped and drop not in dropped:
            dropped[drop] = (keep, drop, correlation)

    first_with: dict[str, list[int]] = {}
    for index, case in enumerate(cases):
        first_with.setdefault(case.content, []).append(index)
    for group in first_with.values():
        group.sort(key=lambda index: (_ROLE_RANK[cases[index].role], index))
        for index in group[1:]:
            note(group[0], index, 1.0)
    pairs = _alike(cases, set(dropped))
    for done, (first, second) in enumerate(pairs, start=1):
        progress(done, len(pairs))
        if first in dropped or second in dropped:
            continue
        correlation = aligned_correlation(read(cases[first]), read(cases[second]))
        if correlation >= MIN_CORRELATION:
            note(first, second, correlation)
    return sorted(dropped.values(), key=lambda pair: pair[1])


def _alike(cases: Sequence[PreparedCase], known: set[int]) -> list[tuple[int, int]]:
    """The most similar case of another patient for each case, where it is similar at all."""
    indices = [index for index in range(len(cases)) if index not in known]
    if len(indices) < 2:
        return []
    thumbs = np.array([cases[index].thumbnail for index in indices])
    likeness = thumbs @ thumbs.T
    # Two phases of one heart are alike and still two cases; a patient's cases never lie in two parts of the split.
    patients = np.array([cases[index].patient for index in indices])
    likeness[patients[:, None] == patients] = -1.0
    best = likeness.argmax(axis=1)
    pairs = {tuple(sorted((row, int(best[row])))): float(likeness[row, best[row]]) for row in range(len(indices))}
    ranked = sorted((pair for pair in pairs if pairs[pair] >= MIN_LIKENESS), key=lambda pair: -pairs[pair])
    return [(indices[a], indices[b]) for a, b in ranked[:_MAX_PAIRS]]


def aligned_correlation(first: Volume, second: Volume) -> float:
    """Correlation of the voxels two scans share once shifted onto each other; 0 where the grids cannot match."""
    turned = [Orientation.to_canonical(volume.geometry) for volume in (first, second)]
    spacings = [
        turn.apply_to_geometry(volume.geometry).spacing_mm for turn, volume in zip(turned, (first, second), strict=True)
    ]
    if not np.allclose(*spacings, rtol=0.02):
        return 0.0
    a, b = (
        np.array(turn.apply(volume.array), np.float32) for turn, volume in zip(turned, (first, second), strict=True)
    )
    factors = [max(1, -(-max(sizes) // _COARSE_VOXELS)) for sizes in zip(a.shape, b.shape, strict=True)]
    coarse = _best_shift(_box_mean(a, factors), _box_mean(b, factors))
    around = [
        range(shift * factor - (factor - 1), shift * factor + factor)
        for shift, factor in zip(coarse, factors, strict=True)
    ]
    return max((_correlation_at(a, b, shift) for shift in itertools.product(*around)), default=0.0)


def _box_mean(array: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    for axis, factor in enumerate(factors):
        size = array.shape[axis] // factor
        array = np.take(array, range(size * factor), axis)
        array = array.reshape(*array.shape[:axis], size, factor, *array.shape[axis + 1 :]).mean(axis + 1)
    return array


def _best_shift(a: np.ndarray, b: np.ndarray) -> list[int]:
    """The shift s for which a[i] resembles b[i - s], from the peak of their cross-correlation."""
    a, b = a - a.mean(), b - b.mean()
    shape = [fft.next_fast_len(m + n - 1, real=True) for m, n in zip(a.shape, b.shape, strict=True)]
    correlation = fft.irfftn(fft.rfftn(a, shape) * np.conj(fft.rfftn(b, shape)), shape)
    peak = np.unravel_index(int(correlation.argmax()), correlation.shape)
    return [
        int(place) - size if place >= m else int(place) for place, size, m in zip(peak, shape, a.shape, strict=True)
    ]


def _correlation_at(a: np.ndarray, b: np.ndarray, shift: Sequence[int]) -> float:
    low = [max(0, s) for s in shift]
    high = [min(m, n + s) for m, n, s in zip(a.shape, b.shape, shift, strict=True)]
    size = [end - start for start, end in zip(low, high, strict=True)]
    if min(size) < 2 or np.prod(size) < 0.5 * min(a.size, b.size):
        return 0.0
    step = max(1, round((np.prod(size) / _SAMPLES) ** (1 / 3)))
    u = a[tuple(slice(start, end, step) for start, end in zip(low, high, strict=True))].ravel()
    v = b[tuple(slice(start - s, end - s, step) for start, end, s in zip(low, high, shift, strict=True))].ravel()
    if u.std() == 0 or v.std() == 0:
        return 0.0
    return float(np.corrcoef(u, v)[0, 1])
