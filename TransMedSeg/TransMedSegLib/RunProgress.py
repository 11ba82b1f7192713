"""What the engine is doing now, in one line: its phase in words, iteration, rate and time left. No Qt, no scene."""

from __future__ import annotations

import functools

from slicer.i18n import tr as _

from .RunState import durationText

_LABELING = "labeling cases"
"""A phase inside of training: the rate and the time left that come with it are those of the phase alone."""


class RunProgress:
    """Takes the events of a run and says how far it is."""

    def __init__(self) -> None:
        self._event: dict = {}
        self._training: dict = {}  # the last word on iterations, which a phase between them does not change
        self.isOver = False
        """Whether the run has ended or waits: then no time is left and nothing has a speed."""

    def hear(self, event: dict) -> None:
        """Takes an event of the kind progress or stage."""
        if event["kind"] == "stage":
            event = {"what": "train", "stage": event.get("name", ""), "done": event.get("iteration", 0), "total": event.get("total", 0)}
        self._event = event
        if event.get("what") == "train":
            self._training = event

    @property
    def isKnown(self) -> bool:
        return bool(self._event)

    @property
    def what(self) -> str:
        """The phase in the words of the protocol."""
        return str(self._event.get("what", ""))

    @property
    def done(self) -> int:
        """What the bar shows of `total`. Cases that are labeled between two iterations do not move it."""
        return int(self._shown.get("done") or 0)

    @property
    def total(self) -> int:
        return int(self._shown.get("total") or 0)

    @property
    def _shown(self) -> dict:
        return self._training if self.what == _LABELING and self._training else self._event

    def text(self, memoryGb: float | None = None) -> str:
        """Phase, rate, time left and, where it is known, the memory of the GPU."""
        texts = _texts()
        if self.isOver:
            return phaseText(self._event)
        if self.what == _LABELING:
            return ", ".join([phaseText(self._event), *self._timeLeft(), *self._pausedAt()])
        parts = [phaseText(self._event)]
        if self.what == "train" and self._event.get("rate_per_s"):
            parts.append(texts["rate"].format(rate=_rate(self._event["rate_per_s"])))
        parts += self._timeLeft()
        if memoryGb:
            parts.append(texts["memory"].format(memory=f"{memoryGb:.1f}"))
        return ", ".join(parts)

    def _timeLeft(self) -> list[str]:
        left = self._event.get("eta_s")
        return [_texts()["eta"].format(time=durationText(left))] if left else []

    def _pausedAt(self) -> list[str]:
        return [_texts()["waits"].format(done=self.done, total=self.total)] if self._training and self.total else []


def phaseText(event: dict) -> str:
    """A progress event in words, with its numbers; a phase that nobody has words for yet is named as the engine names it."""
    done, total, what = int(event.get("done") or 0), int(event.get("total") or 0), str(event.get("what", ""))
    if what != "train":
        text = _phases().get(what)
        return text.format(done=done, total=total) if text else _texts()["other"].format(what=what, done=done, total=total)
    stage = _stages().get(str(event.get("stage", "")))
    iteration = [_texts()["train"].format(done=done, total=total)] if total else []
    return ": ".join([stage, *iteration] if stage else iteration)


def _rate(perSecond: float) -> str:
    """Two digits at least: on a CPU a step may take seconds."""
    return f"{perSecond:.1f}" if perSecond >= 1 else f"{perSecond:.2f}"


# Texts are asked for once: a translation looks at the call stack, which takes milliseconds, and these come five times a second.


@functools.cache
def _texts() -> dict[str, str]:
    return {
        "train": _("iteration {done} of {total}"),
        "other": _("{what} {done} of {total}"),
        "rate": _("{rate} per s"),
        "eta": _("{time} left"),
        "memory": _("GPU memory {memory} GB"),
        "waits": _("then training goes on from iteration {done} of {total}"),
    }


@functools.cache
def _phases() -> dict[str, str]:
    """By the word of the protocol."""
    return {
        "comparing similar cases": _("Looking for cases that came twice: {done} of {total}"),
        "preparing cases": _("Preparing cases: {done} of {total}"),
        _LABELING: _("Labeling the unlabeled cases with the model so far: {done} of {total}"),
        "segmenting": _("Segmenting the cases to check on: {done} of {total}"),
        "scoring": _("Comparing with their masks: {done} of {total}"),
    }


@functools.cache
def _stages() -> dict[str, str]:
    """By the method's name of the stage; methods of one stage need no word for it."""
    return {
        "pretrain": _("Learning from the labels"),
        "self_train": _("Learning from all volumes"),
        "baseline": _("Measuring the gain, on the labels alone"),
        "ae": _("Learning to encode masks"),
        "align": _("Aligning images and masks"),
        "segment": _("Learning to segment"),
    }
