"""A certificate confirmed by means that share nothing with it: autograd on the user's own program, and 50 digits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import mpmath
import torch
from torch import Tensor

from ...domains.digits import DIGITS, compiled, context
from ...domains.digits import digits as fifty
from ...graph import Node
from ...ops import Elementwise, derivative
from ..verdicts import Evidence
from .boxes import Region, Target
from .extremes import drawn_from

if TYPE_CHECKING:
    from .certify import Certificate

__all__ = ["autograd_at", "confirm", "steepest"]

ROUNDING = 1e-10


def autograd_at(target: Target, region: Region, weights: Mapping[Node, Tensor]) -> Tensor:
    """The derivative by torch.autograd through the user's own module, for many weights at once.

    Args:
        target, region: what is differentiated, and what is held.
        weights: tensors of the free leaves, with one more axis in front.
    """
    origin = target.graph.origin
    own = {n.name: t for n, t in region.held.items()}

    def one(batch: dict[str, Tensor]) -> Tensor:
        leaves = {**own, **batch}
        about = leaves.pop(target.wrt.name)
        slope: Tensor = torch.func.grad(lambda w: origin.loss({**leaves, target.wrt.name: w}))(about)
        return slope

    batch = {n.name: t for n, t in weights.items()}
    try:
        found: Tensor = torch.func.vmap(one)(batch) if batch else one({}).unsqueeze(0)
    except RuntimeError:  # a module that writes in place, as batch norm its running statistics
        count = len(next(iter(batch.values()))) if batch else 1
        found = torch.stack([_one_by_one(target, own, {n: t[i] for n, t in batch.items()}) for i in range(count)])
    return found if target.index is None else found.flatten(1)[:, _flat(target.index, target.wrt.shape)]


def _one_by_one(target: Target, own: Mapping[str, Tensor], point: Mapping[str, Tensor]) -> Tensor:
    leaves = {n: t.detach().clone() for n, t in {**own, **point}.items()}
    about = leaves[target.wrt.name].requires_grad_()
    (slope,) = torch.autograd.grad(target.graph.origin.loss(leaves), about)
    return slope


def confirm(certificate: Certificate, seed: int = 0, draws: int = 10_000) -> tuple[Evidence, ...]:
    """Compare a certificate with autograd at random weights and at its witness, and with 50 digits at the witness."""
    target, region = certificate.target, certificate.region
    assert target is not None and region is not None
    if (
        getattr(target.graph.origin, "loss_name", None) != target.of.name
    ):  # one of several outputs: the program has no such number
        return ()
    witness = {n: certificate.witness[n.name] for n in region.free}
    return (
        *([_never_more(certificate, target, region, seed, draws)] if region.free else []),
        _at_the_witness(certificate, target, region, witness),
        *_by_differences(certificate, target, region, witness),
    )


def _flat(index: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """The place of an entry in reading order."""
    place = 0
    for i, n in zip(index, shape, strict=True):
        place = place * n + i
    return place


def _never_more(certificate: Certificate, target: Target, region: Region, seed: int, draws: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed + 2)
    size = max(sum(n.size for n in region.free), 1)
    count = max(64, min(draws, 20_000_000 // size))
    upper, largest, done = float(certificate.upper), 0.0, 0
    began = time.perf_counter()
    while done < count:
        part = min(count - done, max(1, 2_000_000 // size), 64 if done == 0 else count)
        batch = {n: drawn_from(region, n, part, generator) for n in region.free}
        largest, done = max(largest, float(autograd_at(target, region, batch).abs().max())), done + part
        if (time.perf_counter() - began) / done > 1e-3:  # one by one: some hundreds must do
            count = min(count, max(done, 256))
    excess = max(0.0, largest - upper) / upper if upper else largest
    note = f"the largest of them {largest:.3g}, the bound {upper:.3g}"
    return Evidence(f"no derivative at {count:,} random weights exceeds the bound", "autograd", excess <= ROUNDING,
                    excess, count, count, note)  # fmt: skip


def _relative(a: Any, b: Any) -> float:
    return float(abs(a - b) / max(abs(a), abs(b))) if a != b else 0.0


def _at_the_witness(
    certificate: Certificate, target: Target, region: Region, witness: Mapping[Node, Tensor]
) -> Evidence:
    found = float(autograd_at(target, region, {n: t.unsqueeze(0) for n, t in witness.items()}).abs().max())
    error = _relative(found, float(certificate.lower))
    return Evidence("the derivative at the witness", "autograd on the program as it stands", error <= 1e-9, error, 1, 1)


def _by_differences(
    certificate: Certificate, target: Target, region: Region, witness: Mapping[Node, Tensor]
) -> tuple[Evidence, ...]:
    """Central differences of the output in 50 digits: the captured forward graph, no rule for any derivative."""
    forward = target.whole
    if sum(n.size for n in forward.nodes) > 4000 or (target.index is None and target.wrt.size > 64):
        return ()
    point = region.point(witness)
    values = {n: _to_digits(point[n]) for n in forward.nodes if n in point}
    step = context.mpf(10) ** (-DIGITS // 3)
    places = [target.index] if target.index is not None else list(_places(target.wrt.shape))
    slopes = []
    for place in places:
        ends = []
        for sign in (1, -1):
            moved = values[target.wrt].copy()
            moved[place] = moved[place] + sign * step
            ends.append(fifty.run(forward, {**values, target.wrt: moved})[target.of].reshape(-1)[0])
        slopes.append(abs(ends[0] - ends[1]) / (2 * step))
    exact = certificate.lower.exact
    known = context.mpf(exact.numerator) / exact.denominator if exact else context.mpf(float(certificate.lower))
    error = _relative(max(slopes), known)
    return (Evidence("the derivative at the witness", "central differences in 50 digits", error <= 1e-9, error, 1, 1),)


def _places(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [tuple(p) for p in torch.ones(shape).nonzero().tolist()]


def _to_digits(box: Any) -> Any:
    import numpy as np

    out = np.empty(box.shape, dtype=object)
    for place in np.ndindex(*box.shape):
        end = box.lo[place]
        out[place] = context.mpf(int(end.p)) / int(end.q)
    return out


def steepest(op: Elementwise, attrs: Mapping[str, Any] | None = None, reach: float = 40.0) -> float:
    """The largest |f'| within ±reach, from values of the formula alone (a grid, then golden sections in 50 digits).

    It shares the formula of f' with :mod:`backproof.domains.curves`, and none of its reasoning.
    """
    slope = compiled(derivative(op, 0), 1, tuple(sorted((attrs or {}).items())))
    grid = [reach * i / 2000 for i in range(-2000, 2001)]
    sizes = [abs(slope(context.mpf(x))) for x in grid]
    best = max(range(len(grid)), key=sizes.__getitem__)
    lo, hi = context.mpf(grid[max(best - 1, 0)]), context.mpf(grid[min(best + 1, len(grid) - 1)])
    golden = (mpmath.sqrt(5) - 1) / 2
    for _ in range(80):
        a, b = hi - golden * (hi - lo), lo + golden * (hi - lo)
        lo, hi = (lo, b) if abs(slope(a)) >= abs(slope(b)) else (a, hi)
    return float(max(sizes[best], abs(slope((lo + hi) / 2))))
