"""How an update rule depends on the size of the gradient: all gradients times c, and where w goes then."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ...optimizers import Optimizer
from .replay import Replay

__all__ = ["Scale", "scale_dependence"]

SHAPE, UPDATES = (6, 5), 40
FACTORS = (1000.0, 0.001)
NEAR = 0.05


@dataclass(frozen=True)
class Scale:
    """What scaling all gradients does to the way that w goes.

    Args:
        power: p where the way is c^p times as long, up to ``change``: 1 proportional, 0 independent; None: neither.
        change: factor c -> the relative difference from that law.
        longer: factor c -> how many times as long the way is.
    """

    power: int | None
    change: dict[float, float]
    longer: dict[float, float]

    def __str__(self) -> str:
        worst = max(self.change.values())
        exact = "exactly" if worst < 1e-12 else f"up to {worst:.1e}"
        if self.power == 1:
            return f"The way is proportional to the size of the gradients ({exact})."
        if self.power == 0:
            return f"The way does not depend on the size of the gradients ({exact})."
        ways = ", ".join(f"{v:.3g} times as long for gradients times {c:g}" for c, v in self.longer.items())
        return f"The way depends on the size of the gradients, but not in proportion: {ways}."


def scale_dependence(rule: Optimizer) -> Scale:
    """Make 40 updates with random gradients, and again with all of them times 1000 and 1/1000."""
    base = _way(rule, 1.0)
    ways = {c: _way(rule, c) for c in FACTORS}
    size = float(base.norm())
    if not size:  # a learning rate of 0: it stays where it is, whatever the gradients are
        return Scale(0, dict.fromkeys(FACTORS, 0.0), dict.fromkeys(FACTORS, 1.0))
    longer = {c: float(way.norm()) / size for c, way in ways.items()}
    for power in (0, 1):
        change = {c: float((way / c**power - base).norm()) / size for c, way in ways.items()}
        if max(change.values()) < NEAR:
            return Scale(power, change, longer)
    worst = {c: abs(math.log10(max(v, 1e-300))) for c, v in longer.items()}
    return Scale(None, worst, longer)


def _way(rule: Optimizer, factor: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    run = Replay(rule, start)
    for _ in range(UPDATES):
        run.step(factor * torch.randn(SHAPE, generator=generator, dtype=torch.float64))
    return run.w - start
