"""Dice + 95HD + ASD of one left-atrium mask: medpy's three calls against one of ours. Needs ``pip install medpy``.

    python Testing/benchmarks/bench_metrics.py [--volume CASE.h5] [--repeats 5]

Without a volume, an ellipsoid of the median size of the left-atrium set stands in. The predictions are the mask with a
smoothly moved surface: good (Dice about 0.95), fair (0.85) and poor (0.6, with a piece far away). Contestants take
turns; every ratio is one of medians from one run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "TransMedSeg"))

from semiseg.metrics.score import score_masks

SPACINGS = {"isotropic": (1.0, 1.0, 1.0), "anisotropic": (1.25, 0.625, 0.625)}


def load_mask(path: Path | None) -> np.ndarray:
    """(slice, row, column) uint8."""
    if path is not None:
        import h5py

        with h5py.File(path, "r") as file:
            return file["label"][()].transpose(2, 1, 0).copy()
    shape = (88, 142, 190)
    grid = np.indices(shape).transpose(1, 2, 3, 0)
    return (np.linalg.norm((grid - np.array(shape) / 2) / (28, 42, 70), axis=-1) < 1).astype(np.uint8)


def predictions(mask: np.ndarray) -> dict[str, np.ndarray]:
    """Masks that are wrong in the way networks are."""
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(1 - mask)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=mask.shape), 4)
    noise /= noise.std()
    poor = depth + 9 * noise > 3
    poor[-6:, -9:, -9:] = True
    return {"good": depth + 1.2 * noise > 0, "fair": depth + 4 * noise > 0, "poor": poor}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", type=Path, help="left-atrium h5 file; an ellipsoid without")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each contestant (5)")
    options = parser.parse_args()
    from medpy.metric import binary

    mask = load_mask(options.volume)
    print(f"mask {mask.shape}, {int(mask.sum())} voxels; medians of {options.repeats} runs")
    print(f"{'':22s}{'Dice':>7s}{'medpy ms':>10s}{'ours ms':>9s}{'ratio':>7s}   largest difference")
    for quality, prediction in predictions(mask).items():
        for name, spacing in SPACINGS.items():
            report(f"{quality}, {name}", prediction, mask, spacing, options.repeats, binary)


def report(name: str, prediction: np.ndarray, mask: np.ndarray, spacing: tuple, repeats: int, binary: object) -> None:
    """Times what one row of our table needs: voxels and millimeters, which are one for medpy where the spacing is 1."""
    units = [None] if spacing == (1.0, 1.0, 1.0) else [None, spacing]

    def theirs() -> tuple[float, ...]:
        given = (prediction, mask)
        distances = [metric(*given, unit) for unit in units for metric in (binary.hd95, binary.asd)]
        return binary.dc(*given), *distances

    def ours() -> tuple[float, ...]:
        values = score_masks(prediction, mask, spacing)[0]
        names = ["hd95_voxels", "asd_voxels", "hd95_mm", "asd_mm"][: 2 * len(units)]
        return values["dice"], *(values[name] for name in names)

    times: dict[Callable, list[float]] = {theirs: [], ours: []}
    found: dict[Callable, tuple[float, ...]] = {}
    for _ in range(repeats):
        for run, spent in times.items():
            start = time.process_time()  # both use one thread: the time of the processor is that of the clock
            found[run] = run()
            spent.append(1000 * (time.process_time() - start))
    slow, fast = (float(np.median(times[run])) for run in (theirs, ours))
    apart = max(abs(one - other) for one, other in zip(found[theirs], found[ours]))
    print(f"{name:22s}{found[ours][0]:7.3f}{slow:10.0f}{fast:9.0f}{slow / fast:7.1f}   {apart:.1e}")


if __name__ == "__main__":
    main()
