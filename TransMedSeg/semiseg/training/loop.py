"""The one training loop. It knows no method by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.batches import Batch, TwoStreamBatches
from ..distributed import World, any_rank, average_gradients, from_owner, same_weights
from ..errors import InputError
from ..inference.memory import is_out_of_memory
from ..methods.base import AbstractMethod, Progress
from .case_labels import CaseLabels
from .checkpoint import cloned, read_state, write_state
from .clock import Clock
from .compiling import compile_networks
from .first_stage import SharedFirstStage
from .length import Length
from .optimizer import learning_rate, make_optimizer
from .options import TrainOptions
from .smaller import in_words
from .stages import labeling_rounds, stage_ends
from .terms import first_bad, means

MAX_SETBACKS = 3


@dataclass(frozen=True)
class Outcome:
    """How training ended.

    Attributes:
        iteration: Steps taken.
        is_complete: False when it was asked to stop before its end.
        seconds: Spent in steps and in labeling cases since iteration 0, validation and saving apart.
        peak_memory_gb: Of the GPU; 0 on a CPU.
        changes: Where memory had run out and the run was continued with smaller settings: ``{"iteration", name: [before, now]}``.
    """

    iteration: int
    is_complete: bool
    seconds: float
    peak_memory_gb: float
    changes: tuple[dict[str, Any], ...] = ()


class Fit:
    """Trains a method: batches in, a trained method and a resumable state out.

    Args:
        method: On its device, or to be moved there.
        batches: Gives the batch of any iteration.
        options: Of the loop.
        device: Where to compute.
        world: This process among all.
        report: Takes events: ``report(kind, **values)``.
        state_path: Where the resumable state lives; None saves nothing.
        identity: What must not change between a stop and a resume.
        validate: Called with (method, iteration) now and then and at the end of each stage; None never validates.
        should_stop: Asked before every step.
        case_labels: Labels the unlabeled cases whole, for methods that ask for it (``AbstractMethod.case_labeling``); None labels none.
        watch: Called with (method, iteration) after every step, off the clock; must leave everything as it is.
        length: Keeps to a budget of seconds; None takes the steps of ``options``.
        shared: Where trainings with the same first stage keep its end; None trains every step.

    Attributes:
        iterations: Steps of the whole training, as planned by now.
        took_first_stage: Whether another training's first stage was taken.
    """

    def __init__(
        self,
        method: AbstractMethod,
        batches: TwoStreamBatches,
        options: TrainOptions,
        device: torch.device,
        world: World = World(),
        report: Callable[..., None] = lambda kind, **values: None,
        state_path: Path | None = None,
        identity: dict[str, Any] | None = None,
        validate: Callable[[AbstractMethod, int], None] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        case_labels: CaseLabels | None = None,
        watch: Callable[[AbstractMethod, int], None] | None = None,
        length: Length | None = None,
        shared: SharedFirstStage | None = None,
    ) -> None:
        # Channels-last is what both cuDNN's and oneDNN's convolutions like best.
        layout = torch.channels_last if options.patch_size[0] == 1 else torch.channels_last_3d
        self.method = method.to(device).to(memory_format=layout)
        self.batches, self.options, self.device, self.world = batches, options, device, world
        self.report, self.validate, self.should_stop, self.watch = report, validate, should_stop, watch
        self.state_path, self.identity = state_path, identity or {}
        self.optimizer = make_optimizer(method, options)
        self.case_labels, self.length, self.lengths = case_labels, length, [options.iterations]
        self.clock = Clock()
        self._set_length(options.iterations)
        self.step_scale, self.setbacks, self.iteration, self.started_stage = 1.0, 0, 0, ""
        self.changes: list[dict[str, Any]] = []
        self._failure: Exception | None = None
        self.shared, self.took_first_stage = shared, False
        self._saved_at = -1
        self._is_bad = torch.zeros((), dtype=torch.bool, device=device)
        self._good: dict[str, Any] = {}
        self._losses: list[dict[str, torch.Tensor]] = []  # of every step since the last look
        if options.compile:
            compile_networks(self.method)

    def _set_length(self, iterations: int) -> None:
        self.iterations = self.clock.total = iterations
        self.stages = stage_ends(self.method.stages, iterations)
        self.labeling_rounds = [] if self.case_labels is None else labeling_rounds(self.stages, *self.method.case_labeling)

    def run(self) -> Outcome:
        """Trains to the end, or to a stop.

        Raises:
            InputError: Training became unstable again and again (E806), or memory ran out (E206).
        """
        self._begin()
        clock = self.clock
        clock.start_at(self.iteration)
        last_save = time.monotonic()
        while self.iteration < self.iterations:
            if any_rank(self.should_stop() or self._failure is not None):
                return self._leave()
            progress = self._progress()
            self._enter_stage(progress)
            with clock:
                try:
                    if self.iteration in self.labeling_rounds and not self._label_cases():
                        continue
                    self._step(self.batches.batch(self.iteration), progress)
                except RuntimeError as error:
                    if is_out_of_memory(error):
                        raise self._out_of_memory() from error
                    raise
                self.iteration += 1
                is_last = self.iteration == self.iterations
                if self.iteration % self.options.log_every == 0 or is_last:
                    with self._told():
                        self._look(progress, clock)  # waits for the device, so the clock is honest
            with self._told():
                self._validate_where_due()
            self._keep_first_stage()
            if self.watch is not None:
                with self._told():
                    self.watch(self.method, self.iteration)
            if time.monotonic() - last_save > self.options.save_every_s:
                self.save()
                last_save = time.monotonic()
        self.save()
        if any_rank(self._failure is not None):
            return self._leave()
        if self.case_labels is not None:
            self.case_labels.forget()
        return self._outcome(is_complete=True)

    def _take_first_stage(self) -> None:
        if self.shared is not None and bool(from_owner(torch.tensor(self.shared.path.exists()), 0)):  # another process may write it just now
            self._restore(self.shared.begin(self._state(), self.method, self.optimizer, self.device))
            self.took_first_stage = True
            self.report("state", message=f"The first {self.iteration:,} iterations are the same as in another run, and are taken from there.")

    def _keep_first_stage(self) -> None:
        """Not after a setback, which halves the step size of what follows, nor where one is due."""
        ends = self.shared is not None and self.iteration == self.stages[0][2]
        if ends and self.world.is_main and self.setbacks == 0 and not self._is_bad and _is_finite(self.method):
            with self._told():
                self.shared.keep(self._state(), self.method, self.optimizer)

    def _begin(self) -> None:
        same_weights(self.method)
        if self.state_path is not None and self.state_path.exists():
            self._continue(read_state(self.state_path, self.identity, self.device))
        else:
            if self.case_labels is not None:
                self.case_labels.forget()
            self._take_first_stage()
        self.method.train()
        self._good = self._state()

    def _validate_where_due(self) -> None:
        ends_stage = any(self.iteration == end for _, _, end in self.stages)
        every = self.options.validate_every
        if self.validate is not None and (ends_stage or (every and self.iteration % every == 0)):
            self.validate(self.method, self.iteration)
            self.method.train()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """An error of this rank alone, such as a full disk, is kept until the others know of it: in the next step they would wait for it forever."""
        try:
            yield
        except (InputError, OSError) as error:
            if self.world.size == 1:
                raise
            self._failure = self._failure or error

    def _leave(self) -> Outcome:
        """Ends the training early, on every rank."""
        if self._failure is None:
            self.save()
        if self._failure is not None:
            raise self._failure
        return self._outcome(is_complete=False)

    def _outcome(self, is_complete: bool) -> Outcome:
        changes = tuple(one for one in self.changes if one["iteration"] < self.iterations)  # later ones were made for the baseline
        return Outcome(self.iteration, is_complete, self.clock.seconds, self._peak_memory_gb(), changes)

    def _continue(self, state: dict[str, Any]) -> None:
        """Goes on from a saved state, and says where its settings have become smaller."""
        self._restore(state)
        self._saved_at = self.iteration
        if self.changes and self.changes[-1]["iteration"] == self.iteration:
            changes = {name: pair for name, pair in self.changes[-1].items() if name != "iteration"}
            self.report("state", message=f"Continues from iteration {self.iteration} with {in_words(changes)}.")

    def _label_cases(self) -> bool:
        """One round of labels of whole cases; False when it was asked to stop, or failed on some rank."""
        goes_on = True
        with self.clock.round(), self._told():
            goes_on = self.case_labels(self.method, self.iteration, self.should_stop)
        return goes_on and not any_rank(self._failure is not None)  # ranks that were asked to stop have heard of it by a vote

    def save(self) -> None:
        """Writes the resumable state, from rank 0; never one whose weights are no numbers."""
        if self.state_path is not None and self.world.is_main:
            with self._told():
                self._write(self._state() if _is_finite(self.method) else self._good)

    def _write(self, state: dict[str, Any]) -> None:
        write_state(self.state_path, state, self.identity)
        self._saved_at = state["iteration"]
        self.report("saved", path=str(self.state_path), what="state", step=self._saved_at)

    def _step(self, batch: Batch, progress: Progress) -> None:
        rate = self.step_scale * learning_rate(self.options, progress, self.method.stages)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        use_bf16 = self.options.mixed_precision and self.device.type == "cuda"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=use_bf16):
            losses = self.method(batch, progress)
        losses["total"].backward()
        # A part that a stage froze has no gradient; averaging would give it one of zeros, and weight decay would move it.
        learning = [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]
        average_gradients(learning)
        if self.options.gradient_clip > 0:
            torch.nn.utils.clip_grad_norm_(learning, self.options.gradient_clip, foreach=True)
        self.optimizer.step()
        self.method.after_step(progress)
        self._losses.append({name: value.detach() for name, value in losses.items()})
        self._is_bad |= ~torch.isfinite(self._losses[-1]["total"])

    def _look(self, progress: Progress, clock: Clock) -> None:
        """Reads the losses, goes back when they are not numbers, and reports."""
        if any_rank(bool(self._is_bad) or not _is_finite(self.method)):
            self._go_back()
            return
        self._keep_budget(progress)
        self._good = self._state()  # with the length of now, which a setback keeps
        for name, value in means(self._losses).items():
            self.report("scalar", name=f"loss_{name}" if name != "total" else "loss", value=value, step=self.iteration)
        self._losses.clear()
        self.report("scalar", name="learning_rate", value=self.optimizer.param_groups[0]["lr"], step=self.iteration)
        for name, value in self.method.diagnostics().items():
            self.report("scalar", name=name, value=value, step=self.iteration)
        if self.device.type == "cuda":
            self.report("scalar", name="gpu_memory_gb", value=self._peak_memory_gb(), step=self.iteration)
        rounds_left = sum(start >= self.iteration for start in self.labeling_rounds)
        rate, eta_s = clock.rate(self.iteration, rounds_left)
        self.report(
            "progress", what="train", done=self.iteration, total=self.iterations, rate_per_s=rate, eta_s=eta_s, stage=progress.stage
        )  # fmt: skip

    def _keep_budget(self, progress: Progress) -> None:
        """Takes the number of steps that the budget holds by now; rank 0 decides.

        Only in the method's first stage: not in a later one where its share is too small for a step, nor among rounds of labeling, which would move.
        """
        first = self.method.stages[0]
        if self.length is None or progress.stage != first.name or first.name == self.method.case_labeling[0]:
            return
        before = self.iterations
        fits = self.length.look(self.iteration, self.clock.now_s(), before, first.share)
        fits = int(from_owner(torch.tensor(fits), 0))
        if fits != before:
            self._set_length(fits)
            self.lengths.append(fits)
            pace = "faster" if fits > before else "slower"
            self.report("state", message=f"This computer is {pace} now than at the start: {fits:,} iterations fit into the time, not {before:,}.")

    def _go_back(self) -> None:
        self.setbacks += 1
        unstable_at, setbacks, scale = self.iteration, self.setbacks, self.step_scale / 2
        bad = [name for name in first_bad(self._losses) if name != "total"] or ["total"]
        self._losses.clear()
        self._restore(self._good)
        self.setbacks, self.step_scale = setbacks, scale
        self._is_bad.zero_()
        if setbacks > MAX_SETBACKS:
            raise InputError(
                f"Training became unstable {setbacks} times (last at iteration {unstable_at}, loss terms that are not numbers: {', '.join(bad)}), "
                f"also with {scale * 2:g} times the step size.",
                code="E806",
                hint="Look for extreme values in the images (CT needs a window), or lower the learning rate.",
            )
        self.report(
            "warning",
            code="E806",
            message=f"Training became unstable at iteration {unstable_at} (loss is not a number). Going back to iteration {self.iteration} with half the "
            "step size.",
            hint="",
        )

    def _enter_stage(self, progress: Progress) -> None:
        if progress.stage != self.started_stage:
            warning = self.method.start_stage(progress.stage)
            self.started_stage = progress.stage
            with self._told():
                if warning:
                    self.report("warning", code="", message=warning, hint="")
                self.report("stage", name=progress.stage, iteration=self.iteration, total=self.iterations)

    def _progress(self) -> Progress:
        for name, start, end in self.stages:
            if self.iteration < end:
                return Progress(
                    name, (self.iteration - start) / (end - start), self.iteration / self.iterations, self.iteration
                )
        raise AssertionError("the last stage ends with the last iteration")

    def _state(self) -> dict[str, Any]:
        state = {
            "iteration": self.iteration,
            "started_stage": self.started_stage,
            "step_scale": self.step_scale,
            "setbacks": self.setbacks,
            "seconds": self.clock.seconds,
            "changes": list(self.changes),
            "lengths": list(self.lengths),
            "took_first_stage": self.took_first_stage,
            "method": {name: value.detach().clone() for name, value in self.method.state_dict().items()},
            "optimizer": cloned(self.optimizer.state_dict()),
            "random": torch.get_rng_state(),  # dropout is the only user of the global generator
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(cloned(state["optimizer"]))
        self.iteration, self.started_stage = state["iteration"], state["started_stage"]
        self.step_scale, self.setbacks = state["step_scale"], state["setbacks"]
        self.changes = list(state.get("changes", []))
        self.lengths = list(state.get("lengths", self.lengths))
        self.took_first_stage = state.get("took_first_stage", False)
        self._set_length(self.lengths[-1])
        self.clock.seconds = max(self.clock.seconds, state["seconds"])  # a setback does not give time back
        if self.labeling_rounds and self.labeling_rounds[0] < self.iteration < self.iterations:
            self.case_labels.restore(self.iteration)
        torch.set_rng_state(state["random"].cpu())
        if self.device.type == "cuda" and "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"].cpu(), self.device)

    def _peak_memory_gb(self) -> float:
        return torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device.type == "cuda" else 0.0

    def _out_of_memory(self) -> InputError:
        """The message. The last good state is saved first: the step that failed may have left traces in the weights."""
        from .memory import what_would_fit

        if self.state_path is not None and self.world.is_main and self._good["iteration"] > self._saved_at:
            self._write(self._good)
        has_one_size = any(getattr(module, "fixed_image_size", None) is not None for module in self.method.modules())
        return what_would_fit(self.options, self.device, self.iteration, has_one_size)


def _is_finite(module: torch.nn.Module) -> bool:
    """Whether all weights are numbers. Waits for the device."""
    return bool(torch.stack(torch._foreach_norm(list(module.parameters()))).isfinite().all())
