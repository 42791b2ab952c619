"""The seed of a step's random numbers: of training in epochs from 1, of recalibration in epoch 0."""

import hashlib


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Return a hash of (seed, epoch, step), so that the random numbers of a step need no history."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}/{step}".encode()).digest()[:8], "big") >> 1
