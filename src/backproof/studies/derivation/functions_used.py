"""The functions of a network on its page: what each is, its derivative, what is taken at a kink, and where it is from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sympy
import torch

from ...document.blocks import Block, Derivation, Equation, Section
from ...document.math import Call, Expr, Function, Sym
from ...domains.definitions import definition
from ...domains.numbers import kernel
from ...domains.spelling import spell
from ...domains.terms import term
from ...graph import Node
from ...ops import Elementwise, derivative

if TYPE_CHECKING:
    from .backward import Backward

__all__ = ["at_kinks", "functions_section"]

_NO_FUNCTIONS = frozenset({"identity", "neg", "square", "sqrt", "root", "rsqrt", "reciprocal", "exp", "log", "cast"})
X = Sym("x")


def functions_section(work: Backward) -> list[Block]:
    """The section, or nothing where the network has no function that needs a word."""
    lines: list[Equation] = []
    for node in _used(work):
        assert isinstance(node.op, Elementwise)
        defined, kinks = definition(node.op, X, node.attrs), at_kinks(node)
        if defined is not None:
            lines.append(Equation(_applied(node, 0), (defined[0],), defined[2]))
        if defined is not None or kinks:
            lines.append(Equation(_applied(node, 1), (defined[1] if defined else _slope(node),), kinks))
    if not lines:
        return []
    return [Section("Functions", (Derivation(tuple(lines)),), "given", "functions")]


def _used(work: Backward) -> list[Node]:
    """One node for each function of one variable and its settings."""
    found: dict[tuple[str, str], Node] = {}
    for node in work.graph.nodes:
        if node not in work.behind or not isinstance(node.op, Elementwise) or node.op.family != "elementwise":
            continue
        if len(node.op.operands) == 1 and node.op.differentiable and node.op.name not in _NO_FUNCTIONS:
            found.setdefault((node.op.name, repr(sorted(node.attrs.items()))), node)
    return list(found.values())


def _applied(node: Node, primes: int) -> Expr:
    return Call(Function(node.op.name, node.op.text or node.op.name, node.op.latex, primes), (X,), node.op.name)


def _slope(node: Node) -> Expr:
    assert isinstance(node.op, Elementwise)
    return spell(derivative(node.op, 0), (term(X),), node.attrs).expr()


def at_kinks(node: Node) -> str:
    """What is taken for the derivative where there is none: "at x = 0, where it has no derivative, 0 is taken"."""
    op = node.op
    if not isinstance(op, Elementwise) or op.kinks is None:
        return ""
    x = sympy.Symbol("x", real=True)
    attrs = {k: v for k, v in node.attrs.items() if v is not None}
    places = sorted({float(r) for kink in op.kinks(x, **attrs) for r in sympy.solve(sympy.nsimplify(kink), x)})
    run = kernel(derivative(op, 0))
    assert run is not None
    taken = [float(run(torch.tensor(place, dtype=torch.float64), **dict(node.attrs))) for place in places]
    said = ", ".join(f"at x = {place:g} {value:g}" for place, value in zip(places, taken, strict=True))
    return f"where it has no derivative: {said} is taken" if said else ""
