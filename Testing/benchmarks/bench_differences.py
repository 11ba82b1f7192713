"""Do unlabeled volumes of another site look different, and those of the same site not? The study behind E805.

    python Testing/benchmarks/bench_differences.py [--draws 10] [--la DATA] [--seed 0]

Phantoms of the three sites at a quarter of the resolution: in every draw 8 labeled and 20 unlabeled ones of each site, all of
other patients. Each pair of sites is compared with 4 and 8 labeled volumes; "mixed" is an unlabeled set as of
``SITE_MIX``. DATA is the left-atrium challenge (one site): each draw takes other cases. Printed are the shift of the sets
(median and range over draws), in how many draws E805 is raised, and by what share of the volumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "TransMedSeg"))

from semiseg.data.differences import MAX_QUANTILE_DISTANCE, MAX_SHIFT, intensity_quantiles, shift
from semiseg.data.files import read_volume
from semiseg.data.preprocess import Preprocessing
from semiseg.data.volume import Volume
from semiseg.phantom import SITES, make_phantom

NUM_LABELED, NUM_UNLABELED, LA_DRAWS = (4, 8), 20, 400
MIXED = {"A": 10, "C": 8, "B": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10, help="draws of phantoms (10)")
    parser.add_argument("--la", type=Path, help="folder of the left-atrium challenge")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'labeled, unlabeled':>22s} {'sets':>5s} {'shift':>6s} {'range':>12s} {'raised':>7s} {'volumes':>8s}")
    if options.la is not None:
        for count in NUM_LABELED:
            tell(f"{count} LA, LA", list(of_left_atria(options.la, count, options.seed)))
    if options.draws:
        for title, sets in of_phantoms(options.draws, options.seed):
            tell(title, sets)


def tell(title: str, sets: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """One row: what the engine would say of these pairs of a labeled and an unlabeled set."""
    shifts, named = [], []
    for labeled, unlabeled in sets:
        whole, each = shift(labeled, unlabeled)
        nearest = np.abs(unlabeled[:, None] - labeled[None]).mean(axis=-1).min(axis=1)
        shifts.append(whole)
        named.append((nearest > MAX_QUANTILE_DISTANCE) | ((whole > MAX_SHIFT) & (each > MAX_SHIFT)))
    span = f"{min(shifts):.2f} - {max(shifts):.2f}"
    raised, share = np.mean([one.any() for one in named]), np.mean(named)
    print(f"{title:>22s} {len(sets):5d} {np.median(shifts):6.2f} {span:>12s} {raised:7.1%} {share:8.1%}", flush=True)


def of_phantoms(draws: int, seed: int) -> Iterator[tuple[str, list[tuple[np.ndarray, np.ndarray]]]]:
    """(title, sets) of each pair of sites, and of a mixed unlabeled set."""
    most = max(NUM_LABELED)
    quantiles = {
        (draw, site): np.array([described(make_phantom((seed, draw, ord(site), place), site, "quarter").image) for place in range(most + NUM_UNLABELED)])
        for draw in range(draws)
        for site in SITES
    }
    for count in NUM_LABELED:
        for one in SITES:
            for other in SITES:
                yield f"{count} {one}, {other}", [(quantiles[draw, one][:count], quantiles[draw, other][most:]) for draw in range(draws)]
        mixed = [np.concatenate([quantiles[draw, site][most : most + number] for site, number in MIXED.items()]) for draw in range(draws)]
        yield f"{count} A, mixed", [(quantiles[draw, "A"][:count], mixed[draw]) for draw in range(draws)]


def of_left_atria(folder: Path, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random disjoint sets of the challenge's cases."""
    if folder not in _LEFT_ATRIA:
        _LEFT_ATRIA[folder] = np.array([described(read_volume(path)) for path in sorted(folder.glob("*/mri_norm2.h5"))])
    quantiles, rng = _LEFT_ATRIA[folder], np.random.default_rng(seed)
    for _ in range(LA_DRAWS):
        drawn = rng.permutation(len(quantiles))[: count + NUM_UNLABELED]
        yield quantiles[drawn[:count]], quantiles[drawn[count:]]


_LEFT_ATRIA: dict[Path, np.ndarray] = {}


def described(volume: Volume) -> list[float]:
    """What the engine keeps of the intensities of a volume."""
    return intensity_quantiles(Preprocessing().apply(volume)[0])


if __name__ == "__main__":
    main()
