"""SymPy as a witness of a derivation: it differentiates the composed formula, with arbitrary functions left arbitrary."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, reduce
from typing import Any

import numpy as np
import sympy

from ...document.math import Add, Call, Cases, Div, Expr, Indicator, Mul, Neg, Num, Pow, Rel, Sym
from ...domains.entries import Array, Entries
from ...domains.exact import as_exact
from ...graph import Node
from ...ops import OPS, Elementwise, Op
from ...ops.arbitrary import base_of, differentiated
from .backward import Backward

__all__ = ["TooMuch", "difference_is_zero"]

MOST_SCALARS = 60
MOST_OPERATIONS = 1500
MOST_ENTRIES = 3
MOST_COMPOSED = 120


class TooMuch(Exception):
    """The composed formula is too long, or of a kind that SymPy does not compare."""


@cache
def undefined(name: str, primes: int) -> Any:
    """The function f with so many primes; SymPy is told nothing but that its derivative has one more."""

    def fdiff(self: Any, argindex: int = 1) -> Any:
        return undefined(name, primes + 1)(self.args[0])

    return type(name + "'" * primes, (sympy.Function,), {"fdiff": fdiff, "is_real": True, "is_undefined": True})


class _Algebra:
    """SymPy expressions as scalars."""

    def number(self, value: Any) -> Any:
        return as_exact(value)

    def apply(self, op: Op, args: tuple[Any, ...], attrs: Mapping[str, Any]) -> Any:
        found = base_of(op)
        if found is not None:
            return undefined(*found)(args[0])
        if not isinstance(op, Elementwise):
            raise TooMuch(f"'{op.name}' has no formula")
        return sympy.sympify(
            op.formula(*args, **{k: as_exact(v) if isinstance(v, float) else v for k, v in attrs.items()})
        )

    def largest(self, values: list[Any], sign: int) -> Any:
        raise TooMuch("a maximum over entries")

    def where_largest(self, values: list[Any]) -> dict[int, Any]:
        raise TooMuch("a maximum over entries")


def difference_is_zero(work: Backward, wrt: Node) -> tuple[bool, int]:
    """Whether SymPy's derivative of the composed formula and the printed one are the same, and for how many entries.

    Raises:
        TooMuch: it is too long, or has cases.
    """
    if not work.is_expandable or sum(n.size for n in work.program.nodes if not n.is_leaf) > MOST_SCALARS:
        raise TooMuch("the composed formula is too long for SymPy")
    values = _composed(work)
    top = values[work.of.name].reshape(-1)[0]
    if top.has(sympy.Piecewise) or top.count_ops() > MOST_COMPOSED:
        raise TooMuch(
            "the composed formula has cases" if top.has(sympy.Piecewise) else "the composed formula is too long"
        )
    adjoint = work.joint.gradients[wrt]
    assert adjoint is not None
    printed = np.asarray(work.expander.entries(adjoint), dtype=object).reshape(-1)
    symbols = values[wrt.name].reshape(-1)
    places = sorted({round(i) for i in np.linspace(0, wrt.size - 1, min(wrt.size, MOST_ENTRIES))})
    return all(_same(sympy.diff(top, symbols[i]), _value(printed[i], values)) for i in places), len(places)


def _composed(work: Backward) -> dict[str, Array]:
    """Every named quantity as an expression in the leaves' symbols."""
    graph = work.program
    if sum(n.size for n in graph.nodes) > MOST_SCALARS * 4 or sum(n.size for n in work.wrt) > MOST_SCALARS:
        raise TooMuch("the network is too large for SymPy")
    algebra = Entries(_Algebra())
    leaves = {}
    for node in graph.nodes:
        if node.is_leaf and node.role != "constant":
            if not node.is_float:
                raise TooMuch("a given is a label or an index")
            leaves[node] = _symbols(node)
    try:
        values = algebra.run(graph, leaves)
    except TypeError as error:  # the truth of a relation between symbols was asked for
        if "Relational" not in str(error):
            raise
        raise TooMuch("what is chosen depends on the order of the numbers") from None
    return {n.name: values[n] for n in graph.nodes}


def _symbols(node: Node) -> Array:
    out = np.empty(node.shape, dtype=object)
    for place in np.ndindex(*node.shape):
        out[place] = sympy.Symbol("_".join([node.name, *map(str, place)]), real=True)
    return out


def _same(a: Any, b: Any) -> bool:
    """Whether two expressions are the same: their difference expands to 0, or is 0 at random numbers to 30 digits."""
    difference = a - b
    if difference == 0 or (difference.count_ops() <= MOST_OPERATIONS and sympy.expand(difference) == 0):
        return True
    return all(_vanishes(difference, a, seed) for seed in (1, 2))


def _vanishes(difference: Any, scale: Any, seed: int) -> bool:
    """Whether an expression is 0 at random numbers, with the same random function put in for each arbitrary one."""
    random = np.random.default_rng(seed)
    symbols = sorted(difference.free_symbols | scale.free_symbols, key=str)
    numbers = {
        s: sympy.Rational(int(k), 97) for s, k in zip(symbols, random.integers(20, 140, len(symbols)), strict=True)
    }
    value, size = (_concrete(e).subs(numbers).evalf(40) for e in (difference, scale))
    return bool(abs(value) <= sympy.Float(10) ** -25 * max(abs(size), sympy.Float(10) ** -5))


def _concrete(expr: Any) -> Any:
    x = sympy.Dummy("x", real=True)

    def number(name: str) -> Any:
        return sympy.Rational(1 + sum(map(ord, name)) % 7, 5)

    def put(e: Any) -> Any:
        name, primes = type(e).__name__.rstrip("'"), len(type(e).__name__) - len(type(e).__name__.rstrip("'"))
        shape = sympy.sin(number(name) * x) + sympy.exp(x / 4) * number(name + "e")
        return sympy.diff(shape, x, primes).subs(x, e.args[0])

    return expr.replace(lambda e: hasattr(type(e), "is_undefined"), put)


# --- printed formulas as expressions -------------------------------------------------------------------------------------
def _value(expr: Expr, values: Mapping[str, Array]) -> Any:
    def go(e: Expr) -> Any:
        return _value(e, values)

    if isinstance(expr, Num):
        return sympy.sympify(expr.exact) if expr.exact is not None else as_exact(expr.value)
    if isinstance(expr, Sym):
        if expr.ref is None or expr.ref.kind == "gradient":
            raise TooMuch(f"the symbol {expr.name} stands for nothing")
        return values[expr.ref.name][expr.ref.index]
    if isinstance(expr, Add):
        return sympy.Add(*map(go, expr.terms))
    if isinstance(expr, Mul):
        return reduce(lambda a, b: a * b, map(go, expr.factors))
    if isinstance(expr, Neg):
        return -go(expr.arg)
    if isinstance(expr, Div):
        return go(expr.top) / go(expr.bottom)
    if isinstance(expr, Pow):
        return go(expr.base) ** go(expr.exponent)
    if isinstance(expr, Call):
        return _called(expr, [go(a) for a in expr.args])
    if isinstance(expr, (Indicator, Cases, Rel)):
        raise TooMuch("the composed formula has cases")
    raise TooMuch(type(expr).__name__)


def _called(expr: Call, args: list[Any]) -> Any:
    name, primes = expr.op.rstrip("'"), expr.function.primes
    op = OPS.get(name)
    if op is None:
        return undefined(name, primes)(*args)
    if not isinstance(op, Elementwise) or len(args) != 1:
        raise TooMuch(name)
    attrs = {k: as_exact(v) if isinstance(v, float) else v for k, v in expr.attrs}
    return differentiated(op, primes).formula(*args, **attrs)
