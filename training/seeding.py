"""Every random draw of a phase comes from a hash of what it is for, so that resuming needs no random state.

The numbers of a step depend on (seed, step) and those of a photo on (seed, epoch, photo), never on what was
drawn before: not on the number of loader processes, not on where the run was interrupted.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def seed_for(purpose: str, *parts: int) -> int:
    """Return 63 bits that depend on the purpose and on each of the integers, in order."""
    text = ":".join([purpose, *map(str, parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seed_generators(seed: int, *, devices: bool = True) -> None:
    """Seed torch, numpy and random: transforms draw from all three.

    devices: torch on every device, which costs 72 microseconds; else on the CPU alone, which costs one.
    """
    if devices:
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)
