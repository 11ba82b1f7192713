"""A random walk on the voxels of an image: how likely each is to meet one kind of fixed voxels before the other.

Grady, Random walks for image segmentation, IEEE TPAMI 28(11), 2006; with evidence for each voxel after Grady,
Multilabel random walker image segmentation using prior models, CVPR 2005. The system is solved here with numpy alone.
"""

import numpy as np

_SCREEN_MM = 3.5
"""Over this length a voxel follows its neighbors rather than its own evidence."""


def walk(links, domain, isFixed, fixed, evidence):
    """Chance of each voxel to meet what is fixed at 1 first, by conjugate gradients scaled by the diagonal.

    Args:
        links: Of `linksOf`, for the three axes.
        domain: Where the walk goes, bool [slice, row, column].
        isFixed: Voxels of it with a given value.
        fixed: Their values, 0 to 1.
        evidence: How much each voxel speaks for 1 by itself, 0 to 1.

    Returns:
        float [slice, row, column]; 0 outside of the domain.
    """
    free = domain & ~isFixed
    screen = np.where(free, np.float32(1 / _SCREEN_MM**2), np.float32(0))
    diagonal = np.where(free, screen, np.float32(1))
    for axis, link in enumerate(links):
        first, second = _ends(axis)
        diagonal[first] += link
        diagonal[second] += link

    def times(values):
        result = diagonal * values
        for axis, link in enumerate(links):
            first, second = _ends(axis)
            result[first] -= link * values[second]
            result[second] -= link * values[first]
        return np.where(free, result, 0)

    fixed = np.where(isFixed, fixed, 0).astype(np.float32)
    evidence = evidence.astype(np.float32)
    values = np.where(free, evidence, np.float32(0))
    wanted = np.where(free, screen * evidence, 0) - times(fixed)
    rest = wanted - times(values)
    guess = rest / diagonal
    direction, size = guess, float((rest * guess).sum())
    start = size
    for _step in range(60):
        if size <= 1e-6 * start:
            break
        bent = times(direction)
        length = size / float((direction * bent).sum())
        values = values + length * direction
        rest = rest - length * bent
        guess = rest / diagonal
        before, size = size, float((rest * guess).sum())
        direction = guess + (size / before) * direction
    return np.where(free, values, fixed)


def linksOf(image, domain, axis, grid):
    """How easily the walk goes from a voxel to the next one along an axis: less across an edge of the image."""
    first, second = _ends(axis)
    differences = np.square(image[first] - image[second])
    both = domain[first] & domain[second]
    typical = float(np.mean(differences[both])) if both.any() else 0.0
    ease = np.exp(-0.5 * differences / typical) + 1e-3 if typical > 0 else np.ones_like(differences)
    return np.where(both, ease / grid[axis] ** 2, 0).astype(np.float32)


def _ends(axis):
    """Indices of all voxels but the last, and all but the first, along an axis."""
    before, after = [slice(None)] * 3, [slice(None)] * 3
    before[axis], after[axis] = slice(None, -1), slice(1, None)
    return tuple(before), tuple(after)


def connected(mask, seeds):
    """The pieces of a mask that hold a seed; voxels are joined at their faces."""
    reached = np.zeros_like(mask)
    reached[tuple(np.asarray(seeds).T)] = True
    reached &= mask
    count = 0
    while (now := int(np.count_nonzero(reached))) != count:
        count = now
        for axis in range(3):
            _flood(reached, mask, axis)
            _flood(np.flip(reached, axis), np.flip(mask, axis), axis)
    return reached


def _flood(reached, mask, axis):
    """Carries what is reached along one direction of an axis, plane by plane, as far as the mask goes."""
    reached, mask = np.moveaxis(reached, axis, 0), np.moveaxis(mask, axis, 0)
    for plane in range(1, len(mask)):
        np.logical_or(reached[plane], reached[plane - 1] & mask[plane], out=reached[plane])
