"""A model file, ready for volumes: numpy and geometry outside, tensors inside."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.checks import check_volume
from ..data.preprocess import Preprocessing, Restore
from ..data.volume import Volume
from ..errors import InputError
from .deploy import deploy
from .memory import check_memory, fitting_patch, gpu_memory_gb, is_out_of_memory, place_for_sums
from .model_file import network_of, read_model
from .postprocess import keep_largest_component, remove_small_islands
from .sliding_window import dense_stride, sliding_window, window_probabilities


@dataclass(frozen=True)
class SegmentOptions:
    """How a volume is segmented. Every field has a default that suits most models.

    Attributes:
        stride: Step between windows along (slice, row, column) of the prepared volume, in voxels; two numbers for
            networks of planes. None is an eighth, a quarter or a half of the window, see ``dense_stride``. The left-atrium papers use 4, 18, 18.
        blend: "constant" weighs a window evenly (the papers), "gaussian" trusts its middle more.
        flips: Axes to mirror and average over: 0 slice, 1 row, 2 column. Each axis doubles the time. The papers use
            none.
        largest_component: Keep the largest piece of each structure. None: what the model's card says, otherwise yes
            for a model of one structure. The left-atrium papers do, the ACDC and pancreas ones do not.
        connectivity: Neighbors that make a piece: 6, 18 or 26. The papers use 26.
        min_island_ml: Remove pieces smaller than this, in milliliters; 0 keeps all.
        batch_windows: Windows at a time. None: 2 on a CPU (measured fastest), 4 on a GPU.
        probability: Also return the probability of the foreground.
        uncertainty: Also return the doubt: entropy of the averaged probabilities, 0 (sure) to 1 (all classes alike).
    """

    stride: tuple[int, ...] | None = None
    blend: str = "constant"
    flips: tuple[int, ...] = ()
    largest_component: bool | None = None
    connectivity: int = 26
    min_island_ml: float = 0.0
    batch_windows: int | None = None
    probability: bool = False
    uncertainty: bool = False

    def __post_init__(self) -> None:
        for name in ("stride", "flips"):  # JSON brings lists
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(int(number) for number in value))
        wrong = [
            text
            for is_wrong, text in (
                (
                    self.stride is not None and min(self.stride, default=0) < 1,
                    f"stride must be positive: {self.stride}",
                ),
                (self.blend not in ("gaussian", "constant"), f"blend is 'gaussian' or 'constant': {self.blend!r}"),
                (not set(self.flips) <= {0, 1, 2}, f"flips names axes 0, 1, 2: {self.flips}"),
                (self.connectivity not in (6, 18, 26), f"connectivity is 6, 18 or 26: {self.connectivity}"),
                (not 0 <= self.min_island_ml < math.inf, f"min_island_ml must not be negative: {self.min_island_ml}"),
                (self.batch_windows is not None and self.batch_windows < 1, f"batch_windows: {self.batch_windows}"),
            )
            if is_wrong
        ]
        if wrong:
            raise InputError(f"The options of the segmentation do not fit: {'; '.join(wrong)}.")


class Note(NamedTuple):
    """Something the reader of a result must know."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The result on the grid of the input volume.

    Args:
        labels: Label values of the card, 0 is background; uint8, or uint16 where a value is above 255.
        segments: ``{"value", "name", ...}`` of each structure the model knows, found or not.
        volumes_ml: By name of the structure.
        probability: Of the foreground, float32, when asked for.
        uncertainty: Normalized entropy 0..1, float32, when asked for.
        notes: What came up on the way.
    """

    labels: Volume
    segments: tuple[dict[str, Any], ...]
    volumes_ml: dict[str, float]
    probability: Volume | None = None
    uncertainty: Volume | None = None
    notes: tuple[Note, ...] = ()


class Segmenter:
    """Segments volumes with one model.

    Args:
        model_path: A model file.
        device: Where the network runs, such as ``"cpu"`` or ``"cuda:0"``.

    Raises:
        InputError: The file is missing (E405), not ours (E403), newer (E404), or its weights do not fit its network
            (E403).
    """

    def __init__(self, model_path: Path, device: torch.device | str = "cpu") -> None:
        self.card, weights = read_model(Path(model_path))
        self.device = torch.device(device)
        self.segments: tuple[dict[str, Any], ...] = tuple(self.card["labels"])
        self.patch_size = tuple(int(side) for side in self.card["patch_size"])
        self.preprocessing = Preprocessing.from_json(self.card["preprocessing"])
        spacing = self.card.get("assumed_spacing_mm")
        self.assumed_spacing_mm = None if spacing is None else tuple(float(mm) for mm in spacing)  # of files that state none
        self.network = deploy(network_of(self.card, weights, Path(model_path)), self.device)

    def segment(
        self,
        volume: Volume,
        options: SegmentOptions = SegmentOptions(),
        progress: Callable[[int, int], None] | None = None,
        name: str = "the volume",
    ) -> Segmentation:
        """Segments one volume.

        Args:
            volume: Scalar voxels of any type.
            progress: Called with (windows done, windows in all).
            name: What messages call the volume.

        Raises:
            InputError: The volume cannot be used (E302, E305, E306, E309), or memory is too small (E205, E310).
        """
        check_volume(volume, name)
        shape = self.preprocessing.plan(volume.geometry).shape
        stride = options.stride or dense_stride(shape, self.patch_size)
        if len(stride) != len(self.patch_size):
            raise InputError(
                f"The model's window is {self.patch_size}; a stride of {len(stride)} numbers does not fit."
            )
        num_maps = 1 if len(self.segments) == 1 else len(self.segments) + 1
        check_memory(volume.geometry, shape, num_maps, name)
        array, restore = self.preprocessing.apply(volume)
        maps, notes = self._maps(torch.from_numpy(array)[None, None], stride, options, progress)
        channels = self._channels(maps, restore)
        channels = self._clean(channels, volume, options)
        labels = _values_of(channels, self.segments)
        counts = np.bincount(channels.ravel(), minlength=len(self.segments) + 1)
        volumes = {
            str(segment["name"]): float(counts[place]) * volume.geometry.voxel_volume_ml
            for place, segment in enumerate(self.segments, start=1)
        }
        return Segmentation(
            volume.with_array(labels),
            self.segments,
            volumes,
            volume.with_array(_on_source(_foreground(maps), restore)) if options.probability else None,
            volume.with_array(_on_source(normalized_entropy(maps), restore)) if options.uncertainty else None,
            (*self._plausibility(volume), *notes, *self._emptiness(channels)),
        )

    def _maps(
        self,
        image: Tensor,
        stride: tuple[int, ...],
        options: SegmentOptions,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[Tensor, list[Note]]:
        """Averaged probabilities on the CPU; a second try with one window at a time when a GPU is too small."""
        notes: list[Note] = []
        batch_windows = options.batch_windows or (2 if self.device.type == "cpu" else 4)
        sums_device = place_for_sums(self.device, image, len(self.segments) + 1)
        while True:
            try:
                maps = sliding_window(
                    self._run,
                    image.to(sums_device),
                    self.patch_size,
                    stride,
                    batch_windows,
                    options.blend,
                    options.flips,
                    progress,
                    self.device,
                )
                return maps.cpu(), notes
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error)
            # Outside of the handler: the exception holds the tensors of the failed try.
            needed_gb, free_gb = gpu_memory_gb(self.device, reason)
            if notes:
                raise self._too_small(needed_gb, free_gb)
            message = f"{_out_of_memory(needed_gb, free_gb)} It was tried again with one window at a time."
            notes.append(Note("E205", message))
            batch_windows, sums_device = 1, torch.device("cpu")

    def _too_small(self, needed_gb: float, free_gb: float) -> InputError:
        window = "×".join(map(str, self.patch_size))
        fitting = "×".join(map(str, fitting_patch(self.patch_size, self.network.downscale, needed_gb, free_gb)))
        return InputError(
            f"{_out_of_memory(needed_gb, free_gb)} One window of {window} at a time is still too much.",
            code="E205",
            hint=f"Run it on the CPU, end other programs that use the GPU, or use a model with a window of {fitting} "
            "or smaller, which would fit.",
        )

    def _run(self, windows: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            return window_probabilities(self.network(windows).logits)

    def _channels(self, maps: Tensor, restore: Restore) -> np.ndarray:
        """(slice, row, column) uint8 on the source grid: 0 background, else the place in the card's labels from 1."""
        if maps.shape[0] == 1:
            return (restore.undo(maps)[0] > 0.5).numpy().astype(np.uint8)
        return restore.undo_to_labels(maps)

    def _clean(self, channels: np.ndarray, volume: Volume, options: SegmentOptions) -> np.ndarray:
        places = range(1, len(self.segments) + 1)
        largest = options.largest_component
        if largest is None:
            largest = bool(self.card.get("largest_component", len(self.segments) == 1))
        if options.min_island_ml > 0:
            min_voxels = math.ceil(options.min_island_ml / volume.geometry.voxel_volume_ml)
            channels = remove_small_islands(channels, min_voxels, places, options.connectivity)
        return keep_largest_component(channels, places, options.connectivity) if largest else channels

    def _plausibility(self, volume: Volume) -> list[Note]:
        trained = self.card.get("spacing_range_mm")
        if not trained:
            return []
        low, high = np.min(trained), np.max(trained)
        finest, coarsest = min(volume.geometry.spacing_mm), max(volume.geometry.spacing_mm)
        if low / 1.5 <= finest and coarsest <= high * 1.5:
            return []
        message = f"This model was trained on {low:.2g}–{high:.2g} mm; this volume is {volume.geometry.describe()}."
        return [Note("E307", message, "Expect poor results, or choose another model.")]

    def _emptiness(self, channels: np.ndarray) -> list[Note]:
        if channels.any():
            return []
        names = " or ".join(str(segment["name"]) for segment in self.segments)
        message = f"No {names} was found. Possible reasons: other modality, organ not in view, wrong orientation."
        return [Note("E506", message, "Look at the probability map, or choose another model.")]


def normalized_entropy(maps: Tensor, slab: int = 16) -> Tensor:
    """Entropy of averaged probabilities over its maximum, 0 to 1.

    Args:
        maps: (1, slice, row, column) foreground of two classes, or (class, slice, row, column).
        slab: Slices at a time, to bound the memory.

    Returns:
        (slice, row, column).
    """
    entropy = torch.empty(maps.shape[1:])
    for start in range(0, maps.shape[1], slab):
        part = maps[:, start : start + slab]
        part = torch.cat([1 - part, part]) if len(part) == 1 else part
        entropy[start : start + slab] = torch.special.entr(part.clamp(0, 1)).sum(dim=0) / math.log(len(part))
    return entropy


def _foreground(maps: Tensor) -> Tensor:
    return maps[0] if maps.shape[0] == 1 else 1 - maps[0]


def _on_source(prepared: Tensor, restore: Restore) -> np.ndarray:
    return np.ascontiguousarray(restore.undo(prepared[None])[0].numpy())


def _values_of(channels: np.ndarray, segments: tuple[dict[str, Any], ...]) -> np.ndarray:
    values = [0, *(int(segment["value"]) for segment in segments)]
    if values == list(range(len(values))):
        return channels
    return np.array(values, np.uint8 if max(values) < 256 else np.uint16)[channels]


def _out_of_memory(needed_gb: float, free_gb: float) -> str:
    return f"The GPU ran out of memory (needs about {needed_gb:.1f} GB, free {free_gb:.1f} GB)."
