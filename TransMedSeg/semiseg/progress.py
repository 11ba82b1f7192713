"""Events as text for a terminal: one moving line with rate and remaining time, and a line for what matters."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO


class Terminal:
    """Prints events. On something that is no terminal (a log) progress comes once in a while, on a line of its own.

    Args:
        stream: Where to print.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._moves = self._stream.isatty()
        self._last_s, self._last_what, self._open = 0.0, "", False
        self._values: dict[str, float] = {}

    def __call__(self, kind: str, **values: Any) -> None:
        handler = getattr(self, f"_on_{kind}", None)
        if handler is not None:
            handler(values)

    def _on_progress(self, values: dict[str, Any]) -> None:
        done, total, what = float(values["done"]), float(values["total"]), str(values["what"])
        is_over = done >= total
        now = time.monotonic()
        interval = 0.2 if self._moves else 15.0
        if not is_over and what == self._last_what and now - self._last_s < interval:
            return
        self._last_s, self._last_what = now, what
        share = done / total if total else 1.0
        bar = "█" * int(20 * share) + "·" * (20 - int(20 * share))
        count = f"{done:g}/{total:g}" if done == int(done) else f"{done:.1f}/{total:g}"
        text = f"{values.get('stage', what):<12} {bar} {100 * share:3.0f} %  {count}"
        if values.get("rate_per_s"):
            rate = values["rate_per_s"]
            text += f"  {rate:.2g}/s" if rate >= 1 else f"  {1 / rate:.2g} s each"
        if values.get("eta_s") and not is_over:
            text += f"  {duration(float(values['eta_s']))} left"
        loss = "baseline_loss" if values.get("stage") == "baseline" else "loss"
        if what == "train" and loss in self._values:
            text += f"  loss {self._values[loss]:.3f}"
        self._show(text, end=is_over)

    def _on_scalar(self, values: dict[str, Any]) -> None:
        self._values[str(values["name"])] = float(values["value"])

    def _on_started(self, values: dict[str, Any]) -> None:
        self._line(f"semiseg {values['version']}: {values['verb']} on {values['device']}, process {values['pid']}")

    def _on_stage(self, values: dict[str, Any]) -> None:
        if values.get("name") == "baseline":
            self._line("Now the same with the labels alone, to measure the gain.")

    def _on_state(self, values: dict[str, Any]) -> None:
        self._line(str(values["message"]))

    def _on_case(self, values: dict[str, Any]) -> None:
        if values.get("status") in ("refused", "failed"):
            code = f" [{values['code']}]" if values.get("code") else ""
            self._line(f"  not used: {values['id']}{code} {values.get('reason', '')}")

    def _on_warning(self, values: dict[str, Any]) -> None:
        code = f"{values['code']}: " if values.get("code") else ""
        self._line(f"Warning {code}{values['message']} {values.get('hint') or ''}".rstrip())

    def _on_saved(self, values: dict[str, Any]) -> None:
        if values.get("what") != "state":
            self._line(f"Saved {values['what']}: {values['path']}")

    def _on_stopped(self, values: dict[str, Any]) -> None:
        self._line(str(values.get("message") or f"Stopped at step {values['step']}. Run the same folder again to continue."))

    def _on_paused(self, values: dict[str, Any]) -> None:
        self._on_failed(values)

    def _on_failed(self, values: dict[str, Any]) -> None:
        code = f" {values['code']}" if values.get("code") else ""
        path = f" ({values['path']})" if values.get("path") and values["path"] not in values["message"] else ""
        self._line(f"Error{code}: {values['message']}{path} {values.get('hint') or ''}".rstrip())

    def _show(self, text: str, end: bool) -> None:
        if not self._moves:
            print(text, file=self._stream, flush=True)
            return
        width = shutil.get_terminal_size().columns - 1
        print("\r" + text[:width].ljust(width), end="\n" if end else "", file=self._stream, flush=True)
        self._open = not end

    def _line(self, text: str) -> None:
        if self._open:
            print(file=self._stream)
            self._open = False
        print(text, file=self._stream, flush=True)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
