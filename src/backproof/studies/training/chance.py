"""Chance that belongs to a seed and a place in the run, and that leaves everybody else's alone."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["drawn_from", "generator_for", "number_for"]


def number_for(seed: int, *what: object) -> int:
    """A number from 0 to 2⁶³ - 1 that depends on the seed and on what it is for."""
    digest = hashlib.blake2b(repr((seed, *what)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator_for(seed: int, *what: object) -> torch.Generator:
    """A generator of its own for one purpose, so that no draw depends on what was drawn for another."""
    return torch.Generator().manual_seed(number_for(seed, *what))


@contextmanager
def drawn_from(seed: int, *what: object) -> Iterator[None]:
    """Inside, the global generators of torch, NumPy and Python start from the seed; afterwards they are as before.

    A model's dropout and a Dataset's own transforms draw from these.
    """
    number = number_for(seed, *what)
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(number)
        random.seed(number)
        np.random.seed(number % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)
