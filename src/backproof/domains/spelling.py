"""How operations are written: the forms that people use, where a plain f(x) is not the one.

A rule takes terms and attributes and returns a term; whatever has no rule is written f(x), with primes for
derivatives.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
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
    below = tuple(str(i + 1) for i in op.primes) if primes and len(op.operands) > 1 else ()  # type: ignore[attr-defined]
    shown = {k: v for k, v in attrs.items() if v is not None}
    function = Function(op.name, op.text, op.latex, primes, below)
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


def _clamp(x: Term, min: Any = None, max: Any = None) -> Term:
    """max(min(x, high), low)."""
    low, high = (None if v is None else constant(v) for v in (min, max))
    inner = x if high is None else _named("minimum", x, high)
    return inner if low is None else _named("maximum", inner, low)


def _clamp_slope(x: Term, min: Any = None, max: Any = None) -> Term:
    """[x >= low] [x <= high]: at the ends the slope 1 is taken, as torch does."""
    slope = ONE if min is None else _indicator(">=", x, constant(min))
    return slope if max is None else slope * _indicator("<=", x, constant(max))


def _close(y: Term, t: Term, sign: str, bound: Any) -> Expr:
    return Rel(sign, _named("abs", y - t).expr(), constant(bound).expr())


def _huber(y: Term, t: Term, delta: float = 1.0) -> Term:
    """(y - t)²/2 near 0, δ (|y - t| - δ/2) elsewhere (Huber, 1964)."""
    d = constant(delta)
    far = d * (_named("abs", y - t) - d / TWO)
    return _cases(max(y.rank, t.rank), ((y - t).power(TWO) / TWO, _close(y, t, "<=", delta)), (far, None))


def _huber_slope(y: Term, t: Term, delta: float = 1.0) -> Term:
    far = constant(delta) * _named("sign", y - t)
    return _cases(max(y.rank, t.rank), (y - t, _close(y, t, "<=", delta)), (far, None))


def _smooth(y: Term, t: Term, beta: float = 1.0) -> Term:
    if not beta:
        return _named("abs", y - t)
    near, far = (y - t).power(TWO) / (TWO * constant(beta)), _named("abs", y - t) - constant(beta) / TWO
    return _cases(max(y.rank, t.rank), (near, _close(y, t, "<", beta)), (far, None))


def _smooth_slope(y: Term, t: Term, beta: float = 1.0) -> Term:
    if not beta:
        return _named("sign", y - t)
    near = (y - t) / constant(beta)
    return _cases(max(y.rank, t.rank), (near, _close(y, t, "<", beta)), (_named("sign", y - t), None))


def _softplus(x: Term) -> Term:
    from ..ops import OPS

    return call(OPS["softplus"], (x,), OPS["softplus"].attrs)


def _kl(y: Term, t: Term, log_target: bool = False) -> Term:
    """t (ln t - y), where y is a logarithm too; 0 at t = 0."""
    if log_target:
        return _named("exp", t) * (t - y)
    return _cases(max(y.rank, t.rank), (t * (_named("log", t) - y), _positive(t)), (-(t * y), None))


def _kl_slope(y: Term, t: Term, log_target: bool = False) -> Term:
    if log_target:
        return _named("exp", t) * (t + ONE - y)
    return _cases(max(y.rank, t.rank), (_named("log", t) + ONE - y, _positive(t)), (-y, None))


LOSSES: dict[str, Spelling] = {
    "huber_error": _huber,
    "huber_error'0": _huber_slope,
    "huber_error'1": lambda y, t, delta=1.0: -_huber_slope(y, t, delta),
    "smooth_l1_error": _smooth,
    "smooth_l1_error'0": _smooth_slope,
    "smooth_l1_error'1": lambda y, t, beta=1.0: -_smooth_slope(y, t, beta),
    "bernoulli_error'1": lambda y, t: _named("log", ONE - y) - _named("log", y),
    "logistic_error": lambda y, t: _softplus(y) - t * y,
    "logistic_error'1": lambda y, t: -y,
    "soft_margin_error": lambda y, t: _softplus(-(t * y)),
    "soft_margin_error'0": lambda y, t: -(t * _named("sigmoid", -(t * y))),
    "soft_margin_error'1": lambda y, t: -(y * _named("sigmoid", -(t * y))),
    "hinge_embedding_error": lambda y, t, margin=1.0: _cases(
        max(y.rank, t.rank), (y, _positive(t)), (_named("maximum", ZERO, constant(margin) - y), None)
    ),
    "hinge_embedding_error'0": lambda y, t, margin=1.0: _cases(
        max(y.rank, t.rank), (ONE, _positive(t)), (-_indicator("<=", y, constant(margin)), None)
    ),
    "hinge_embedding_error'1": lambda y, t, margin=1.0: ZERO,
    "poisson_error": lambda y, t, log_input=True, eps=1e-8: (
        _named("exp", y) - t * y if log_input else y - t * _named("log", y + constant(eps))
    ),
    "poisson_error'0": lambda y, t, log_input=True, eps=1e-8: (
        _named("exp", y) - t if log_input else ONE - t / (y + constant(eps))
    ),
    "poisson_error'1": lambda y, t, log_input=True, eps=1e-8: -y if log_input else -_named("log", y + constant(eps)),
    "kl_error": _kl,
    "kl_error'0": lambda y, t, log_target=False: -_named("exp", t) if log_target else -t,
    "kl_error'1": _kl_slope,
}
"""The errors of one entry, and their slopes by the prediction ('0) and by the target ('1)."""

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
    "root": lambda x: _named("sqrt", x),
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
    "root'": lambda x: _cases(x.rank, (ONE / (TWO * _named("sqrt", x)), _positive(x)), (ZERO, None)),
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
    "log2'": lambda x: ONE / (x * _named("log", TWO)),
    "log10'": lambda x: ONE / (x * _named("log", Term(Fraction(10)))),
    "log1p'": lambda x: ONE / (ONE + x),
    "expm1'": lambda x: _named("exp", x),
    "rsqrt'": lambda x: -(ONE / (TWO * x * _named("sqrt", x))),
    "tan'": lambda x: ONE + _named("tan", x).power(TWO),
    "asin'": lambda x: ONE / _named("sqrt", ONE - x.power(TWO)),
    "acos'": lambda x: -(ONE / _named("sqrt", ONE - x.power(TWO))),
    "atan'": lambda x: ONE / (ONE + x.power(TWO)),
    "sinh'": lambda x: _named("cosh", x),
    "cosh'": lambda x: _named("sinh", x),
    "asinh'": lambda x: ONE / _named("sqrt", ONE + x.power(TWO)),
    "acosh'": lambda x: ONE / _named("sqrt", x.power(TWO) - ONE),
    "atanh'": lambda x: ONE / (ONE - x.power(TWO)),
    "exp2": TWO.power,
    "exp2'": lambda x: TWO.power(x) * _named("log", TWO),
    "remainder'0": lambda a, b: ONE,
    "remainder'1": lambda a, b: -_named("floor", a / b),
    "fmod'0": lambda a, b: ONE,
    "fmod'1": lambda a, b: -_named("trunc", a / b),
    "lerp": lambda a, b, w: a + w * (b - a),
    "lerp'0": lambda a, b, w: ONE - w,
    "lerp'1": lambda a, b, w: w,
    "lerp'2": lambda a, b, w: b - a,
    "logaddexp'0": lambda a, b: _named("sigmoid", a - b),
    "logaddexp'1": lambda a, b: _named("sigmoid", b - a),
    "erf'": lambda x: TWO * _named("exp", -x.power(TWO)) / _named("sqrt", term(Num(math.pi, "pi"))),
    "logsigmoid'": lambda x: ONE - _named("sigmoid", x),
    "relu6'": lambda x: _indicator(">", x, ZERO) * _indicator("<", x, Term(Fraction(6))),
    "hardtanh'": lambda x, min_val=-1.0, max_val=1.0: (
        _indicator(">", x, constant(min_val)) * _indicator("<", x, constant(max_val))
    ),
    "hardsigmoid'": lambda x: _indicator("<", _named("abs", x), Term(Fraction(3))) / Term(Fraction(6)),
    "hardshrink'": lambda x, lambd=0.5: _indicator(">", _named("abs", x), constant(lambd)),
    "softshrink'": lambda x, lambd=0.5: _indicator(">", _named("abs", x), constant(lambd)),
    "threshold'": lambda x, threshold=0.0, value=0.0: _indicator(">", x, constant(threshold)),
    "clamp": _clamp,
    "clamp'": _clamp_slope,
    "atan2'0": lambda a, b: b / (a.power(TWO) + b.power(TWO)),
    "atan2'1": lambda a, b: -(a / (a.power(TWO) + b.power(TWO))),
    "prelu": lambda a, b: _cases(max(a.rank, b.rank), (a, _positive(a)), (b * a, None)),
    "prelu'0": lambda a, b: _cases(max(a.rank, b.rank), (ONE, _positive(a)), (b, None)),
    "prelu'1": lambda a, b: _cases(max(a.rank, b.rank), (ZERO, _positive(a)), (a, None)),
    **LOSSES,
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
    if rule is None or not _takes(rule, frozenset(attrs)):
        return call(op, args, attrs)
    return rule(*args, **attrs)


@cache
def _takes(rule: Spelling, names: frozenset[str]) -> bool:
    """Whether a spelling knows all settings of its operation; one that does not would leave something out."""
    return names <= set(inspect.signature(rule).parameters)
