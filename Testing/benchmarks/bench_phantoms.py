"""How much phantoms look like the left-atrium benchmark, and how far one comes on them without learning.

    python Testing/benchmarks/bench_phantoms.py [--la DATA] [--cases 16] [--phantoms 10] [--small 20] [--seed 0]

DATA holds left-atrium volumes as published (<id>/mri_norm2.h5). Of full-size phantoms and of the first volumes by name, by the same code: standard deviation of the
blood relative to its median above the darkest voxel; share of a ring 2 to 6 voxels around the label that is as bright as the blood (its 16th percentile);
slow changes along the blood (95th over 5th percentile of its mean over 8 voxels). Of half-size phantoms: Dice of the mean shape of all others, of the best threshold
with its largest piece, and of the best threshold within the mean shape grown by 4 voxels. Thresholds are chosen with the label at hand, so they are upper limits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "TransMedSeg"))

from semiseg.data.files import read_labels, read_volume
from semiseg.phantom import make_phantom


class Looks(NamedTuple):
    """What an image has in common with others, whatever its gray values."""

    blood_deviation: float
    bright_ring: float
    bias: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--la", type=Path, help="folder of left-atrium volumes; without it phantoms alone are measured")
    parser.add_argument("--cases", type=int, default=16, help="of them, the first by name (default: 16)")
    parser.add_argument("--phantoms", type=int, default=10, help="full-size phantoms (default: 10)")
    parser.add_argument("--small", type=int, default=20, help="half-size phantoms (default: 20)")
    parser.add_argument("--site", default="A", help="of the phantoms (default: A)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    options = parser.parse_args()
    print(f"{'':28s} blood sd  bright ring   bias")
    if options.la is not None:
        say(f"{options.cases} left atria", (looks(*pair) for pair in left_atria(options.la, options.cases)))
    full = (make_phantom((options.seed, number), options.site, "full") for number in range(options.phantoms))
    say(f"{options.phantoms} full-size phantoms", (looks(one.image.array, one.label.array > 0) for one in full))
    small = [make_phantom((options.seed, number), options.site, "half") for number in range(options.small)]
    images, labels = [one.image.array for one in small], [one.label.array > 0 for one in small]
    print(f"\nDice without learning, {len(small)} half-size phantoms")
    print("mean shape {:.3f}, best threshold with the largest piece {:.3f}, best threshold within the mean shape {:.3f}".format(*without_learning(images, labels)))


def left_atria(folder: Path, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Image and mask of the first volumes by name."""
    paths = sorted(folder.glob("*/mri_norm2.h5"))[:count]
    if len(paths) < count:
        raise SystemExit(f"{folder} holds {len(paths)} volumes <id>/mri_norm2.h5; {count} were asked for.")
    for path in paths:
        yield read_volume(path).array, read_labels(path)[0].array > 0


def looks(image: np.ndarray, label: np.ndarray) -> Looks:
    inside = ndimage.binary_erosion(label, iterations=2)
    ring = ndimage.binary_dilation(label, iterations=6) & ~ndimage.binary_dilation(label, iterations=2)
    image = image.astype(np.float64) - image.min()
    image /= np.median(image[inside])
    share = ndimage.uniform_filter(inside.astype(np.float64), 8)
    smooth = (ndimage.uniform_filter(image * inside, 8) / np.maximum(share, 1e-6))[inside]
    high, low = np.percentile(smooth, (95, 5))
    return Looks(float(image[inside].std()), float((image[ring] >= np.percentile(image[inside], 16)).mean()), float(high / low))


def say(name: str, found: Iterable[Looks]) -> None:
    means = np.mean(list(found), axis=0)
    print(f"{name:28s} {means[0]:8.3f} {means[1]:12.2f} {means[2]:6.2f}", flush=True)


def without_learning(images: list[np.ndarray], labels: list[np.ndarray]) -> tuple[float, float, float]:
    """Mean Dice of the mean shape, of a threshold, and of a threshold within the mean shape."""
    shape = tuple(int(side) for side in np.median([label.shape for label in labels], axis=0))
    centered = [centered_in(label, shape) for label in labels]
    total = np.sum(centered, axis=0, dtype=np.int64)
    scores = []
    for image, label, own in zip(images, labels, centered, strict=True):
        mean_shape = (total - own) / (len(labels) - 1) >= 0.5
        near = centered_in(ndimage.binary_dilation(mean_shape, iterations=4), label.shape)
        scores.append((dice(mean_shape, own), best_threshold(image, label, np.ones_like(label)), best_threshold(image, label, near)))
    return tuple(np.mean(scores, axis=0))


def best_threshold(image: np.ndarray, label: np.ndarray, allowed: np.ndarray) -> float:
    """Dice of the best of many levels, above or below, with the largest piece."""
    best = 0.0
    for level in np.percentile(image, np.arange(30, 98, 4)):
        for chosen in (image >= level, image <= level):
            pieces, count = ndimage.label(chosen & allowed)
            if count:
                best = max(best, dice(pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:]), label))
    return best


def centered_in(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cut or filled to a shape, evenly at both ends."""
    for axis, size in enumerate(shape):
        missing = size - array.shape[axis]
        widths = [(0, 0)] * array.ndim
        widths[axis] = (max(missing, 0) // 2, max(missing, 0) - max(missing, 0) // 2)
        start = max(-missing, 0) // 2
        array = np.pad(array, widths).take(range(start, start + size), axis)
    return array


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


if __name__ == "__main__":
    main()
