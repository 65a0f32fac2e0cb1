"""The oracles: ways to a gradient that do not share a mistake with the one that is checked."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .checked import Oracle
from .compare import Gradients, Masks
from .compiled import eager_of
from .differences import direction, inner, noise_of, precision, scales, slope, slope_at
from .functions import Sites
from .program import Program
from .rounding import SHAKE, spread

__all__ = ["RAW", "Along", "along", "between_slopes", "by_entries", "cotangents", "differences_oracle"]

RAW = "differentiation of the forward pass without the custom backward"
DIFFERENCES = "central differences along Gaussian directions"
MOST_SLOPES = 20_000
SECONDS = 20.0
RESOLVES = 1e-2
BESIDE = 1e-7


def cotangents(outputs: Sequence[Tensor], seed: int, first: bool = True) -> tuple[Tensor, ...]:
    """A Gaussian weight for each output entry; for a single number the first one is 1."""
    if first and len(outputs) == 1 and outputs[0].numel() == 1:
        return (torch.ones_like(outputs[0]).detach(),)
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(o.shape, dtype=o.dtype, generator=generator).to(o.device)
        if o.dtype in (torch.float32, torch.float64, torch.complex64, torch.complex128)
        else torch.randn(o.shape, generator=generator).to(o.device, o.dtype)
        for o in outputs
    )


@dataclass(frozen=True)
class Along:
    """What differences along directions say about a gradient: agrees, the relative error, the resolution, a kink."""

    agrees: bool | None
    error: float = math.nan
    resolution: float = math.inf
    kink: tuple[float, float] | None = None


def along(
    program: Program, values: Sequence[Tensor], weights: Sequence[Tensor], gradients: Gradients, seeds: Sequence[int]
) -> Along:
    """Compare Re⟨g, u⟩ with slopes along Gaussian directions u.

    What differs is looked at again with the measured noise of the function; a gradient too small to be resolved is compared
    with the terms that cancel in it.
    """
    found = _along(program, values, weights, gradients, seeds, 0.0, gradients)
    if found.agrees or found.kink or eager_of(program.call) is not None:
        return found  # what is compiled would not be compiled under a look at its operations
    terms = _terms(program, values, weights, gradients) if found.agrees is None else gradients
    again = _along(program, values, weights, gradients, seeds, noise_of(program, values, weights), terms)
    return again if found.agrees is False or again.agrees else found


def _terms(program: Program, values: Sequence[Tensor], weights: Sequence[Tensor], gradients: Gradients) -> Gradients:
    """For each entry the size of what it is the sum of, as its running error per unit of rounding tells it."""
    shake = max(SHAKE, 16 * precision(values))
    try:
        moved = spread(lambda: program.gradients(values, weights, Sites()), gradients, 71, shake)
    except (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError):
        return gradients
    return [g if m is None or g is None else torch.maximum(m.to(g.device), g.abs().double())
            for m, g in zip(moved, gradients, strict=True)]  # fmt: skip


def _along(
    program: Program,
    values: Sequence[Tensor],
    weights: Sequence[Tensor],
    gradients: Gradients,
    seeds: Sequence[int],
    noise: float,
    terms: Gradients,
) -> Along:
    worst, coarse, verdict = 0.0, 0.0, True
    for seed in seeds:
        u = direction(values, seed)
        claimed = inner(gradients, u)
        found = slope(program, values, weights, u, noise)
        size = max(_size(terms, u), abs(found.value) if found.is_usable else 0.0, 1e-300)
        if found.kink:
            return Along(None, math.nan, math.inf, (found.left, found.right))
        if _size(gradients, u) == 0.0 and abs(found.value) <= found.error:
            continue  # a constant: no difference beyond the noise, and none claimed
        if not found.is_usable or not math.isfinite(claimed) or found.error > RESOLVES * size:
            return Along(None)
        margin = (1e-7 + 64 * max(precision(values), program.rounding)) * size
        verdict = verdict and found.takes(claimed, margin + 2 * found.error)
        worst = max(worst, abs(claimed - found.value) / size)
        coarse = max(coarse, (margin + found.error) / size)
    return Along(verdict, worst, coarse)


def _size(gradients: Gradients, u: Sequence[Tensor]) -> float:
    """√Σ (g u)²: what a sum of that many terms of either sign is worth."""
    total = sum(float((g * d).abs().square().sum()) for g, d in zip(gradients, u, strict=True) if g is not None)
    return math.sqrt(total) if math.isfinite(total) else math.nan


def differences_oracle(found: Along) -> Oracle:
    """The same as a line of the report."""
    if found.kink:
        left, right = found.kink
        return Oracle(
            DIFFERENCES, None, None, f"a kink: the slopes to the left and right are {left:.6g} and {right:.6g}"
        )
    if found.agrees is None:
        return Oracle(DIFFERENCES, None, None, "the noise is larger than what is to be resolved")
    return Oracle(DIFFERENCES, found.agrees, found.error, f"resolves {found.resolution:.1g} of the gradient's size")


def between_slopes(
    program: Program,
    values: Sequence[Tensor],
    weights: Sequence[Tensor],
    claimed: Gradients,
    masks: Masks,
    most: int = 2048,
) -> tuple[Masks, list[str]]:
    """Take out the entries that lie on a kink and are claimed to be something between the one-sided slopes."""
    kept, said, sizes = [m.clone() for m in masks], list[str](), scales(values)
    places = _suspects(program, values, weights, masks, sizes)
    until = time.monotonic() + SECONDS / 4
    for i, e in places[:most]:
        if time.monotonic() > until:
            said.append("more entries lie on kinks or beside them than could be looked at one by one")
            break
        found = slope_at(program, values, weights, i, e, float(sizes[i].reshape(-1)[e]))
        g = claimed[i]
        number = 0.0 if g is None else float(g.reshape(-1)[e].real)
        if found.kink and found.takes(number, 1e-6 * max(abs(found.left), abs(found.right))):
            kept[i].view(-1)[e] = False
            if not said:
                index = list(torch.unravel_index(torch.tensor(e), values[i].shape))
                at = [int(k) for k in index]
                said.append(
                    f"not differentiable at {program.names[i]}{at}: the one-sided slopes are {found.left:.6g} and "
                    f"{found.right:.6g}, and {number:.6g} lies between them"
                )
    return kept, said


def _suspects(
    program: Program, values: Sequence[Tensor], weights: Sequence[Tensor], masks: Masks, sizes: list[Tensor]
) -> list[tuple[int, int]]:
    """The wrong entries that may lie on a kink: where the gradient jumps between two places at either side.

    Where the forward pass cannot be differentiated, entries are sampled; if none of these lies on a kink, none does.
    """
    jumps = [torch.zeros_like(m) for m in masks]
    try:
        for seed in (61, 62):
            step = direction(values, seed)
            ends = [[v + h * d for v, d in zip(values, step, strict=True)] for h in (BESIDE, -BESIDE)]
            up, down = (program.gradients(end, weights, Sites()) for end in ends)
            for jump, a, b in zip(jumps, up, down, strict=True):
                if a is not None and b is not None and a.numel():
                    size = torch.maximum(a.abs(), b.abs())
                    jump |= ((a - b).abs() > 1e-4 * size + 1e-9 * size.max()).cpu()
    except (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError):
        places = _listed(masks)
        sample = places[:: max(len(places) // 24, 1)][:24]
        on = any(slope_at(program, values, weights, i, e, float(sizes[i].reshape(-1)[e])).kink for i, e in sample)
        return places if on else []
    return _listed([j & m for j, m in zip(jumps, masks, strict=True)])


def _listed(masks: Masks) -> list[tuple[int, int]]:
    return [(i, e) for i, m in enumerate(masks) for e in m.reshape(-1).nonzero().reshape(-1).tolist()]


def by_entries(
    program: Program, values: Sequence[Tensor], weights: Sequence[Tensor], claimed: Gradients
) -> tuple[Masks, list[Tensor], bool]:
    """The wrong entries by differences alone: halves of the entries are tried until single ones are left.

    Returns:
        the masks, the expected gradients (by differences at wrong entries, as claimed elsewhere), and whether the
        search was completed.
    """
    dtype = [torch.complex128 if v.is_complex() else torch.float64 for v in values]
    expected = [
        torch.zeros(v.shape, dtype=d) if g is None else g.detach().to("cpu", d).clone()
        for g, v, d in zip(claimed, values, dtype, strict=True)
    ]
    masks = [torch.zeros(v.shape, dtype=torch.bool) for v in values]
    search = _Search(program, values, weights, claimed, scales(values), time.monotonic() + SECONDS)
    for i, value in enumerate(values):
        for e, right in search.within(i, list(range(value.numel()))):
            masks[i].view(-1)[e] = True
            expected[i].view(-1)[e] = right
    return masks, expected, search.complete


@dataclass
class _Search:
    program: Program
    values: Sequence[Tensor]
    weights: Sequence[Tensor]
    claimed: Gradients
    sizes: list[Tensor]
    until: float
    left: int = MOST_SLOPES
    complete: bool = True

    def within(self, i: int, places: list[int]) -> list[tuple[int, float]]:
        """The wrong entries among these, with what the differences say."""
        if not places:
            return []
        if self.left <= 0 or time.monotonic() > self.until:
            self.complete = False
            return []
        self.left -= 1
        if len(places) == 1:
            right = self._single(i, places[0])
            return [] if right is None else [(places[0], right)]
        if len(places) > 8 and self._agrees(i, places):
            return []
        if len(places) <= 8:
            return [found for e in places for found in self.within(i, [e])]
        half = len(places) // 2
        return self.within(i, places[:half]) + self.within(i, places[half:])

    def _agrees(self, i: int, places: list[int]) -> bool:
        generator = torch.Generator().manual_seed(places[0] + len(places))
        u = [torch.zeros_like(v) for v in self.values]
        noise = torch.randn(len(places), generator=generator, dtype=torch.float64).to(u[i])
        where = torch.tensor(places, device=u[i].device)
        flat = torch.zeros(u[i].numel(), dtype=u[i].dtype, device=u[i].device)
        flat[where] = noise * self.sizes[i].reshape(-1)[where]
        u[i] = flat.reshape(u[i].shape)
        found = slope(self.program, self.values, self.weights, u)
        number = inner(self.claimed, u)
        size = max(_size(self.claimed, u), abs(found.value))
        return not found.kink and found.takes(number, 1e-7 * size)

    def _single(self, i: int, e: int) -> float | None:
        found = slope_at(self.program, self.values, self.weights, i, e, float(self.sizes[i].reshape(-1)[e]))
        g = self.claimed[i]
        number = 0.0 if g is None else float(g.reshape(-1)[e].real)
        largest = 0.0 if g is None or not g.numel() else float(g.abs().max())
        margin = max(1e-6 * max(abs(number), abs(found.value)), 1e-9 * largest)
        return None if found.takes(number, margin) or not found.is_usable else found.value
