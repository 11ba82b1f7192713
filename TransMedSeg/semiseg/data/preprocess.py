"""From a volume to the array a network sees, and from its probabilities back to the source grid."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .geometry import Geometry
from .orientation import Orientation
from .resample import likeliest, resample, resample_labels, taps, weigh
from .volume import Volume

_MAX_SAMPLES = 4_000_000  # percentiles of more voxels than this are taken from evenly spaced ones


@dataclass(frozen=True)
class Preprocessing:
    """How volumes are made alike. Stored in the model file, so that prediction does exactly what training did.

    Args:
        spacing_mm: Wanted spacing along (slice, row, column) of the turned volume; None keeps the native grid.
        orientation: ``"canonical"`` turns slices towards the head, rows towards the back, columns towards the left;
            ``"none"`` keeps the array as stored.
        intensity: ``"zscore"`` clips to ``clip_percentiles``, then mean 0 and standard deviation 1;
            ``"window"`` clips to ``window`` and maps it to 0..1 (CT); ``"none"`` keeps the values.
        clip_percentiles: Lower and upper percentile in percent, for ``"zscore"``.
        window: Lower and upper value in the units of the image (Hounsfield units for CT), for ``"window"``.

    Raises:
        InputError: A value is unknown or out of range.
    """

    spacing_mm: tuple[float, float, float] | None = None
    orientation: str = "canonical"
    intensity: str = "zscore"
    clip_percentiles: tuple[float, float] = (0.5, 99.5)
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name, size in (("spacing_mm", 3), ("clip_percentiles", 2), ("window", 2)):
            value = getattr(self, name)
            if value is None:
                continue
            if np.shape(value) != (size,) or not np.isfinite(np.asarray(value, dtype=float)).all():
                raise InputError(f"Preprocessing: {name} must be {size} numbers; got {value!r}.")
            object.__setattr__(self, name, tuple(float(number) for number in value))
        if self.spacing_mm is not None and min(self.spacing_mm) <= 0:
            raise InputError(f"Preprocessing: spacing_mm must be positive; got {self.spacing_mm}.")
        if self.orientation not in ("canonical", "none"):
            raise InputError(f"Preprocessing: orientation is 'canonical' or 'none'; got {self.orientation!r}.")
        if self.intensity not in ("zscore", "window", "none"):
            raise InputError(f"Preprocessing: intensity is 'zscore', 'window' or 'none'; got {self.intensity!r}.")
        low, high = self.clip_percentiles
        if not 0 <= low < high <= 100:
            raise InputError(f"Preprocessing: clip_percentiles must rise within 0..100; got {self.clip_percentiles}.")
        if self.intensity == "window" and (self.window is None or self.window[0] >= self.window[1]):
            raise InputError(f"Preprocessing: intensity 'window' needs window=(low, high); got {self.window}.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Preprocessing:
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown:
            raise InputError(
                f"Preprocessing has no option {sorted(unknown)}.",
                code="E404",
                hint="The file may come from a newer version.",
            )
        return cls(**fields)

    def plan(self, geometry: Geometry) -> Restore:
        """Where each voxel will go, before any voxel is read."""
        turn = Orientation.to_canonical(geometry) if self.orientation == "canonical" else Orientation()
        turned = turn.apply_to_geometry(geometry)
        shape = turned.shape
        if self.spacing_mm is not None:
            shape = tuple(
                max(1, int(np.floor(size * have / want + 0.5)))
                for size, have, want in zip(turned.shape, turned.spacing_mm, self.spacing_mm, strict=True)
            )
        return Restore(geometry, turn, shape)

    def apply(self, volume: Volume) -> tuple[np.ndarray, Restore]:
        """(slice, row, column) of any dtype to float32, turned, resampled and normalized, with the way back."""
        restore = self.plan(volume.geometry)
        return self.normalize(restore.forward(volume.array)), restore

    def normalize(self, array: np.ndarray) -> np.ndarray:
        """Intensities of a turned and resampled float32 array; changes the array."""
        if self.intensity == "none":
            return array
        if self.intensity == "window":
            assert self.window is not None
            low, high = self.window
            np.clip(array, np.float32(low), np.float32(high), out=array)
            array -= np.float32(low)
            array /= np.float32(high - low)
            return array
        flat = array.ravel()
        low, high = np.percentile(flat[:: 1 + flat.size // _MAX_SAMPLES], self.clip_percentiles)
        np.clip(array, np.float32(low), np.float32(high), out=array)
        array -= np.float32(array.mean(dtype=np.float64))
        # Slice by slice: squares in double precision of a whole volume would take twice its memory.
        variance = sum(float(np.square(part, dtype=np.float64).sum()) for part in array) / array.size
        if variance <= 0:
            raise InputError("The volume contains no usable values: almost all voxels are equal.", code="E309")
        array /= np.float32(np.sqrt(variance))
        return array


@dataclass(frozen=True, eq=False)
class Restore:
    """Undoes one volume's preprocessing.

    Args:
        source: The grid of the file.
        turn: How its array was turned.
        shape: (slice, row, column) the network sees.
    """

    source: Geometry
    turn: Orientation
    shape: tuple[int, int, int]

    @property
    def turned_shape(self) -> tuple[int, int, int]:
        return tuple(self.source.shape[axis] for axis in self.turn.axes)

    @property
    def prepared(self) -> Geometry:
        """The grid of the prepared array: same outer faces as the source, other voxels."""
        turned = self.turn.apply_to_geometry(self.source)
        ratio = np.asarray(turned.shape) / np.asarray(self.shape)
        affine = turned.affine.copy()
        affine[:3, :3] = turned.affine[:3, :3] * ratio
        affine[:3, 3] = turned.position_mm(ratio / 2 - 0.5)
        return Geometry(self.shape, affine)

    def forward(self, array: np.ndarray) -> np.ndarray:
        """Source array of any dtype to float32 on the prepared grid, intensities untouched."""
        turned = np.array(self.turn.apply(array), dtype=np.float32, order="C")
        return resample(torch.from_numpy(turned), self.shape).numpy()

    def forward_labels(self, labels: np.ndarray) -> np.ndarray:
        """Source label map to the prepared grid: each voxel gets the label that fills most of it."""
        return resample_labels(np.ascontiguousarray(self.turn.apply(labels)), self.shape)

    def undo(self, probabilities: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """(..., *prepared) to (..., *source): linear where the source is finer, turned back. Type and device stay."""
        tensor = torch.from_numpy(probabilities) if isinstance(probabilities, np.ndarray) else probabilities
        restored = self.turn.undo(resample(tensor, self.turned_shape))
        return np.ascontiguousarray(restored.numpy()) if isinstance(probabilities, np.ndarray) else restored

    def undo_to_labels(self, probabilities: np.ndarray | Tensor, slab: int = 16) -> np.ndarray:
        """(class, *prepared) to the uint8 index of the likeliest class on the source grid, in bounded memory.

        Same values as the argmax over ``undo(probabilities)``, ``slab`` slices at a time.
        """
        tensor = torch.as_tensor(probabilities)
        shape = self.turned_shape
        labels = np.empty(shape, np.uint8)
        index, weight = taps(self.shape[0], shape[0])
        for start in range(0, shape[0], slab):
            rows = slice(start, start + slab)
            # Rows first: then the slab alone is brought to full size.
            part = weigh(tensor, 1, index[rows], weight[rows]) if shape[0] != self.shape[0] else tensor[:, rows]
            part = resample(part, (part.shape[1], *shape[1:]))
            labels[rows] = likeliest(part).cpu().numpy()
        return np.ascontiguousarray(self.turn.undo(labels))

    def to_json(self) -> dict[str, Any]:
        return {
            "source_shape": list(self.source.shape),
            "source_affine": self.source.affine.tolist(),
            "axes": list(self.turn.axes),
            "flips": list(self.turn.flips),
            "shape": list(self.shape),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Restore:
        source = Geometry(tuple(fields["source_shape"]), np.array(fields["source_affine"]))
        return cls(source, Orientation(tuple(fields["axes"]), tuple(fields["flips"])), tuple(fields["shape"]))
