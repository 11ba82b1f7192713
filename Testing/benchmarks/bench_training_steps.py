"""What a training step of several methods costs on the same cases, in turns within one process, and how many steps a budget of seconds holds.

    python Testing/benchmarks/bench_training_steps.py DATA OUT --methods supervised transmedseg --labels 8 --grid half --turns 3 --seconds 480

DATA is a folder that `semiseg train --labeled` takes (the left atrium, phantoms, one's own); its cases are prepared once, below OUT. A turn times every method
with the probe that turns a budget into steps: a few steps of each stage as training takes them, patches cut and changed included, and where unlabeled cases are
labeled whole, all rounds of that for all of them. Methods take turns, so a busy machine slows all alike; ratios are of one turn, and their median counts.
Nothing is trained. Options are those of one site.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path

from bench_left_atrium import ENGINE, job_for  # beside this file; puts the engine on the path

if ENGINE not in sys.path:
    sys.path.insert(0, ENGINE)

import torch

from semiseg.data.cache import PreparedSet
from semiseg.distributed import World
from semiseg.methods import METHODS
from semiseg.train_job import Resolved, resolve
from semiseg.train_parts import make_batches, make_method, prepared_for
from semiseg.training.cpu import prepare_cpu
from semiseg.training.probe import Pace, measure_pace

CPU = torch.device("cpu")


def main() -> None:
    args = parse()
    prepare_cpu()
    torch.set_num_threads(args.threads)
    # The length is the probe's to tell; any number will do here.
    jobs = {name: job_for(args, name, args.labels, args.seed, dict.fromkeys(args.methods, 1000)) for name in args.methods}
    first = resolve(next(iter(jobs.values())), CPU)
    prepared = prepared_for(first, args.out, lambda kind, **values: None, World())
    contests = {name: resolve(replace(job, prepared=str(prepared.folder)), CPU) for name, job in jobs.items()}
    paces: dict[str, list[Pace]] = {name: [] for name in args.methods}
    for turn in range(args.turns):
        for name, resolved in contests.items():
            paces[name].append(one_turn(resolved, prepared))
            print(f"turn {turn + 1} of {args.turns}: {name} {1000 * paces[name][-1].step_s:.0f} ms", file=sys.stderr, flush=True)
    counts = ", ".join(f"{len(prepared.indices(role))} {role}" for role in ("labeled", "unlabeled"))
    print(f"torch {torch.__version__}, {args.threads} threads, {counts} cases, grid {args.grid}, median of {args.turns} turns\n")
    print("\n".join(table(paces, args.seconds)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the cases")
    parser.add_argument("out", type=Path, help="folder for the prepared cases")
    parser.add_argument("--methods", nargs="+", default=["supervised", "transmedseg"], choices=list(METHODS), help="the first is what the others are compared with")
    parser.add_argument("--labels", type=int, default=8, help="labeled cases (default: 8)")
    parser.add_argument("--grid", choices=("half", "quarter"), default="half", help="spacing, patch and network of bench_left_atrium.py (default: half)")
    parser.add_argument("--turns", type=int, default=3, help="default: 3")
    parser.add_argument("--seconds", type=float, default=480.0, help="the budget that is turned into steps (default: 480)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    return parser.parse_args()


def one_turn(resolved: Resolved, prepared: PreparedSet) -> Pace:
    """What the probe finds now, with fresh weights."""
    batches = make_batches(resolved, prepared, CPU, World())
    return measure_pace(lambda: make_method(resolved, prepared), batches, resolved.options, CPU)


def table(paces: dict[str, list[Pace]], seconds: float) -> list[str]:
    """Lines of a Markdown table: medians over the turns, ratios to the first method within each turn."""
    first = next(iter(paces.values()))
    lines = [
        f"| method | step, ms | step / {next(iter(paces))} (each turn) | rounds of labeling, s | their share of {seconds:.0f} s | steps in {seconds:.0f} s |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in paces.items():
        ratios = [pace.step_s / other.step_s for pace, other in zip(found, first)]
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        labeling_s = statistics.median(pace.labeling_s for pace in found)
        steps = statistics.median(pace.iterations(seconds) for pace in found)
        step_ms = 1000 * statistics.median(pace.step_s for pace in found)
        lines.append(
            f"| `{name}` | {step_ms:.0f} | {statistics.median(ratios):.2f} ({each}) | {labeling_s:.1f} | {100 * labeling_s / seconds:.0f} % | {steps:.0f} |"
        )
    return lines


if __name__ == "__main__":
    main()
