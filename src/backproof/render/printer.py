"""What the three formula printers share: where parentheses stand, which sign joins two terms or factors.

The rule is one comparison. Each formula has a level, each place in a formula asks for one, and a formula of
a lower level than its place asks for is put in parentheses. The order of terms and factors is never changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any, ClassVar

from backproof.document.math import (
    Add,
    BigSum,
    Call,
    Cases,
    Div,
    Expr,
    Indicator,
    Matrix,
    Mul,
    Neg,
    Num,
    Partial,
    Pow,
    Rel,
    Sym,
    Transpose,
    Words,
)

from .leaf import Digits
from .notation import negative, number_tree

__all__ = ["RELATIONS", "Level", "Printer", "is_numeric", "is_small", "is_tall"]

RELATIONS = {"=": "=", "<": "<", ">": ">", "<=": "≤", ">=": "≥", "!=": "≠", "approx": "≈"}


class Level(IntEnum):
    """How tightly a formula holds together, from a relation to a single letter."""

    RELATION = 0
    SUM = 1
    LEADING = 2  # a term that may begin with a minus sign: the first of a sum
    TERM = 3
    PRODUCT = 4
    FACTOR = 5
    FRACTION = 6  # a quotient drawn with a bar
    POWER = 7
    ATOM = 8


_SIGNS = {"elementwise": "odot", "convolution": "ast", "correlation": "star"}
"""The signs of the products that are written with one."""

_LEVELS: dict[type[Expr], Level] = {
    Rel: Level.RELATION,
    Add: Level.SUM,
    Cases: Level.SUM,
    Neg: Level.LEADING,
    BigSum: Level.TERM,
    Mul: Level.PRODUCT,
    Pow: Level.POWER,
    Transpose: Level.POWER,
}


class Printer(ABC):
    """A formula printer: subclasses say how a fraction, a power and so on look in their format."""

    flat: ClassVar[bool] = False
    """Whether a quotient is written on one line, a/b."""
    operators: ClassVar[dict[str, str]]
    """How each sign is written: plus, minus, neg, dot, odot, none, thin, prime, and the RELATIONS."""

    def __call__(self, expr: Expr) -> str:
        """Return the formula in this format."""
        return self.show(expr, Level.RELATION)

    def show(self, expr: Expr, within: Level) -> str:
        """Return the formula for a place that asks for a level, in parentheses if it needs them."""
        if self.level(expr) < within:
            return self.fence(self._body(expr, Level.RELATION), (expr,))
        return self._body(expr, within)

    def level(self, expr: Expr) -> Level:
        """Return how tightly a formula holds together in this format."""
        if isinstance(expr, Num):
            return self.level(number_tree(expr))
        if isinstance(expr, Sym):
            return Level.POWER if expr.sup else Level.ATOM
        if isinstance(expr, Div):
            return Level.PRODUCT if self.flat else Level.FRACTION
        if isinstance(expr, Partial):
            return Level.FACTOR if self.flat else Level.FRACTION
        if isinstance(expr, Call):
            return Level.POWER if self.is_radical(expr) or self.is_e_power(expr) else Level.ATOM
        return _LEVELS.get(type(expr), Level.ATOM)

    def is_radical(self, call: Call) -> bool:
        """Return whether a call is written as a square root."""
        return call.function.name == "sqrt" and not call.function.primes and len(call.args) == 1

    def is_e_power(self, call: Call) -> bool:
        """Return whether a call is written as e to a power: an exponential of a small argument."""
        name = call.function.name
        return not self.flat and name == "exp" and not call.function.primes and is_small(call.args)

    def _body(self, expr: Expr, within: Level) -> str:
        method: Callable[[Any, Level], str] = getattr(self, _METHODS[type(expr)])
        return method(expr, within)

    # --- shared shapes ---------------------------------------------------------------------------------

    def print_num(self, number: Num, within: Level) -> str:
        return self.mark(self._body(number_tree(number), within), number)

    def print_add(self, add: Add, within: Level) -> str:
        if not add.terms:
            return self.digits("0")
        first = self.show(add.terms[0], Level.LEADING)
        return self.row([first, *self._signed_terms(add.terms[1:])])

    def _signed_terms(self, terms: Sequence[Expr]) -> list[str]:
        pieces: list[str] = []
        for term in terms:
            pieces += [self.operators["minus" if negative(term) else "plus"], self._size(term)]
        return pieces

    def _size(self, term: Expr) -> str:
        """Return a term without the minus sign that was written before it."""
        if isinstance(term, Neg):
            return self.show(term.arg, Level.TERM)
        if isinstance(term, Num) and isinstance(tree := number_tree(term), Neg):
            return self.mark(self.show(tree.arg, Level.TERM), term)
        return self.show(term, Level.TERM)

    def print_neg(self, neg: Neg, within: Level) -> str:
        return self.row([self.operators["neg"], self.show(neg.arg, Level.TERM)])

    def print_mul(self, mul: Mul, within: Level) -> str:
        if not mul.factors:
            return self.digits("1")
        first = Level.LEADING if within <= Level.LEADING and negative(mul.factors[0]) else Level.FACTOR
        pieces = [self._factor(mul, 0, first)]
        for place in range(1, len(mul.factors)):
            pieces += [self.operators[self._between(mul, place)], self._factor(mul, place, Level.FACTOR)]
        return self.row(pieces)

    def _factor(self, mul: Mul, place: int, within: Level) -> str:
        factor = mul.factors[place]
        last = place == len(mul.factors) - 1
        if isinstance(factor, BigSum) and last and not self.flat:
            return self.show(factor, Level.TERM)
        if isinstance(factor, Mul) and {factor.style, mul.style} == {"", "matrix"}:
            return self.show(factor, Level.PRODUCT)
        return self.show(factor, within)

    def _between(self, mul: Mul, place: int) -> str:
        """Return the name of the sign before a factor."""
        left, right = mul.factors[place - 1], mul.factors[place]
        if mul.style in _SIGNS:
            return _SIGNS[mul.style]
        if self.flat and (isinstance(left, Partial) or isinstance(right, Partial)):
            return "spaced dot"
        if is_numeric(right) and not isinstance(right, Matrix) and not self._is_root(right):
            return "dot"
        if self._begins_with_digit(right):
            return "dot"
        return "none" if self._is_tight(left) and self._is_tight(right) else "thin"

    def _begins_with_digit(self, factor: Expr) -> bool:
        """Return whether it would run into a number before it: 2ˣ, and on one line 3/x."""
        if isinstance(factor, Pow):
            return self._begins_with_digit(factor.base)
        if isinstance(factor, Div) and self.flat:
            return self._begins_with_digit(factor.top)
        return isinstance(factor, (Num, Digits))

    def _is_root(self, factor: Expr) -> bool:
        return isinstance(factor, Call) and self.is_radical(factor)

    def _is_tight(self, factor: Expr) -> bool:
        """Return whether a factor may touch its neighbour: a letter, a number, or a power of one."""
        if isinstance(factor, Pow):
            return self._is_tight(factor.base)
        if isinstance(factor, Num):
            return self.level(factor) == Level.ATOM
        if isinstance(factor, Sym):
            return len(self.name(factor.name)) == 1
        return isinstance(factor, Digits)

    def print_rel(self, rel: Rel, within: Level) -> str:
        sign = self.operators.get(rel.sign) or self.words(rel.sign)
        return self.row([self.show(rel.left, Level.SUM), sign, self.show(rel.right, Level.SUM)])

    def print_digits(self, digits: Digits, within: Level) -> str:
        return self.digits(digits.text)

    def print_words(self, words: Words, within: Level) -> str:
        return self.words(words.text)

    def print_indicator(self, indicator: Indicator, within: Level) -> str:
        return self.fence(self(indicator.relation), (indicator.relation,), "[]")

    def print_transpose(self, transpose: Transpose, within: Level) -> str:
        arg = transpose.arg
        return self.transposed(self._body(arg, Level.ATOM) if isinstance(arg, Sym) else self.show(arg, Level.ATOM))

    def print_call(self, call: Call, within: Level) -> str:
        if self.is_radical(call):
            return self.radical(call.args[0])
        if self.is_e_power(call):
            return self.power(self.print_sym(Sym("e"), within), call.args[0])
        if call.function.name in ("abs", "norm") and len(call.args) == 1 and not call.function.primes:
            return self.fence(self(call.args[0]), call.args, "||" if call.function.name == "abs" else "‖‖")
        listed = [self.show(arg, Level.SUM) for arg in call.args]
        inside = self.row([piece for arg in listed for piece in (self.operators["comma"], arg)][1:])
        return self.applied(self.function(call.function.name, call), self.fence(inside, call.args))

    def print_pow(self, pow_: Pow, within: Level) -> str:
        return self.power(self.show(pow_.base, Level.ATOM), pow_.exponent)

    def tail(self, expr: Expr) -> str:
        """Return the later part of a sum or product that was broken over lines, with its sign in front."""
        if isinstance(expr, Add):
            return self.row(self._signed_terms(expr.terms))
        sign = _SIGNS.get(expr.style, "dot") if isinstance(expr, Mul) else "dot"
        return self.row([self.operators[sign], self.show(expr, Level.TERM)])

    def equals(self, expr: Expr) -> str:
        """Return a step of a chain with its sign of equality in front."""
        return self.row([self.operators["="], self.show(expr, Level.SUM)])

    def mark(self, body: str, leaf: Num | Sym) -> str:
        """Return a leaf with the reference to the quantity that it shows; formats without one do nothing."""
        return body

    # --- what each format draws ------------------------------------------------------------------------

    @abstractmethod
    def row(self, pieces: Sequence[str]) -> str:
        """Return pieces set beside one another."""

    @abstractmethod
    def fence(self, body: str, content: tuple[Expr, ...], marks: str = "()") -> str:
        """Return a formula in parentheses, brackets or bars."""

    @abstractmethod
    def digits(self, text: str) -> str:
        """Return unsigned digits."""

    @abstractmethod
    def words(self, text: str) -> str:
        """Return upright words."""

    @abstractmethod
    def name(self, name: str) -> str:
        """Return a letter or a word as it is shown, to judge its length."""

    @abstractmethod
    def print_sym(self, sym: Sym, within: Level) -> str:
        """Return a named quantity with its scripts and its accent."""

    @abstractmethod
    def function(self, name: str, call: Call) -> str:
        """Return the name of a function with its primes."""

    @abstractmethod
    def applied(self, function: str, arguments: str) -> str:
        """Return a function before its arguments."""

    @abstractmethod
    def radical(self, expr: Expr) -> str:
        """Return a square root."""

    @abstractmethod
    def power(self, base: str, exponent: Expr) -> str:
        """Return a power of a base that is printed already."""

    @abstractmethod
    def transposed(self, base: str) -> str:
        """Return a transposed matrix."""


_METHODS: dict[type[Expr], str] = {
    kind: f"print_{kind.__name__.lower()}"
    for kind in (
        Add, BigSum, Call, Cases, Digits, Div, Indicator, Matrix, Mul, Neg, Num, Partial, Pow, Rel, Sym,
        Transpose, Words,
    )
}  # fmt: skip


def is_numeric(expr: Expr) -> bool:
    """Return whether a formula is made of numbers alone."""
    if isinstance(expr, (Num, Digits)):
        return True
    inner = list(_children(tuple(vars(expr).values())))
    return bool(inner) and all(is_numeric(part) for part in inner)


def _children(value: object) -> Iterator[Expr]:
    if isinstance(value, Expr):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _children(item)


_SIMPLE = (Num, Sym, Neg, Add, Mul, Pow, Digits)


def is_small(args: Sequence[Expr]) -> bool:
    """Return whether a single argument is short and flat enough to stand as an exponent."""
    return len(args) == 1 and _count(args[0]) <= 4


def _count(expr: Expr) -> int:
    """Return the number of letters and numbers, or many where something tall is inside."""
    if not isinstance(expr, _SIMPLE):
        return 99
    if isinstance(expr, Num):
        return 1 if expr.exact is None else _count(number_tree(expr))
    inner = list(_children(tuple(vars(expr).values())))
    return sum(_count(part) for part in inner) if inner else 1


_TALL = (Div, Partial, BigSum, Matrix, Cases)


def is_tall(expr: Expr) -> bool:
    """Return whether a formula is higher than a line, so that parentheses around it must grow."""
    if isinstance(expr, Num):
        return expr.exact is not None and is_tall(number_tree(expr))
    return isinstance(expr, _TALL) or any(is_tall(part) for part in _children(tuple(vars(expr).values())))
