"""What a step of every method costs beside its forward and backward passes alone, and beside a supervised step.

    PYTHONPATH=TransMedSeg python Testing/benchmarks/bench_method_steps.py [--threads 1] [--methods bcp transmedseg] [--memory]

A *step* is what the loop does: intensity changes, losses, backward, clipping, optimizer, averages, in the last stage of the method (of `semigda` in each of its
three). Where a method labels whole cases beforehand, their labels come with the batch as in training; the rounds of labeling are in no step. *Passes alone* are as
many forward and backward passes of its networks on images of the same size, with a sum as loss; *and update* adds the same clipping and optimizer step. The three
take turns within one run, so a busy machine slows all alike; times are of the processor on a CPU. Some work comes in every fourth or eighth step alone, so times
are summed over blocks of eight, no step left out, and a ratio is the median of those of the blocks. Patches are cut before the clock starts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from semiseg.data.augment import AugmentOptions, draw_intensity
from semiseg.data.batches import Batch, Stream
from semiseg.data.randomness import generator_for
from semiseg.losses.latent import encode_labels
from semiseg.methods import METHODS, load_method
from semiseg.methods.base import AbstractMethod, Progress, Task
from semiseg.methods.micd import MICD
from semiseg.methods.semigda import SemiGDA
from semiseg.training.cpu import prepare_cpu
from semiseg.training.optimizer import make_optimizer
from semiseg.training.options import TrainOptions

BLOCK = 8
"""Steps that are timed together: a multiple of TSA's four between two updates of its moments and of the eight between two looks at SemiGDA's gate."""

WARM_UP = 2
"""Steps before the first block, the last ones of an unseen block."""


class Passes(NamedTuple):
    """Images that go through a network in one step of the last stage.

    Attributes:
        learning: Forward and backward, in units of all labeled plus unlabeled images of a batch.
        watching: Forward alone, in the same unit.
        specified: The count in words.
    """

    learning: float
    watching: float
    specified: str


# Of 2 labeled and 2 unlabeled images.
PASSES = {
    "supervised": Passes(0.5, 0.0, "student on the labeled"),
    "mean_teacher": Passes(1.0, 0.5, "student on all, teacher on the unlabeled"),
    "ua_mt": Passes(1.0, 4.5, "student on all, teacher nine times on the unlabeled"),
    "cps": Passes(2.0, 0.0, "two students on all"),
    "bcp": Passes(0.5, 0.0, "student on one labeled and one unlabeled image; in one step of four on two mixtures of all"),
    "graphcl": Passes(0.5, 0.0, "student on one labeled and one unlabeled image"),
    "transmedseg": Passes(0.5, 0.0, "student on one labeled and one unlabeled image"),
    "micd": Passes(3.0, 2.0, "two students on the labeled and on all masked, two teachers on all"),
    "semigda:ae": Passes(1.5, 0.0, "encoder and decoder on all images and the masks"),
    "semigda:align": Passes(1.0, 1.5, "mapping and residual encoder on all, frozen encoder on images and masks"),
    "semigda:segment": Passes(1.0, 1.5, "as align, and the frozen decoder with adapters twice on all"),
}
"""A colon and a name of a stage where it is not the last one that is measured."""


class Contest:
    """A method on random balls, with its step and its passes."""

    def __init__(self, name: str, patch: tuple[int, int, int], width: int, device: torch.device) -> None:
        torch.manual_seed(0)
        method_name, _, stage = name.partition(":")
        kind = load_method(method_name)
        preset = kind.presets["plus"]
        network = {**preset.network, "width": width, "coarse_stem": True}
        self.device, self.passes = device, PASSES[name]
        self.method = kind(Task(2, "vnet", network), kind.Options(**preset.method)).to(device)
        self.method = self.method.to(memory_format=torch.channels_last_3d).train()
        self.options = TrainOptions(**{**preset.training, "patch_size": patch, "iterations": 1000})
        self.optimizer = make_optimizer(self.method, self.options)
        self.images, self.labels = noisy_balls(patch, device)
        self.masks = encode_labels(self.labels[:2], 2)
        self.seeds = even_seeds(BLOCK)
        self.number = BLOCK - WARM_UP
        self.stage = stage or self.method.stages[-1].name
        self.method.start_stage(self.stage)

    def step(self) -> None:
        """Everything that training does in an iteration, but for cutting the patches."""
        progress, batch = Progress(self.stage, 0.5, 0.5, self.number), self._batch()
        self.number += 1
        self._learn(lambda: self.method(batch, progress)["total"])
        self._update()
        self.method.after_step(progress)

    def _batch(self) -> Batch:
        """As training gives it: new streams, so that intensity is changed in every step; labels of unlabeled images in the stage before which whole cases get theirs."""
        draws = [draw_intensity(generator_for(0, self.number, sample, "bench"), AugmentOptions().intensity) for sample in range(4)]
        labels = self.labels[2:] if self.stage == self.method.case_labeling[0] else None
        labeled, unlabeled = Stream.of(self.images[:2], self.labels[:2], draws[:2], [0, 1]), Stream.of(self.images[2:], labels, draws[2:], [0, 1])
        return Batch(labeled, unlabeled, self.seeds[self.number % BLOCK])

    def passes_alone(self) -> None:
        """The forward and backward passes of a step, and nothing else of it."""
        self._learn(self._passes)

    def passes_and_update(self) -> None:
        """The same with clipping and the optimizer's step."""
        self._learn(self._passes)
        self._update()

    def _passes(self) -> Tensor:
        if isinstance(self.method, SemiGDA):
            return self._semigda_passes()
        if isinstance(self.method, MICD):
            with torch.no_grad():
                for teacher in (self.method.teachers.network.first, self.method.teachers.network.second):
                    teacher(self.images)
            students = (self.method.students.first, self.method.students.second)
            return sum(student(images).logits.mean() for student in students for images in (self.images[:2], self.images))
        return self._plain_passes()

    def _semigda_passes(self) -> Tensor:
        network = self.method.network
        if self.stage == "ae":
            encoding = network.encoder(torch.cat([self.images, self.masks]))
            return network.decoder(encoding.mean + encoding.log_variance).mean()
        with torch.no_grad():
            encoding, _ = network.encoder(self.images), network.encoder(self.masks)
        mapped = network.mapping(encoding.mean)
        direct, skips = network.residual_encoder(self.images)
        if self.stage == "align":
            return mapped.mean() + direct.mean()
        first, _ = network.decode(mapped, network.image_adapters, encoding.skips)
        second, _ = network.decode(direct, network.mask_adapters, skips)
        return first.mean() + second.mean()

    def _plain_passes(self) -> Tensor:
        students = students_of(self.method)
        watched = round(self.passes.watching * len(self.images))
        each = round(self.passes.learning * len(self.images)) // len(students)
        half = len(self.images) // 2
        with torch.no_grad():
            for _ in range(watched // half):
                self.method.teacher.network(self.images[:half])
        return sum(student(self.images[:each]).logits.mean() for student in students)

    def _learn(self, loss: Callable[[], Tensor]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss().backward()

    def _update(self) -> None:
        learning = [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]
        torch.nn.utils.clip_grad_norm_(learning, self.options.gradient_clip, foreach=True)
        self.optimizer.step()


def students_of(method: AbstractMethod) -> list[nn.Module]:
    """The networks that learn."""
    for name in ("student", "core", "pair", "students", "networks"):
        part = getattr(method, name, None)
        if part is None:
            continue
        if hasattr(part, "student"):
            return [part.student]
        return [part.first, part.second] if hasattr(part, "first") else list(part) if isinstance(part, nn.ModuleList) else [part]
    raise SystemExit(f"{type(method).__name__}: its students were not found")


def noisy_balls(patch: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Four images (sample, 1, *space), the first two of them the labeled ones, and the labels of all (sample, *space)."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in patch), indexing="ij")
    ball = (sum(axis.square() for axis in axes) < 0.4).long().expand(4, *patch).contiguous()
    images = (ball + 0.5 * torch.randn(4, *patch, generator=generator))[:, None]
    return images.to(device), ball.to(device)


def even_seeds(count: int) -> list[int]:
    """Seeds whose first draws lie one in each ``count``-th of [0, 1): of so many steps a quarter is mixed where a method mixes with probability 1/4."""
    found: dict[int, int] = {}
    seed = 0
    while len(found) < count:
        first = float(torch.rand((), generator=torch.Generator().manual_seed(seed)))
        found.setdefault(int(first * count), seed)
        seed += 1
    return list(found.values())


def seconds(work: Callable[[], None], device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


class Times(NamedTuple):
    """Seconds of each block of steps, the same blocks in every list."""

    step: list[float]
    passes: list[float]
    update: list[float]


def measure(contests: dict[str, Contest], num_blocks: int, device: torch.device) -> dict[str, Times]:
    """Times steps, passes alone and passes with update in turns, of all methods in turns."""
    times = {name: Times(*([0.0] * num_blocks for _ in Times._fields)) for name in contests}
    for number in range(-WARM_UP, num_blocks * BLOCK):
        for name, contest in contests.items():
            turn = [seconds(work, device) for work in (contest.step, contest.passes_alone, contest.passes_and_update)]
            for found, value in zip(times[name], turn):
                if number >= 0:
                    found[number // BLOCK] += value
    return times


def milliseconds(blocks: list[float]) -> str:
    """Of one step: the median of the blocks."""
    return f"{1e3 * statistics.median(blocks) / BLOCK:.0f}"


def ratio(blocks: list[float], others: list[float]) -> str:
    """Median of the blocks, and the smallest and the largest."""
    found = sorted(one / other for one, other in zip(blocks, others))
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def _peak_mib(name: str, patch: tuple[int, int, int], width: int, answer: object) -> None:
    torch.set_num_threads(1)
    contest = Contest(name, patch, width, torch.device("cpu"))
    for _ in range(2):
        contest.step()
    answer.put(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)


def peak_mib(name: str, patch: tuple[int, int, int], width: int) -> float:
    """Peak resident memory of a process that takes two steps; PyTorch itself included."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_peak_mib, args=(name, patch, width, answer))
    process.start()
    value = answer.get()
    process.join()
    return value


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(PASSES), choices=list(PASSES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--blocks", type=int, default=3, help=f"of {BLOCK} steps each (3)")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--patch", type=int, nargs=3, default=(48, 64, 64), metavar=("SLICE", "ROW", "COLUMN"))
    parser.add_argument("--memory", action="store_true", help="also the peak memory, a process each (Linux, CPU)")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    prepare_cpu()
    device, patch = torch.device(options.device), tuple(options.patch)
    names = list(dict.fromkeys(["supervised", *options.methods]))
    times = measure({name: Contest(name, patch, options.width, device) for name in names}, options.blocks, device)
    print(f"torch {torch.__version__}, {device}, {options.threads} threads, V-Net of width {options.width} with coarse_stem, patch {patch}, 2 + 2 images")
    print(f"{options.blocks} blocks of {BLOCK} steps: medians, in brackets the smallest and the largest ratio of a block")
    print(f"not measured: {', '.join(set(METHODS) - {name.partition(':')[0] for name in names}) or 'none'}\n")
    titles = ["method", "passes", "step, ms", "passes, ms", "with update, ms", "step / passes", "step / passes with update", "step / supervised"]
    titles += ["peak, MiB"] if options.memory else []
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name in names:
        step, passes, update = times[name]
        cells = [f"`{name}`", PASSES[name].specified, *map(milliseconds, times[name])]
        cells += [ratio(step, passes), ratio(step, update), ratio(step, times["supervised"].step).partition(" ")[0]]
        cells += [f"{peak_mib(name, patch, options.width):.0f}"] if options.memory else []
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
