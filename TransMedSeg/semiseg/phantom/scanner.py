"""From tissue to gray values: what three scanners make of a heart, and their noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .shapes import Bend, Box, SmoothField


@dataclass(frozen=True)
class Site:
    """A scanner and its protocol. Signals are relative to blood at site A.

    Args:
        title: What it stands for.
        signals: Mean signal of each tissue.
        signal_to_noise: Blood at site A over the standard deviation of the noise in the image.
        bias: Factor on the strength of the receive field.
    """

    title: str
    signals: dict[str, float]
    signal_to_noise: float
    bias: float = 1.0


_COMMON = {
    "scar": 1.45,
    "muscle": 0.34,
    "lung": 0.07,
    "liver": 0.50,
    "mediastinum": 0.58,
    "bone": 0.12,
    "marrow": 0.34,
    "fluid": 0.15,
}
SITES = {
    "A": Site("1.5 T, late enhancement", {**_COMMON, "blood": 1.0, "wall": 1.0, "fat": 0.42}, 7.5),
    "B": Site(
        "long inversion time, after ablation",
        {**_COMMON, "blood": 0.60, "wall": 0.85, "fat": 0.50, "scar": 1.35, "muscle": 0.42, "mediastinum": 0.55},
        10.0,
        bias=1.75,
    ),
    "C": Site(
        "3 T, no fat suppression",
        {**_COMMON, "blood": 1.0, "wall": 0.62, "fat": 0.85, "scar": 1.30, "mediastinum": 0.66, "marrow": 0.50},
        11.0,
    ),
}
TEXTURE = {"blood": 0.02, "wall": 0.09, "fat": 0.20, "mediastinum": 0.30, "lung": 0.4, "marrow": 0.20, "muscle": 0.15}
"""Relative standard deviation of the signal within a tissue; 0.08 where none is given."""


_WINDOW = 0.62  # 0.54 is Hamming's; this one leaves the noise correlated as measured on the benchmark
_FILTER_GAIN = (_WINDOW**2 + (1 - _WINDOW) ** 2 / 2) ** 0.5  # of one axis on the standard deviation of white noise


def receive_field(rng: np.random.Generator, axes_mm: tuple[np.ndarray, ...], strength: float) -> np.ndarray:
    """(slice, row, column) gain of the coils: exponential of a random quadratic."""
    z, y, x = np.meshgrid(*(np.asarray(axis, np.float32) / 60 for axis in axes_mm), indexing="ij", sparse=True)
    linear, square = rng.normal(0, 0.055, 3), rng.normal(0, 0.04, 3)
    exponent = sum(a * u + b * u * u for a, b, u in zip(linear, square, (x, y, z), strict=True))
    return np.exp(np.clip(strength * exponent, -0.7, 0.7)).astype(np.float32)


def inflow(rng: np.random.Generator, points: np.ndarray, center: np.ndarray) -> np.ndarray:
    """(slice, row, column) gain of the bright spot that a navigator leaves at the right veins, in 40 % of scans."""
    gain = rng.uniform(0.2, 0.5)
    if rng.random() >= 0.4:
        return np.ones(points.shape[1:], np.float32)
    offset = points - np.asarray(center, np.float32).reshape(3, 1, 1, 1)
    return 1 + np.float32(gain) * np.exp(-np.einsum("i...,i...->...", offset, offset) / (2 * 14.0**2))


def acquire(rng: np.random.Generator, image: np.ndarray, noise: float, zero_fill: bool) -> np.ndarray:
    """Magnitude image of a noisy scan.

    A ghost along the phase direction, complex Gaussian noise (so the magnitude is Rician), a filter in k-space, and, as
    the scanners of the left-atrium benchmark do, zero-filling to twice the matrix.

    Args:
        rng: Of the noise.
        image: (slice, row, column) true signal on the acquired grid.
        noise: Its standard deviation in the image, where there is signal.
        zero_fill: Interpolate to twice the size in all directions; voxel [0, 0, 0] stays where it is.
    """
    strength, shift = rng.uniform(0, 0.06), int(rng.integers(image.shape[1] // 4, image.shape[1] // 2))
    ghost = np.roll(image, shift, axis=1) + np.roll(image, -shift, axis=1)
    signal = image + np.float32(strength / 2) * ghost
    channels = rng.standard_normal((2, *image.shape)).astype(np.float32) * np.float32(noise / _FILTER_GAIN**3)
    spectrum = np.fft.fftn((signal + channels[0]) + 1j * channels[1])
    for axis, size in enumerate(image.shape):
        along = [1, 1, 1]
        along[axis] = size
        window = _WINDOW + (1 - _WINDOW) * np.cos(2 * np.pi * np.fft.fftfreq(size))
        spectrum *= window.astype(np.float32).reshape(along)
    if zero_fill:
        for axis, size in enumerate(image.shape):
            middle = (size + 1) // 2
            padding = list(spectrum.shape)
            padding[axis] = size
            first, last = np.split(spectrum, [middle], axis=axis)
            spectrum = np.concatenate([first, np.zeros(padding, spectrum.dtype), last], axis=axis)
        spectrum *= 8
    return np.abs(np.fft.ifftn(spectrum)).astype(np.float32)


def quantize(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """uint8 gray values with a random gain: blood of site A is near 48, between 20 and 100."""
    gain = 48 * float(np.exp(np.clip(rng.normal(0, 0.35), -0.8, 0.7)))
    return np.clip(np.rint(image * gain), 0, 255).astype(np.uint8)


class Canvas:
    """An image that is painted one tissue after the other, borders softened over a voxel (partial volume).

    Args:
        bend: From the patient to the model of the heart.
        axes_mm: z, y and x positions of the grid in the patient.
        edge_mm: Width of a border.
    """

    def __init__(self, bend: Bend, axes_mm: tuple[np.ndarray, ...], edge_mm: float) -> None:
        self.points = bend.points(axes_mm)
        self.image = np.full(self.points.shape[1:], 0.02, np.float32)
        self._bend, self._axes_mm, self._edge_mm = bend, axes_mm, np.float32(edge_mm)

    def block(self, box: Box) -> tuple[slice, ...] | None:
        """The part of the grid that a box of the model can touch; None when it lies outside."""
        low, high = self._bend.patient_box(box)
        slices = []
        for axis, first, last in zip(self._axes_mm, reversed(low), reversed(high), strict=True):
            start, stop = np.searchsorted(axis, (first - self._edge_mm, last + self._edge_mm))
            if start >= stop:
                return None
            slices.append(slice(int(start), int(stop)))
        return tuple(slices)

    def paint(self, block: tuple[slice, ...], distance: np.ndarray, signal: np.ndarray | float) -> None:
        """Covers what lies inside, all of it within a block."""
        cover = np.clip(0.5 - distance / self._edge_mm, 0, 1)
        part = self.image[block]
        part += cover * (signal - part)


def grain(rng: np.random.Generator, axes_mm: tuple[np.ndarray, ...]) -> np.ndarray:
    """(slice, row, column) texture of standard deviation about 1: patches of 5 and of 14 mm."""
    fine, coarse = SmoothField(rng, 5.0), SmoothField(rng, 14.0)
    return 0.7 * fine.on(axes_mm) + 0.7 * coarse.on(axes_mm)
