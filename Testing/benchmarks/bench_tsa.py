"""What transferable semantic augmentation costs: closed form against literal form, a training step with and without.

    PYTHONPATH=TransMedSeg python Testing/benchmarks/bench_tsa.py [--threads 2] [--device cpu]

Prints Markdown tables. The two sides of a comparison take turns within one run, so a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from semiseg.losses.tsa import ClassMoments, head_weight, pair_table, tsa_loss
from semiseg.methods.copy_paste import box_mask, copy_paste_loss, mix
from semiseg.methods.pseudo_label import pseudo_labels
from semiseg.networks import build_network
from semiseg.training.cpu import prepare_cpu

NUM_FEATURES = 16
CASES = {2: 2 * 48 * 64 * 64, 14: 48 * 64 * 64}  # classes: voxels


def literal_loss(logits_NC: Tensor, labels_N: Tensor, weight_CA: Tensor, shift_CA: Tensor, cov_CAA: Tensor) -> Tensor:
    """The equation voxel by voxel, with arrays of voxels x classes x features as the published codes build them."""
    num_voxels = len(logits_NC)
    alpha = 0.25
    difference_NCA = weight_CA.expand(num_voxels, -1, -1) - weight_CA[labels_N][:, None]
    product_NCC = difference_NCA @ cov_CAA[labels_N] @ difference_NCA.transpose(1, 2)
    quadratic_NC = product_NCC.diagonal(dim1=1, dim2=2)
    mean_NC = (difference_NCA @ shift_CA[labels_N][:, :, None]).squeeze(2)
    return F.cross_entropy(logits_NC + alpha * mean_NC + alpha / 2 * quadratic_NC, labels_N)


def table_loss(logits_NC: Tensor, labels_N: Tensor, weight_CA: Tensor, shift_CA: Tensor, cov_CAA: Tensor) -> Tensor:
    """The same through the class-pair table."""
    zero_CA = torch.zeros_like(shift_CA)
    table_CC = pair_table(weight_CA, zero_CA, shift_CA, cov_CAA, 0.25, shrinkage=0.0, floor=0.0, clamp=1e9)
    return tsa_loss(logits_NC, labels_N, table_CC)


FORMS = {"literal": literal_loss, "table": table_loss}


def make_inputs(num_classes: int, device: str) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    num_voxels = CASES[num_classes]

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    root_CAA = 0.3 * normal(num_classes, NUM_FEATURES, NUM_FEATURES)
    inputs = (
        normal(num_voxels, num_classes),
        torch.randint(num_classes, (num_voxels,), generator=generator),
        0.3 * normal(num_classes, NUM_FEATURES),
        normal(num_classes, NUM_FEATURES),
        root_CAA @ root_CAA.transpose(1, 2),
    )
    inputs = tuple(value.to(device) for value in inputs)
    inputs[0].requires_grad_()
    inputs[2].requires_grad_()
    return inputs


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str) -> float:
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def _peak_bytes(form: str, num_classes: int, device: str, answer: object) -> None:
    """Memory of one forward and backward above what was there before; in a process of its own."""
    torch.set_num_threads(1)
    inputs = make_inputs(num_classes, device)
    small = tuple(value[:8] if len(value) == CASES[num_classes] else value for value in inputs)
    FORMS[form](*small).backward()  # whatever is loaded at first use
    inputs[0].grad = inputs[2].grad = None
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        FORMS[form](*inputs).backward()
        answer.put(torch.cuda.max_memory_allocated() - before)
        return
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak that Linux remembers

    def resident(field: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) * 1024

    before = resident("VmRSS")
    FORMS[form](*inputs).backward()
    answer.put(resident("VmHWM") - before)


def peak_bytes(form: str, num_classes: int, device: str) -> int:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_peak_bytes, args=(form, num_classes, device, answer))
    process.start()
    value = answer.get()
    process.join()
    return value


def compare_forms(device: str, repeats: int) -> None:
    print("| classes | voxels | form | forward + backward, ms | peak memory, MiB | same loss |")
    print("|---|---|---|---|---|---|")
    for num_classes, num_voxels in CASES.items():
        inputs = make_inputs(num_classes, device)
        losses = {name: form(*inputs).item() for name, form in FORMS.items()}
        times: dict[str, list[float]] = {name: [] for name in FORMS}
        for _ in range(repeats):
            for name, form in FORMS.items():
                times[name].append(seconds(lambda form=form, inputs=inputs: form(*inputs).backward(), device))
        memory = {name: peak_bytes(name, num_classes, device) for name in FORMS}
        equal = abs(losses["literal"] - losses["table"]) < 1e-5 * abs(losses["literal"])
        for name in FORMS:
            ms, mib = 1e3 * min(times[name]), memory[name] / 2**20
            print(f"| {num_classes} | {num_voxels:,} | {name} | {ms:.1f} | {mib:.0f} | {'yes' if equal else 'NO'} |")
        time_ratio = min(times["literal"]) / min(times["table"])
        memory_ratio = memory["literal"] / max(memory["table"], 1)
        print(f"| {num_classes} | | **ratio** | **{time_ratio:.1f}** | **{memory_ratio:.1f}** | |")
        if not equal:
            raise SystemExit(f"The two forms differ: {losses}")


class SelfTraining:
    """One copy-paste self-training step at half resolution, with or without TSA."""

    def __init__(self, device: str, with_tsa: bool, width: int, patch: tuple[int, int, int], every: int, stem: bool) -> None:
        torch.manual_seed(0)
        self.device, self.patch, self.every, self.number = device, patch, every, 0
        options = {"width": width, "norm": "instance", "dropout": 0.0, "coarse_stem": stem}
        self.student = build_network("vnet", 1, 2, options).to(device, memory_format=torch.channels_last_3d)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=2e-3)
        self.images = torch.randn(4, 1, *patch, device=device)
        self.labels = (F.avg_pool3d(self.images, 9, 1, 4) > 0.03).long()[:2, 0]
        self.moments = [ClassMoments(2, width).to(device) for _ in range(2)] if with_tsa else None

    def step(self) -> None:
        labeled, unlabeled = self.images[:2], self.images[2:]
        with torch.no_grad():
            taught = self.teacher(unlabeled)
        pseudo, kept = pseudo_labels(taught.logits)
        frame = box_mask(self.patch, torch.Generator().manual_seed(0), self.device)
        # first mixture: labeled frame, unlabeled core; second: the other way round
        images = torch.cat([mix(labeled[:1], unlabeled[:1], frame), mix(unlabeled[1:], labeled[1:], frame)])
        labels = torch.cat([mix(self.labels[:1], pseudo[:1], frame), mix(pseudo[1:], self.labels[1:], frame)])
        output = self.student(images)
        loss = copy_paste_loss(output.logits[:1], labels[:1], frame, 1.0, 0.5)
        loss = loss + copy_paste_loss(output.logits[1:], labels[1:], frame, 0.5, 1.0)
        if self.moments is not None:
            self.inputs = (output.logits, output.features["head_input"], taught.features["head_input"])
            self.inputs += (labels, pseudo, kept, torch.stack([frame, ~frame]))
            loss = loss + 0.4 * self.tsa(*self.inputs)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 0.01)
        self.number += 1

    def tsa(
        self,
        logits: Tensor,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor,
        pseudo: Tensor,
        kept: Tensor,
        truth: Tensor,
    ) -> Tensor:
        source, target = self.moments
        if self.number % self.every == 0:
            source.update(student, labels, truth)
            target.update(teacher, pseudo, kept)
        seen = source.seen & target.seen
        weight = head_weight(self.student.head)
        table = pair_table(weight, source.mean, target.mean, target.covariance, 0.25, seen=seen)
        return tsa_loss(logits, labels, table, truth)

    def tsa_alone(self) -> None:
        """Forward and backward of the added work, as often as the statistics are updated once."""
        logits = self.inputs[0].detach().requires_grad_()
        for number in range(self.every):
            self.number = number
            self.tsa(logits, *self.inputs[1:]).backward()


def compare_steps(device: str, steps: int, width: int, patch: tuple[int, int, int], every: int, stem: bool) -> None:
    sides = {name: SelfTraining(device, name == "with", width, patch, every, stem) for name in ("without", "with")}
    wall: dict[str, list[float]] = {name: [] for name in sides}
    busy: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(steps + 2):
        for name in list(sides) if number % 2 else list(sides)[::-1]:
            start = time.process_time()
            elapsed = seconds(sides[name].step, device)
            if number >= 2:
                wall[name].append(elapsed)
                busy[name].append(time.process_time() - start)
    stem_name = "with coarse_stem, " if stem else ""
    print(f"\nV-Net of width {width}, {stem_name}patch {patch}, 2 labeled + 2 unlabeled, {steps} steps each in turns,")
    print(f"statistics every {every} steps\n")
    print("| step | wall, ms | processor time, ms |")
    print("|---|---|---|")
    for name in sides:
        print(f"| {name} TSA | {1e3 * trimmed_mean(wall[name]):.1f} | {1e3 * trimmed_mean(busy[name]):.1f} |")
    extra = [100 * (trimmed_mean(times["with"]) / trimmed_mean(times["without"]) - 1) for times in (wall, busy)]
    print(f"| **extra** | **{extra[0]:+.2f} %** | **{extra[1]:+.2f} %** |")
    alone_wall, alone_busy = [], []
    for _ in range(steps):
        start = time.process_time()
        alone_wall.append(seconds(sides["with"].tsa_alone, device) / every)
        alone_busy.append((time.process_time() - start) / every)
    share = [
        100 * trimmed_mean(alone) / trimmed_mean(step)
        for alone, step in ((alone_wall, wall["without"]), (alone_busy, busy["without"]))
    ]
    print(f"| the added work timed alone | **{share[0]:.2f} %** | **{share[1]:.2f} %** |")


def trimmed_mean(values: list[float]) -> float:
    """Mean without the slowest quarter: steps that other programs disturbed."""
    return statistics.fmean(sorted(values)[: max(3 * len(values) // 4, 1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--every", type=int, default=4, help="update the statistics in every n-th step")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--coarse-stem", action="store_true", help="the network of the default plan for a CPU")
    parser.add_argument("--patch", type=int, nargs=3, default=(48, 64, 64), metavar=("SLICE", "ROW", "COLUMN"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prepare_cpu()
    print(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads\n")
    compare_forms(arguments.device, arguments.repeats)
    compare_steps(arguments.device, arguments.steps, arguments.width, tuple(arguments.patch), arguments.every, arguments.coarse_stem)


if __name__ == "__main__":
    main()
