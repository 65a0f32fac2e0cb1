"""The functions of a network on its page: what each is, its derivative, what is taken at a kink, and where it is from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sympy
import torch

from ...document.blocks import Block, Part, Parts, Section, Table
from ...document.math import Call, Expr, Function, Num, Rel, Sym
from ...domains.definitions import definition
from ...domains.numbers import kernel
from ...domains.spelling import spell
from ...domains.terms import term
from ...graph import Node
from ...ops import Elementwise, derivative

if TYPE_CHECKING:
    from .backward import Backward

__all__ = ["at_kinks", "functions_section"]

_NO_FUNCTIONS = frozenset({"identity", "neg", "square", "sqrt", "rsqrt", "reciprocal", "exp", "log", "cast"})
X = Sym("x")


def functions_section(work: Backward) -> list[Block]:
    """The section, or nothing where the network has no function that needs a word."""
    rows = []
    for node in _used(work):
        assert isinstance(node.op, Elementwise)
        defined = definition(node.op, X, node.attrs)
        kinks = at_kinks(node)
        if defined is None and not kinks:
            continue
        value, slope, source = defined or (None, _slope(node), "")
        rows.append((_applied(node, 0), value, _applied(node, 1), slope, kinks or None, source))
    if not rows:
        return []
    table = Table(
        (("function",), ("is",), ("derivative",), ("is",), ("where it has none",), ("source",)), tuple(rows),
        "The functions of this network, entry by entry",
    )  # fmt: skip
    return [Section("Functions", (table,), "given", "functions")]


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


def at_kinks(node: Node) -> Parts:
    """What is taken for the derivative where there is none: "at x = 0: 0"."""
    op = node.op
    if not isinstance(op, Elementwise) or op.kinks is None:
        return ()
    x = sympy.Symbol("x", real=True)
    attrs = {k: v for k, v in node.attrs.items() if v is not None}
    places = sorted({float(r) for kink in op.kinks(x, **attrs) for r in sympy.solve(sympy.nsimplify(kink), x)})
    run = kernel(derivative(op, 0))
    assert run is not None
    parts: list[Part] = []
    for place in places:
        value = float(run(torch.tensor(place, dtype=torch.float64), **dict(node.attrs)))
        parts += [", " if parts else "", "at ", Rel("=", X, _number(place)), " ", _number(value), " is taken"]
    return tuple(p for p in parts if p != "")


def _number(value: float) -> Num:
    return Num(int(value)) if value.is_integer() else Num(value)
