"""Central differences with a step that is chosen from the noise, along Gaussian directions and single entries.

The slope of φ(h) = Re⟨v, f(x + h u)⟩ at 0 is compared with Re⟨g, u⟩. No derivative rule takes part. What truncation and
rounding leave of it is estimated from the differences themselves: D(h) and D(h/2) differ by the one, ε |φ| / h is the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .program import Program

__all__ = ["Slope", "direction", "inner", "precision", "scales", "slope", "slope_at"]

EPS = 2.0**-53
FIRST = 2.0**-13
LADDER = tuple(10.0**-k for k in (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9, 10, 11))


@dataclass(frozen=True)
class Slope:
    """A slope by differences.

    Args:
        value, error: the slope, and how far it may be off by truncation and noise.
        left, right: the one-sided slopes.
        kink: whether these differ by more than their errors.
    """

    value: float
    error: float
    left: float
    right: float
    kink: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether the differences settled on a finite number."""
        return math.isfinite(self.value) and math.isfinite(self.error)

    def takes(self, claimed: float, margin: float) -> bool:
        """Whether a claimed slope is this one; at a kink, whether it lies between the one-sided slopes."""
        low, high = min(self.left, self.right, self.value), max(self.left, self.right, self.value)
        if self.kink:
            return low - margin <= claimed <= high + margin
        return abs(claimed - self.value) <= margin + self.error


def inner(a: Iterable[Tensor | None], b: Iterable[Tensor | None]) -> float:
    """Re⟨a, b⟩ over several tensors; None stands for zero."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        if x is not None and y is not None and x.numel():
            total += float((x.conj() * y).real.sum()) if x.is_complex() else float((x * y).sum())
    return total


def scales(values: Sequence[Tensor]) -> list[Tensor]:
    """How large a step each entry can take: its own size, but not less than a tenth of the mean of its tensor."""
    found = []
    for value in values:
        size = value.abs()
        mean = float(size.mean()) if size.numel() else 0.0
        found.append(size.clamp_min(0.1 * mean) if mean else torch.ones_like(size))
    return found


def direction(values: Sequence[Tensor], seed: int) -> tuple[Tensor, ...]:
    """A Gaussian direction in the measure of the values themselves."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(v.shape, dtype=v.dtype, generator=generator).to(v.device) * s
        for v, s in zip(values, scales(values), strict=True)
    )


def precision(values: Iterable[Tensor]) -> float:
    """The rounding of the coarsest dtype among the values."""
    return max((torch.finfo(v.dtype).eps / 2 for v in values), default=EPS)


def slope(program: Program, values: Sequence[Tensor], weights: Sequence[Tensor], u: Sequence[Tensor]) -> Slope:
    """The slope along u, quickly where the function is smooth at one part in ten thousand."""
    eps = max(precision(values), program.rounding)
    centre: list[float] = []

    def phi(h: float) -> float:
        return inner(weights, program.at([v + h * d for v, d in zip(values, u, strict=True)]))

    def middle() -> float:
        if not centre:
            centre.append(inner(weights, program.at(values)))
        return centre[0]

    return _quick(phi, eps) or _ladder(phi, middle(), eps)


def slope_at(
    program: Program, values: Sequence[Tensor], weights: Sequence[Tensor], which: int, entry: int, size: float
) -> Slope:
    """The slope along one entry of one input (of its real part)."""

    def phi(h: float) -> float:
        moved = [v if i != which else v.clone().contiguous() for i, v in enumerate(values)]
        moved[which].view(-1)[entry] += h * size
        return inner(weights, program.at(moved))

    eps = max(precision(values), program.rounding)
    found = _quick(phi, eps) or _ladder(phi, phi(0.0), eps)
    return Slope(found.value / size, found.error / size, found.left / size, found.right / size, found.kink)


def _quick(phi: Callable[[float], float], eps: float) -> Slope | None:
    """Two central differences and their extrapolation, if they agree to a millionth."""
    a, b, c, d = phi(FIRST), phi(-FIRST), phi(FIRST / 2), phi(-FIRST / 2)
    one, two = (a - b) / (2 * FIRST), (c - d) / FIRST
    bend = abs((a + b) - (c + d)) / FIRST  # of a smooth function this is of the order of the step
    size = max(abs(one), abs(two))
    noise = 4 * eps * max(map(abs, (a, b, c, d))) / FIRST
    if (
        not math.isfinite(size + bend)
        or abs(one - two) > 1e-6 * size + noise
        or bend > 1e-2 * size
        or noise > 1e-6 * size
    ):
        return None
    best = (4 * two - one) / 3
    return Slope(best, noise + abs(one - two) / 3 + 1e-9 * size, best, best)


def _ladder(phi: Callable[[float], float], middle: float, eps: float) -> Slope:
    """Differences over many steps; the best is where neighbours agree most closely."""
    rows = []
    for h in LADDER:
        up, down = phi(h), phi(-h)
        if math.isfinite(up) and math.isfinite(down):
            noise = 4 * eps * max(abs(up), abs(down), abs(middle)) / h
            rows.append(((up - down) / (2 * h), (middle - down) / h, (up - middle) / h, noise))
    best: Slope | None = None
    for wide, narrow in itertools.pairwise(rows):
        error = abs(wide[0] - narrow[0]) + narrow[3]
        sides = abs(wide[1] - narrow[1]) + abs(wide[2] - narrow[2]) + 2 * narrow[3]
        kink = abs(narrow[2] - narrow[1]) > 8 * sides and abs(narrow[2] - narrow[1]) > 1e-9 * abs(narrow[0])
        if best is None or error < best.error:
            best = Slope(narrow[0], error, narrow[1], narrow[2], kink)
    return best or Slope(math.nan, math.inf, math.nan, math.nan)
