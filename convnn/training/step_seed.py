"""The seed of a step's random numbers: of training in epochs from 1, of recalibration in epoch 0."""

import hashlib

import torch


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Return a hash of (seed, epoch, step), so that the random numbers of a step need no history."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}/{step}".encode()).digest()[:8], "big") >> 1


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed what models on this device draw from, as `torch.manual_seed` does.

    On a CPU only the default generator: `torch.manual_seed` also formats a stack trace for each absent kind of
    device, which takes longer than a small layer.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
