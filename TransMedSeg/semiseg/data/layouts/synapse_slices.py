"""Synapse as TransUNet distributes it: npz slices to train on, h5 volumes to score on, eight organs.

Chen et al., TransUNet, 2021 (Beckschen/TransUNet): ``train_npz/case0005_slice000.npz`` and
``test_vol_h5/case0001.npy.h5``, cut to -125..275 and mapped to 0..1.
"""

from __future__ import annotations

from pathlib import Path

from ..case_list import Case, CaseList, Layout, structures
from ..slices import first_slices, slice_of
from .lists import first_labeled, missing_part

SYNAPSE_SLICES = Layout(
    "synapse_slices",
    "Synapse multi-organ CT, slices (TransUNet)",
    structures("aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach"),
    {"intensity": "window", "window": [0.0, 1.0]},
    network="unet2d",
    assumed_spacing_mm=(3.0, 0.75, 0.75),
)
_NUM_LABELED = 4


def read_synapse_slices(folder: Path, num_labeled: int | None = None) -> CaseList | None:
    """Cases by number: the first 4 (unless told) are labeled, the others of ``train_npz`` unlabeled."""
    train, test = folder / "train_npz", folder / "test_vol_h5"
    if not train.is_dir():
        return None
    names = sorted(path.name for path in train.iterdir() if slice_of(path.name))
    first = [train / name for name in first_slices(names)]
    if not first:
        raise missing_part(SYNAPSE_SLICES.title, "train_npz holds no slice such as case0005_slice000.npz", folder)
    if not test.is_dir():
        raise missing_part(SYNAPSE_SLICES.title, "the folder test_vol_h5 is missing", folder)
    cases = [Case(slice_of(path.name)[0], path, path) for path in first]
    volumes = [Case(path.name.removesuffix(".npy.h5"), path, path) for path in sorted(test.glob("*.npy.h5"))]
    notes = [
        "Slices are stacked to one volume a case; volumes of test_vol_h5 are held out and scored in 3-D.",
        "The files state no spacing; 3 × 0.75 × 0.75 mm is assumed, so millimeters and milliliters are rough.",
    ]
    return first_labeled(SYNAPSE_SLICES, cases, volumes, _NUM_LABELED if num_labeled is None else num_labeled, notes)
