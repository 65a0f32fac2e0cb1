"""A closed form evaluated in 50 digits, its sums and products carried out one term after another."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import mpmath
import sympy
from sympy.core.function import AppliedUndef

__all__ = ["CONTEXT", "MOST_TERMS", "Evaluation", "TooManyTerms", "evaluated", "mpf"]

CONTEXT = mpmath.mp.clone()
CONTEXT.dps = 50
MOST_TERMS = 50_000
"""The most terms of sums and products that are added up for one number."""


class TooManyTerms(ArithmeticError):
    """A sum is too long to be carried out."""


def mpf(value: Any) -> Any:
    """A number with 50 digits; a float means the decimal that it is written as."""
    exact = sympy.Rational(repr(value)) if isinstance(value, float) else sympy.sympify(value)
    if exact.is_Rational:
        return CONTEXT.mpf(int(exact.p)) / int(exact.q)
    return CONTEXT.mpf(str(sympy.N(exact, 50)))


def evaluated(form: Any, values: Mapping[Any, Any]) -> Any:
    """A formula's number; see :class:`Evaluation`."""
    return Evaluation(values)(form)


class Evaluation:
    """The numbers of formulas that may hold sums, products, cases, minima and floors.

    Args:
        values: symbol -> a number.
        called: name -> the formula that a name in a formula, such as d(k), stands for, in ``time``.

    Raises:
        ZeroDivisionError: a formula divides by 0 there.
        TooManyTerms: it holds a sum that is too long to be carried out.
    """

    def __init__(self, values: Mapping[Any, Any], called: Mapping[str, Any] | None = None, time: Any = None) -> None:
        self.given = {k: mpf(v) for k, v in values.items()}
        self.called, self.time = called or {}, time
        self.terms = 0
        self.seen: dict[Any, Any] = {}
        self.partial: dict[Any, list[Any]] = {}
        self.open: dict[Any, tuple[Any, ...]] = {}

    def __call__(self, form: Any) -> Any:
        """The number of a formula."""
        return self.number(form, self.given)

    def number(self, e: Any, at: Mapping[Any, Any]) -> Any:
        """The number of a part; what has been seen with the same values of its symbols is not computed again."""
        if e.is_Symbol:
            return at[e] if e in at else self.number(self.called[e.name], self.given)
        if e.is_Number or e.is_NumberSymbol:
            return mpf(e)
        key = (e, self._values(e, at))
        if key not in self.seen:
            self.seen[key] = self._fresh(e, at)
        return self.seen[key]

    def _values(self, e: Any, at: Mapping[Any, Any], index: Any = None) -> tuple[Any, ...]:
        """The values of the symbols of a part."""
        if e not in self.open:
            self.open[e] = tuple(sorted(e.free_symbols, key=str))
        return tuple(at.get(s) for s in self.open[e] if s != index)

    def _fresh(self, e: Any, at: Mapping[Any, Any]) -> Any:
        if isinstance(e, (sympy.Sum, sympy.Product)):
            return self._repeated(e, at)
        if isinstance(e, AppliedUndef):
            return self.number(self.called[str(e.func)], {**self.given, self.time: self.number(e.args[0], at)})
        if isinstance(e, sympy.Piecewise):
            return next(self.number(value, at) for value, test in e.args if self._true(test, at))
        return _FUNCTIONS[type(e)](*(self.number(x, at) for x in e.args))

    def _true(self, test: Any, at: Mapping[Any, Any]) -> bool:
        if test in (sympy.true, sympy.false):
            return bool(test)
        if isinstance(test, sympy.ITE):
            return self._true(test.args[1 if self._true(test.args[0], at) else 2], at)
        if isinstance(test, (sympy.And, sympy.Or)):
            return (all if isinstance(test, sympy.And) else any)(self._true(x, at) for x in test.args)
        return bool(_RELATIONS[type(test)](self.number(test.lhs, at), self.number(test.rhs, at)))

    def _repeated(self, e: Any, at: Mapping[Any, Any]) -> Any:
        """A sum or a product, term by term on from the longest one with the same terms that is known."""
        (index, low, high) = e.limits[0]
        first, last = int(self.number(low, at)), int(self.number(high, at))
        key = (type(e), e.function, first, self._values(e.function, at, index))
        known = self.partial.setdefault(key, [_EMPTY[type(e)]])
        self.terms += max(0, last - first + 2 - len(known))
        if self.terms > MOST_TERMS:
            raise TooManyTerms(f"more than {MOST_TERMS} terms")
        join = operator.add if isinstance(e, sympy.Sum) else operator.mul
        while len(known) <= last - first + 1:
            term = self.number(e.function, {**at, index: CONTEXT.mpf(first + len(known) - 1)})
            known.append(join(known[-1], term))
        return known[max(0, last - first + 1)]


_EMPTY = {sympy.Sum: CONTEXT.mpf(0), sympy.Product: CONTEXT.mpf(1)}
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    sympy.Add: lambda *x: reduce(operator.add, x),
    sympy.Mul: lambda *x: reduce(operator.mul, x),
    sympy.Pow: lambda a, b: CONTEXT.mpf(1) if b == 0 else a**b,
    sympy.Abs: abs,
    sympy.sign: CONTEXT.sign,
    sympy.Max: max,
    sympy.Min: min,
    sympy.floor: CONTEXT.floor,
    sympy.log: CONTEXT.log,
    sympy.exp: CONTEXT.exp,
}
_RELATIONS: dict[Any, Callable[[Any, Any], bool]] = {
    sympy.StrictLessThan: operator.lt,
    sympy.LessThan: operator.le,
    sympy.StrictGreaterThan: operator.gt,
    sympy.GreaterThan: operator.ge,
}
