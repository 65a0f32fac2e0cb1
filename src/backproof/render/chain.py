"""How a chain left = a = b is broken into lines: at the signs of equality, and a long side at + or at a dot.

The width of a formula is estimated in characters, with a fraction as wide as its wider half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backproof.document.blocks import Equation
from backproof.document.math import Add, Call, Div, Expr, Matrix, Mul, Num, Partial, Pow

from .math_text import text_of
from .notation import number_tree

__all__ = ["Piece", "estimate", "lines"]

Measure = Callable[[Expr], float]


@dataclass(frozen=True)
class Piece:
    """One step of a chain (``start``), or the later part of a step that was too long for its line."""

    expr: Expr
    start: bool = True


def lines(equation: Equation, width: float, measure: Measure | None = None) -> list[list[Piece]]:
    """Return the lines on the right of the left side; each holds as many steps as fit.

    Args:
        equation: the chain.
        width: what a line on the right may take, in characters.
        measure: the width of a formula; :func:`estimate` unless given.
    """
    measure = measure or estimate
    found: list[list[Piece]] = []
    used = width
    for step in equation.steps:
        pieces = _broken(step, width - 3, measure)
        size = measure(pieces[0].expr) + 3
        if len(pieces) > 1 or used + size > width or not found:
            found.append([])
            used = 0
        found[-1].append(pieces[0])
        found += [[piece] for piece in pieces[1:]]
        used = width if len(pieces) > 1 else used + size
    return found


def _broken(step: Expr, width: float, measure: Measure) -> list[Piece]:
    parts = _parts(step)
    if len(parts) < 2 or measure(step) <= width:
        return [Piece(step)]
    groups: list[list[Expr]] = []
    used = 0.0
    for part in parts:
        size = measure(part) + (3 if isinstance(step, Add) else 1)
        if not groups or used + size > width:
            groups.append([])
            used = 0.0
        groups[-1].append(part)
        used += size
    return [Piece(_like(step, group), start=place == 0) for place, group in enumerate(groups)]


def _parts(step: Expr) -> tuple[Expr, ...]:
    return step.terms if isinstance(step, Add) else step.factors if isinstance(step, Mul) else (step,)


def _like(step: Expr, parts: list[Expr]) -> Expr:
    return Mul(tuple(parts), step.style) if isinstance(step, Mul) else Add(tuple(parts))


def estimate(expr: Expr) -> float:
    """Return about how many characters wide a formula is when fractions and scripts are set properly."""
    if isinstance(expr, Num):
        return estimate(number_tree(expr)) if expr.exact else len(text_of(expr))
    if isinstance(expr, (Div, Partial)):
        return max(estimate(expr.top), estimate(expr.bottom)) + (1.5 if isinstance(expr, Partial) else 0.5)
    if isinstance(expr, Pow):
        return estimate(expr.base) + 0.7 * estimate(expr.exponent)
    if isinstance(expr, Matrix):
        columns = zip(*expr.rows, strict=False)
        return sum(2 + max((estimate(entry) for entry in column), default=1) for column in columns) + 1
    if isinstance(expr, (Add, Mul)):
        return sum(estimate(part) for part in _parts(expr)) + _gaps(expr)
    if isinstance(expr, Call):
        return len(expr.function.text or expr.function.name) + 2 + sum(estimate(arg) + 2 for arg in expr.args)
    return 0.9 * len(text_of(expr))


def _gaps(expr: Add | Mul) -> float:
    if isinstance(expr, Add):
        return 3.0 * (len(expr.terms) - 1)
    fences = 2 * sum(isinstance(factor, Add) for factor in expr.factors)
    return (3.0 if expr.style not in ("", "matrix") else 1.0) * (len(expr.factors) - 1) + fences
