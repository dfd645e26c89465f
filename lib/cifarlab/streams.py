"""Random numbers: one independent stream for each purpose, each a function of the run's seed.

A stream is named, and numbered by epoch where it is used in every epoch. So nothing about random state has to be
saved to resume a run: epoch 7 shuffles, augments and drops the same way whether or not epochs 0 to 6 just ran.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a 63-bit seed that differs for every (seed, purpose, epoch)."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, purpose: str, epoch: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator on ``device`` seeded with :func:`stream_seed`."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, purpose, epoch))
