"""CPS: cross pseudo-supervision (Chen, Yuan, Zeng, Wang, CVPR 2021), in the 3-D form of SSL4MIS' code.

    loss = supervised(A(x_l), y) + supervised(B(x_l), y)
         + 0.1 ramp(t) [CE(A(x_u), labels of B) + CE(B(x_u), labels of A)]

A and B have the same layout and start apart; labels are the most probable classes, without gradient. The paper itself
cross-supervises the labeled images too, with a constant weight of 1.5 to 6.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batches import Batch
from ..losses.consistency import gaussian_rampup
from ..losses.cross_pseudo import cross_pseudo_loss
from ..losses.most_probable import most_probable
from ..losses.segmentation import dice_and_cross_entropy
from ..networks.initialization import initialize
from ..networks.two_networks import TwoNetworks, pair_by_name
from .base import AbstractMethod, Progress, Task, total_of
from .presets import FAITHFUL_LA, PLUS
from .teacher import Teacher


class CPS(AbstractMethod):
    """Two networks that learn each other's labels."""

    @dataclass(frozen=True)
    class Options:
        """Options of cross pseudo-supervision.

        Attributes:
            weight: Of the cross supervision at the end of the ramp. SSL4MIS: 0.1.
            labeled_too: Cross supervision also on the labeled images. CPS: yes; SSL4MIS: no.
            starts: Starting weights of the two networks: "default" twice (ours), or "kaiming and xavier" (SSL4MIS).
            perturb: Change the intensity of the images. Ours; SSL4MIS does not.
            average_decay: Deploy a moving average of the weights with this decay; 0 deploys the weights themselves.
                Ours: 0.99.
            deploy: "first" network alone, the size of every other method's (SSL4MIS), or "both": the mean of their
                probabilities.
        """

        weight: float = 0.1
        labeled_too: bool = False
        starts: str = "default"
        perturb: bool = True
        average_decay: float = 0.99
        deploy: str = "first"

        def __post_init__(self) -> None:
            if self.starts not in ("default", "kaiming and xavier") or self.deploy not in ("first", "both"):
                raise ValueError(
                    "starts is 'default' or 'kaiming and xavier', deploy 'first' or 'both'; "
                    f"got {self.starts!r} and {self.deploy!r}"
                )

    presets = {
        "plus": PLUS,
        "faithful": replace(
            FAITHFUL_LA,
            method={"starts": "kaiming and xavier", "perturb": False, "average_decay": 0.0},
            training={**FAITHFUL_LA.training, "schedule": "poly"},
        ),
    }

    def __init__(self, task: Task, options: Options) -> None:
        super().__init__()
        self.options, self._by_name = options, (task.network, dict(task.network_options))
        self.students = TwoNetworks(task.make_network(), task.make_network())
        if options.starts != "default":
            initialize(self.students.first, "kaiming")
            initialize(self.students.second, "xavier")
        self.average = Teacher(self.students, options.average_decay) if options.average_decay > 0 else None
        self.register_buffer("disagreement", torch.zeros(()))

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        images = batch.perturb_labeled() if self.options.perturb else batch.labeled
        count = len(images)
        if batch.unlabeled is not None:
            images = torch.cat([images, batch.perturb_unlabeled() if self.options.perturb else batch.unlabeled])
        first, second = self.students.first(images).logits, self.students.second(images).logits
        terms = {
            "supervised_first": dice_and_cross_entropy(first[:count], batch.labels),
            "supervised_second": dice_and_cross_entropy(second[:count], batch.labels),
        }
        if batch.unlabeled is not None:
            start = 0 if self.options.labeled_too else count
            weight = self.options.weight * gaussian_rampup(progress.overall)
            labels = most_probable(first[start:]), most_probable(second[start:])
            terms["cross"] = weight * cross_pseudo_loss(first[start:], second[start:], *labels)
            self.disagreement.copy_((labels[0] != labels[1])[count - start :].float().mean())
        return total_of(terms)

    def after_step(self, progress: Progress) -> None:
        if self.average is not None:
            self.average.update(self.students, progress.iteration)

    def diagnostics(self) -> dict[str, float]:
        """Share of unlabeled voxels to which the networks give different labels."""
        return {"disagreement": float(self.disagreement)}

    @property
    def deployed(self) -> nn.Module:
        networks = self.students if self.average is None else self.average.network
        return networks.first if self.options.deploy == "first" else networks

    @property
    def deployed_network(self) -> tuple[str, dict[str, Any]] | None:
        return (
            None
            if self.options.deploy == "first"
            else pair_by_name(self._by_name, self._by_name, spatial_dims=self.students.spatial_dims)
        )
