"""Class weights for tasks with many structures: DHC, Wang and Li, MICCAI 2023, which MICD builds on.

Two networks become different by what their losses pay attention to: one to the classes that are hard, the other to
those that are rare. Both weight vectors have the largest entry K, the number of classes.

Rare with two classes means background 0 and foreground 2, which would leave the background unsupervised, and with any
number of classes the most frequent one has weight 0. So these weights are for multi-organ tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .cross_pseudo import weighted_cross_entropy
from .ranks import sum_over_ranks, total_over_ranks


def rarity_weights(counts_K: Tensor) -> Tensor:
    """K log(n_max / n_k) / max_j log(n_max / n_j): 0 for the most frequent class, K for the rarest; all ones when all
    are alike.

    Args:
        counts_K: Voxels of each class; none counts as one.
    """
    rarity_K = (counts_K.max().clamp(min=1) / counts_K.clamp(min=1)).log()
    largest = rarity_K.max()
    return torch.where(largest > 0, len(counts_K) * rarity_K / largest.clamp(min=1e-12), torch.ones_like(rarity_K))


def class_counts(labels_BX: Tensor, num_classes: int) -> Tensor:
    """(class,) voxels of each class, over the batch and, with ``torch.distributed``, over all ranks."""
    counts_K = torch.stack([(labels_BX == index).sum() for index in range(num_classes)]).float()
    return total_over_ranks(counts_K)


class RarityWeights(nn.Module):
    """DHC's distribution-aware weights: a moving average of ``rarity_weights`` of the network's own pseudo-labels.

    The first call takes the weights of the labels it is given; DHC counts all labeled scans once, which a method does
    not see.

    Args:
        num_classes: K, background included.
        momentum: Share of the old weights kept in an update. DHC: 0.99.
    """

    def __init__(self, num_classes: int, momentum: float = 0.99) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("weight", torch.ones(num_classes))
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, pseudo_BX: Tensor, labels_BX: Tensor) -> None:
        """Moves the weights.

        Args:
            pseudo_BX: (unlabeled, *space) int64 pseudo-labels of the network whose loss is weighted.
            labels_BX: (labeled, *space) int64; counts in the first call alone.
        """
        num_classes = len(self.weight)
        start_K = rarity_weights(class_counts(labels_BX, num_classes))
        old_K = torch.where(self.num_updates == 0, start_K, self.weight)
        new_K = rarity_weights(class_counts(pseudo_BX, num_classes))
        self.weight.copy_(self.momentum * old_K + (1 - self.momentum) * new_K)
        self.num_updates += 1


class DifficultyWeights(nn.Module):
    """DHC's difficulty-aware weights: large for classes whose Dice is low and rises slowly or falls.

    With d the Dice of the labeled batch, D its change and m the momentum,

        learn   <- m learn   + (1 - m) max(D, 0) log(d / d_before)
        unlearn <- m unlearn + (1 - m) min(D, 0) log(d / d_before)
        u       <- m u + (1 - m) (1 - d)
        weight  =  K w / max w,   w = u ((unlearn + 1e-8) / (learn + 1e-8))^(1/5)

    u starts at 1, as in the authors' code: a structure that the first batches do not hold keeps its weight.

    Args:
        num_classes: K, background included.
        momentum: DHC: 0.98, which is (50 - 1) / 50.
    """

    def __init__(self, num_classes: int, momentum: float = 0.98) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("weight", torch.full((num_classes,), float(num_classes)))
        for name, value in (("learned", 0.0), ("unlearned", 0.0), ("undiced", 1.0), ("last_dice", 1e-8)):
            self.register_buffer(name, torch.full((num_classes,), value))

    @torch.no_grad()
    def update(self, found_BX: Tensor, labels_BX: Tensor) -> None:
        """Moves the weights.

        Args:
            found_BX: (labeled, *space) int64, what the network finds.
            labels_BX: (labeled, *space) int64, what is there.
        """
        dice_K = self._dice(found_BX, labels_BX).clamp(min=1e-8)
        change_K, log_K = dice_K - self.last_dice, (dice_K / self.last_dice).log()
        self.learned.lerp_(change_K.clamp(min=0) * log_K, 1 - self.momentum)
        self.unlearned.lerp_(change_K.clamp(max=0) * log_K, 1 - self.momentum)
        self.undiced.lerp_(1 - dice_K, 1 - self.momentum)
        self.last_dice.copy_(dice_K)
        raw_K = self.undiced * ((self.unlearned + 1e-8) / (self.learned + 1e-8)).pow(1 / 5)
        largest = raw_K.max()
        self.weight.copy_(torch.where(largest > 0, len(raw_K) * raw_K / largest.clamp(min=1e-12), self.weight))

    def _dice(self, found_BX: Tensor, labels_BX: Tensor) -> Tensor:
        sums = []
        for index in range(len(self.weight)):
            found, there = found_BX == index, labels_BX == index
            sums.append(torch.stack([(found & there).sum(), found.sum() + there.sum()]))
        overlap_K, total_K = total_over_ranks(torch.stack(sums, dim=1).float())
        return (2 * overlap_K + 1e-5) / (total_K + 1e-5)


def weighted_dice_and_cross_entropy(logits_BCX: Tensor, labels_BX: Tensor, class_weight_C: Tensor) -> Tensor:
    """DHC's supervised loss: weighted cross-entropy minus the mean over the structures of weight times batch Dice.

    Of several ranks the batch is that of all.

    Args:
        logits_BCX: (batch, class, *space).
        labels_BX: (batch, *space) int64.
        class_weight_C: (class,).
    """
    with torch.autocast(logits_BCX.device.type, enabled=False):
        logits_BCX = logits_BCX.float()
        probabilities_BCX = logits_BCX.softmax(1)
        scores = []
        for index in range(1, logits_BCX.shape[1]):
            p_BX, y_BX = probabilities_BCX[:, index], (labels_BX == index).to(logits_BCX.dtype)
            scores.append(torch.stack([2 * (p_BX * y_BX).sum(), p_BX.sum() + y_BX.sum()]))
        overlap_S, total_S = sum_over_ranks(torch.stack(scores, dim=1))
        dice = (class_weight_C[1:] * ((overlap_S + 1) / (total_S + 1))).mean()
        return weighted_cross_entropy(logits_BCX, labels_BX, class_weight_C) - dice
