"""A random heart around the left atrium, as shapes in millimeters; the origin is the middle of the atrium.

Anatomy is schematic. What matters for learning is there: neighbors with the same blood signal behind thin walls, and
borders that exist in the label only, where veins are cut and at the mitral plane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from .shapes import Box, Ellipsoid, Point, Tube, half_space, smooth_union

TO_VENTRICLE = np.array([0.60, -0.56, -0.57])
"""Direction from the atrium through the mitral valve."""


@dataclass(frozen=True)
class Layer:
    """One coat of paint: a tissue and the shape it fills.

    Args:
        tissue: A key of the signal tables.
        box: Where it can be.
        distance: Signed distance of points.
    """

    tissue: str
    box: Box
    distance: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Vein:
    """A pulmonary vein. The label ends ``cut_mm`` beyond its mouth, the blood does not."""

    trunk: Tube
    branches: tuple[Tube, ...]
    mouth: np.ndarray
    direction: np.ndarray
    cut_mm: float


@dataclass(frozen=True)
class Heart:
    """The shapes of one patient.

    Args:
        body: The atrium without veins and appendage: three lobes that merge.
        appendage: The left atrial appendage.
        veins: Four, less with a common trunk on the left, more with a middle vein on the right.
        mitral_point: Middle of the mitral plane, where the label ends.
        wall_mm: Thickness of the atrial wall.
        scar_share: Share of the wall that is scar.
        variant: ``common_trunk``, ``middle_vein``, both or neither.
        others: Everything else, painted in this order before the atrium.
        ventricle: Blood of the left ventricle, continuous with the atrium.
        lung_vessels: Small vessels of the lungs.
    """

    body: tuple[Ellipsoid, ...]
    appendage: tuple[Tube, ...]
    veins: tuple[Vein, ...]
    mitral_point: np.ndarray
    wall_mm: float
    scar_share: float
    variant: tuple[str, ...]
    others: tuple[Layer, ...]
    ventricle: Ellipsoid
    lung_vessels: tuple[Tube, ...] = field(repr=False)

    @property
    def box(self) -> Box:
        """Where atrial blood and wall can be."""
        parts = [*self.body, *self.appendage]
        parts += [tube for vein in self.veins for tube in (vein.trunk, *vein.branches)]
        lows, highs = zip(*(part.box for part in parts), strict=True)
        return np.min(lows, axis=0) - 4, np.max(highs, axis=0) + 4

    def blood(self, points: np.ndarray) -> np.ndarray:
        """Signed distance of the blood of atrium, appendage and whole veins."""
        return self._union(points, cut=False)

    def label(self, points: np.ndarray) -> np.ndarray:
        """Signed distance of what an expert outlines: veins cut short, closed at the mitral plane."""
        return np.maximum(self._union(points, cut=True), half_space(points, self.mitral_point, TO_VENTRICLE))

    def is_appendage(self, points: np.ndarray) -> np.ndarray:
        """True where a point lies nearer to the appendage than to the body."""
        if not self.appendage:
            return np.zeros(points.shape[1:], dtype=bool)
        body = np.min([lobe.distance(points) for lobe in self.body], axis=0)
        return np.min([tube.distance(points) for tube in self.appendage], axis=0) < body

    def _union(self, points: np.ndarray, cut: bool) -> np.ndarray:
        result = self.body[0].distance(points)
        for lobe in self.body[1:]:
            result = smooth_union(result, lobe.distance(points), 10.0)
        for tube in self.appendage:
            result = smooth_union(result, tube.distance(points), 5.0)
        for vein in self.veins:
            distance = vein.trunk.distance(points)
            if cut:
                end = vein.mouth + vein.cut_mm * vein.direction
                distance = np.maximum(distance, half_space(points, end, vein.direction))
            else:
                for branch in vein.branches:
                    distance = smooth_union(distance, branch.distance(points), 3.0)
            result = smooth_union(result, distance, 6.0)
        return result


def draw_heart(rng: np.random.Generator) -> Heart:
    """One random patient. Sizes are normal for a dilated atrium: 60 to 150 ml."""
    jitter = _Jitter(rng)
    radii = jitter.sizes((27, 17.5, 28), 0.16)
    body = _draw_body(jitter, radii)
    reach = 1 / np.linalg.norm(TO_VENTRICLE / radii)
    mitral_point = TO_VENTRICLE * (0.84 * reach + rng.normal(0, 1.0))
    variant = tuple(name for name in ("common_trunk", "middle_vein") if rng.random() < 0.2)
    veins = tuple(_draw_veins(jitter, radii, variant))
    ventricle_axes = _axes_along(TO_VENTRICLE)
    length, width = jitter.sizes((45, 25), 0.08)
    ventricle = Ellipsoid(mitral_point + TO_VENTRICLE * (length - 4), (length, width, width), ventricle_axes)
    return Heart(
        body=body,
        appendage=_draw_appendage(jitter, radii),
        veins=veins,
        mitral_point=mitral_point,
        wall_mm=rng.uniform(1.2, 2.6),
        scar_share=rng.uniform(0.05, 0.6),
        variant=variant,
        others=tuple(_draw_neighbors(jitter, ventricle)),
        ventricle=ventricle,
        lung_vessels=tuple(_draw_lung_vessels(rng, veins)),
    )


def _draw_body(jitter: _Jitter, radii: np.ndarray) -> tuple[Ellipsoid, ...]:
    """The middle and a lobe towards the veins of each side: atria are rarely round."""
    right = Ellipsoid(jitter.point((-0.45, 0.2, -0.1) * radii, 4), jitter.sizes((0.6, 0.78, 0.66) * radii, 0.12))
    left = Ellipsoid(jitter.point((0.45, 0.1, 0.25) * radii, 4), jitter.sizes((0.6, 0.75, 0.62) * radii, 0.12))
    return Ellipsoid((0, 0, 0), radii, jitter.axes(12)), right, left


def _draw_appendage(jitter: _Jitter, radii: np.ndarray) -> tuple[Tube, ...]:
    """A neck, a hook towards the front and two or three lobes."""
    start = np.array([0.72, -0.55, 0.35]) * radii
    middle = start + jitter.point((12, -8, 3), 3)
    tip = middle + jitter.point((2, -11, -6), 4)
    parts = [Tube((start, middle, tip), jitter.sizes((8.0, 6.5, 4.5), 0.12))]
    for _ in range(jitter.rng.integers(1, 4)):
        root = middle + jitter.rng.uniform(0, 1) * (tip - middle)
        parts.append(Tube((root, root + jitter.point((4, -3, 2), 4)), jitter.sizes((4.0, 2.5), 0.15)))
    return tuple(parts)


def _draw_veins(jitter: _Jitter, radii: np.ndarray, variant: tuple[str, ...]) -> Iterator[Vein]:
    """(mouth on the unit sphere, direction, radius) of each vein, then bends and branches."""
    plans = [
        ((-0.80, 0.10, 0.58), (-0.76, 0.10, 0.64), 8.0),  # right superior
        ((-0.82, 0.46, -0.34), (-0.78, 0.48, -0.40), 7.4),  # right inferior
    ]
    if "middle_vein" in variant:
        plans.append(((-0.90, 0.34, 0.16), (-0.94, 0.32, 0.10), 4.6))
    if "common_trunk" in variant:
        plans.append(((0.82, 0.40, 0.34), (0.86, 0.40, 0.30), 10.0))
    else:
        plans.append(((0.74, 0.24, 0.62), (0.64, 0.16, 0.76), 7.8))  # left superior
        plans.append(((0.82, 0.54, -0.10), (0.78, 0.60, -0.14), 7.2))  # left inferior
    for place, direction, radius in plans:
        direction = _unit(np.asarray(direction) + jitter.rng.normal(0, 0.16, 3))
        mouth = np.asarray(place) * radii * jitter.rng.uniform(0.92, 1.0)
        radius = radius * jitter.size(0.14)
        bend = _unit(direction + jitter.rng.normal(0, 0.22, 3))
        knee = mouth + direction * 12
        fork = knee + bend * jitter.rng.uniform(12, 18)
        trunk = Tube((mouth - 6 * direction, mouth, knee, fork), (1.2 * radius, 1.12 * radius, radius, 0.8 * radius))
        branches = []
        for side in (1, -1):
            away = _unit(bend + side * jitter.point((0.1, 0.25, 0.5), 0.15))
            middle = fork + away * 14
            end = middle + _unit(away + jitter.rng.normal(0, 0.3, 3)) * 16
            branches.append(Tube((fork, middle, end), (0.75 * radius, 0.55 * radius, 0.35 * radius)))
        yield Vein(trunk, tuple(branches), mouth, direction, jitter.rng.uniform(9, 28))


def _draw_neighbors(jitter: _Jitter, ventricle: Ellipsoid) -> Iterator[Layer]:
    """From the skin inwards. Vessels bring their wall with them."""
    yield _solid("fat", Ellipsoid((0, -6, 0), (172, 112, 900)))
    yield _solid("muscle", Ellipsoid((0, -8, 0), (158, 98, 900)))
    yield _solid("lung", Ellipsoid(jitter.point((-82, 4, 5), 4), jitter.sizes((66, 84, 130), 0.05)))
    yield _solid("lung", Ellipsoid(jitter.point((84, 8, 5), 4), jitter.sizes((62, 84, 130), 0.05)))
    yield _solid("liver", Ellipsoid(jitter.point((-72, -14, -112), 6), (88, 74, 58)))
    yield _solid("mediastinum", Ellipsoid((0, 34, 0), (36, 34, 400)))
    yield _solid("fat", Ellipsoid((2, -72, 0), (54, 30, 300)))
    yield _solid("mediastinum", Ellipsoid((-4, -20, 66), (50, 46, 50)))
    yield _solid("fat", Ellipsoid((4, -34, -20), jitter.sizes((76, 56, 66), 0.04)))
    yield _solid("fat", Ellipsoid((0, 2, 4), (49, 31, 44)))  # around the atrium and the roots of the veins
    spine = jitter.point((-4, 62, 0), 3)
    yield _solid("bone", Tube((spine + (0, 2, -200), spine, spine + (0, 4, 200)), (21, 19, 18)))
    yield _solid("marrow", Tube((spine + (0, 2, -200), spine, spine + (0, 4, 200)), (18, 16, 15)))
    yield _solid("fluid", Tube((spine + (2, 27, -200), spine + (0, 25, 0), spine + (0, 27, 200)), (7, 6, 6)))
    gullet = jitter.point((3, 26, 0), 3)
    yield _solid("mediastinum", Tube((gullet + (4, 2, -90), gullet, gullet + (-4, 4, 90)), (7, 6, 6.5)))
    yield _solid("lung", Tube((gullet + (4, 2, -90), gullet, gullet + (-4, 4, 90)), (1.5, 0.8, 1.5)))
    windpipe = jitter.point((-2, 14, 58), 2)
    yield _solid("lung", Tube((windpipe + (0, 6, 60), windpipe, windpipe + (-36, 4, -14)), (8, 7, 5)))
    yield _solid("lung", Tube((windpipe, windpipe + (36, 8, -18)), (7, 5)))

    right_ventricle = Ellipsoid(jitter.point((6, -68, -32), 3), jitter.sizes((44, 23, 36), 0.08))
    right_atrium = Ellipsoid(jitter.point((-40, -26, -12), 3), jitter.sizes((28, 24, 34), 0.10))
    yield from _vessel(jitter, right_ventricle, wall=3.5, tissue="muscle")
    yield from _vessel(jitter, ventricle, wall=10.0, tissue="muscle")
    yield from _vessel(jitter, right_atrium)
    cava = jitter.point((-34, -14, 0), 2)
    yield from _vessel(jitter, Tube((cava + (-4, -6, 4), cava + (0, 0, 36), cava + (2, 0, 100)), (11, 10, 9)))
    yield from _vessel(jitter, Tube((cava + (-6, 0, -34), cava + (-4, 8, -100)), (12, 13)))
    root = jitter.point((0, -31, 6), 2)
    ascending = (root, root + (-8, -1, 30), root + (-12, 3, 56), root + (-6, 20, 86))
    yield from _vessel(jitter, Tube(ascending, jitter.sizes((16, 15.5, 15, 14), 0.08)))
    trunk = jitter.point((25, -54, 10), 2)
    fork = trunk + (-12, 31, 38)
    yield from _vessel(jitter, Tube((trunk, trunk + (-2, 12, 26), fork), (16, 14, 13)))
    yield from _vessel(jitter, Tube((fork, (-14, -8, 40), (-56, 0, 36), (-80, 6, 32)), (11.5, 11, 9, 5)))
    yield from _vessel(jitter, Tube((fork, (38, 4, 48), (62, 22, 38), (78, 30, 22)), (11, 10, 8, 4)))
    descending = jitter.point((20, 32, 0), 3)
    yield from _vessel(
        jitter, Tube((descending + (-6, 4, -120), descending, descending + (-2, 2, 120)), (11.5, 12, 12.5))
    )


def _vessel(
    jitter: _Jitter, shape: Ellipsoid | Tube, wall: float | None = None, tissue: str = "wall"
) -> Iterator[Layer]:
    thickness = jitter.rng.uniform(1.2, 2.6) if wall is None else wall * jitter.size(0.1)
    low, high = shape.box
    yield Layer(tissue, (low - thickness, high + thickness), lambda points: shape.distance(points) - thickness)
    yield _solid("blood", shape)


def _solid(tissue: str, shape: Ellipsoid | Tube) -> Layer:
    return Layer(tissue, shape.box, shape.distance)


def _draw_lung_vessels(rng: np.random.Generator, veins: tuple[Vein, ...]) -> Iterator[Tube]:
    """Twigs that fan out from the ends of the veins and from the arteries beside them."""
    roots = [branch.path[-1] for vein in veins for branch in vein.branches] + [(-80, 6, 32), (78, 30, 22)]
    for root in roots:
        root = np.asarray(root, float)
        outwards = _unit(root * (1, 0.5, 0.7))
        for _ in range(3):
            start = root + rng.normal(0, 3, 3)
            middle = start + _unit(outwards + rng.normal(0, 0.6, 3)) * rng.uniform(10, 20)
            end = middle + _unit(outwards + rng.normal(0, 0.7, 3)) * rng.uniform(10, 25)
            yield Tube((start, middle, end), (rng.uniform(1.5, 3), rng.uniform(1.2, 2), 0.8))


class _Jitter:
    """Small random changes of sizes and places."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def size(self, spread: float) -> float:
        return float(np.exp(np.clip(self.rng.normal(0, spread), -2 * spread, 2 * spread)))

    def sizes(self, values: Point, spread: float) -> np.ndarray:
        return np.array([value * self.size(spread) for value in values])

    def point(self, center: Point, spread: float) -> np.ndarray:
        return np.asarray(center, float) + np.clip(self.rng.normal(0, spread, 3), -2 * spread, 2 * spread)

    def axes(self, degrees: float) -> np.ndarray:
        """(3, 3) rows of a frame turned by a few degrees about a random axis."""
        turn = np.radians(self.rng.normal(0, degrees, 3))
        return _axes_along(_unit(np.array([1.0, turn[0], turn[1]])), roll=turn[2])


def _axes_along(first: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """(3, 3) orthonormal rows, the first as given."""
    first = _unit(first)
    second = _unit(np.array([0.0, 1.0, 0.0]) - first[1] * first)
    third = np.cross(first, second)
    return np.stack([first, np.cos(roll) * second + np.sin(roll) * third, np.cos(roll) * third - np.sin(roll) * second])


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector, float) / np.linalg.norm(vector)
