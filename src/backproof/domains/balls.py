"""The balls domain: for every entry of a node an interval that certainly holds it, for all values of the leaves in theirs.

The ends are exact fractions (python-flint's fmpq); the only numbers that are rounded are values of functions such as exp,
by Arb and outwards. Read over the joint graph it is the certificate: the interval of an adjoint bounds the gradient.
A derivative such as sigmoid' is one function with its own exact range (:mod:`.curves`), not a formula in s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import flint
import numpy as np
import sympy

from ..errors import InputError
from ..graph import Graph, Node
from ..ops import Elementwise
from ..ops.shapes import axes_of
from .base import Domain
from .curves import X, curve, outwards, rational, rounded
from .intervals import Box, contracted, each, seen, summed, times
from .spans import Span, Unbounded

__all__ = ["Box", "balls", "read_balls"]

balls = Domain("balls", "for every entry an interval with exact ends that certainly holds it")


# --- functions --------------------------------------------------------------------------------------------------------
def formula(node: Node, fixed: Mapping[int, Any] | None = None) -> Any:
    """The node's formula in ``curves.X``, its first operand, with the other operands put in as numbers."""
    assert isinstance(node.op, Elementwise)
    return _formula(node.op, tuple(sorted(node.attrs.items())), tuple(sorted((fixed or {}).items())))


@cache
def _formula(op: Elementwise, attrs: tuple[tuple[str, Any], ...], fixed: tuple[tuple[int, Any], ...]) -> Any:
    known = {k: sympy.Rational(repr(v)) if isinstance(v, float) else v for k, v in attrs}
    return sympy.sympify(op.formula(X, *(value for i, value in fixed if i), **known))


@balls.rule("elementwise", "arithmetic", "loss")
def _function(node: Node, *x: Box) -> Box:
    try:
        if len(x) == 1:
            return each(curve(formula(node)).range, x[0])
        return each(lambda *ends: _joint_range(node, ends), *x)
    except Unbounded as error:
        where = f" at {node.source}" if node.source else ""
        raise InputError(
            f"{node.op.name} in {node.name}{where} has no bound over the intervals that reach it: {error}. "
            "Take a smaller box, or one that leaves out the singular place"
        ) from None


def _joint_range(node: Node, ends: tuple[Any, ...]) -> tuple[Any, Any]:
    """Two or more operands: all but one known numbers, or the formula over balls."""
    if all(a == b for a, b in zip(ends[2::2], ends[3::2], strict=True)):
        fixed = {i: sympy.Rational(int(q.p), int(q.q)) for i, q in enumerate(ends[::2])}
        return curve(formula(node, fixed)).range(ends[0], ends[1])
    assert isinstance(node.op, Elementwise)
    xs = sympy.symbols(f"x0:{len(ends) // 2}", real=True)
    expr = sympy.sympify(node.op.formula(*xs, **dict(node.attrs)))
    if not expr.is_polynomial(*xs):
        raise InputError(f"the balls domain cannot enclose {node.op.name} of two unknown operands")
    with flint.ctx.workprec(256):
        values = [Span.of(a, b) for a, b in zip(ends[::2], ends[1::2], strict=True)]
        terms = sympy.Poly(sympy.factor_terms(expr), *xs).terms()
        total = Span.of(0, 0)
        for powers, factor in terms:
            product = Span.of(rational(factor), rational(factor))
            for value, power in zip(values, powers, strict=True):
                product = product * value**power
            total = total + product
        return outwards(total)


@balls.rule("identity", "cast", "stop_gradient")
def _same(node: Node, x: Box) -> Box:
    return x


@balls.rule("neg")
def _neg(node: Node, x: Box) -> Box:
    return each(lambda a, b: (-b, -a), x)


@balls.rule("add")
def _add(node: Node, a: Box, b: Box) -> Box:
    return each(lambda p, q, r, s: (p + r, q + s), a, b)


@balls.rule("sub")
def _sub(node: Node, a: Box, b: Box) -> Box:
    return each(lambda p, q, r, s: (p - s, q - r), a, b)


@balls.rule("squared_error")
def _squared(node: Node, y: Box, t: Box) -> Box:
    return each(curve(X**2).range, _sub(node, y, t))


@balls.rule("mul")
def _mul(node: Node, a: Box, b: Box) -> Box:
    return each(curve(X**2).range, a) if node.inputs[0] is node.inputs[1] else each(times, a, b)


@balls.rule("div")
def _div(node: Node, a: Box, b: Box) -> Box:
    return each(times, a, each(_reciprocal, b))


def _reciprocal(a: Any, b: Any) -> tuple[Any, Any]:
    if a <= 0 <= b:
        raise InputError("a quotient whose denominator may be 0 has no bound; take a smaller box")
    return 1 / b, 1 / a


# --- products and sums ------------------------------------------------------------------------------------------------
def _alike(node: Node, a: Box, b: Box) -> Box | None:
    """A product of matrices whose entries are all the same interval; None where they are not."""
    if a.one is None or b.one is None or not a.shape[-1]:
        return None
    lo, hi = times(*a.one, *b.one)
    return Box.filled(*rounded(lo * a.shape[-1], hi * a.shape[-1]), node.shape)


@balls.rule("matmul")
def _matmul(node: Node, a: Box, b: Box) -> Box:
    if (alike := _alike(node, a, b)) is not None:
        return alike
    rows = a if len(a.shape) > 1 else seen(a, lambda v: v[None, :])
    columns = b if len(b.shape) > 1 else seen(b, lambda v: v[:, None])
    wide = contracted(
        seen(rows, lambda v: v[..., :, None, :]), seen(columns, lambda v: np.swapaxes(v, -1, -2)[..., None, :, :])
    )
    return seen(wide, lambda v: v.reshape(node.shape))


@balls.rule("linear")
def _linear(node: Node, x: Box, weight: Box, bias: Box | None = None) -> Box:
    product = _alike(node, x, weight) or contracted(seen(x, lambda v: v[..., None, :]), weight)
    return product if bias is None else _add(node, product, bias)


@balls.rule("outer")
def _outer(node: Node, a: Box, b: Box) -> Box:
    return each(times, seen(a, lambda v: v[:, None]), seen(b, lambda v: v[None, :]))


@balls.rule("sum", "mean")
def _reduced(node: Node, x: Box) -> Box:
    axes = axes_of(node.attrs["dim"], len(x.shape))
    count = math.prod(x.shape[i] for i in axes)
    scale = flint.fmpq(1, max(count, 1)) if node.op.name == "mean" else 1
    return seen(summed(x, axes, scale), lambda v: v.reshape(node.shape))


@balls.rule("sum_to")
def _sum_to(node: Node, x: Box) -> Box:
    pad = len(x.shape) - len(node.shape)
    axes = [*range(pad), *(i + pad for i, n in enumerate(node.shape) if n == 1 and x.shape[i + pad] != 1)]
    return seen(summed(x, tuple(axes)), lambda v: v.reshape(node.shape))


# --- shapes -----------------------------------------------------------------------------------------------------------
@balls.rule("reshape")
def _reshape(node: Node, x: Box) -> Box:
    return seen(x, lambda v: v.reshape(node.shape))


@balls.rule("permute")
def _permute(node: Node, x: Box) -> Box:
    return seen(x, lambda v: v.transpose(node.attrs["dims"]))


@balls.rule("expand")
def _expand(node: Node, x: Box) -> Box:
    return seen(x, lambda v: np.broadcast_to(v, node.shape))


@balls.rule("select")
def _select(node: Node, x: Box) -> Box:
    return seen(x, lambda v: v[_at(node, v.ndim)])


@balls.rule("slice")
def _slice(node: Node, x: Box) -> Box:
    cut = slice(node.attrs["start"], node.attrs["end"], node.attrs["step"])
    return seen(x, lambda v: v[(*[slice(None)] * (node.attrs["dim"] % v.ndim), cut)])


def _at(node: Node, rank: int) -> tuple[Any, ...]:
    before = node.attrs["dim"] % rank
    return (*[slice(None)] * before, node.attrs["index"], ...)


@balls.rule("unselect")
def _unselect(node: Node, x: Box) -> Box:
    return _placed(x, node.shape, _at(node, len(node.shape)))


@balls.rule("unslice")
def _unslice(node: Node, x: Box) -> Box:
    cut = slice(node.attrs["start"], node.attrs["end"], node.attrs["step"])
    place = (*[slice(None)] * (node.attrs["dim"] % len(node.shape)), cut)
    return _placed(x, node.shape, place)


def _placed(entries: Box, shape: tuple[int, ...], place: tuple[Any, ...]) -> Box:
    """Zeros of a shape with entries put into a place."""
    ends = [np.full(shape, flint.fmpq(0), dtype=object) for _ in range(2)]
    for end, value in zip(ends, (entries.lo, entries.hi), strict=True):
        end[place] = value
    return Box(*ends)


def read_balls(graph: Graph, leaves: Mapping[Node, Box]) -> dict[Node, Box]:
    """The box of every node from the boxes of the leaves; constants are the numbers that they are.

    Raises:
        MissingRule: the domain cannot read an operation; all of them are named.
        InputError: something has no bound, or the network is too large.

    Example:
        >>> import torch, backproof as bp
        >>> from backproof.domains.balls import Box, read_balls
        >>> graph = bp.capture(torch.nn.Sigmoid(), torch.zeros(2))
        >>> boxes = read_balls(graph, {graph.nodes[0]: Box.exactly([0, 0], (2,))})
        >>> str(boxes[graph.outputs[0]].lo[0])
        '1/2'
    """
    from . import ball_layers  # noqa: F401  its rules

    found = dict(leaves)
    for node in graph.of_role("constant"):
        if node not in found:
            value = node.value.tolist() if hasattr(node.value, "tolist") else node.value
            found[node] = Box.exactly(value, node.shape)
    return balls.run(graph, found)
