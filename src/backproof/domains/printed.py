"""What a printed formula is worth: evaluates the formula tree that the page shows, in 50-digit arithmetic.

The tree is read as it is printed, number by number, with the operations' own formulas for its functions, so that
a formula that says something else than was computed is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..document.math import Add, Call, Cases, Div, Expr, Indicator, Mul, Neg, Num, Pow, Rel
from ..ops import OPS, Elementwise, Op, derivative
from .digits import compiled, context

__all__ = ["Unreadable", "operation", "value_of"]

_PRIME = re.compile(r"'(\d?)")


class Unreadable(Exception):
    """The formula has a part that is no number: a symbol, a sum over an index, words."""


def operation(name: str, functions: Mapping[str, Elementwise] | None = None) -> Op | None:
    """The record behind a printed function: one of the table, or one put in, differentiated as its primes say."""
    if name in OPS:
        return OPS[name]
    bare = name.partition("'")[0]
    found = (functions or {}).get(bare) or OPS.get(bare)
    if not isinstance(found, Elementwise):
        return None
    for operand in _PRIME.findall(name):
        found = derivative(found, int(operand or 0))
    return found


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
    op = operation(expr.op)
    if not isinstance(op, Elementwise):
        raise Unreadable(expr.op)
    return context.mpf(compiled(op, len(expr.args), expr.attrs)(*(value_of(a) for a in expr.args)))
