"""A first look at a mask: its volume, its pieces, and whether it touches the border of the image."""

import itertools
from dataclasses import dataclass

import numpy as np
import vtk
from slicer.i18n import tr as _
from vtk.util import numpy_support

from .VolumeExchange import boxOf, imageOf


@dataclass(frozen=True)
class Plausibility:
    """What can be said of a mask without a reference.

    Attributes:
        volumeMl: Of the whole mask.
        piecesMl: Of each connected piece (26 neighbors), largest first.
        touchesBorder: A voxel lies in the first or last slice, row or column: part of the structure may be cut off.
    """

    volumeMl: float
    piecesMl: tuple
    touchesBorder: bool

    @property
    def isPlausible(self):
        return len(self.piecesMl) == 1 and not self.touchesBorder

    @property
    def text(self):
        """One line for the user."""
        border = _("touches the image border") if self.touchesBorder else _("touches no image border")
        if len(self.piecesMl) == 1:
            text = _("{volume:.0f} mL, one connected piece, {border}")
            return text.format(volume=self.volumeMl, border=border)
        if len(self.piecesMl) == 2:
            text = _("{volume:.0f} mL, two pieces: the smaller {small:.1f} mL, {border}")
            return text.format(volume=self.volumeMl, small=self.piecesMl[1], border=border)
        text = _("{volume:.0f} mL, {number} pieces: the largest {large:.1f} mL, {border}")
        return text.format(
            volume=self.volumeMl, number=len(self.piecesMl), large=max(self.piecesMl, default=0.0), border=border
        )


def look(mask, voxelMl):
    """Looks at a mask [slice, row, column]."""
    sizes, _labels, _box = _pieces(mask)
    border = any(mask.take(end, axis=axis).any() for axis in range(3) for end in (0, -1))
    pieces = tuple(sorted((float(size) * voxelMl for size in sizes), reverse=True))
    return Plausibility(float(np.count_nonzero(mask)) * voxelMl, pieces, bool(border))


def largestPiece(mask):
    """The mask without all but its largest piece."""
    sizes, labels, box = _pieces(mask)
    kept = np.zeros_like(mask)
    if len(sizes):
        kept[box] = labels == int(np.argmax(sizes)) + 1
    return kept


def _pieces(mask):
    """Sizes in voxels, the numbered pieces inside a box around the mask, and that box.

    VTK joins voxels that share a face; voxels that share an edge or a corner are joined here. (scipy would do both,
    but importing it stops Slicer for a second.)
    """
    box = boxOf(mask)
    if box is None:
        return np.zeros(0, int), np.zeros((0, 0, 0), int), (slice(0, 0),) * 3
    labels = _faceConnected(mask[box])
    count = int(labels.max())
    if count > 1:
        names = _joinDiagonally(labels, count)
        labels = names[labels]
    return np.bincount(labels.ravel())[1:], labels, box


def _faceConnected(mask):
    connectivity = vtk.vtkImageConnectivityFilter()
    connectivity.SetInputData(imageOf(mask))
    connectivity.SetScalarRange(1, 1)
    connectivity.SetExtractionModeToAllRegions()
    connectivity.SetLabelModeToSizeRank()
    connectivity.SetLabelScalarTypeToInt()
    connectivity.Update()
    labels = numpy_support.vtk_to_numpy(connectivity.GetOutput().GetPointData().GetScalars())
    # The numbers begin at 0 for the largest region, and 0 is also the outside: shift those inside.
    labels = labels.reshape(mask.shape).astype(np.int32)
    return labels if labels[mask].min() > 0 else np.where(mask, labels + 1, 0)


def _joinDiagonally(labels, count):
    """New numbers 0..n for the labels 0..count, where labels that touch at an edge or a corner get the same one."""
    parent = list(range(count + 1))

    def root(one):
        while parent[one] != one:
            one = parent[one]
        return one

    for shift in _DIAGONALS:
        here = tuple(slice(max(0, -s), labels.shape[axis] - max(0, s)) for axis, s in enumerate(shift))
        there = tuple(slice(max(0, s), labels.shape[axis] - max(0, -s)) for axis, s in enumerate(shift))
        a, b = labels[here], labels[there]
        touching = (a > 0) & (b > 0) & (a != b)
        for one, other in set(zip(a[touching].tolist(), b[touching].tolist())):
            parent[root(one)] = root(other)
    roots = [root(one) for one in range(count + 1)]
    order = {one: number for number, one in enumerate(sorted(set(roots)))}
    return np.array([order[one] for one in roots])


_DIAGONALS = [
    shift for shift in itertools.product((-1, 0, 1), repeat=3) if shift > (0, 0, 0) and np.count_nonzero(shift) > 1
]
