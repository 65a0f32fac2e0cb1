"""Terms: formulas under construction, with their rational coefficient kept apart and trivial factors dropped.

Arithmetic on terms writes what a person writes: 1·x is x, x + 0 is x, (1/2)·2·(y - t) is y - t, a double transpose
is none. Nothing else is simplified, and factors keep their order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import sympy

from ..document.math import Add, Call, Div, Expr, Function, Indicator, Mul, Neg, Num, Pow, Rel, Transpose, Words
from ..ops import OPS, Elementwise

__all__ = ["Term", "constant", "term"]


MOST_DIGITS = 10**7
"""The largest denominator of a constant that is written as a fraction or in decimals."""


@dataclass(frozen=True)
class Term:
    """coefficient · factors; no factors is a pure number. ``rank`` > 0 marks a tensor, whose products are ⊙."""

    coefficient: Fraction
    factors: tuple[Expr, ...] = ()
    rank: int = 0

    @property
    def number(self) -> bool:
        """Whether it is a pure number."""
        return not self.factors

    def expr(self) -> Expr:
        """The formula."""
        if self.number:
            return _fraction(self.coefficient)
        body = self.factors[0] if len(self.factors) == 1 else Mul(self.factors, "elementwise" if self.rank else "")
        size = abs(self.coefficient)
        if size.denominator != 1:
            top = body if size.numerator == 1 else _product(_fraction(Fraction(size.numerator)), body)
            body = (
                Div(top, _fraction(Fraction(size.denominator)))
                if _short(self.factors)
                else _product(_fraction(size), body)
            )
        elif size != 1:
            body = _product(_fraction(size), body)
        return Neg(body) if self.coefficient < 0 else body

    def __add__(self, other: Term) -> Term:
        if self.number and other.number:
            return Term(self.coefficient + other.coefficient)
        if self.number and not self.coefficient:
            return other
        if other.number and not other.coefficient:
            return self
        return Term(Fraction(1), (Add((*_terms(self), *_terms(other))),), max(self.rank, other.rank))

    def __sub__(self, other: Term) -> Term:
        return self + (-other)

    def __neg__(self) -> Term:
        return Term(-self.coefficient, self.factors, self.rank)

    def __mul__(self, other: Term) -> Term:
        coefficient = self.coefficient * other.coefficient
        if not coefficient:
            return Term(Fraction(0))
        rank = max(self.rank, other.rank)
        if (self.rank and other.rank) or self.rank == other.rank or self.number or other.number:
            return Term(coefficient, self.factors + other.factors, rank)
        return Term(coefficient, (*self._grouped(), *other._grouped()), 0)._as_rank(rank)

    def __truediv__(self, other: Term) -> Term:
        if other.number and other.coefficient:
            return Term(self.coefficient / other.coefficient, self.factors, self.rank)
        top = Term(self.coefficient, self.factors, self.rank).expr()
        return Term(Fraction(1), (Div(top, other.expr()),), max(self.rank, other.rank))

    def power(self, other: Term) -> Term:
        """self to the power of other."""
        if other.number and other.coefficient == 1:
            return self
        if other.number and other.coefficient == 0:
            return Term(Fraction(1))
        if (
            self.number
            and other.number
            and other.coefficient.denominator == 1
            and abs(other.coefficient) < 16
            and self.coefficient
        ):
            return Term(self.coefficient ** int(other.coefficient))
        return Term(Fraction(1), (Pow(self.expr(), other.expr()),), max(self.rank, other.rank))

    def times_matrix(self, other: Term) -> Term:
        """The matrix product self other."""
        left, right = _matrix_factors(self), _matrix_factors(other)
        return Term(self.coefficient * other.coefficient, (Mul((*left, *right), "matrix"),), 2)

    def transposed(self) -> Term:
        """The transpose."""
        return Term(self.coefficient, tuple(_transposed(f) for f in self.factors), self.rank)

    def _grouped(self) -> tuple[Expr, ...]:
        """The factors as they stand in a product with a quantity of another rank."""
        if self.rank and len(self.factors) > 1:
            return (Mul(self.factors, "elementwise"),)
        return self.factors

    def _as_rank(self, rank: int) -> Term:
        body = self.factors[0] if len(self.factors) == 1 else Mul(self.factors)
        return Term(self.coefficient, (body,), rank)


def _short(factors: tuple[Expr, ...]) -> bool:
    return len(factors) == 1


def _product(number: Expr, body: Expr) -> Expr:
    if isinstance(body, Mul) and body.style == "":
        return Mul((number, *body.factors))
    return Mul((number, body))


def _fraction(value: Fraction) -> Expr:
    if value.denominator == 1:
        return Num(int(value))
    if value.denominator in (10, 100, 1000, 10**4, 10**5, 10**6):
        return Num(float(value))
    size = Div(Num(abs(value.numerator)), Num(value.denominator))
    return Neg(size) if value < 0 else size


def _terms(t: Term) -> tuple[Expr, ...]:
    expr = t.expr()
    return expr.terms if isinstance(expr, Add) else (expr,)


def _matrix_factors(t: Term) -> tuple[Expr, ...]:
    bare = Term(Fraction(1), t.factors, t.rank).expr()
    return bare.factors if isinstance(bare, Mul) and bare.style == "matrix" else (bare,)


def _transposed(e: Expr) -> Expr:
    if isinstance(e, Transpose):
        return e.arg
    if isinstance(e, Mul) and e.style == "matrix":
        return Mul(tuple(_transposed(f) for f in reversed(e.factors)), "matrix")
    if isinstance(e, Mul) and e.style == "elementwise":
        return Mul(tuple(_transposed(f) for f in e.factors), "elementwise")
    if isinstance(e, Add):
        return Add(tuple(_transposed(t) for t in e.terms))
    if isinstance(e, Neg):
        return Neg(_transposed(e.arg))
    if isinstance(e, (Num, Words)):
        return e
    if isinstance(e, Pow):
        return Pow(_transposed(e.base), e.exponent)
    if isinstance(e, Indicator):
        return Indicator(_transposed(e.relation))
    if isinstance(e, Rel):
        return Rel(e.sign, _transposed(e.left), _transposed(e.right))
    if isinstance(e, Call) and isinstance(OPS.get(e.op.rstrip("'")), Elementwise):
        return replace(e, args=tuple(_transposed(a) for a in e.args))
    return Transpose(e)


def term(expr: Expr, rank: int = 0) -> Term:
    """The term of a formula."""
    return Term(Fraction(1), (expr,), rank)


def _decimal(value: float) -> Term:
    """A float: the fraction that its digits are, 1/√n for one over a root, or its digits where these are many."""
    exact = Fraction(repr(value))
    if exact.denominator <= MOST_DIGITS:
        return Term(exact)
    n = round(1 / value**2 if abs(value) < 1 else value**2) if 1e-6 < value < 1e6 else 0
    root = Call(Function("sqrt", "sqrt", r"\sqrt"), (Num(n),), "sqrt")
    if n and value == math.sqrt(n):
        return term(root)
    if n and value in (1 / math.sqrt(n), math.sqrt(1 / n)):
        return term(Div(Num(1), root))
    return Term(Fraction(1 if value > 0 else -1), (Num(abs(value)),))


def constant(value: Any) -> Term:
    """The term of a number: rational where it is one, else the number itself as a factor."""
    if isinstance(value, (bool, int, sympy.Integer)):
        return Term(Fraction(int(value)))
    if isinstance(value, sympy.Rational):
        return Term(Fraction(int(value.p), int(value.q)))
    if isinstance(value, float) and math.isfinite(value):
        return _decimal(value)
    if isinstance(value, float) and math.isinf(value):
        return Term(Fraction(1 if value > 0 else -1), (Num(math.inf),))
    return term(Num(float(value), str(value)))
