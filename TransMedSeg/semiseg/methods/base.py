"""The contract between a method and the training loop."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from ..data.batches import Batch
from ..networks import build_network


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        name: What the method calls it.
        share: Its part of all iterations; the shares of a method sum to 1.
    """

    name: str
    share: float


@dataclass(frozen=True)
class Progress:
    """Where training is. Schedules inside methods depend on the fractions alone, so that budgets can change.

    Attributes:
        stage: Name of the stage.
        fraction: Done part of the stage, in [0, 1).
        overall: Done part of the whole training, in [0, 1).
        iteration: Steps taken before this one.
    """

    stage: str
    fraction: float
    overall: float
    iteration: int


@dataclass(frozen=True)
class Task:
    """What is to be learned, and with which network.

    Attributes:
        num_classes: Classes including the background.
        network: A name of ``semiseg.networks.NETWORKS``.
        network_options: Its options.
        in_channels: Channels of the image.
        two_dimensional: Patches are slices.
    """

    num_classes: int
    network: str
    network_options: Mapping[str, Any]
    in_channels: int = 1
    two_dimensional: bool = False

    def make_network(self, **changes: Any) -> nn.Module:
        """A new network with random weights; ``changes`` override the task's network options."""
        return build_network(self.network, self.in_channels, self.num_classes, {**self.network_options, **changes})


@dataclass(frozen=True)
class Preset:
    """A named set of values that differ from the defaults.

    Attributes:
        method: Fields of the method's ``Options``.
        training: Fields of ``TrainOptions``.
        network: Options of the network.
        augment: Fields of ``AugmentOptions``.
        other_site: Fields of ``AugmentOptions`` where the unlabeled volumes look different from the labeled ones (E805), beside or instead of those of
            ``augment``.
    """

    method: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    augment: Mapping[str, Any] = field(default_factory=dict)
    other_site: Mapping[str, Any] = field(default_factory=dict)


class AbstractMethod(nn.Module, abc.ABC):
    """A training method: networks, losses, moving averages. The loop owns everything else.

    Methods are final: between them and this class there are abstract classes alone. They get a ``Task`` and their own frozen
    ``Options``, whose docstring explains each field with meaning, unit, default and source.

    Attributes:
        Options: The dataclass of the method's options.
        presets: ``"plus"`` are our defaults, ``"faithful"`` is what the authors' code does.
        stages: In order. Set in the constructor where they depend on options.
        needs_unlabeled: False for methods that never look at unlabeled images.
        labels_of_patches: Options that replace labels of whole cases where these take too long (``case_labeling``).
        whole_case_options: Options that say how whole cases are labeled: a job that states one gets such labels, however long they take.
    """

    Options: ClassVar[type]
    presets: ClassVar[dict[str, Preset]] = {"plus": Preset(), "faithful": Preset()}
    stages: tuple[Stage, ...] = (Stage("train", 1.0),)
    needs_unlabeled: ClassVar[bool] = True
    labels_of_patches: ClassVar[Mapping[str, Any]] = {}
    whole_case_options: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The losses of one step: every weighted term by name, and ``"total"``, their sum, which is minimized."""

    @property
    @abc.abstractmethod
    def deployed(self) -> nn.Module:
        """The network that is validated and written to the model file."""

    @property
    def student_network(self) -> nn.Module | None:
        """The one network that gradients move, validated beside ``deployed``; None where that is it, or where there are several."""
        return None

    @property
    def deployed_network(self) -> tuple[str, dict[str, Any]] | None:
        """Name and options that build ``deployed`` again; None: the task's network with the task's options."""
        return None

    @property
    def case_labeling(self) -> tuple[str, int]:
        """A stage, and how often in it the loop has ``label_case`` label every unlabeled case whole; ``("", 0)`` for never.

        The labels then come with each batch as ``Batch.unlabeled_labels``, cut like the images.
        """
        return "", 0

    @property
    def matches_volume(self) -> bool:
        """Whether the loop chooses the threshold of each round so that the labels have, on average, the volume of the labeled structure."""
        return False

    def label_case(self, maps: Tensor, threshold: float | None = None) -> Tensor:
        """Pseudo-labels (slice, row, column) int64 of a case, from the deployed network's maps (see ``whole_case_maps``).

        Args:
            maps: (map, slice, row, column) probabilities.
            threshold: Of a single map, instead of the method's own.
        """
        raise NotImplementedError("a method that names a stage in case_labeling labels cases")

    @property
    def first_stage(self) -> dict[str, Any] | None:
        """All of the method that its first stage depends on, as JSON values; None where it has one stage, or nothing to share.

        Methods that give the same train it alike to the last bit, with everything else the same (``training/first_stage.py``).
        """
        return None

    def start_stage(self, stage: str) -> str | None:
        """Called once before a stage's first step, not when a run resumes within it; copies weights.

        Returns:
            A sentence that the user should read before trusting the result, or None.
        """
        return None

    def after_step(self, progress: Progress) -> None:
        """Called after each optimizer step; moves averages."""

    def diagnostics(self) -> dict[str, float]:
        """Numbers worth a curve that are not losses. Called every few steps only: it may wait for the device."""
        return {}


def total_of(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adds ``"total"``, the sum of all terms."""
    return {**terms, "total": sum(terms.values())}
