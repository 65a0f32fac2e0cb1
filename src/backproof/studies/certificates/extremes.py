"""Search a box of weights for a derivative that is as large as possible: the lower side of a certificate.

The search starts from signs that make all paths agree and from random weights, climbs by projected gradient steps, and
moves the biases so that every unit sits where its activation is steepest. Nothing here is rigorous; what it finds is
evaluated exactly afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...domains.balls import formula
from ...domains.curves import as_fraction, curve
from ...domains.numbers import tensor_of, wide_numbers
from ...graph import Graph, Node
from ...ops import Elementwise, derivative
from ...progress import track
from .boxes import Region, Target

__all__ = ["Extreme", "derivative_at", "derivatives_at", "drawn_from", "nudged", "quick", "search"]

Weights = dict[Node, Tensor]
WORK = 120_000_000


@dataclass(frozen=True)
class Extreme:
    """The largest derivative that was found: its size in float64, the weights, and the entry."""

    size: float
    weights: Weights
    index: tuple[int, ...]


def derivative_at(target: Target, region: Region, weights: Mapping[Node, Tensor]) -> Tensor:
    """The derivative in float64 at some weights: the joint graph over numbers."""
    leaves = {**region.held, **weights}
    known = _constants(target.graph)
    known |= {n: leaves[n] for n in target.graph.nodes if n.is_leaf and n.role != "constant"}
    found: Tensor = wide_numbers.run(target.graph, known)[target.node]
    return found if target.index is None else found[target.index]


def _constants(graph: Graph) -> dict[Node, Any]:
    """The constants, in float64 as everything here."""
    return {n: tensor_of(n, wide=True) for n in graph.of_role("constant")}


def derivatives_at(target: Target, region: Region, weights: Mapping[Node, Tensor]) -> Tensor:
    """The same for many weights at once: each tensor has one more axis in front."""

    def one(batch: tuple[Tensor, ...]) -> Tensor:
        return derivative_at(target, region, dict(zip(weights, batch, strict=True)))

    if not weights:
        return derivative_at(target, region, {}).unsqueeze(0)
    batches = tuple(weights.values())
    try:
        return torch.func.vmap(one)(batches)
    except RuntimeError:  # an operation that writes in place, as the adjoint of a convolution
        return _by_autograd(target, region, tuple(weights), batches)


def _by_autograd(target: Target, region: Region, names: tuple[Node, ...], batches: tuple[Tensor, ...]) -> Tensor:
    """The same by torch.autograd on the forward graph: for searches and samples, which are not what is proved."""
    constants = _constants(target.whole)
    there = [n for n in target.whole.nodes if n.is_leaf and n.role != "constant"]

    def one(batch: tuple[Tensor, ...]) -> Tensor:
        leaves = {**region.held, **dict(zip(names, batch, strict=True))}

        def value(w: Tensor) -> Tensor:
            known = {**constants, **{n: w if n is target.wrt else leaves[n] for n in there}}
            found: Tensor = wide_numbers.run(target.whole, known)[target.of].reshape(())
            return found

        slope: Tensor = torch.func.grad(value)(leaves[target.wrt])
        return slope if target.index is None else slope[target.index]

    return torch.func.vmap(one)(batches)


def search(
    target: Target, region: Region, forward: Graph, seed: int = 0, starts: int = 64, steps: int = 250
) -> Extreme:
    """The largest derivative that projected gradient ascent finds from structured and random starts.

    Every other random start gives equal weights to layers of equal shape: in deep networks those lead higher.
    """
    free = [n for n in region.free if n in set(target.graph.nodes)]
    ends = {n: region.ends(n) for n in free}
    generator = torch.Generator().manual_seed(seed)
    structured = list(_structured(target, region, forward, free, ends))
    starts, steps = _affordable(starts, steps, sum(n.size for n in free))
    drawn = [_drawn(free, ends, generator, alike=bool(i % 2)) for i in range(starts)]
    best = _best(target, region, structured + drawn)
    if not free:
        return best
    most = max(4, WORK // (steps * sum(n.size for n in free)))
    climbed = _climb(target, region, free, ends, (drawn[::-1] + structured)[-most:], steps)
    polished = [_centred(forward, region, ends, w) for w in climbed[:6]]
    snapped = [_snapped(w, ends) for w in climbed[:6] + polished]
    found = _best(target, region, climbed + polished + snapped)
    return found if found.size > best.size * (1 + 1e-12) else best  # a plain witness rather than rounding


def quick(target: Target, region: Region, forward: Graph, seed: int = 0) -> Extreme:
    """The best of the structured starts, without a search."""
    free = [n for n in region.free if n in set(target.graph.nodes)]
    return _best(target, region, list(_structured(target, region, forward, free, {n: region.ends(n) for n in free})))


def drawn_from(region: Region, node: Node, count: int, generator: torch.Generator) -> Tensor:
    """Uniform draws of a leaf from its box, ``count`` of them along a new first axis."""
    lo, hi = region.ends(node)
    return lo + (hi - lo) * torch.rand((count, *node.shape), generator=generator, dtype=torch.float64)


def nudged(region: Region, weights: Mapping[Node, Tensor], seed: int = 0) -> Iterable[Weights]:
    """Points of the box a little beside one, ever farther off: where two entries are equal, or a unit is at a kink."""
    generator = torch.Generator().manual_seed(seed + 3)
    for reach in (2.0**-20, 2.0**-20, 2.0**-10, 2.0**-10, 2.0**-5, 2.0**-3):
        yield {n: w + reach * (drawn_from(region, n, 1, generator)[0] - w) for n, w in weights.items()}


def _affordable(starts: int, steps: int, size: int) -> tuple[int, int]:
    """Fewer starts and then fewer steps where the network is large."""
    starts = max(4, min(starts, WORK // (steps * max(size, 1))))
    return starts, max(40, min(steps, WORK // (starts * max(size, 1))))


def _drawn(free: list[Node], ends: Mapping[Node, Any], generator: torch.Generator, alike: bool) -> Weights:
    shared: dict[tuple[int, ...], Tensor] = {}
    found = {}
    for n in free:
        lo, hi = ends[n]
        new = _uniform(lo, hi, generator)
        found[n] = torch.minimum(torch.maximum(shared.setdefault(n.shape, new), lo), hi) if alike else new
    return found


def _uniform(lo: Tensor, hi: Tensor, generator: torch.Generator) -> Tensor:
    return lo + (hi - lo) * torch.rand(lo.shape, generator=generator, dtype=torch.float64)


def _best(target: Target, region: Region, candidates: list[Weights]) -> Extreme:
    sizes = [derivative_at(target, region, w).detach().abs() for w in candidates]
    largest = [float(size.max()) if bool(size.isfinite().all()) else -1.0 for size in sizes]
    chosen = next(i for i, size in enumerate(largest) if size >= max(largest) * (1 - 1e-12))
    index = target.index or tuple(int(i) for i in (sizes[chosen] == sizes[chosen].max()).nonzero()[0])
    return Extreme(float(sizes[chosen].max()), candidates[chosen], index)


def _climb(
    target: Target, region: Region, free: list[Node], ends: Mapping[Node, Any], starts: list[Weights], steps: int
) -> list[Weights]:
    """Adam on the logarithm of the size, projected back into the box after each step; the best point of each start."""
    w = {n: torch.stack([s[n] for s in starts]) for n in free}
    m, v = ({n: torch.zeros_like(w[n]) for n in free} for _ in range(2))
    best, sizes = {n: w[n].clone() for n in free}, torch.zeros(len(starts), dtype=torch.float64)
    for t in track(range(1, steps + 1), "searching the box"):
        leaves = {n: w[n].requires_grad_() for n in free}
        found = derivatives_at(target, region, leaves).abs().reshape(len(starts), -1).amax(1)
        better = found.detach() > sizes
        sizes = torch.where(better, found.detach(), sizes)
        for n in free:
            best[n][better] = w[n].detach()[better]
        grads = torch.autograd.grad(torch.log(found + 1e-300).sum(), [leaves[n] for n in free], allow_unused=True)
        rate = 0.1 * 0.01 ** (t / steps)
        for n, g in zip(free, grads, strict=True):
            w[n] = _stepped(w[n].detach(), g, m[n], v[n], t, rate, *ends[n])
    order = sizes.argsort(descending=True).tolist()
    return [{n: best[n][i] for n in free} for i in order]


def _stepped(w: Tensor, g: Tensor | None, m: Tensor, v: Tensor, t: int, rate: float, lo: Tensor, hi: Tensor) -> Tensor:
    """One step of Adam upwards, as long as the box is wide times the rate, and back into the box."""
    if g is None:
        return w
    g = torch.nan_to_num(g)
    m.mul_(0.9).add_(g, alpha=0.1)
    v.mul_(0.99).addcmul_(g, g, value=0.01)
    step = (m / (1 - 0.9**t)) / ((v / (1 - 0.99**t)).sqrt() + 1e-12)
    return torch.minimum(torch.maximum(w + rate * (hi - lo) / 2 * step, lo), hi)


# --- starts and polish --------------------------------------------------------------------------------------------------
def _structured(
    target: Target, region: Region, forward: Graph, free: list[Node], ends: Mapping[Node, Any]
) -> Iterable[Weights]:
    """Signs under which all paths agree, s_i s_j, with the s alternating or all 1; off the paths 0 or everything up."""
    path = _on_the_paths(forward, target.wrt)
    for alternating in (True, False):
        for off in ("zero", "same", "up"):
            found = {
                n: _signed(ends[n], alternating) if n in path or off == "same" else _off(ends[n], off) for n in free
            }
            yield found
            yield _centred(forward, region, ends, found)


def _on_the_paths(graph: Graph, wrt: Node) -> set[Node]:
    """The parameters that multiply what depends on ``wrt``."""
    reached, found = {wrt}, set[Node]()
    for node in graph.nodes:
        if any(x in reached for x in node.inputs):
            if node.op.name in ("linear", "matmul", "mul") and any(x in reached for x in node.inputs[:2]):
                found.update(x for x in node.inputs[:2] if x not in reached)
            reached.add(node)
    return {_leaf(node) for node in found}


def _leaf(node: Node) -> Node:
    """The parameter behind a transpose or a change of shape."""
    while not node.is_leaf and len(node.inputs) == 1:
        node = node.inputs[0]
    return node


def _signed(ends: tuple[Tensor, Tensor], alternating: bool) -> Tensor:
    lo, hi = ends
    sign = torch.ones(lo.shape, dtype=torch.float64)
    for axis, n in enumerate(lo.shape if alternating else ()):
        flips = torch.tensor([(-1.0) ** i for i in range(n)], dtype=torch.float64)
        sign = sign * flips.reshape([-1 if i == axis else 1 for i in range(lo.ndim)])
    return torch.where(sign > 0, hi, lo)


def _off(ends: tuple[Tensor, Tensor], how: str) -> Tensor:
    lo, hi = ends
    return hi.clone() if how == "up" else torch.minimum(torch.maximum(torch.zeros_like(lo), lo), hi)


def _snapped(weights: Weights, ends: Mapping[Node, Any]) -> Weights:
    """Entries near an end of the box, put on it."""
    found = {}
    for n, w in weights.items():
        lo, hi = ends[n]
        near = 2e-3 * (hi - lo)
        found[n] = torch.where(w - lo < near, lo, torch.where(hi - w < near, hi, w))
    return found


def _centred(graph: Graph, region: Region, ends: Mapping[Node, Any], weights: Weights) -> Weights:
    """Move each free bias so that the unit behind it sits where its activation is steepest."""
    found = dict(weights)
    values = _constants(graph)
    values |= {**region.held, **weights}
    for node in graph.nodes:
        if node in values:
            continue
        bias = next((x for x in node.inputs if x in weights and _adds(node, x)), None)
        steep = _steepest(graph, node) if bias is not None else None
        if bias is not None and steep is not None:
            values[bias] = torch.zeros_like(found[bias])
            wish = steep - wide_numbers.apply(node, *(values[x] for x in node.inputs))
            wish = wish.reshape(-1, *bias.shape).mean(0)
            values[bias] = found[bias] = torch.minimum(torch.maximum(wish, ends[bias][0]), ends[bias][1])
        values[node] = wide_numbers.apply(node, *(values[x] for x in node.inputs))
    return found


def _adds(node: Node, x: Node) -> bool:
    return (node.op.name == "add" and x.shape == node.shape[-len(x.shape) :]) or (
        node.op.name == "linear" and x in node.inputs[2:]
    )


def _steepest(graph: Graph, node: Node) -> float | None:
    """Where the function behind a pre-activation is steepest, looked for within ±8."""
    for user in graph.users[node]:
        if isinstance(user.op, Elementwise) and len(user.inputs) == 1 and user.op.family == "elementwise":
            place = _steep_place(user)
            return float(place.p) / float(place.q)
    return None


def _steep_place(node: Node) -> Any:
    """The steeper of the places with the largest and with the most negative slope; the nearest to 0 among equals."""
    assert isinstance(node.op, Elementwise)
    eight, slopes = as_fraction(8.0), curve(formula(replace(node, op=derivative(node.op, 0))))
    up, down = slopes.highest(-eight, eight), slopes.highest(-eight, eight, -1)
    return up if abs(slopes.range(up, up)[1]) >= abs(slopes.range(down, down)[0]) else down
