"""Random numbers that depend on what they are for, not on what was drawn before.

Every draw of training is a function of (run seed, iteration, index of the sample in the global batch, purpose). A resumed run, a run on two
processes and a replayed step therefore see the same numbers, and no generator state has to be saved.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def generator_for(seed: int, iteration: int, sample: int, purpose: str) -> np.random.Generator:
    """A fresh host generator for one sample of one iteration and one purpose."""
    return np.random.Generator(np.random.PCG64([seed, iteration, sample, zlib.crc32(purpose.encode())]))


def seed_for(seed: int, iteration: int, sample: int, purpose: str) -> int:
    """One integer below 2**63 for the same four things, to seed a device generator."""
    return int(generator_for(seed, iteration, sample, purpose).integers(2**63))


def device_generator(device: torch.device | str, seed: int) -> torch.Generator:
    """A torch generator on a device."""
    return torch.Generator(device=device).manual_seed(seed)
