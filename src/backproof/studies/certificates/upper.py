"""The upper side of a certificate: intervals with exact ends, and affine forms where those are sharper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import flint
from torch import Tensor

from ...domains import curves
from ...domains.affine import Affine, read_affine
from ...domains.balls import Box, formula, read_balls
from ...domains.spans import Unbounded
from ...errors import InputError, MissingRule
from ...graph import Node
from ...ops import Elementwise
from .boxes import Region, Target
from .parts import ends_over_parts
from .proving import as_fraction

__all__ = ["Bounded", "at_point", "only", "worst"]

Bound = Fraction | float
CUTS, LOOSE = 3, 3
_LONG, _WIDE, _LONGEST, _LITTLE = 20_000, 100_000, 8000, flint.fmpq(1, 1 << 90)
_EXACT = ("add", "sub", "mul", "div", "neg", "squared_error")
_ROUNDED = ("softmax", "log_softmax", "batch_norm", "layer_norm")


@dataclass(frozen=True, eq=False)
class Bounded:
    """The target with the largest bound.

    Args:
        target: which.
        boxes: an enclosure of every node of its graph.
        upper: the bound.
        method: "intervals" or "affine forms" (perhaps over parts of the box).
        values: the affine forms of every node, where those gave the bound.
    """

    target: Target
    boxes: Mapping[Node, Box]
    upper: Bound
    method: str
    values: Mapping[Node, Affine] | None = field(default=None, repr=False, compare=False)


def worst(targets: tuple[Target, ...], region: Region, cuts: int = CUTS) -> Bounded:
    """Bound every target, and return the largest of the bounds.

    Where affine forms bound it, and that is much more than the derivative in the middle of the box, the box is cut.
    """
    found = [_bounded(target, region) for target in targets]
    final: list[Bounded] = []
    while found:
        largest = max([*found, *final], key=lambda b: b.upper)
        if largest in final:
            break
        found.remove(largest)
        final.append(_cut(largest, region, cuts))
    return max(final, key=lambda b: b.upper)


def _cut(bounded: Bounded, region: Region, cuts: int) -> Bounded:
    """The bound again over the parts of the box, where that is likely to pay."""
    target, values = bounded.target, bounded.values
    if values is None or bounded.upper <= LOOSE * _middle(bounded):
        return bounded
    cut = ends_over_parts(target.graph, region, values, cuts)
    if cut is None:
        return bounded
    parts, ends = cut
    return _from_ends(target, ends, f"affine forms over {parts} parts of the box")


def _middle(bounded: Bounded) -> float:
    """How large the derivative is in the middle of the box, about: what the affine form is centred at."""
    assert bounded.values is not None
    c = bounded.values[bounded.target.node].c
    return float((c if bounded.target.index is None else c[bounded.target.index]).abs().max())


def only(boxes: Mapping[Node, Any], target: Target) -> dict[Node, Any]:
    """What concerns the leaves of a target's graph."""
    there = set(target.graph.nodes)
    return {n: b for n, b in boxes.items() if n in there}


def _bounded(target: Target, region: Region) -> Bounded:
    sharp = _by_affine(target, region) if _may_cancel(target, region) else None
    if sharp is not None and (_products(target) > _LONG or not _may_be_rational(target, region)):
        return sharp
    try:
        boxes = read_balls(target.graph, only(region.boxes, target))
    except (InputError, MissingRule):
        if sharp is None:
            raise
        return sharp
    largest = target.pick(boxes[target.node]).largest()
    if sharp is not None and sharp.upper < as_fraction(largest):
        return sharp
    return Bounded(target, boxes, _exact_or_up(target, boxes, largest), "intervals")


def _may_cancel(target: Target, region: Region) -> bool:
    """Whether something varies by less than it is, or is an input: else affine forms have nothing to cancel."""
    there = set(target.graph.nodes)
    for node in region.free:
        if node not in there:
            continue
        if node.role != "parameter" or _is_narrow(region.boxes[node]):
            return True
    return False


def _is_narrow(box: Box) -> bool:
    """Whether an entry varies by less than it is."""
    if box.floats is not None:
        lo, hi = box.floats
        return bool(((lo + hi).abs() > hi - lo).any())
    return any(abs(a + b) > b - a for a, b in box.distinct())


def _may_be_rational(target: Target, region: Region) -> bool:
    """Whether the bound may be a fraction: weights vary, or every function gives fractions for fractions."""
    if any(n.role == "parameter" for n in region.free):
        return True
    return all(n.is_leaf or _keeps_fractions(n) for n in target.graph.nodes)


def _by_affine(target: Target, region: Region) -> Bounded | None:
    """The bound by affine forms; None where they cannot read the network, or there is none."""
    try:
        values = read_affine(target.graph, only(region.boxes, target), region.free, only(region.exact, target))
    except (MissingRule, Unbounded, InputError):
        return None
    found = _from_ends(target, {n: (v.lo, v.hi) for n, v in values.items()}, "affine forms")
    return replace(found, values=values) if math.isfinite(found.upper) else None


def _from_ends(target: Target, ends: Mapping[Node, tuple[Tensor, Tensor]], method: str) -> Bounded:
    boxes = {n: _extremes(lo, hi) for n, (lo, hi) in ends.items()}
    lo, hi = ends[target.node]
    if target.index is not None:
        boxes[target.node] = Box.between(lo, hi)
        lo, hi = lo[target.index], hi[target.index]
    return Bounded(target, boxes, float(max(lo.abs().max(), hi.abs().max())), method)


def _extremes(lo: Tensor, hi: Tensor) -> Box:
    """The smallest and the largest entry, for the proof."""
    shape = tuple(lo.shape)
    if not lo.numel():
        return Box.filled(flint.fmpq(0), flint.fmpq(0), shape)
    return Box.filled(curves.as_fraction(float(lo.min())), curves.as_fraction(float(hi.max())), shape)


def _products(target: Target) -> int:
    """How many products of intervals the plain reading takes."""
    total = 0
    for node in target.graph.nodes:
        if node.op.name in ("matmul", "linear"):
            total += node.size * node.inputs[0].shape[-1]
        elif node.op.family == "convolution":
            total += node.size * max(x.size for x in node.inputs[:2])
    return total


def at_point(target: Target, point: Mapping[Node, Box]) -> Box:
    """The derivative where every leaf is one number: by exact fractions, or for wide networks by affine forms."""
    if _products(target) <= _WIDE:
        try:
            return read_balls(target.graph, point)[target.node]
        except MissingRule:
            pass
    found = read_affine(target.graph, point)[target.node]
    return Box.between(found.lo, found.hi)


def _fmpq(value: Bound) -> Any:
    return flint.fmpq(value.numerator, value.denominator) if isinstance(value, Fraction) else curves.as_fraction(value)


def _exact_or_up(target: Target, boxes: Mapping[Node, Box], upper: Any) -> Bound:
    """The bound as a fraction if no rounding entered it, else as a float that is not below.

    The backward half is read again at another precision, over values that are widened a little where they may have been
    rounded: a bound that comes out the same owes nothing to any rounding.
    """
    if upper.height_bits() < _LONGEST and _again(target, boxes) == upper:
        return as_fraction(upper)
    return rounded_up(as_fraction(upper))


def _again(target: Target, boxes: Mapping[Node, Box]) -> Any:
    """The bound by a second reading; None where widening leaves no bound."""
    held: dict[Node, Box] = {}
    touched = set[Node]()
    for node in target.graph.nodes:
        if node.role in ("adjoint", "helper"):
            continue
        if any(x in touched for x in node.inputs) or not (node.is_leaf or _keeps_fractions(node)):
            touched.add(node)
        held[node] = boxes[node].widened(_LITTLE) if node in touched else boxes[node]
    try:
        with curves.precision(2 * curves.PRECISION + 37):
            return target.pick(read_balls(target.graph, held)[target.node]).largest()
    except InputError:
        return None


def _keeps_fractions(node: Node) -> bool:
    """Whether the balls domain gives exact ends for exact ends."""
    if node.op.name in _EXACT or not isinstance(node.op, Elementwise):
        return node.op.name not in _ROUNDED
    return len(node.inputs) == 1 and all(p.exactly is not None for p in curves.curve(formula(node)).pieces)


def rounded_up(value: Fraction) -> float:
    """The nearest float that is not below."""
    try:
        found = float(value)
    except OverflowError:
        return math.inf
    return math.nextafter(found, math.inf) if Fraction(found) < value else found
