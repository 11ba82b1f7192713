"""Curves and slice overlays as PNG bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from ..data.atomic import replacing

FOUND, TRUTH = "#d55e00", "#0072b2"
"""Orange and blue that color-blind people tell apart (Okabe and Ito)."""

_CURVES = (
    ("Losses", lambda name: name == "loss" or name.startswith("loss_")),
    ("Dice on the validation cases", lambda name: name.startswith("validation_dice")),
    ("Pseudo-labels", lambda name: name.startswith("pseudo_label")),
    ("TSA: class-pair table", lambda name: name.startswith("tsa_table")),
    ("TSA: shift of the class means", lambda name: name.startswith("tsa_shift_norm")),
    ("Baseline: loss", lambda name: name == "baseline_loss"),
    ("Learning rate", lambda name: name == "learning_rate"),
)


def curves(events: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    """(title, PNG) of every group of curves that the events hold."""
    from matplotlib.figure import Figure

    series: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        if event.get("kind") == "scalar":
            series.setdefault(event["name"], []).append((event["step"], event["value"]))
    pictures = []
    for title, belongs in _CURVES:
        names = [name for name in series if belongs(name)]
        if not names:
            continue
        figure = Figure(figsize=(5.2, 2.8), layout="constrained")
        axes = figure.subplots()
        for name in names:
            points = np.array(series[name], dtype=float)
            axes.plot(points[:, 0], points[:, 1], linewidth=1.2, label=name)
        axes.set(title=title, xlabel="iteration")
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend(fontsize=7)
        pictures.append((title, _png(figure)))
    return pictures


def overlay(image: np.ndarray, found: np.ndarray, truth: np.ndarray | None, aspect: float = 1.0) -> bytes:
    """PNG of one slice in gray with the outlines of what was found (orange) and the reference (blue).

    Args:
        image: (row, column).
        found: (row, column) labels.
        truth: The same for the reference, or None.
        aspect: Row spacing over column spacing.
    """
    from matplotlib.figure import Figure

    height = 3.0
    width = height * image.shape[1] / (image.shape[0] * aspect)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    low, high = np.percentile(image, [1, 99.5])
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
    for labels, color in ((truth, TRUTH), (found, FOUND)):
        if labels is not None and labels.any():
            for value in np.unique(labels[labels > 0]):
                if (labels == value).all():
                    continue  # a slice without outline
                axes.contour(labels == value, levels=[0.5], colors=[color], linewidths=1.2)
    axes.set_axis_off()
    return _png(figure)


def write_overlay(path: Path, image: np.ndarray, found: np.ndarray, truth: np.ndarray | None, aspect: float = 1.0) -> None:
    """Writes the ``overlay`` of one slice as a PNG file."""
    content = overlay(image, found, truth, aspect)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
