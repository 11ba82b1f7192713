"""One phantom: a heart, seen by a scanner, outlined by an expert."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ..data.geometry import Geometry
from ..data.volume import Volume
from .anatomy import Heart, Vein, draw_heart
from .scanner import SITES, TEXTURE, Canvas, Site, acquire, grain, inflow, quantize, receive_field
from .shapes import Bend, SmoothField, shell

SPACING_MM = {"full": (1.25, 0.625, 0.625), "half": (2.5, 1.25, 1.25), "quarter": (5.0, 2.5, 2.5)}
"""(slice, row, column) by size. The left-atrium benchmark is "full"."""

_SLAB_MM = 110.0  # 88 slices of 1.25 mm
_LABEL_MARGIN_MM = 0.5  # experts draw on the bright wall, not on the border of the blood (measured on the benchmark)


class Phantom(NamedTuple):
    """What ``make_phantom`` returns.

    Attributes:
        image: uint8 gray values.
        label: uint8, 1 in the left atrium, 2 in an appendage of its own, on the same grid.
        facts: What was drawn: site, variants, wall, scar, volume in milliliters.
    """

    image: Volume
    label: Volume
    facts: dict[str, object]


def make_phantom(
    seed: int | tuple[int, ...],
    site: str = "A",
    size: str = "full",
    full_field_of_view: bool = False,
    appendage: bool | None = None,
) -> Phantom:
    """A late-enhancement scan of a heart and its left-atrium label. The same arguments give the same voxels.

    Args:
        seed: Decides everything but the scanner.
        site: A key of ``SITES``.
        size: A key of ``SPACING_MM``.
        full_field_of_view: The whole chest (360 mm). Otherwise a crop around the label with a margin of 6 to 13 mm and
            all slices, like the published left-atrium crops, which leak the location.
        appendage: None makes it a part of the atrium. True makes it a structure of its own, label 2. False is a patient
            whose appendage has been removed.

    Raises:
        ValueError: The site or the size is unknown.
    """
    if site not in SITES or size not in SPACING_MM:
        raise ValueError(f"site must be one of {list(SITES)} and size one of {list(SPACING_MM)}; got {site}, {size}")
    seeds = np.random.SeedSequence(seed).spawn(4)
    shape_rng, frame_rng, pen_rng, scan_rng = (np.random.Generator(np.random.PCG64(child)) for child in seeds)
    heart, bend = draw_heart(shape_rng), Bend(shape_rng)
    if appendage is False:
        heart = replace(heart, appendage=())
    spacing_mm = SPACING_MM[size]
    axes_mm = _frame(frame_rng, heart, bend, spacing_mm, full_field_of_view)
    image = _scan(scan_rng, heart, bend, SITES[site], axes_mm, zero_fill=size == "full")
    label = _outline(pen_rng, heart, bend, axes_mm, apart=appendage is True)
    offset = frame_rng.uniform(-30, 30, 3)  # the table is never where the patient's origin is
    geometry = Geometry.from_parts(image.shape, spacing_mm, tuple(axis[0] for axis in reversed(axes_mm)) + offset)
    facts = {
        "site": site,
        "variant": list(heart.variant),
        "wall_mm": round(heart.wall_mm, 2),
        "scar_share": round(heart.scar_share, 2),
        "volume_ml": round(float((label > 0).sum()) * geometry.voxel_volume_ml, 1),
    }
    if appendage is not None:
        facts["appendage_ml"] = round(float((label == 2).sum()) * geometry.voxel_volume_ml, 1)
    return Phantom(Volume(image, geometry), Volume(label, geometry), facts)


def _frame(
    rng: np.random.Generator, heart: Heart, bend: Bend, spacing_mm: tuple[float, ...], full: bool
) -> tuple[np.ndarray, ...]:
    """z, y, x positions of the grid, patient millimeters with the atrium near the origin. Sides are even."""
    coarse = np.arange(-96.0, 96.1, 4.0)
    inside = np.nonzero(heart.label(bend.points((coarse,) * 3)) < 3.0)  # a knot of the coarse grid is this near
    extent = [(float(coarse[index.min()]), float(coarse[index.max()])) for index in inside]
    margins_mm, place, shift = rng.uniform(6.25, 12.5, (2, 2)), rng.uniform(0.2, 0.8), rng.uniform(-10, 10, 2)
    bottom = extent[0][0] - place * (_SLAB_MM - extent[0][1] + extent[0][0])
    reach = [(bottom, bottom + _SLAB_MM)]
    if full:
        reach += [(-145.0 + shift[0], 145.0 + shift[0]), (-180.0 + shift[1], 180.0 + shift[1])]
    else:
        for (low, high), margin in zip(extent[1:], margins_mm, strict=True):
            missing = max(70.0 - (high - low + margin.sum()), 0) / 2  # no side below 112 voxels of 0.625 mm
            reach.append((low - margin[0] - missing, high + margin[1] + missing))
    counts = [2 * round((high - low) / mm / 2) for (low, high), mm in zip(reach, spacing_mm, strict=True)]
    return tuple(low + mm * np.arange(n) for (low, _), mm, n in zip(reach, spacing_mm, counts, strict=True))


def _scan(
    rng: np.random.Generator, heart: Heart, bend: Bend, site: Site, axes_mm: tuple[np.ndarray, ...], zero_fill: bool
) -> np.ndarray:
    """(slice, row, column) uint8. The acquired grid is coarser by two with zero-filling, and a little larger."""
    step = 2 if zero_fill else 1
    pad = 4  # the discrete Fourier transform joins opposite sides; cut off afterwards
    acquired = tuple(_extended(axis[::step], pad) for axis in axes_mm)
    canvas = Canvas(bend, acquired, 1.2 * (acquired[2][1] - acquired[2][0]))
    _paint(rng, canvas, heart, site, grain(rng, acquired))
    right = next(vein for vein in heart.veins if vein.mouth[0] < 0)
    canvas.image *= receive_field(rng, acquired, site.bias) * inflow(rng, canvas.points, right.mouth)
    noise = float(np.exp(np.clip(rng.normal(0, 0.28), -0.55, 0.55))) / site.signal_to_noise
    magnitude = acquire(rng, canvas.image, noise, zero_fill)
    inner = tuple(slice(step * pad, step * pad + len(axis)) for axis in axes_mm)
    return quantize(rng, magnitude[inner])


def _extended(axis: np.ndarray, count: int) -> np.ndarray:
    return axis[0] + (axis[1] - axis[0]) * np.arange(-count, len(axis) + count)


def _paint(rng: np.random.Generator, canvas: Canvas, heart: Heart, site: Site, texture: np.ndarray) -> None:
    signals = {tissue: mean * float(np.exp(rng.normal(0, 0.05))) for tissue, mean in site.signals.items()}

    def signal(tissue: str, block: tuple[slice, ...], gain: float = 1.0) -> np.ndarray:
        return gain * signals[tissue] * np.maximum(1 + TEXTURE.get(tissue, 0.08) * texture[block], 0.1)

    for layer in heart.others:
        gain = float(np.exp(rng.normal(0.03, 0.10)))
        block = canvas.block(layer.box)
        if block is not None:
            distance = layer.distance(canvas.points[(slice(None), *block)])
            canvas.paint(block, distance, signal(layer.tissue, block, gain))
    for twig in heart.lung_vessels:
        block = canvas.block(twig.box)
        if block is not None:
            canvas.paint(block, twig.distance(canvas.points[(slice(None), *block)]), signal("blood", block, 0.85))

    block = canvas.block(heart.box)
    points = canvas.points[(slice(None), *block)]
    blood = heart.blood(points)
    scar = _scar(rng, heart, points, texture[block].shape)
    wall = signal("wall", block) + scar * (signal("scar", block) - signal("wall", block))
    canvas.paint(block, shell(blood, heart.wall_mm), wall)
    canvas.paint(block, blood, signal("blood", block))
    block = canvas.block(heart.ventricle.box)
    if block is not None:
        canvas.paint(block, heart.ventricle.distance(canvas.points[(slice(None), *block)]), signal("blood", block))


def _scar(rng: np.random.Generator, heart: Heart, points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """0 to 1: patches of 9 mm, the wanted share of the wall, more around the mouths of the veins."""
    axes = tuple(np.linspace(-n, n, n) for n in shape)
    patches = SmoothField(rng, 9.0, reach_mm=tuple(reversed(shape))).on(axes)
    for vein in heart.veins:
        patches = patches + 0.8 * _near(points, vein)
    limit = NormalDist().inv_cdf(1 - heart.scar_share)
    return np.clip(2 * (patches - limit), 0, 1)


def _near(points: np.ndarray, vein: Vein) -> np.ndarray:
    offset = points - vein.mouth.astype(np.float32).reshape(3, 1, 1, 1)
    return np.exp(-np.einsum("i...,i...->...", offset, offset) / (2 * 10.0**2))


def _outline(
    rng: np.random.Generator, heart: Heart, bend: Bend, axes_mm: tuple[np.ndarray, ...], apart: bool
) -> np.ndarray:
    """(slice, row, column) uint8 label. Drawn slice by slice: each slice is off by a fraction of a voxel of its own."""
    points = bend.points(axes_mm)
    shape = (len(axes_mm[0]), 1, 1)
    points[0] += rng.normal(0, 0.35, shape)
    points[1] += rng.normal(0, 0.35, shape)
    distance = heart.label(points) + rng.normal(0, 0.3, shape)
    label = _largest_piece(distance < _LABEL_MARGIN_MM).astype(np.uint8)
    if apart:
        label[heart.is_appendage(points) & (label > 0)] = 2
    return label


def _largest_piece(label: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    pieces, count = ndimage.label(label, np.ones((3, 3, 3)))
    if count <= 1:
        return label
    return pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
