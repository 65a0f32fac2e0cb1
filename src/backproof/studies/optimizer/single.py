"""One value's recurrence x_t = f(x_{t-1}, t), solved: sums, products, bounds, a value that stays.

Where f is a x + b(t) with a number a, the past is added up (geometric sums do it where b is a sum of powers). Where the factor
changes with t it becomes a product, carried out where it telescopes. A growth that is cut off at bounds is a minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy
from sympy.core.function import AppliedUndef

from .digits import TooManyTerms, evaluated

__all__ = ["Solved", "T", "decided", "not_negative", "same", "solve_one", "tidy", "turned"]

T = sympy.Symbol("t", integer=True, positive=True)


LONG = 60
"""Formulas with more operations are not simplified: that takes seconds."""


@dataclass(frozen=True)
class Solved:
    """A closed form, how it was found, and the sum that was carried out for it, if any."""

    form: Any
    how: str
    summed: Any = None


def solve_one(formula: Any, x: Any, begin: int, value: Any, numbers: Mapping[Any, Any] | None = None) -> Solved | None:
    """Solve x_t = formula(x_{t-1}, t) with x_begin = value.

    Args:
        formula: of the new value, in the old one and in T.
        x: the old value.
        begin, value: from where on it holds, and the value there.
        numbers: the numbers of the settings, by which a case is chosen where one is.

    Returns:
        The solution; None where none was found.
    """
    if any(s.name.endswith("_old") and s != x for s in formula.free_symbols):
        return None
    first = value if begin else formula.subs({x: value, T: 1})
    if first != 0 and formula.has(x) and same(formula.subs(x, first), first, numbers):
        return Solved(first, "it stays what it is after the first update")
    if isinstance(formula, sympy.Max):
        return _largest(formula, x) if begin == 0 and value == 0 else None
    if formula.has(sympy.Piecewise):
        return _bounded(formula, x, begin, value, numbers or {})
    return _linear(formula, x, begin, value)


def same(a: Any, b: Any, numbers: Mapping[Any, Any] | None = None) -> bool:
    """Whether two formulas are equal: as they stand, or in 50 digits at two places for all their symbols.

    Which case of a formula with cases holds is decided by the settings' ``numbers``.
    """
    gap = a - b
    if gap == 0 or not isinstance(gap, sympy.Basic) or gap.is_number:
        return bool(gap == 0)
    symbols = sympy.sympify(a).free_symbols | sympy.sympify(b).free_symbols
    known = numbers if numbers and gap.has(sympy.Piecewise, sympy.Max, sympy.Min) else {}
    for seed in (3, 7):
        at = {**{s: _drawn(s, seed + i) for i, s in enumerate(sorted(symbols, key=str))}, **known}
        try:
            one, two = (evaluated(_plain(sympy.sympify(f)), at) for f in (a, b))
        except (TooManyTerms, ZeroDivisionError):
            return False
        if abs(one - two) > abs(one) * 1e-40:
            return False
    return True


def _plain(formula: Any) -> Any:
    """A value that stands by its name, d(k), as some function of k."""
    return formula.replace(lambda e: isinstance(e, AppliedUndef), lambda e: 1 / (len(str(e.func)) + 2 + e.args[0]))


def _drawn(symbol: Any, seed: int) -> Any:
    return sympy.Integer(seed + 2) if symbol.is_integer else sympy.Rational(7 * seed + 1, 11 * seed + 13)


# --- a x + b(t) ---------------------------------------------------------------------------------------------------------------
def _linear(formula: Any, x: Any, begin: int, value: Any) -> Solved | None:
    if not formula.has(x):
        return Solved(formula, "it does not depend on what was before")
    slope = sympy.diff(formula, x)
    slope = slope if slope.has(T) else tidy(slope)
    if x in slope.free_symbols or slope.has(sympy.Derivative, sympy.Subs):
        return None
    if slope.has(T):
        return _varying(slope, formula.subs(x, 0), begin, value)
    formula = sympy.expand(formula) if not formula.has(sympy.Abs, sympy.sqrt) else formula
    rest = tidy(formula - slope * x)
    if x in rest.free_symbols:
        return None
    head = value * slope ** (T - begin)
    if rest == 0:
        return Solved(tidy(head), "a geometric sequence")
    return _with_numbers(slope, rest, head, begin)


def _with_numbers(slope: Any, rest: Any, head: Any, begin: int) -> Solved | None:
    """The same factor in every update: a sum, carried out term by term where that is known."""
    clamped = _bounded_sum(rest, begin) if slope == 1 else None
    if clamped is not None:
        return Solved(head + clamped, "a geometric sum up to the bound, then equal steps")
    parts = [_added(term, slope, begin + 1) for term in sympy.Add.make_args(sympy.expand(_powers(rest)))]
    summed = head + _sum(rest, begin, lambda k: slope ** (T - k))
    if any(part is None for part in parts):
        return Solved(summed, "a sum that has no closed form here")
    added = _gathered(parts)
    form = head + added if slope == 1 else _neat(head + added)
    return Solved(form, "adding up all steps" if slope == 1 else "a geometric sum", summed)


def _sum(rest: Any, begin: int, weight: Callable[[Any], Any]) -> Any:
    """The sum of rest(k) weight(k) over k = begin+1..t, with what does not depend on k in front."""
    k = _index(rest, "kiln")
    term = rest.subs(T, k) * weight(k)
    if term.has(sympy.Sum, sympy.Product):
        return sympy.Sum(term, (k, begin + 1, T))
    outside, inside = sympy.factor_terms(term).as_independent(k, as_Add=False)
    return outside * sympy.Sum(inside, (k, begin + 1, T))


def _index(formula: Any, letters: str) -> Any:
    """A letter for the index of a sum or a product that no other one inside it has."""
    every = (sympy.Symbol(letter, integer=True, positive=True) for letter in letters)
    return next(s for s in every if not formula.atoms(sympy.Symbol) & {s})


# --- a factor that changes -----------------------------------------------------------------------------------------------------
def _varying(slope: Any, rest: Any, begin: int, value: Any) -> Solved:
    """x_t = a(t) x_{t-1} + b(t): a product; with b a sum of products, unless b = (1 - a) x* for a fixed point x*."""
    how = "a product of the factors, one for each update"
    if rest == 0:
        from_first = begin and same(value, slope.subs(T, begin))
        start, head = (begin - 1, sympy.Integer(1)) if from_first else (begin, value)
        return Solved(head * _product(slope, start), how)
    still = sympy.simplify(rest / (1 - slope))
    if not still.has(T):
        return Solved(
            still + (value - still) * _product(slope, begin), how + ", on the distance from where it tends to"
        )
    first = value * _product(slope, begin) if value != 0 else 0
    form = first + _sum(rest, begin, lambda k: _product(slope, k))
    if not _product(slope, begin).has(sympy.Product):
        return Solved(form, "a sum; the factors before its terms cancel in pairs")
    return Solved(form, "a sum of products, which has no closed form")


def _product(slope: Any, begin: Any) -> Any:
    """The product of slope(j) over j = begin+1..t, carried out where it is a power or telescopes."""
    fixed, moving = sympy.factor_terms(slope).as_independent(T, as_Add=False)
    top, bottom = sympy.fraction(sympy.together(moving))
    if sympy.simplify(top.subs(T, T + 1) - bottom) == 0:
        return fixed ** (T - begin) * top.subs(T, begin + 1) / bottom
    j = _index(moving, "jpqr")
    return fixed ** (T - begin) * sympy.Product(moving.subs(T, j), (j, begin + 1, T))


# --- bounds --------------------------------------------------------------------------------------------------------------------
def _bounded(formula: Any, x: Any, begin: int, value: Any, numbers: Mapping[Any, Any]) -> Solved | None:
    """A growth a x, cut off below and above: from where it is not below, min(bound, value a^(t - begin))."""
    flat = sympy.piecewise_fold(formula)
    grown = [e for e, _ in flat.args if e.has(x)]
    bounds = sorted((e for e, _ in flat.args if not e.has(x)), key=lambda e: float(e.subs(numbers)))
    if len(grown) != 1 or len(bounds) != 2:
        return None
    low, high = bounds
    slope = sympy.simplify(grown[0] / x)
    if slope.free_symbols & {x, T} or float(slope.subs(numbers)) <= 1:
        return None
    if not _cut(flat, x, low, high, slope, numbers):
        return None
    if begin == 0:
        begin, value = 1, decided(flat.subs({x: value, T: 1}), numbers)
    return Solved(sympy.Min(high, value * slope ** (T - begin)), "it grows until it reaches its bound")


def decided(value: Any, numbers: Mapping[Any, Any]) -> Any:
    """The case of a value with bounds that the settings' numbers lead to."""
    if not isinstance(value, sympy.Piecewise):
        return value
    return next(e for e, test in sympy.piecewise_fold(value).args if test.subs(numbers) == sympy.true)


def _cut(flat: Any, x: Any, low: Any, high: Any, slope: Any, numbers: Mapping[Any, Any]) -> bool:
    """Whether the formula is min(high, max(low, slope x)), tried at numbers on either side of both bounds."""
    a, b, s = (float(e.subs(numbers)) for e in (low, high, slope))
    for at in (a / s / 2, a / s, (a + b) / 2 / s, b / s, 2 * b / s):
        if abs(float(flat.subs(numbers).subs(x, at)) - min(b, max(a, s * at))) > 1e-12 * b:
            return False
    return True


def _bounded_sum(rest: Any, begin: int) -> Any:
    """The sum over k = begin+1..t of c min(M, p r^(k - q)), for r > 1; None for anything else."""
    factor, cut = rest.as_independent(sympy.Min, as_Add=False)
    if not isinstance(cut, sympy.Min) or len(cut.args) != 2 or factor.has(T):
        return None
    bound, grown = sorted(cut.args, key=lambda e: e.has(T))
    powers = [p for p in grown.atoms(sympy.Pow) if p.exp.has(T)]
    if bound.has(T) or len(powers) != 1 or sympy.diff(powers[0].exp, T) != 1:
        return None
    ratio, at = powers[0].base, grown.subs(T, begin + 1)
    free = sympy.floor(sympy.log(bound / at) / sympy.log(ratio)) + 1
    count = sympy.Min(T - begin, free)
    return factor * (at * (ratio**count - 1) / (ratio - 1) + bound * (T - begin - count))


def _largest(formula: Any, x: Any) -> Solved | None:
    """x_t = max(a x_{t-1}, b(t)) from x_0 = 0 is b(t) itself where b(1) >= 0 and b(t) >= a b(t-1)."""
    grown = [part for part in formula.args if part.has(x)]
    fresh = [part for part in formula.args if not part.has(x)]
    if len(grown) != 1 or len(fresh) != 1:
        return None
    gap = fresh[0] - grown[0].subs(x, fresh[0].subs(T, T - 1))
    if not (not_negative(gap) and not_negative(fresh[0].subs(T, 1))):
        return None
    return Solved(fresh[0], "the new value is never the smaller one under a constant gradient")


def not_negative(formula: Any) -> bool:
    """Whether a formula is at least 0 for all rates below 1, decided from the signs of its factors."""
    wide = sympy.factor(sympy.expand(formula))
    rates = {s: 1 / (1 + sympy.Symbol(f"{s.name}_p", positive=True)) for s in wide.free_symbols if _below_one(s.name)}
    return sympy.factor(wide.subs(rates)).is_nonnegative is True


def _below_one(name: str) -> bool:
    return name.startswith(("beta", "alpha", "rho"))


# --- sums of powers ------------------------------------------------------------------------------------------------------------
def _added(term: Any, slope: Any, begin: int) -> Any:
    """The sum over k = begin..t of slope^(t-k) term(k), for term = coefficient · ratio^k; None for anything else."""
    coefficient, power = term.as_independent(T, as_Add=False)
    ratio = sympy.Integer(1)
    for factor in sympy.Mul.make_args(power):
        if factor == 1:
            continue
        exponent = factor.exp if isinstance(factor, sympy.Pow) else None
        if exponent is None or factor.base.has(T) or not sympy.diff(exponent, T).is_number:
            return None
        per = sympy.diff(exponent, T)
        ratio *= factor.base**per
        coefficient *= factor.base ** sympy.expand(exponent - per * T)
    if sympy.simplify(ratio - slope) == 0:
        return coefficient * slope**T * (T - begin + 1)
    return coefficient * (slope ** (T - begin + 1) * ratio**begin - ratio ** (T + 1)) / (slope - ratio)


def _powers(formula: Any) -> Any:
    return sympy.expand(formula, power_exp=False, power_base=True)


def tidy(formula: Any) -> Any:
    """The shorter of the formula as it stands, factored, and simplified."""
    if formula.has(sympy.Product, sympy.Sum, sympy.Min, sympy.Max, AppliedUndef) or formula.count_ops() > LONG:
        return formula
    candidates = [formula, sympy.factor(formula), sympy.simplify(formula)]
    return min(candidates, key=lambda f: (f.count_ops(), len(str(f))))


def _neat(formula: Any) -> Any:
    """A closed form as it is written: common factors in front, each power of t once."""
    best = tidy(formula)
    wide = sympy.factor_terms(sympy.expand(formula))
    return turned(min((best, wide, sympy.factor(formula)), key=lambda f: (f.count_ops(), len(str(f)))))


def turned(formula: Any) -> Any:
    """The formula with 1 - beta in place of beta - 1 in every factor."""
    if isinstance(formula, sympy.Add):
        return sympy.Add(*(turned(term) for term in formula.args))
    sign, factors = sympy.Integer(1), []
    for factor in sympy.Mul.make_args(formula):
        base, exponent = factor.as_base_exp()
        if isinstance(base, sympy.Add) and exponent.is_Integer and base.as_coeff_Add()[0] < 0:
            sign, factor = sign * (-1) ** exponent, (-base) ** exponent
        factors.append(factor)
    return sympy.Mul(sign, *factors)


def _gathered(parts: list[Any]) -> Any:
    """The sum of the parts: what grows with t and what settles, each by itself, with their common factors in front."""
    growing = [p for p in parts if _grows(p)]
    settling = [p for p in parts if not _grows(p)]
    if not growing or not settling:
        return _neat(sum(parts))
    both = _neat(sum(growing)) + _neat(sum(settling))
    return sympy.factor_terms(both, sign=False)


def _grows(part: Any) -> bool:
    return bool(part.has(T) and not any(p.exp.has(T) for p in part.atoms(sympy.Pow)))
