"""50-digit floats: the entries domain over mpmath, from the operations' formulas alone.

It shares neither torch's kernels nor float64's rounding with the numbers domain, so it is an independent witness
of every value, and central differences in it are right to twenty digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import mpmath
import sympy
from sympy.printing.pycode import MpmathPrinter

from ..ops import Elementwise, Op
from .entries import Entries

__all__ = ["DIGITS", "compiled", "digits", "exactly"]

DIGITS = 50
context = mpmath.mp.clone()
context.dps = DIGITS


def exactly(value: Any) -> Any:
    """A number as SymPy sees it without rounding: a float is the binary fraction that it is."""
    return sympy.Rational(value) if isinstance(value, float) else value


class _Printer(MpmathPrinter):  # type: ignore[misc]
    """Writes fractions as quotients of mpf numbers: a plain 1/6 would be a float64."""

    def __init__(self) -> None:
        super().__init__({"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True})


@cache
def compiled(op: Op, operands: int, attrs: tuple[tuple[str, Any], ...], mp: Any = context) -> Callable[..., Any]:
    """The operation's formula as a function of the mpmath numbers of a context."""
    assert isinstance(op, Elementwise)
    xs = sympy.symbols(f"x0:{operands}", real=True)
    expr = sympy.sympify(op.formula(*xs, **{key: exactly(value) for key, value in attrs}))
    # every name by itself: lambdify sees only the instance's own attributes, which lack log and erf
    names = {name: getattr(mp, name) for name in dir(mp) if not name.startswith("_")}
    function: Callable[..., Any] = sympy.lambdify(xs, expr, modules=[names], printer=_Printer())
    return function


class _Digits:
    def number(self, value: Any) -> Any:
        if isinstance(value, sympy.Basic):
            return context.mpf(sympy.Float(sympy.N(value, context.dps + 5), context.dps + 5)._mpf_)
        return context.mpf(value)

    def apply(self, op: Op, args: tuple[Any, ...], attrs: Mapping[str, Any]) -> Any:
        try:
            return self.number(compiled(op, len(args), tuple(sorted(attrs.items())))(*args))
        except ZeroDivisionError:
            return context.inf  # a slope without bound, as of sqrt at 0

    def largest(self, values: list[Any], sign: int) -> Any:
        return max(values) if sign > 0 else min(values)

    def where_largest(self, values: list[Any]) -> dict[int, Any]:
        return {values.index(max(values)): self.number(1)}


digits = Entries(_Digits())
