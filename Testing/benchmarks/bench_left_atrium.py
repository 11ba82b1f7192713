"""Left atrium at half or a quarter of the resolution on CPUs: methods, labels and seeds, scored at full resolution on the held-out cases, last checkpoint.

    python Testing/benchmarks/bench_left_atrium.py DATA OUT --methods supervised transmedseg --labels 4 8 --seeds 0 1 2 --minutes 15

DATA is the standard layout: <id>/mri_norm2.h5 with train.list and test.list. Every combination is an ordinary run folder below OUT; what is done is
skipped, so the command can be given again after an interruption. With --iterations the length is stated in steps instead of minutes, and with
--jobs 2 --threads 1 two runs share two cores; the summary gives the seconds each run spent in training steps and its threads.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev

ENGINE = str(Path(__file__).resolve().parents[2] / "TransMedSeg")
sys.path.insert(0, ENGINE)

from semiseg.protocol import Job, write_job
from semiseg.train import TrainJob

GRIDS = {
    "half": ([1.25] * 3, [48, 64, 64], {"width": 8, "coarse_stem": True}),
    "quarter": ([2.5] * 3, [24, 32, 32], {"width": 8, "depth": 4, "coarse_stem": False}),
}
"""Spacing in mm when the stored 0.625 are assumed, patch, network."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--methods", nargs="+", default=["supervised", "transmedseg"])
    parser.add_argument("--labels", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--iterations", nargs="*", default=[], metavar="METHOD=N", help="steps instead of minutes")
    parser.add_argument("--grid", choices=GRIDS, default="half", help="resolution that is trained at; scores are on the full grid")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of a run; 0 takes all")
    args = parser.parse_args()
    steps = {name: int(count) for name, _, count in (entry.partition("=") for entry in args.iterations)}
    waiting = [(seed, labels, method) for seed in args.seeds for labels in args.labels for method in args.methods]
    running: list[tuple[Path, subprocess.Popen]] = []
    while waiting or running:
        running = [(folder, process) for folder, process in running if process.poll() is None]
        while waiting and len(running) < args.jobs:
            seed, labels, method = waiting.pop(0)
            folder = args.out / f"{method}-{labels}-seed{seed}"
            if (folder / "result.json").exists():
                continue
            if not (folder / "job.json").exists():
                write_job(folder, Job("train", asdict(job_for(args, method, labels, seed, steps))))
            print(f"starting {folder.name}", flush=True)
            with open(folder / "log.txt", "ab") as log:
                command = [sys.executable, "-m", "semiseg", "run", str(folder)]
                running.append((folder, subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": ENGINE})))
        time.sleep(1)
    summarize(args.out)


def job_for(args: argparse.Namespace, method: str, labels: int, seed: int, steps: dict[str, int]) -> TrainJob:
    """Grid, patch and network; everything else is the method's own preset."""
    spacing_mm, patch_size, network_options = GRIDS[args.grid]
    training = {"patch_size": patch_size, "batch_labeled": 2, "batch_unlabeled": 2}
    training.update({"iterations": steps[method]} if method in steps else {"minutes": args.minutes})
    return TrainJob(
        labeled=[str(args.data.resolve())],
        num_labeled=labels,
        method=method,
        device="cpu",
        seed=seed,
        threads=args.threads,
        preprocessing={"spacing_mm": spacing_mm},
        network_options=network_options,
        training=training,
    )


def summarize(out: Path) -> None:
    """Prints mean and spread over seeds, and writes every case of every run to one CSV."""
    runs: dict[tuple[str, int], list[dict]] = {}
    rows = []
    for path in sorted(out.glob("*/result.json")):
        result = json.loads(path.read_text())
        threads = json.loads((path.parent / "job.json").read_text())["options"]["threads"]
        key = (result["method"], result["cases"]["labeled"])
        table = json.loads((path.parent / "dice.json").read_text())["rows"]
        cases = {row["case"]: row["values"] for row in table}
        runs.setdefault(key, []).append({**result, "threads": threads, "dice": [values["dice"] for values in cases.values()]})
        rows += [[*key, result["seed"], case, values["dice"], values["hd95_voxels"], values["asd_voxels"]] for case, values in cases.items()]
    with open(out / "cases.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["method", "labeled", "seed", "case", "dice", "hd95_voxels", "asd_voxels"])
        writer.writerows(rows)
    print("method          labeled seeds  Dice             worst  iterations  training s x threads")
    for (method, labels), found in sorted(runs.items(), key=lambda entry: (entry[0][1], entry[0][0])):
        means = [mean(run["dice"]) for run in found]
        spread = f" ± {stdev(means):.4f}" if len(means) > 1 else ""
        worst = min(min(run["dice"]) for run in found)
        spent = ", ".join(f"{run['train_s']:.0f} x {run['threads'] or 'all'}" for run in found)
        print(f"{method:15s} {labels:7d} {len(found):5d}  {mean(means):.4f}{spread:9s}  {worst:.3f}  {found[0]['iterations']:10d}  {spent}")


if __name__ == "__main__":
    main()
