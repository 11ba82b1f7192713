"""The worst validation case as a picture of one slice and as volumes that a viewer lays over each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.cache import PreparedCase
from ..data.files import write_labels, write_volume
from ..data.segmentation import Segment
from ..data.volume import Volume

PICTURE_FILE = "preview.png"
FOLDER = "preview"

AGREEMENT, ONLY_FOUND, ONLY_TRUTH = 1, 2, 3
SEGMENTS = (
    # Colors of Okabe and Ito (2008), told apart by the color blind.
    Segment(AGREEMENT, "agreement", (0.0, 158 / 255, 115 / 255)),
    Segment(ONLY_FOUND, "only in the result", (230 / 255, 159 / 255, 0.0)),
    Segment(ONLY_TRUTH, "only in the reference", (0.0, 114 / 255, 178 / 255)),
)


def compared(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which voxels agree, uint8 on the same grid: 0 background in both, else a value of ``SEGMENTS``. A wrong structure counts as not found."""
    agrees = (found == truth) & (truth > 0)
    return np.select([agrees, truth > 0, found > 0], [AGREEMENT, ONLY_TRUTH, ONLY_FOUND], 0).astype(np.uint8)


def write_preview(run_dir: Path, case: PreparedCase, image: np.ndarray, found: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Writes the slice with most wrong voxels as a picture, and image and comparison on the prepared grid as volumes.

    Args:
        run_dir: The run folder.
        case: The prepared case.
        image: Its prepared image (slice, row, column).
        found: Labels of the network on the same grid.
        truth: The reference on the same grid.

    Returns:
        Fields of the event: ``path`` of the picture (empty without matplotlib), ``image`` and ``labels`` (a ``.seg.nrrd``), ``slice``, and
        ``position_mm`` (x, y, z in LPS) of the middle of what is wrong there.
    """
    wrong = found != truth
    place = int(wrong.sum((1, 2)).argmax())
    rows, columns = np.nonzero(wrong[place])
    middle = (place, *(float(one.mean()) if one.size else side / 2 for one, side in zip((rows, columns), image.shape[1:])))
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    image_path, labels_path = folder / f"{case.id}.nrrd", folder / "comparison.seg.nrrd"
    geometry = case.way_back.prepared
    if not image_path.exists():
        write_volume(image_path, Volume(np.asarray(image, np.float32), geometry))
    write_labels(labels_path, Volume(compared(found, truth), geometry), SEGMENTS)
    picture = _draw(run_dir / PICTURE_FILE, image[place], found[place], truth[place], case.spacing_mm[1] / case.spacing_mm[2])
    position = geometry.position_mm(np.array(middle, dtype=float))
    return {"path": picture, "image": str(image_path), "labels": str(labels_path), "slice": place, "position_mm": [round(float(x), 3) for x in position]}


def _draw(path: Path, image: np.ndarray, found: np.ndarray, truth: np.ndarray, aspect: float) -> str:
    from ..report.pictures import write_overlay

    try:
        write_overlay(path, np.asarray(image, np.float32), found, truth, aspect)
    except ImportError:  # matplotlib is not everywhere; the volumes do without
        return ""
    return str(path)
