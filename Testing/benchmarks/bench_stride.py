"""How far apart windows may lie: Dice and time of one model at several strides and both blends.

    python Testing/benchmarks/bench_stride.py MODEL.pt CASE.h5 [CASE.h5 ...] [--threads 2]

Every stride is a share of the window's side, the same on each axis. "loss" is the mean Dice of the densest stride with
constant blend (what the papers do) minus that of the row; our default is in ``semiseg.inference.sliding_window.dense_stride``. Each file holds
image and label (left-atrium or ACDC layout); several structures count alike.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "TransMedSeg"))

from semiseg.data.files import read_labels, read_volume
from semiseg.inference.segmenter import Segmenter, SegmentOptions
from semiseg.metrics.overlap import dice
from semiseg.training.cpu import prepare_cpu

SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("cases", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    options = parser.parse_args()
    prepare_cpu()
    torch.set_num_threads(options.threads)
    segmenter = Segmenter(options.model)
    loaded = [(read_volume(path), read_labels(path)[0].array) for path in options.cases]
    print(f"window {segmenter.patch_size}, {len(loaded)} cases")
    print(f"{'stride':>18s} {'blend':>9s} {'Dice':>8s} {'sd':>7s} {'loss':>8s} {'CPU s a case':>13s}")
    dense: float | None = None
    for share in SHARES:
        for blend in ("constant", "gaussian"):
            stride = tuple(max(1, round(side * share)) for side in segmenter.patch_size)
            scores, start = [], time.process_time()
            for volume, truth in loaded:
                found = segmenter.segment(volume, SegmentOptions(stride=stride, blend=blend))
                scores.append(np.mean([dice(found.labels.array == value, truth == value) for value in np.unique(truth) if value > 0]))
            each_s = (time.process_time() - start) / len(loaded)
            mean = float(np.mean(scores))
            dense = mean if dense is None else dense
            title = "x".join(map(str, stride))
            print(
                f"{title:>18s} {blend:>9s} {mean:8.4f} {np.std(scores):7.4f} {dense - mean:8.4f} {each_s:13.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
