"""How far a function of one variable reaches over an interval: rigorous, and exact where the answer is rational.

A :class:`Curve` is made from a SymPy formula alone. It is cut at its kinks into smooth pieces; on each piece the places
where it turns (the zeros of its derivative) are enclosed by interval Newton steps in Arb. Over [a, b] the function then
lies between its values at a, at b and at the turns in between: sigmoid' over [-3, 3] reaches from sigmoid'(3) to
exactly 1/4, its value at the turn 0, whereas s (1 - s) over an interval of s would give almost 1.

Ends are fractions. What is no fraction (an exponential) is rounded outwards by Arb to one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import flint
import sympy

from ..errors import InputError
from .spans import FUNCTIONS, Span, Unbounded

__all__ = ["PRECISION", "Curve", "X", "as_fraction", "curve", "outwards", "precision", "rational", "rounded"]

X = sympy.Symbol("x", real=True)
Ends = tuple[Any, Any]
Turn = tuple[Any, Any, Any, Any]
PRECISION, _FARTHEST = 128, 20000
_SMALL, _LARGE = flint.arb(2) ** -1000, flint.arb(2) ** 1000
_TRIES, _NARROWEST = 1500, 40


_bits: ContextVar[int] = ContextVar("bits", default=PRECISION)


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Round functions to so many bits inside; whatever comes out the same at two precisions was not rounded."""
    token = _bits.set(bits)
    try:
        yield
    finally:
        _bits.reset(token)


def rational(value: Any) -> Any:
    """A number as the fraction that a person means by it: 0.1 is one tenth, "1/3" a third.

    Raises:
        InputError: it is no finite rational number.
    """
    if isinstance(value, flint.fmpq):
        return value
    if isinstance(value, int):
        return flint.fmpq(value)
    try:
        if isinstance(value, float):
            return flint.fmpq(*Fraction(repr(value)).as_integer_ratio())
        number = sympy.Rational(value)
        return flint.fmpq(int(number.p), int(number.q))
    except (TypeError, ValueError, ZeroDivisionError):
        raise InputError(f"a finite number was expected, not {value!r}") from None


def as_fraction(value: float) -> Any:
    """A float as the binary fraction that it is.

    Raises:
        InputError: it is not finite.
    """
    if not math.isfinite(value):
        raise InputError(f"a finite number was expected, not {value!r}")
    return flint.fmpq(*float(value).as_integer_ratio())


def outwards(span: Span) -> Ends:
    """The ends of an enclosure as fractions; numbers too small to write down are rounded outwards."""
    return _dyadic(span.lo, -1), _dyadic(span.hi, 1)


def _dyadic(end: Any, sign: int) -> Any:
    if _SMALL < abs(end) < _LARGE:
        return end.fmpq()
    mantissa, exponent = (int(v) for v in end.man_exp())
    size = exponent + abs(mantissa).bit_length()
    if mantissa and size > _FARTHEST:
        raise Unbounded(f"a value leaves the range up to 2^{_FARTHEST}")
    if mantissa and exponent < -2 * _FARTHEST:
        tiny = flint.fmpq(1, 1 << _FARTHEST)
        return flint.fmpq(0) if (mantissa > 0) != (sign > 0) else tiny if sign > 0 else -tiny
    return flint.fmpq(mantissa << exponent) if exponent >= 0 else flint.fmpq(mantissa, 1 << -exponent)


def rounded(lo: Any, hi: Any, most: int = 8192) -> Ends:
    """The interval with ends that have outgrown ``most`` bits rounded outwards."""
    if max(lo.height_bits(), hi.height_bits()) <= most:
        return lo, hi
    with flint.ctx.workprec(4 * _bits.get()):
        return outwards(Span.of(lo, hi))


Evaluate = Callable[[Any], Any]


Functions = Mapping[str, Evaluate]
_BALLS: Functions = {name: (lambda x, name=name: getattr(x, name)()) for name in FUNCTIONS}  # type: ignore[misc]


def _evaluator(expr: Any, number: Callable[[Any], Any], functions: Functions = FUNCTIONS) -> Evaluate:
    """The formula as a function over any arithmetic with ``+ * **``; ``number`` makes its constants."""
    if expr == X:
        return lambda x: x
    if not expr.args:
        constant = number(expr)
        return constant if callable(constant) else lambda x: constant
    parts = [_evaluator(a, number, functions) for a in expr.args]
    if isinstance(expr, (sympy.Add, sympy.Mul)):
        return _folded(parts, isinstance(expr, sympy.Add))
    if isinstance(expr, sympy.Pow):
        return _power(parts[0], expr.exp) if expr.exp.is_Rational else _exponential(parts[0], parts[1], functions)
    if type(expr).__name__ in functions:
        return _applied(functions[type(expr).__name__], parts[0])
    raise InputError(f"the balls domain cannot enclose {type(expr).__name__}")


def _applied(function: Evaluate, part: Evaluate) -> Evaluate:
    return lambda x: function(part(x))


def _folded(parts: list[Evaluate], is_sum: bool) -> Evaluate:
    def run(x: Any) -> Any:
        total = parts[0](x)
        for part in parts[1:]:
            total = total + part(x) if is_sum else total * part(x)
        return total

    return run


def _power(base: Evaluate, exponent: Any) -> Evaluate:
    p, q = int(exponent.p), int(exponent.q)
    return lambda x: base(x) ** p if q == 1 else base(x).root(q) ** p


def _exponential(base: Evaluate, exponent: Evaluate, functions: Functions) -> Evaluate:
    """b^x = e^(x ln b), for b > 0."""
    return lambda x: functions["exp"](exponent(x) * functions["log"](base(x)))


def _ball(value: Any) -> Evaluate:
    """A constant as one of Arb's balls, at the precision of the moment."""
    if value is sympy.pi or value is sympy.E:
        make = flint.arb.pi if value is sympy.pi else flint.arb.const_e
        return lambda x: make()
    exact = rational(sympy.Rational(value))
    return lambda x: flint.arb(exact)


def _interval(value: Any) -> Evaluate:
    """A constant as an interval."""
    ball = _ball(value)

    def over(x: Any) -> Span:
        known = ball(x)
        return Span(known, known)

    return over


def _enclosing(expr: Any) -> Evaluate:
    """The formula over intervals."""
    return _evaluator(expr, _interval)


def _at_a_point(expr: Any) -> Callable[[Any], Ends]:
    """The formula at a fraction, over Arb's balls: at one point they lose nothing, and are quicker than intervals."""
    evaluate = _evaluator(expr, _ball, _BALLS)

    def at(point: Any) -> Ends:
        value = evaluate(flint.arb(point))
        if not value.is_finite():
            raise Unbounded("a function has no bound there")
        return _dyadic(value.lower(), -1), _dyadic(value.upper(), 1)

    return at


@dataclass
class _Piece:
    """A smooth piece of a curve between two kinks (None: no end)."""

    lo: Any
    hi: Any
    expr: Any

    def __post_init__(self) -> None:
        self.slope = _neat(sympy.diff(self.expr, X))
        self.over, self.near = _enclosing(self.expr), _at_a_point(self.expr)
        self.exactly = _evaluator(self.expr, rational) if _is_rational(self.expr) else None
        self._turns: dict[int, list[Turn]] = {}

    def at(self, point: Any) -> Ends:
        """The value at a fraction."""
        if self.exactly is not None:
            try:
                value = flint.fmpq(self.exactly(point))
            except ZeroDivisionError:
                raise Unbounded("a function has no bound there") from None
            return value, value
        return self.near(point)

    def turns(self, reach: int) -> list[Turn]:
        """Enclosures (from, to) of the places within ±2^reach where the piece may turn, and its values there."""
        if reach not in self._turns:
            far = flint.fmpq(1 << reach)
            lo = -far if self.lo is None else max(self.lo, -far)
            hi = far if self.hi is None else min(self.hi, far)
            self._turns[reach] = [self._valued(*zero) for zero in _zeros(self.slope, lo, hi)] if lo < hi else []
        return self._turns[reach]

    def _valued(self, place: Span, single: bool) -> Turn:
        exact = _exact_zero(self.slope, place) if single else None
        value = sympy.simplify(self.expr.subs(X, exact)) if exact is not None else None
        ends = outwards(place)
        if value is not None and value.is_Rational:
            return *ends, rational(value), rational(value)
        if exact is not None and exact.is_Rational:
            place = Span.of(rational(exact), rational(exact))
        try:
            return *ends, *outwards(self.over(place))
        except Unbounded:
            return *ends, None, None


def _neat(expr: Any) -> Any:
    """The formula with common factors taken out: over balls, a difference of like terms loses what a product keeps."""
    try:
        return sympy.factor(expr)
    except sympy.PolynomialError:
        return expr


def _zeros(slope: Any, lo: Any, hi: Any) -> Iterator[tuple[Span, bool]]:
    """Intervals that together hold every zero of a smooth function on [lo, hi], each as small as it can be made.

    With each goes whether it certainly holds no more than one.
    """
    if slope == 0:
        return
    g, dg = _enclosing(slope), _enclosing(_neat(sympy.diff(slope, X)))
    waiting, tries = deque([(lo, hi)]), 0  # the widest first
    while waiting:
        a, b = waiting.popleft()
        tries += 1
        place = Span.of(a, b)
        if _avoids_zero(g, place):
            continue
        if _avoids_zero(dg, place):
            root = _newton(g, dg, place)
            if root is not None:
                yield root, True
        elif tries > _TRIES or b - a < flint.fmpq(1, 1 << _NARROWEST):
            yield place, False  # undecided: the function is enclosed on all of it
        else:
            middle = (a + b) / 2
            waiting += [(a, middle), (middle, b)]


def _avoids_zero(f: Evaluate, place: Span) -> bool:
    """Whether a function certainly has no zero there."""
    try:
        return bool(f(place).avoids_zero())
    except Unbounded:
        return False


def _newton(g: Evaluate, dg: Evaluate, place: Span) -> Span | None:
    """The one zero that a strictly monotone function may have there, enclosed; None where it has none."""
    for _ in range(60):
        try:
            smaller: Span | None = (place.middle - g(place.middle) / dg(place)).within(place)
        except Unbounded:
            return place
        if smaller is None or smaller.width >= place.width * 0.9:
            return smaller
        place = smaller
    return place


def _exact_zero(slope: Any, place: Span) -> Any:
    """A zero of the slope in closed form, if the place holds one: a small fraction, or one times pi; else None."""
    if place.width > 1e-6:
        return None
    middle = float(place.middle.lo)
    for unit, size in ((sympy.S.One, flint.arb(1)), (sympy.pi, flint.arb.pi())):
        for q in range(1, 13):
            c = sympy.Rational(round(middle / float(unit) * q), q)
            near = Span(size, size) * Span.of(rational(c), rational(c))
            if near.within(place) is not None and sympy.simplify(slope.subs(X, c * unit)) == 0:
                return c * unit
    return None


def _is_rational(expr: Any) -> bool:
    """Whether the formula gives fractions for fractions."""
    plain = all(a == X or a.is_Rational for a in expr.atoms()) and not expr.atoms(sympy.Function)
    return plain and all(p.exp.is_Integer for p in expr.atoms(sympy.Pow))


def _conditions(expr: Any) -> set[Any]:
    return {
        r for p in expr.atoms(sympy.Piecewise) for _, c in p.args for r in c.atoms(sympy.core.relational.Relational)
    }


def _breaks(expr: Any) -> list[Any]:
    """The fractions at which the formula changes branch."""
    found: set[Any] = set()
    for relation in _conditions(expr):
        gap = sympy.expand(relation.lhs - relation.rhs)
        if gap.is_polynomial(X) and sympy.degree(gap, X) == 1:
            found.add(sympy.Rational(-gap.coeff(X, 0) / gap.coeff(X, 1)))
        elif gap.has(X):
            raise InputError(f"the balls domain cannot enclose a case distinction by {relation}")
    return sorted(found | _edges(expr))


_LIMITED = {sympy.asin: (1, -1), sympy.acos: (1, -1), sympy.atanh: (1, -1), sympy.acosh: (1, -1), sympy.log: (0,)}


def _edges(expr: Any) -> set[Any]:
    """The fractions where a part of the formula begins, ends or has a pole: zeros of a root, a logarithm, a denominator."""
    gaps = [p.base for p in expr.atoms(sympy.Pow) if not (p.exp.is_Integer and p.exp > 0)]
    gaps += [f.args[0] - end for f in expr.atoms(*_LIMITED) for end in _LIMITED[type(f)]]
    found = set[Any]()
    for gap in gaps:
        if gap.has(X) and _is_rational(gap) and gap.is_polynomial(X):
            found.update(root for root in sympy.Poly(gap, X).ground_roots() if root.is_Rational)
    return found


def _branch(expr: Any, point: Any) -> Any:
    """The smooth formula that holds around a point."""

    def chosen(*args: Any) -> Any:
        return next(value for value, test in args if test == True or test.subs(X, point) == True)  # noqa: E712

    return expr.replace(sympy.Piecewise, chosen)


def _value(expr: Any, point: Any) -> Ends | None:
    """The value at one point; None where there is none."""
    value = sympy.simplify(expr.subs(X, point))
    if value.is_Rational:
        return rational(value), rational(value)
    if not value.is_real:
        return None
    return outwards(_enclosing(value)(Span.of(0, 0)))


def _joins(left: Any, right: Any, at: Any, order: int) -> bool:
    """Whether the derivatives of an order of two smooth formulas agree at a fraction."""
    place = sympy.Rational(int(at.p), int(at.q))
    ends = [sympy.diff(expr, X, order).subs(X, place) for expr in (left, right)]
    return all(e.is_finite and e.is_real for e in ends) and sympy.simplify(ends[0] - ends[1]) == 0


class Curve:
    """A function of one variable, given by a SymPy formula in ``curves.X``."""

    def __init__(self, expr: Any) -> None:
        plain = sympy.nsimplify(expr, rational=True) if expr.has(sympy.Float) else expr
        plain = plain.replace(lambda e: isinstance(e, (sympy.Abs, sympy.sign)), lambda e: e.rewrite(sympy.Piecewise))
        breaks = _breaks(plain)
        self.pieces: list[_Piece] = []
        self.values = {rational(b): _value(plain, b) for b in breaks}
        ends = [None, *breaks, None]
        for a, b in pairwise(ends):
            inside = (b - 1 if b is not None else 0) if a is None else a + 1 if b is None else (a + b) / 2
            lo, hi = (None if end is None else rational(end) for end in (a, b))
            self.pieces.append(_Piece(lo, hi, sympy.sympify(_branch(plain, inside))))

    def range(self, a: Any, b: Any) -> Ends:
        """The smallest and the largest value over [a, b], as fractions that certainly enclose them.

        Raises:
            Unbounded: there is no bound.
        """
        with flint.ctx.workprec(_bits.get()):
            known = [self.values[k] for k in self.values if a <= k <= b]
            spans = [span for span in known if span is not None]
            if len(spans) < len(known):
                raise Unbounded("a function has no value there")
            if not (spans and a == b):
                for piece in self.pieces:
                    spans += _over(piece, a, b)
            return min([s[0] for s in spans]), max([s[1] for s in spans])

    def jumps(self, most: int) -> dict[Any, int]:
        """The places where a derivative jumps, and the first of f, f', f'' ... that does (up to so many derivatives)."""
        found = {}
        for left, right in pairwise(self.pieces):
            orders = (k for k in range(most + 1) if not _joins(left.expr, right.expr, left.hi, k))
            order = next(orders, None) if self._holds(left) else 0
            if order is not None:
                found[left.hi] = order
        return found

    def _holds(self, left: _Piece) -> bool:
        """Whether the value at the end of a piece is the piece's own."""
        value = self.values[left.hi]
        try:
            own = left.at(left.hi)
        except Unbounded:
            return False
        return value is not None and value[0] <= own[1] and own[0] <= value[1]

    def highest(self, a: Any, b: Any, sign: int = 1) -> Any:
        """A place in [a, b] where the function is largest (sign 1) or smallest (-1), as a float; for searches only."""
        with flint.ctx.workprec(_bits.get()):
            places = [a, b, (a + b) / 2, *(k for k in self.values if a <= k <= b)]
            for piece in self.pieces:
                places += [(t[0] + t[1]) / 2 for t in piece.turns(_reach(a, b)) if a <= t[0] and t[1] <= b]
            places += [(p + q) / 2 for p, q in pairwise(sorted(places))]
            return max(places, key=lambda p: (sign * self.range(p, p)[0 if sign > 0 else 1], -abs(p)))


_EIGHT = flint.fmpq(8)


def _reach(a: Any, b: Any) -> int:
    far = max(abs(a), abs(b))
    return 4 if far <= _EIGHT else int(far.ceil()).bit_length()


def _over(piece: _Piece, a: Any, b: Any) -> Iterator[Ends]:
    """The values of one piece at the ends of its share of [a, b] and at the turns inside."""
    lo = a if piece.lo is None else max(a, piece.lo)
    hi = b if piece.hi is None else min(b, piece.hi)
    if lo > hi or (lo == hi and a != b):
        return
    yield piece.at(lo)
    if lo == hi:
        return
    yield piece.at(hi)
    for start, end, low, high in piece.turns(_reach(a, b)):
        if start <= hi and end >= lo:
            if low is None:
                raise Unbounded("a function has no bound there")
            yield low, high


def curve(expr: Any) -> Curve:
    """The curve of a formula, made once for each precision."""
    return _curve(expr, _bits.get())


@cache
def _curve(expr: Any, bits: int) -> Curve:
    return Curve(expr)
