"""A constant factor in words: 1/N with what N counts, a sign, a root, a simple fraction."""

from __future__ import annotations

import math
from fractions import Fraction

__all__ = ["factor_words", "is_plain"]


def factor_words(c: float, sizes: dict[int, str]) -> str:
    """Say what a factor is: "a factor 1/10 too much (10 is the size of axis 0 of x)"."""
    sign = "the sign reversed and " if c < 0 else ""
    size = abs(c)
    if c < 0 and abs(size - 1) < 1e-9:
        return "the sign reversed"
    if words := _counted(size, sizes):
        return f"{sign}{words}"
    simple = Fraction(size).limit_denominator(1000)
    if simple and abs(float(simple) - size) <= 1e-9 * size:
        return f"{sign}a factor {simple} too much"
    square = Fraction(size * size).limit_denominator(1000)
    if square and abs(float(square) - size * size) <= 1e-9 * size * size:
        return f"{sign}a factor √({square}) too much"
    return f"{sign}a factor {size:.7g} too much"


def is_plain(c: float, sizes: dict[int, str]) -> bool:
    """Whether a factor is one that people write: a simple fraction, a root, a size."""
    if abs(c) < 1e-12:
        return False
    squares = (Fraction(s).limit_denominator(100) for s in (abs(c), c * c))
    close = any(f and math.isclose(f, s, rel_tol=1e-9) for f, s in zip(squares, (abs(c), c * c), strict=True))
    return close or _counted(abs(c), sizes) is not None


def _counted(size: float, sizes: dict[int, str]) -> str | None:
    for number, what in sizes.items():
        if number > 2 and math.isclose(size, 1 / number, rel_tol=1e-9):
            return f"a factor 1/{number} too much: a mean where a sum belongs ({number} is {what})"
        if number > 2 and math.isclose(size, number, rel_tol=1e-9):
            return f"a factor {number} too much: a sum where a mean belongs, or 1/N forgotten ({number} is {what})"
        if math.isqrt(number) ** 2 != number and math.isclose(size, math.sqrt(number), rel_tol=1e-9):
            return f"a factor √{number} too much ({number} is {what})"
        if math.isqrt(number) ** 2 != number and math.isclose(size, 1 / math.sqrt(number), rel_tol=1e-9):
            return f"a factor 1/√{number} too much ({number} is {what})"
    return None
