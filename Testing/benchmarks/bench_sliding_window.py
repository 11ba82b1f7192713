"""Sliding window over one left-atrium volume: a plain loop, MONAI's, and ours, with the same network and the same
windows.

    python Testing/benchmarks/bench_sliding_window.py [--volume CASE.h5] [--width 4] [--repeats 3] [--quick]

Without a volume, an ellipsoid of the median size of the left-atrium set (88 x 142 x 190) stands in. Contestants take
turns, and every ratio comes from one run. MONAI's rows need ``pip install monai``; without it they are left out.
``--quick`` cuts the middle out of the volume, 9 windows of the same size and stride, for a run of a few minutes.

The network is a V-Net with batch normalization as in the papers, fitted to the volume for a few steps so that its maps
look like maps. "Same network" means the same weights: ours runs them as ``semiseg.inference.deploy`` stores them,
which is part of what is measured. Further rows separate the shares of the window code and of the stored form, and show
the passes of the network alone, on windows that are there already and with maps that are thrown away: no window code
can be faster than that.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "TransMedSeg"))

from semiseg.inference.deploy import deploy
from semiseg.inference.sliding_window import sliding_window, window_probabilities, window_starts
from semiseg.networks import build_network
from semiseg.training.cpu import prepare_cpu

PATCH, STRIDE = (80, 112, 112), (4, 18, 18)


def load_volume(path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask, [slice, row, column]."""
    if path is not None:
        import h5py

        with h5py.File(path, "r") as file:
            return file["image"][()].transpose(2, 1, 0).astype(np.float32).copy(), file["label"][()].transpose(
                2, 1, 0
            ).copy()
    shape = (88, 142, 190)
    grid = np.indices(shape).transpose(1, 2, 3, 0)
    mask = np.linalg.norm((grid - np.array(shape) / 2) / (30, 45, 75), axis=-1) < 1
    noise = np.random.default_rng(0).normal(size=shape)
    return (mask * 1.5 + noise).astype(np.float32), mask.astype(np.uint8)


def fit(network: nn.Module, image: np.ndarray, mask: np.ndarray, steps: int) -> None:
    """A few steps on random patches: enough for maps with an inside and an outside."""
    rng = np.random.default_rng(0)
    inside = np.argwhere(mask)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(steps):
        centers = inside[rng.integers(0, len(inside), 2)]
        corners = np.clip(centers - rng.integers(8, 40, (2, 3)), 0, np.array(image.shape) - 48)
        boxes = [tuple(slice(first, first + 48) for first in corner) for corner in corners.tolist()]
        x = torch.from_numpy(np.stack([image[box] for box in boxes]))[:, None]
        y = torch.from_numpy(np.stack([mask[box] for box in boxes]).astype(np.int64))
        optimizer.zero_grad()
        F.cross_entropy(network(x).logits, y).backward()
        optimizer.step()


def plain_loop(network: nn.Module, image: np.ndarray) -> np.ndarray:
    """One window at a time with NumPy sums: what the test code of the papers does."""
    score = np.zeros((2, *image.shape), np.float32)
    count = np.zeros(image.shape, np.float32)
    for k in window_starts(image.shape[0], PATCH[0], STRIDE[0]):
        for j in window_starts(image.shape[1], PATCH[1], STRIDE[1]):
            for i in window_starts(image.shape[2], PATCH[2], STRIDE[2]):
                box = (slice(k, k + PATCH[0]), slice(j, j + PATCH[1]), slice(i, i + PATCH[2]))
                window = torch.from_numpy(image[box][None, None].astype(np.float32))
                with torch.no_grad():
                    maps = F.softmax(network(window).logits, dim=1)
                score[(slice(None), *box)] += maps.numpy()[0]
                count[box] += 1
    return (score / count)[1]


def monai_windows(network: nn.Module, image: Tensor, batch_windows: int) -> np.ndarray:
    """MONAI's function with the overlap that gives the same strides."""
    from monai.inferers import sliding_window_inference

    # MONAI truncates side * (1 - overlap): without the margin a stride of 4 becomes 3.
    overlap = tuple(1 - step / side - 1e-9 for step, side in zip(STRIDE, PATCH))
    with torch.inference_mode():
        maps = sliding_window_inference(
            image, PATCH, batch_windows, lambda x: F.softmax(network(x).logits, dim=1), overlap=overlap, mode="constant"
        )
    return maps[0, 1].numpy()


def our_windows(network: nn.Module, image: Tensor, batch_windows: int) -> np.ndarray:
    """Ours."""
    maps = sliding_window(lambda x: window_probabilities(network(x).logits), image, PATCH, STRIDE, batch_windows)
    return maps[0].numpy()


def passes_alone(network: nn.Module, image: Tensor, batch_windows: int, count: int) -> None:
    """As many passes as ``count`` windows take, on one batch that is not cut, with maps that nobody sums."""
    windows = image[(..., *(slice(side) for side in PATCH))].expand(batch_windows, -1, -1, -1, -1).contiguous()
    with torch.inference_mode():
        for size in [len(part) for part in np.array_split(np.arange(count), -(-count // batch_windows))]:
            network(windows[:size])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", type=Path, help="left-atrium h5 file; an ellipsoid without")
    parser.add_argument("--width", type=int, default=4, help="channels of the V-Net at its finest level (4)")
    parser.add_argument("--norm", default="batch", help="normalization of the V-Net (batch, as in the papers)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each contestant (3)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--fit-steps", type=int, default=60, help="training steps before the measurement (60)")
    parser.add_argument("--quick", action="store_true", help="the middle of the volume alone: 9 windows")
    options = parser.parse_args()
    prepare_cpu()  # as every door of the engine does; all contestants gain
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    array, mask = load_volume(options.volume)
    if options.quick:
        middle = (
            slice(0, 88),
            *(slice((size - side) // 2, (size + side) // 2) for size, side in zip(array.shape[1:], (112, 148))),
        )
        array, mask = array[middle].copy(), mask[middle].copy()
    network = build_network("vnet", 1, 2, {"width": options.width, "norm": options.norm})
    fit(network, array, mask, options.fit_steps)
    network.eval()
    ready, image = deploy(network), torch.from_numpy(array)[None, None]
    count = int(np.prod([len(window_starts(*sizes)) for sizes in zip(array.shape, PATCH, STRIDE)]))
    contestants = {
        "plain loop": lambda: plain_loop(network, array),
        "ours": lambda: our_windows(ready, image, 2),
        "our passes alone": lambda: passes_alone(ready, image, 2, count),
        "our windows, network as trained": lambda: our_windows(network, image, 2),
        "passes alone, network as trained": lambda: passes_alone(network, image, 2, count),
    }
    if importlib.util.find_spec("monai"):
        contestants |= {
            "MONAI, 4 windows": lambda: monai_windows(network, image, 4),
            "MONAI, 2 windows": lambda: monai_windows(network, image, 2),
            "MONAI, 2 windows, our network": lambda: monai_windows(ready, image, 2),
        }
    print(f"volume {array.shape}, {count} windows {PATCH} at stride {STRIDE}")
    kind = f"V-Net width {options.width}, {options.norm} norm, {options.threads} threads"
    print(f"{kind}; medians of {options.repeats} runs", flush=True)
    report(contestants, options.repeats, mask)


def report(contestants: dict, repeats: int, mask: np.ndarray) -> None:
    """Runs everybody in turn, telling each turn, and prints seconds, ratios and agreement with the plain loop."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    maps: dict[str, np.ndarray | None] = {}
    for turn in range(repeats):
        for name, run in contestants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            maps[name] = run()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            seconds = "{:.1f} s on the clock, {:.1f} s of the processor".format(*times[name][-1])
            print(f"turn {turn + 1} of {repeats}: {name}, {seconds}", file=sys.stderr, flush=True)
    ours = np.median(times["ours"], axis=0)
    inside = maps["plain loop"] > 0.5
    print(f"{'':34s}{'wall s':>9s}{'CPU s':>9s}{'ratio':>8s}{'CPU ratio':>11s}   other labels   largest difference")
    for name, found in times.items():
        wall, cpu = np.median(found, axis=0)
        seconds = f"{name:34s}{wall:9.1f}{cpu:9.1f}{wall / ours[0]:8.2f}{cpu / ours[1]:11.2f}"
        if maps[name] is None:
            print(seconds)
            continue
        changed = int(np.count_nonzero((maps[name] > 0.5) != inside))
        apart = float(np.abs(maps[name] - maps["plain loop"]).max())
        print(f"{seconds}   {changed:12d}   {apart:18.1e}")
    dice = 2 * np.count_nonzero(inside & (mask > 0)) / max(1, np.count_nonzero(inside) + np.count_nonzero(mask))
    print(f"Dice of the fitted network against the mask: {dice:.3f}; {np.count_nonzero(inside)} voxels inside")


if __name__ == "__main__":
    main()
