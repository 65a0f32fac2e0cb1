"""The certificate as a proof that a student can follow: one line for each error signal, from the output back."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Any

import flint

from ...document.blocks import Equation
from ...document.math import Expr, Mul, Num, Sym
from ...domains.balls import Box
from ...graph import Graph, Node
from ...ops import Elementwise
from .boxes import Target

__all__ = ["as_fraction", "decimal", "number", "proof_of"]


def as_fraction(value: Any) -> Fraction:
    """A fraction of python-flint as Python's own."""
    return Fraction(int(value.p), int(value.q))


def number(value: Any, sign: int = 1) -> Num:
    """A fraction as a number of a formula: spelled as a fraction where that is short, else in decimals, rounded up (1) or down (-1).

    A numerator of 50 bits and more is a float's, and nothing that one would write as a fraction.
    """
    fraction = value if isinstance(value, Fraction) else as_fraction(value)
    spelled = str(fraction)
    if fraction.denominator > 1 and len(spelled) <= 40 and fraction.numerator.bit_length() < 50:
        return Num(float(fraction), spelled)
    if fraction.denominator == 1 and len(spelled) <= 12:
        return Num(float(fraction))
    return Num(float(fraction), decimal(fraction, sign))


def decimal(fraction: Fraction, sign: int = 1, digits: int = 5) -> str:
    """So many digits, rounded up (1) or down (-1)."""
    way = ROUND_CEILING if sign > 0 else ROUND_FLOOR
    context = Context(prec=digits, rounding=way, Emin=-(10**6), Emax=10**6)
    return f"{context.divide(Decimal(fraction.numerator), Decimal(fraction.denominator)):g}".replace("E", "e")


def proof_of(target: Target, boxes: Mapping[Node, Box]) -> tuple[Equation, ...]:
    """The bounds M(v) on the largest |∂f/∂v|, each from the one before it, back to the derivative in question."""
    chain = [n for n in target.graph.nodes if n.role == "adjoint" and n.of is not target.of and n is not target.node]
    lines = [_line(n, target.graph, boxes) for n in chain]
    last = _line(target.node, target.graph, boxes, target.pick(boxes[target.node]).largest(), target.index)
    return (*lines, last)


def _bound(boxes: Mapping[Node, Box], node: Node) -> Any:
    return boxes[node].largest()


def _line(
    node: Node, graph: Graph, boxes: Mapping[Node, Box], value: Any = None, index: tuple[int, ...] | None = None
) -> Equation:
    """One adjoint: which rule gives its bound, with the numbers put in where they make the whole of it."""
    assert node.of is not None
    total = value if value is not None else _bound(boxes, node)
    origin = _through(node)
    name = node.of.name + (f"[{', '.join(map(str, index))}]" if index else "")
    left = Sym("M", sup=(name,))
    factors, why = _factors(origin, boxes)
    product = flint.fmpq(1)
    for factor in factors:
        product = product * factor
    steps: tuple[Expr, ...] = (number(total),)
    if product == total and len(factors) > 1:
        steps = (Mul(tuple(number(f) for f in factors)), *steps)
    elif index is not None and factors:
        why = f"{why}; of this entry alone"
    return Equation(left, steps, why)


def _through(node: Node) -> Node:
    """The operation behind a change of name or shape."""
    while node.op.name in ("identity", "reshape", "permute", "cast", "expand") and node.inputs:
        node = node.inputs[0]
    return node


def _factors(node: Node, boxes: Mapping[Node, Box]) -> tuple[list[Any], str]:
    """The factors of a bound and the reason, by the operation that makes the adjoint."""
    if node.op.name == "matmul":
        a, b = node.inputs
        terms = a.shape[-1]
        bounds = [_bound(boxes, a), _bound(boxes, b)]
        if terms == 1:
            return (
                bounds,
                f"the error signal, at most {_say(bounds[0])}, times what it meets, at most {_say(bounds[1])}",
            )
        why = f"a sum of {terms} terms, one for each path on: each a weight times the error signal behind it"
        return [flint.fmpq(terms), *bounds], why
    if node.op.name == "mul":
        slope = next((x for x in node.inputs if isinstance(x.op, Elementwise) and x.op.primes), node.inputs[1])
        other = next(x for x in node.inputs if x is not slope) if node.inputs[0] is not node.inputs[1] else slope
        return [_bound(boxes, slope), _bound(boxes, other)], _why_slope(slope, boxes)
    if node.op.name == "add":
        parts = [_say(_bound(boxes, x)) for x in node.inputs]
        return [], f"two ways meet here, and their bounds add up: {' + '.join(parts)}"
    return [], f"by {node.op.name}"


def _why_slope(slope: Node, boxes: Mapping[Node, Box]) -> str:
    if not (isinstance(slope.op, Elementwise) and slope.op.primes):
        return "a product, factor by factor"
    s = boxes[slope.inputs[0]]
    ends = s.distinct()
    lo, hi = min(a for a, _ in ends), max(b for _, b in ends)
    name = (slope.op.text or slope.op.name) + "′"
    return f"{slope.inputs[0].name} lies in [{_say(lo, -1)}, {_say(hi)}], and there |{name}| is at most {_say(_bound(boxes, slope))}"


def _say(value: Any, sign: int = 1) -> str:
    text = str(value)
    return text if len(text) <= 12 else decimal(as_fraction(value), sign)
