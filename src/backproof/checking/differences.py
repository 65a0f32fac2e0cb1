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
from .rounding import SAMPLES, SHAKE, Shaken

__all__ = ["Slope", "direction", "inner", "noise_of", "precision", "scales", "slope", "slope_at"]

EPS = 2.0**-53
FIRST = 2.0**-13
SURE = 8
"""How much wider than its estimated error a slope's interval is taken when it judges others."""
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


def slope(
    program: Program, values: Sequence[Tensor], weights: Sequence[Tensor], u: Sequence[Tensor], eps: float = 0.0
) -> Slope:
    """The slope along u, quickly where the function is smooth at one part in ten thousand.

    ``eps`` is the relative noise of the function where it is known to be larger than its dtype's rounding.
    """
    eps = max(precision(values), program.rounding, eps)
    centre: list[float] = []

    def phi(h: float) -> float:
        return inner(weights, program.at([v + h * d for v, d in zip(values, u, strict=True)]))

    def middle() -> float:
        if not centre:
            centre.append(inner(weights, program.at(values)))
        return centre[0]

    return _quick(phi, eps) or _ladder(phi, middle(), eps)


def noise_of(program: Program, values: Sequence[Tensor], weights: Sequence[Tensor]) -> float:
    """The relative running error of φ(0): far more than rounding where large terms cancel on the way."""
    middle = inner(weights, program.at(values))
    unit, moved = max(precision(values), program.rounding), 0.0
    shake = max(SHAKE, 16 * unit)
    for seed in range(SAMPLES + 1):
        with Shaken(seed, shake):
            moved = max(moved, abs(inner(weights, program.at(values)) - middle))
    return moved / shake * unit / abs(middle) if middle and math.isfinite(moved) else 0.0


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
    """Differences over many steps, from the smallest; the best is where neighbours agree most closely.

    A slope from larger steps counts only if those from smaller steps allow it: it may be that of another function, as far from
    a pole.
    """
    rows = []
    for h in LADDER:
        up, down = phi(h), phi(-h)
        if math.isfinite(up) and math.isfinite(down):
            noise = 4 * eps * max(abs(up), abs(down), abs(middle)) / h
            rows.append(((up - down) / (2 * h), (middle - down) / h, (up - middle) / h, noise))
    low, high = -math.inf, math.inf
    best: Slope | None = None
    for narrow, wide in itertools.pairwise(reversed(rows)):
        found = _between(wide, narrow)
        if found.value + found.error < low or found.value - found.error > high:
            break
        low, high = max(low, found.value - SURE * found.error), min(high, found.value + SURE * found.error)
        if best is None or found.error < best.error:
            best = found
    return best or Slope(math.nan, math.inf, math.nan, math.nan)


def _between(wide: Sequence[float], narrow: Sequence[float]) -> Slope:
    """The slope from one step and the next larger one, off by as much as the two differ."""
    error = abs(wide[0] - narrow[0]) + narrow[3]
    sides = abs(wide[1] - narrow[1]) + abs(wide[2] - narrow[2]) + 2 * narrow[3]
    kink = abs(narrow[2] - narrow[1]) > 8 * sides and abs(narrow[2] - narrow[1]) > 1e-9 * abs(narrow[0])
    return Slope(narrow[0], error, narrow[1], narrow[2], kink)
