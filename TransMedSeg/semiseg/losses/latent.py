"""Masks as images, latents as Gaussians, and the Dice of two soft masks (SemiGDA).

Axes: B batch, C classes, X space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .ranks import mean_over_ranks


def encode_labels(labels_BX: Tensor, num_classes: int) -> Tensor:
    """Labels as an image with values -1 and 1: one channel for two classes, one for each class otherwise.

    One number for several classes would say that class 3 lies between 2 and 4. SemiGDA's code encodes two classes as 0
    and 1 when it trains and as -1 and 1 when it validates; read out as the latter, the former puts the background at a
    probability of one half.

    Args:
        labels_BX: (batch, *space) int64.
        num_classes: Classes including the background.
    """
    classes = range(1, 2) if num_classes == 2 else range(num_classes)
    return 2 * torch.stack([labels_BX == index for index in classes], dim=1).float() - 1


def decode_labels(values_BX: Tensor) -> Tensor:
    """(batch, *space) int64 labels of decoded values (batch, channel, *space): the inverse of ``encode_labels``."""
    return (values_BX[:, 0] > 0).long() if values_BX.shape[1] == 1 else values_BX.argmax(1)


def structures_of(code_BX: Tensor) -> Tensor:
    """(batch, structure, *space) of 0 and 1 from an encoded mask, without the background."""
    return (code_BX if code_BX.shape[1] == 1 else code_BX[:, 1:]).add(1).div(2)


def gaussian_kl(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor | float = 0.0, other_log_variance: Tensor | float = 0.0
) -> Tensor:
    """KL(N(mean, variance) || N(other)) of Gaussians with independent entries: summed over a sample, mean of the
    batch, in nats.

    The defaults are the standard normal.
    """
    mean, log_variance = mean.float(), log_variance.float()
    other_log_variance = torch.as_tensor(other_log_variance, dtype=mean.dtype, device=mean.device)
    ratio = (log_variance - other_log_variance).exp()
    distance = (mean - other_mean).square() * (-other_log_variance).exp()
    return 0.5 * (ratio + distance - 1 - log_variance + other_log_variance).flatten(1).sum(1).mean()


def draw_latent(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """A sample of N(mean, variance) through which gradients flow to both (Kingma and Welling, ICLR 2014)."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + (0.5 * log_variance).exp() * noise


def soft_dice_loss(first_BCX: Tensor, second_BCX: Tensor, smooth: float = 1e-5) -> Tensor:
    """1 - mean over samples and channels of 2 sum pq / (sum p + sum q); 0 where both are empty.

    Zero for equal masks of 0 and 1, but not for equal soft ones: of p with itself it is 1 - sum p^2 / sum p. Between
    two predictions it therefore also pushes both towards 0 and 1.

    Args:
        first_BCX: (batch, structure, *space) probabilities or a mask; no background.
        second_BCX: The same.
    """
    with torch.autocast(first_BCX.device.type, enabled=False):
        p_BCX, q_BCX = first_BCX.float().flatten(2), second_BCX.float().flatten(2)
        overlap_BC = (p_BCX * q_BCX).sum(2)
        return 1 - ((2 * overlap_BC + smooth) / (p_BCX.sum(2) + q_BCX.sum(2) + smooth)).mean()


def hard_dice(found_BX: Tensor, labels_BX: Tensor, num_classes: int) -> Tensor:
    """Mean over the structures of the Dice of all samples together; a structure missing in both scores 1.

    Args:
        found_BX: (batch, *space) int64.
        labels_BX: (batch, *space) int64.
        num_classes: Classes including the background.
    """
    scores = []
    for index in range(1, num_classes):
        found, there = found_BX == index, labels_BX == index
        scores.append((2.0 * (found & there).sum() + 1e-5) / (found.sum() + there.sum() + 1e-5))
    return torch.stack(scores).mean()


def certain_from(temperature: float) -> float:
    """The probability from which p^(1 / temperature) is at least one half: 0.933 at SemiGDA's 0.1."""
    return 2.0**-temperature


class LatentScale(nn.Module):
    """Running mean and spread of each latent channel, over all ranks; a plain average at first.

    Args:
        num_channels: Channels of the latents.
        momentum: Share of the old values kept in an update.
    """

    def __init__(self, num_channels: int, momentum: float = 0.99) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(num_channels))
        self.register_buffer("square", torch.ones(num_channels))
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, latent_BCX: Tensor) -> None:
        """Takes in (batch, channel, *space) latents."""
        flat_CN = latent_BCX.float().transpose(0, 1).flatten(1)
        moments = mean_over_ranks(torch.stack([flat_CN.mean(1), flat_CN.square().mean(1)]))
        self.num_updates += 1
        weight = (1 / self.num_updates).clamp(min=1 - self.momentum)
        self.mean.lerp_(moments[0], weight)
        self.square.lerp_(moments[1], weight)

    @property
    def spread(self) -> Tensor:
        """(channel,) standard deviations; a channel that never changes has a small one instead of none."""
        return (self.square - self.mean.square()).clamp(min=1e-6).sqrt()
