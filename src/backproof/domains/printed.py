"""What a printed formula is worth: evaluates the formula tree that the page shows, in 50-digit arithmetic.

The tree is read as it is printed, number by number, with the operations' own formulas for its functions, so that
a formula that says something else than was computed is found.
"""

from __future__ import annotations

from typing import Any

from ..document.math import Add, Call, Cases, Div, Expr, Indicator, Mul, Neg, Num, Pow, Rel
from ..ops import OPS, Elementwise, derivative
from .digits import compiled, context

__all__ = ["Unreadable", "value_of"]


class Unreadable(Exception):
    """The formula has a part that is no number: a symbol, a sum over an index, words."""


def value_of(expr: Expr) -> Any:
    """The number that a formula with all its numbers put in is worth.

    Raises:
        Unreadable: it is not made of numbers alone.
    """
    if isinstance(expr, Num):
        return context.mpf(expr.value)
    if isinstance(expr, Add):
        return sum((value_of(t) for t in expr.terms), context.mpf(0))
    if isinstance(expr, Neg):
        return -value_of(expr.arg)
    if isinstance(expr, Mul):
        product = context.mpf(1)
        for factor in expr.factors:
            product *= value_of(factor)
        return product
    if isinstance(expr, Div):
        return value_of(expr.top) / value_of(expr.bottom)
    if isinstance(expr, Pow):
        return value_of(expr.base) ** value_of(expr.exponent)
    return _special(expr)


def _special(expr: Expr) -> Any:
    if isinstance(expr, Call):
        return _call(expr)
    if isinstance(expr, Indicator):
        return context.mpf(1 if _holds(expr.relation) else 0)
    if isinstance(expr, Cases):
        return next(value_of(v) for v, condition in expr.rows if condition is None or _holds(condition))
    if isinstance(expr, Rel):
        return context.mpf(1 if _holds(expr) else 0)
    raise Unreadable(type(expr).__name__)


def _holds(relation: Expr) -> bool:
    if not isinstance(relation, Rel):
        return bool(value_of(relation) != 0)
    a, b = value_of(relation.left), value_of(relation.right)
    return bool({">": a > b, "<": a < b, ">=": a >= b, "<=": a <= b, "=": a == b, "!=": a != b}[relation.sign])


def _call(expr: Call) -> Any:
    base, primes = expr.op.rstrip("'0123456789") if expr.op not in OPS else expr.op, expr.function.primes
    op = OPS.get(base)
    if not isinstance(op, Elementwise):
        raise Unreadable(expr.op)
    for _ in range(primes):
        op = derivative(op, 0)
    return context.mpf(compiled(op, len(expr.args), expr.attrs)(*(value_of(a) for a in expr.args)))
