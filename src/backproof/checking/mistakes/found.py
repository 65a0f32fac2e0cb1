"""A mistake that explains a claimed gradient, and when two gradients count as the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ACCURACY", "Found", "same_gradient"]

ACCURACY = 1e-9


@dataclass(frozen=True)
class Found:
    """A change that gives the claimed gradient: the mistake in words, the operation and the line of its forward pass."""

    words: str
    operation: str
    line: str


def same_gradient(claimed: Tensor | None, made: Tensor | None, like: Tensor) -> bool:
    """Whether a gradient is the claimed one up to 1e-9 in every entry, or to what a short dtype holds."""
    c, m = (torch.zeros_like(like) if g is None else g.detach().to(like) for g in (claimed, made))
    if c.shape != m.shape or not c.numel():
        return False
    accuracy = max(ACCURACY, 64 * torch.finfo(like.dtype).eps)
    size = float(c.abs().max()) or 1.0
    return bool(((c - m).abs() <= accuracy * c.abs().clamp_min(1e-3 * size)).all())
