"""Interval arithmetic whose ends are rounded outwards by Arb: what a formula is enclosed with.

Arb's own balls (middle and radius) lose the sign of exp(-x²/2) over a wide interval of x; two ends keep it. Every end is
a binary number that Arb has rounded down or up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flint

from ..errors import InputError

__all__ = ["FUNCTIONS", "Span", "Unbounded"]


class Unbounded(InputError):
    """A function has no bound over an interval (1/x around 0), or leaves what can be written down."""


class Span:
    """All reals from ``lo`` to ``hi``, two exact binary numbers (arb without radius).

    Raises:
        Unbounded: an end is not finite.
    """

    __slots__ = ("hi", "lo")

    def __init__(self, lo: Any, hi: Any) -> None:
        self.lo, self.hi = lo.lower(), hi.upper()
        if not (self.lo.is_finite() and self.hi.is_finite()):
            raise Unbounded("a function has no bound there")

    @staticmethod
    def of(lo: Any, hi: Any) -> Span:
        """The interval between two fractions."""
        return Span(flint.arb(lo), flint.arb(hi))

    def __add__(self, other: Span) -> Span:
        return Span(self.lo + other.lo, self.hi + other.hi)

    def __sub__(self, other: Span) -> Span:
        return Span(self.lo - other.hi, self.hi - other.lo)

    def __mul__(self, other: Span) -> Span:
        ends = [a * b for a in (self.lo, self.hi) for b in (other.lo, other.hi)]
        return Span(min(e.lower() for e in ends), max(e.upper() for e in ends))

    def inverse(self) -> Span:
        """1/x."""
        if self.lo <= 0 <= self.hi:
            raise Unbounded("a denominator may be 0 there")
        return Span(1 / self.hi, 1 / self.lo)

    def __truediv__(self, other: Span) -> Span:
        return self * other.inverse()

    def __pow__(self, n: int) -> Span:
        if n < 0:
            return (self**-n).inverse()
        low, high = self.lo**n, self.hi**n
        if n % 2 or self.lo >= 0:
            return Span(low, high)
        if self.hi <= 0:
            return Span(high, low)
        return Span(flint.arb(0), max(low.upper(), high.upper()))

    def root(self, q: int) -> Span:
        """The q-th root of a number from 0 on."""
        if self.lo < 0:
            raise Unbounded("a root of a negative number is needed there")
        return Span(self.lo.root(q), self.hi.root(q))

    @property
    def middle(self) -> Span:
        """The point in the middle, or one beside it."""
        point = ((self.lo + self.hi) / 2).mid()
        return Span(point, point)

    @property
    def width(self) -> Any:
        """How long it is."""
        return (self.hi - self.lo).upper()

    def avoids_zero(self) -> bool:
        """Whether 0 is certainly not in it."""
        return bool(self.lo > 0 or self.hi < 0)

    def within(self, other: Span) -> Span | None:
        """What both have in common; None if nothing."""
        lo, hi = max(self.lo, other.lo), min(self.hi, other.hi)
        return Span(lo, hi) if lo <= hi else None


def _rising(name: str) -> Callable[[Span], Span]:
    return lambda x: Span(getattr(x.lo, name)(), getattr(x.hi, name)())


def _log(x: Span) -> Span:
    if x.lo <= 0:
        raise Unbounded("a logarithm of 0 or less is needed there")
    return Span(x.lo.log(), x.hi.log())


def _waves(name: str) -> Callable[[Span], Span]:
    """A function over Arb's ball around the interval; sine and cosine stay within ±1."""

    def over(x: Span) -> Span:
        ball = getattr(x.lo if x.lo == x.hi else x.lo.union(x.hi), name)()
        limit = flint.arb(1)
        if name == "tan" or (ball.lower() >= -1 and ball.upper() <= 1):
            return Span(ball, ball)
        return Span(max(ball.lower(), -limit), min(ball.upper(), limit))

    return over


def _cosh(x: Span) -> Span:
    ends = x.lo.cosh(), x.hi.cosh()
    low = flint.arb(1) if x.lo <= 0 <= x.hi else min(e.lower() for e in ends)
    return Span(low, max(e.upper() for e in ends))


FUNCTIONS: dict[str, Callable[[Span], Span]] = {
    **{name: _rising(name) for name in ("exp", "sinh", "tanh", "atan", "asin", "asinh", "acosh", "atanh", "erf")},
    **{name: _waves(name) for name in ("sin", "cos", "tan")},
    "acos": lambda x: Span(x.hi.acos(), x.lo.acos()),
    "cosh": _cosh,
    "log": _log,
}
