"""Corrects a mask around a prompt of the user: a point or stroke ("this belongs to it", "this does not"), or a box.

The networks of this extension take no prompts. What is drawn anew is found from the image around the prompt, from
where the model was in doubt, and from the mask as it is: a random walk (Grady 2006, with priors after Grady 2005)
starts at each voxel near the prompt, and the voxel changes where it meets the prompt sooner than what stays. Only
numpy: nothing here takes long to import, and nothing needs a GPU.

A prompt that adds never takes away, and the other way around, and nothing changes farther from it than its reach.
"""

from dataclasses import dataclass

import numpy as np

from .RandomWalk import connected, linksOf, walk

REACH_MM = 18.0
"""Of a point. Nothing farther away changes."""
STROKE_REACH_MM = 12.0
"""Of a stroke, which says more about the extent of what is wrong."""
_SEED_MM = 1.5
"""Voxels this near to a prompt follow it in any case."""
_WORKING_MM = 1.2
"""Voxels that are smaller are worked on in groups."""
_NUM_BINS = 32
_WEIGHT_IMAGE, _WEIGHT_MODEL, _WEIGHT_NEAR = 1.0, 0.5, 2.0
"""What the three kinds of evidence are worth, each the logarithm of a ratio of chances."""
_DOUBT_CLIP = 2.0
_MAX_VOXELS = 20_000
"""A larger box is worked on in larger groups of voxels, so that it does not take longer."""
_HALF_ADDING, _HALF_REMOVING = 0.5, 0.7
"""Part of the reach at which being near speaks neither for nor against a change. What leaks is cut off more boldly than
what is missing is filled: inside of the mask, less can go wrong."""


@dataclass(frozen=True)
class Ground:
    """What a prompt works on. Arrays are [slice, row, column].

    Attributes:
        image: Any numbers.
        mask: bool, as it is now.
        spacing: Millimeters between slices, rows and columns.
        doubt: Of the model, 0 (sure) to 1, on the same grid; None where there is none.
    """

    image: np.ndarray
    mask: np.ndarray
    spacing: tuple
    doubt: np.ndarray | None = None


def correct(ground, seeds, isAdding, reachMm=REACH_MM):
    """The mask after a prompt.

    Args:
        ground: Image and mask.
        seeds: Voxels [number, (slice, row, column)] of the prompt; those outside of the image are left out.
        isAdding: Whether the prompt says "this belongs to it".
        reachMm: How far from the prompt voxels may change.

    Returns:
        A new mask; equal to the old one where the prompt says nothing new.
    """
    spacing = np.asarray(ground.spacing, float)
    shape = np.array(ground.mask.shape)
    seeds = np.asarray(seeds, int).reshape(-1, 3)
    seeds = seeds[((seeds >= 0) & (seeds < shape)).all(axis=1)]
    new = ground.mask.copy()
    seeds = seeds[new[tuple(seeds.T)] != isAdding]
    if not len(seeds):
        return new
    margin = np.ceil(reachMm / spacing).astype(int)
    low, high = np.maximum(seeds.min(axis=0) - margin, 0), np.minimum(seeds.max(axis=0) + margin + 1, shape)
    box = tuple(map(slice, low, high))
    change = _changeInside(_part(ground, box), seeds - low, isAdding, reachMm)
    new[box][change] = isAdding
    return new


def restrict(ground, box, inside):
    """The mask after a box, which says "it lies in here": what is outside is taken away.

    Drawing a mask anew inside of a box from intensities made the masks of our models worse in trials with left atria.
    So this is only done where there is none in the box: something in the middle that differs from the rim is sought.

    Args:
        ground: Image and mask.
        box: Slices of the image that hold the box.
        inside: Which voxels of them belong to it, bool [slice, row, column].

    Returns:
        A new mask.
    """
    new = np.zeros_like(ground.mask)
    new[box] = ground.mask[box] & inside
    if not new.any():
        new[box] = _sought(_part(ground, box), inside)
    return new


def _sought(part, inside):
    """What differs from the rim of a box, bool like `inside`."""
    spacing = np.asarray(part.spacing, float)
    step = np.maximum(1, np.floor(_WORKING_MM / spacing + 0.5).astype(int))
    while np.prod(np.ceil(np.array(inside.shape) / step)) > _MAX_VOXELS:
        step = step + (spacing * step <= (spacing * step).min() * 1.5)
    work, domain = _grouped(part, step), _means(inside, step) >= 0.5
    links = [linksOf(work.image, domain, axis, spacing * step) for axis in range(3)]
    rim = domain & ~_shrunk(domain)
    start = _middle(domain)
    for _round in range(4):
        ratio = _logRatio(work.image, start & domain, domain & ~start)
        found = walk(links, domain, rim, np.zeros(domain.shape), 1 / (1 + np.exp(-ratio)))
        start = found > 0.5
    return (_spread(found, step, inside.shape) > 0.5) & inside


def _shrunk(mask):
    """A mask without the voxels at its border; the end of the array counts as a border."""
    padded = np.pad(mask, 1)
    for axis in range(3):
        padded = padded & np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    return padded[1:-1, 1:-1, 1:-1]


def _middle(domain):
    """The half of a domain, by its size along each axis, that is nearest to its middle."""
    places = np.argwhere(domain)
    center, half = places.mean(axis=0), np.maximum(np.ptp(places, axis=0) / 2, 1)
    grid = np.ogrid[tuple(map(slice, domain.shape))]
    return sum(((axis - c) / h) ** 2 for axis, c, h in zip(grid, center, half)) <= 0.36


def _part(ground, box):
    doubt = None if ground.doubt is None else ground.doubt[box]
    image = np.nan_to_num(ground.image[box].astype(np.float32), posinf=0.0, neginf=0.0)
    return Ground(image, ground.mask[box], ground.spacing, doubt)


def _changeInside(ground, seeds, isAdding, reachMm):
    """Which voxels of a box change."""
    spacing = np.asarray(ground.spacing, float)
    step = np.maximum(1, np.floor(_WORKING_MM / spacing + 0.5).astype(int))
    work = _grouped(ground, step)
    grid = spacing * step
    distance = _distance(work.mask.shape, np.unique(seeds // step, axis=0), grid)
    domain = (work.mask != isAdding) & (distance <= reachMm)
    domain[tuple((seeds // step).T)] = True
    isSeed = domain & (distance <= max(_SEED_MM, 0.5 * grid.min()))
    isFixed = isSeed | (distance > reachMm - 1.5 * grid.max())
    belongs = _belongs(work, distance, isAdding)
    links = [linksOf(work.image, domain, axis, grid) for axis in range(3)]
    near = _WEIGHT_NEAR * (1 - distance / (reachMm * (_HALF_ADDING if isAdding else _HALF_REMOVING)))
    evidence = 1 / (1 + np.exp(-((belongs if isAdding else -belongs) + near)))
    found = walk(links, domain, isFixed, isSeed, evidence)
    fine = _spread(found, step, ground.mask.shape) > 0.5
    change = fine & (ground.mask != isAdding)
    change[tuple(seeds.T)] = True
    return connected(change, seeds)


def _grouped(ground, step):
    """The same on a coarser grid, by means of groups of voxels; the last group of an axis may be smaller."""
    if (step == 1).all():
        return ground
    mask = _means(ground.mask, step) >= 0.5
    doubt = None if ground.doubt is None else _means(ground.doubt, step)
    return Ground(_means(ground.image, step), mask, ground.spacing, doubt)


def _means(array, step):
    array = array.astype(np.float32)
    for axis, length in enumerate(step):
        starts = np.arange(0, array.shape[axis], length)
        sizes = np.diff(np.append(starts, array.shape[axis]))
        shape = [1] * array.ndim
        shape[axis] = -1
        array = np.add.reduceat(array, starts, axis=axis) / sizes.reshape(shape).astype(np.float32)
    return array


def _spread(coarse, step, shape):
    """The values of groups on the voxels, linearly between the centers of the groups."""
    for axis, length in enumerate(step):
        if length == 1:
            continue
        place = np.clip((np.arange(shape[axis]) + 0.5) / length - 0.5, 0, coarse.shape[axis] - 1)
        before = np.floor(place).astype(int)
        after = np.minimum(before + 1, coarse.shape[axis] - 1)
        part = (place - before).astype(np.float32).reshape([-1 if one == axis else 1 for one in range(3)])
        coarse = coarse.take(before, axis=axis) * (1 - part) + coarse.take(after, axis=axis) * part
    return coarse


def _distance(shape, seeds, grid):
    """Millimeters from each voxel to the nearest of some seeds."""
    if len(seeds) > 96:
        seeds = seeds[np.linspace(0, len(seeds) - 1, 96).astype(int)]
    axes = [np.arange(length, dtype=np.float32) * step for length, step in zip(shape, grid.astype(np.float32))]
    nearest = np.full(shape, np.inf, np.float32)
    for seed in seeds:
        k, j, i = (np.square(axis - axis[place]) for axis, place in zip(axes, seed))
        np.minimum(nearest, k[:, None, None] + j[:, None] + i, out=nearest)
    return np.sqrt(nearest)


def _belongs(work, distance, isAdding):
    """How much each voxel speaks for being inside by itself: logarithm of a ratio."""
    belongs = _WEIGHT_IMAGE * _likeness(work, distance, isAdding)
    if work.doubt is not None:
        certainty = _logit(1 - _probabilityOf(work.doubt))
        here = float(certainty[distance <= 2 * _SEED_MM].mean())
        # The user says that the model was wrong here, as sure as it was. It may be wrong where it was less sure.
        wrong = np.clip(here - certainty, -_DOUBT_CLIP, _DOUBT_CLIP)
        belongs += _WEIGHT_MODEL * (wrong if isAdding else -wrong)
    return belongs


def _likeness(work, distance, isAdding):
    """Likeness of each voxel to the inside of the mask, with what the prompt says about the mask."""
    isNear = distance <= 2 * _SEED_MM
    known = distance > 0.5 * distance.max()
    inside = np.where(isNear, isAdding, work.mask & (known | isAdding))
    outside = np.where(isNear, not isAdding, ~work.mask & (known | (not isAdding)))
    return _logRatio(work.image, inside, outside, np.where(isNear, 10.0, 1.0))


def _logRatio(image, inside, outside, weights=None):
    """Logarithm of how much likelier the intensity of a voxel is inside than outside, from smoothed histograms."""
    low, high = np.percentile(image, (0.5, 99.5))
    if not high > low or not inside.any() or not outside.any():
        return np.zeros(image.shape, np.float32)
    bins = np.clip((image - low) / (high - low) * (_NUM_BINS - 1) + 0.5, 0, _NUM_BINS - 1).astype(int)
    densities = []
    for part in (inside, outside):
        histogram = np.bincount(bins[part], None if weights is None else weights[part], _NUM_BINS)
        histogram = np.convolve(np.pad(histogram, 2, "edge"), (1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9), "valid")
        densities.append(histogram / histogram.sum() + 2e-3)
    return np.log(densities[0] / densities[1]).astype(np.float32)[bins]


def _probabilityOf(doubt):
    """The smaller of the two probabilities whose normalized entropy is the doubt."""
    smaller = np.linspace(0, 0.5, 512)[1:]
    entropy = -(smaller * np.log2(smaller) + (1 - smaller) * np.log2(1 - smaller))
    return np.interp(doubt, entropy, smaller).astype(np.float32)


def _logit(probability):
    probability = np.clip(probability, 0.02, 0.98)
    return np.log(probability / (1 - probability))
