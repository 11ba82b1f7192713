"""What a step of every method costs beside its forward and backward passes alone, and beside a supervised step.

    PYTHONPATH=TransMedSeg python Testing/benchmarks/bench_method_steps.py [--threads 1] [--methods bcp transmedseg] [--memory]

A *step* is what the loop does: losses, backward, optimizer, averages, in the last stage of the method (of `semigda` in each of its three). *Passes alone* are as many forward and backward
passes of its networks on images of the same size, with a sum as loss, and the same optimizer step. The two take turns within one run, so a busy machine
slows both alike; times are of the processor on a CPU. Data are loaded before the clock starts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
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
    "bcp": Passes(0.5, 0.5, "student on two mixtures, teacher on the unlabeled"),
    "graphcl": Passes(0.5, 0.5, "student on two mixtures, teacher on the unlabeled"),
    "transmedseg": Passes(0.5, 0.5, "student on two mixtures, teacher on the unlabeled"),
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
        self.batch = make_batch(patch, device)
        self.images = torch.cat([self.batch.labeled, self.batch.unlabeled])
        self.number = 1
        self.stage = stage or self.method.stages[-1].name
        self.method.start_stage(self.stage)

    def step(self) -> None:
        progress = Progress(self.stage, 0.5, 0.5, self.number)
        self.number += 1
        self._learn(self.method(replace(self.batch, seed=self.number), progress)["total"])
        self.method.after_step(progress)

    def passes_alone(self) -> None:
        if isinstance(self.method, SemiGDA):
            self._learn(self._semigda_passes())
        elif isinstance(self.method, MICD):
            with torch.no_grad():
                for teacher in (self.method.teachers.network.first, self.method.teachers.network.second):
                    teacher(self.images)
            students = (self.method.students.first, self.method.students.second)
            self._learn(sum(student(images).logits.mean() for student in students for images in (self.batch.labeled, self.images)))
        else:
            self._plain_passes()

    def _semigda_passes(self) -> Tensor:
        network, masks = self.method.network, encode_labels(self.batch.labels, 2)
        if self.stage == "ae":
            encoding = network.encoder(torch.cat([self.images, masks]))
            return network.decoder(encoding.mean + encoding.log_variance).mean()
        with torch.no_grad():
            encoding, _ = network.encoder(self.images), network.encoder(masks)
        mapped = network.mapping(encoding.mean)
        direct, skips = network.residual_encoder(self.images)
        if self.stage == "align":
            return mapped.mean() + direct.mean()
        first, _ = network.decode(mapped, network.image_adapters, encoding.skips)
        second, _ = network.decode(direct, network.mask_adapters, skips)
        return first.mean() + second.mean()

    def _plain_passes(self) -> None:
        students = students_of(self.method)
        teacher = getattr(self.method, "teacher", None) or getattr(getattr(self.method, "core", None), "teacher", None)
        watched = round(self.passes.watching * len(self.images))
        each = round(self.passes.learning * len(self.images)) // len(students)
        half = len(self.images) // 2
        with torch.no_grad():
            for _ in range(watched // half):
                teacher.network(self.images[:half])
        self._learn(sum(student(self.images[:each]).logits.mean() for student in students))

    def _learn(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        learning = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch.nn.utils.clip_grad_norm_(learning, 5.0, foreach=True)
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


def make_batch(patch: tuple[int, int, int], device: torch.device) -> Batch:
    """Two labeled and two unlabeled noisy balls, with the intensity changes of the default augmentation drawn."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in patch), indexing="ij")
    ball = (sum(axis.square() for axis in axes) < 0.4).long().expand(4, *patch).contiguous()
    images = (ball + 0.5 * torch.randn(4, *patch, generator=generator))[:, None]
    draws = [draw_intensity(generator_for(0, 0, sample, "bench"), AugmentOptions().intensity) for sample in range(4)]
    images, ball = images.to(device), ball.to(device)
    return Batch(Stream.of(images[:2], ball[:2], draws[:2], [0, 1]), Stream.of(images[2:], None, draws[2:], [0, 1]), 0)


def seconds(work: Callable[[], None], device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def typical(values: list[float]) -> float:
    """Mean without the slowest third: steps that other programs disturbed."""
    return statistics.fmean(sorted(values)[: max(2 * len(values) // 3, 1)])


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(PASSES), choices=list(PASSES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--patch", type=int, nargs=3, default=(48, 64, 64), metavar=("SLICE", "ROW", "COLUMN"))
    parser.add_argument("--memory", action="store_true", help="also the peak memory, a process each (Linux, CPU)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prepare_cpu()
    device, patch = torch.device(options.device), tuple(options.patch)
    names = list(dict.fromkeys(["supervised", *options.methods]))
    contests = {name: Contest(name, patch, options.width, device) for name in names}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}
    for number in range(options.steps + 2):
        for name, contest in contests.items():
            pair = seconds(contest.step, device), seconds(contest.passes_alone, device)
            if number >= 2:
                for found, value in zip(times[name], pair):
                    found.append(value)
    print(f"torch {torch.__version__}, {device}, {options.threads} threads, V-Net of width {options.width} with coarse_stem, patch {patch}, 2 + 2 images")
    print(f"not measured: {', '.join(set(METHODS) - {name.partition(':')[0] for name in names}) or 'none'}\n")
    print("| method | passes | step, ms | passes alone, ms | step / passes | step / supervised |" + (" peak, MiB |" if options.memory else ""))
    print("|---|---|---|---|---|---|" + ("---|" if options.memory else ""))
    plain = typical(times["supervised"][0])
    for name in names:
        step, alone = (typical(values) for values in times[name])
        ratio = statistics.median(one / other for one, other in zip(*times[name]))
        memory = f" {peak_mib(name, patch, options.width):.0f} |" if options.memory else ""
        print(f"| `{name}` | {PASSES[name].specified} | {1e3 * step:.0f} | {1e3 * alone:.0f} | {ratio:.2f} | {step / plain:.2f} |{memory}", flush=True)


if __name__ == "__main__":
    main()
