"""How operations are written: the forms that people use, where a plain f(x) is not the one.

A rule takes terms and attributes and returns a term; whatever has no rule is written f(x), with primes for
derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from ..document.math import Call, Cases, Expr, Function, Indicator, Num, Rel
from ..ops import Elementwise, Op
from .terms import Term, constant, term

__all__ = ["FROM_OUTPUT", "spell"]

Spelling = Callable[..., Term]
ONE, TWO = Term(Fraction(1)), Term(Fraction(2))


def call(op: Op, args: tuple[Term, ...], attrs: Mapping[str, Any]) -> Term:
    """f(args), with a prime for each derivative."""
    primes = len(op.primes) if isinstance(op, Elementwise) else 0
    shown = {k: v for k, v in attrs.items() if v is not None}
    function = Function(op.name, op.text, op.latex, primes)
    made = Call(function, tuple(a.expr() for a in args), op.name, tuple(sorted(shown.items())))
    return term(made, max((a.rank for a in args), default=0))


def _named(name: str, *args: Term) -> Term:
    from ..ops import OPS

    return call(OPS[name], args, {})


def _indicator(sign: str, a: Term, b: Term) -> Term:
    return term(Indicator(Rel(sign, a.expr(), b.expr())), max(a.rank, b.rank))


def _cases(rank: int, *rows: tuple[Term, Expr | None]) -> Term:
    return term(Cases(tuple((value.expr(), condition) for value, condition in rows)), rank)


ZERO = Term(Fraction(0))


def _where(c: Term, a: Term, b: Term) -> Term:
    if b.number and not b.coefficient:
        return _condition(c) * a
    if a.number and not a.coefficient:
        return (ONE - _condition(c)) * b
    return _cases(max(a.rank, b.rank), (a, c.expr()), (b, None))


def _condition(c: Term) -> Term:
    return term(Indicator(c.expr()), c.rank)


def _positive(x: Term) -> Expr:
    return Rel(">", x.expr(), Num(0))


def _share(sign: str, a: Term, b: Term) -> Term:
    """1 where a is the one chosen, 1/2 in a tie, 0 else."""
    half = Term(Fraction(1, 2))
    return _cases(
        max(a.rank, b.rank),
        (ONE, Rel(sign, a.expr(), b.expr())),
        (half, Rel("=", a.expr(), b.expr())),
        (ZERO, None),
    )


_COMPARE = {"gt": ">", "lt": "<", "ge": ">=", "le": "<=", "eq": "=", "ne": "!="}

_SPELL: dict[str, Spelling] = {
    "identity": lambda x: x,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda x: -x,
    "pow": lambda a, b: a.power(b),
    "square": lambda x: x.power(TWO),
    "reciprocal": lambda x: ONE / x,
    "rsqrt": lambda x: ONE / _named("sqrt", x),
    "where": _where,
    "squared_error": lambda y, t: (y - t).power(TWO),
    "squared_error'0": lambda y, t: TWO * (y - t),
    "squared_error'1": lambda y, t: TWO * (t - y),
    "absolute_error": lambda y, t: _named("abs", y - t),
    "absolute_error'0": lambda y, t: _named("sign", y - t),
    "absolute_error'1": lambda y, t: _named("sign", t - y),
    "bernoulli_error": lambda y, t: -(t * _named("log", y) + (ONE - t) * _named("log", ONE - y)),
    "bernoulli_error'0": lambda y, t: (y - t) / (y * (ONE - y)),
    "logistic_error'0": lambda y, t: _named("sigmoid", y) - t,
    "pow'0": lambda a, b: b * a.power(b - ONE),
    "pow'1": lambda a, b: a.power(b) * _named("log", a),
    "square'": lambda x: TWO * x,
    "exp'": lambda x: _named("exp", x),
    "log'": lambda x: ONE / x,
    "sqrt'": lambda x: ONE / (TWO * _named("sqrt", x)),
    "reciprocal'": lambda x: -(ONE / x.power(TWO)),
    "sin'": lambda x: _named("cos", x),
    "cos'": lambda x: -_named("sin", x),
    "tanh'": lambda x: ONE - _named("tanh", x).power(TWO),
    "sigmoid'": lambda x: _named("sigmoid", x) * (ONE - _named("sigmoid", x)),
    "relu'": lambda x: _indicator(">", x, ZERO),
    "maximum'0": lambda a, b: _share(">", a, b),
    "maximum'1": lambda a, b: _share(">", b, a),
    "minimum'0": lambda a, b: _share("<", a, b),
    "minimum'1": lambda a, b: _share("<", b, a),
    "abs'": lambda x: _named("sign", x),
    "leaky_relu'": lambda x, negative_slope=0.01: _cases(x.rank, (ONE, _positive(x)), (constant(negative_slope), None)),
    **{
        name: (lambda a, b, sign=sign: term(Rel(sign, a.expr(), b.expr()), max(a.rank, b.rank)))
        for name, sign in _COMPARE.items()
    },
}

FROM_OUTPUT: dict[str, Callable[[Term], Term]] = {
    "tanh'": lambda y: ONE - y.power(TWO),
    "sigmoid'": lambda y: y * (ONE - y),
    "exp'": lambda y: y,
}
"""Derivatives that people write with the function's own value, where that value has a name."""


def spell(op: Op, args: tuple[Term, ...], attrs: Mapping[str, Any]) -> Term:
    """The written form of an elementwise operation."""
    rule = _SPELL.get(op.name)
    if rule is None:
        return call(op, args, attrs)
    return rule(*args, **attrs)
