"""What a function with a name of its own is, and its derivative: written once on a page, and used by its name after that.

Each definition names its source. Short derivatives (1 - tanh², [s > 0]) are written where they are used instead; those
are in :mod:`.spelling`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..document.math import Call, Cases, Expr, Function, Num, Rel
from ..ops import OPS, Elementwise
from .spelling import spell
from .terms import Term, constant, term

__all__ = ["DEFINITIONS", "Definition", "definition"]

Written = Callable[..., Term]


@dataclass(frozen=True)
class Definition:
    """A function and its derivative, as formulas of x and the operation's settings; ``source`` is where it comes from."""

    value: Written
    slope: Written
    source: str


ONE, HALF, ZERO = Term(Fraction(1)), Term(Fraction(1, 2)), Term(Fraction(0))


def _f(name: str, *x: Term, **attrs: Any) -> Term:
    return spell(OPS[name], x, {**OPS[name].attrs, **attrs})


def _exp(x: Term) -> Term:
    return _f("exp", x)


def _sigma(x: Term) -> Term:
    return _f("sigmoid", x)


def _tanh(x: Term) -> Term:
    return _f("tanh", x)


def _either(first: Term, sign: str, x: Term, bound: Any, second: Term) -> Term:
    condition = Rel(sign, x.expr(), constant(bound).expr())
    return term(Cases(((first.expr(), condition), (second.expr(), None))), x.rank)


def _root(value: float, name: str) -> Term:
    """A square root as it is written, √2."""
    return term(Call(Function("sqrt", "sqrt", r"\sqrt"), (Num(value, name),), "sqrt"))


def _square(x: Term) -> Term:
    return x.power(Term(Fraction(2)))


# --- GELU -------------------------------------------------------------------------------------------------------------
def _normal(x: Term) -> Term:
    """Φ(x) = (1 + erf(x/√2))/2."""
    return HALF * (ONE + _f("erf", x / _root(2, "2")))


def _inner(x: Term) -> Term:
    return _root(2 / math.pi, "2/pi") * (x + constant(0.044715) * x.power(Term(Fraction(3))))


def _gelu(x: Term, approximate: str = "none") -> Term:
    if approximate == "tanh":
        return HALF * x * (ONE + _tanh(_inner(x)))
    return x * _normal(x)


def _gelu_slope(x: Term, approximate: str = "none") -> Term:
    if approximate == "tanh":
        t = _tanh(_inner(x))
        inner = _root(2 / math.pi, "2/pi") * (ONE + constant(3 * 0.044715) * _square(x))
        return HALF * (ONE + t) + HALF * x * (ONE - _square(t)) * inner
    return _normal(x) + x * _exp(-(HALF * _square(x))) / _root(2 * math.pi, "2*pi")


# --- the others -------------------------------------------------------------------------------------------------------
def _elu(x: Term, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Term:
    below = constant(float(scale * alpha)) * (_exp(constant(float(input_scale)) * x) - ONE)
    return _either(constant(float(scale)) * x, ">", x, 0, below)


def _elu_slope(x: Term, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Term:
    below = constant(float(scale * alpha * input_scale)) * _exp(constant(float(input_scale)) * x)
    return _either(constant(float(scale)), ">", x, 0, below)


_ALPHA, _LAMBDA = 1.6732632423543772, 1.0507009873554805


def _mish_slope(x: Term) -> Term:
    t = _tanh(_f("softplus", x))
    return t + x * _sigma(x) * (ONE - _square(t))


def _hard(x: Term, low: Term, middle: Term, high: Term, at: tuple[float, float]) -> Term:
    rows: tuple[tuple[Expr, Expr | None], ...] = (
        (low.expr(), Rel("<=", x.expr(), constant(at[0]).expr())),
        (middle.expr(), Rel("<", x.expr(), constant(at[1]).expr())),
        (high.expr(), None),
    )
    return term(Cases(rows), x.rank)


def _softplus(x: Term, beta: float = 1.0, threshold: float = 20.0) -> Term:
    scaled = constant(float(beta)) * x
    return _f("log", ONE + _exp(scaled)) / constant(float(beta))


DEFINITIONS: dict[str, Definition] = {
    "sigmoid": Definition(lambda x: ONE / (ONE + _exp(-x)), lambda x: _sigma(x) * (ONE - _sigma(x)),
                          "the logistic function; Bishop, Pattern Recognition and Machine Learning (2006), eq. 4.88"),
    "tanh": Definition(lambda x: (_exp(x) - _exp(-x)) / (_exp(x) + _exp(-x)), lambda x: ONE - _square(_tanh(x)),
                       "the hyperbolic tangent"),
    "relu": Definition(lambda x: _f("maximum", ZERO, x), lambda x: spell_slope("relu", x),
                       "Nair and Hinton, Rectified linear units improve restricted Boltzmann machines (2010)"),
    "leaky_relu": Definition(
        lambda x, negative_slope=0.01: _either(x, ">", x, 0, constant(float(negative_slope)) * x),
        lambda x, negative_slope=0.01: _either(ONE, ">", x, 0, constant(float(negative_slope))),
        "Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic models (2013)"),
    "gelu": Definition(_gelu, _gelu_slope, "Hendrycks and Gimpel, Gaussian error linear units (2016)"),
    "silu": Definition(lambda x: x * _sigma(x), lambda x: _sigma(x) * (ONE + x * (ONE - _sigma(x))),
                       "Elfwing, Uchibe and Doya, Sigmoid-weighted linear units (2018)"),
    "mish": Definition(lambda x: x * _tanh(_f("softplus", x)), _mish_slope, "Misra, Mish (2019)"),
    "softplus": Definition(_softplus, lambda x, beta=1.0, threshold=20.0: _sigma(constant(float(beta)) * x),
                           "Dugas et al., Incorporating second-order functional knowledge (2001)"),
    "elu": Definition(_elu, _elu_slope, "Clevert, Unterthiner and Hochreiter, Exponential linear units (2016)"),
    "celu": Definition(
        lambda x, alpha=1.0: _either(x, ">", x, 0, constant(float(alpha)) * (_exp(x / constant(float(alpha))) - ONE)),
        lambda x, alpha=1.0: _either(ONE, ">", x, 0, _exp(x / constant(float(alpha)))),
        "Barron, Continuously differentiable exponential linear units (2017)"),
    "selu": Definition(lambda x: _elu(x, _ALPHA, _LAMBDA), lambda x: _elu_slope(x, _ALPHA, _LAMBDA),
                       "Klambauer et al., Self-normalizing neural networks (2017)"),
    "hardswish": Definition(
        lambda x: _hard(x, ZERO, x * (x + constant(3)) / constant(6), x, (-3, 3)),
        lambda x: _hard(x, ZERO, x / constant(3) + HALF, ONE, (-3, 3)),
        "Howard et al., Searching for MobileNetV3 (2019)"),
    "softsign": Definition(lambda x: x / (ONE + _f("abs", x)), lambda x: ONE / _square(ONE + _f("abs", x)), "softsign"),
}  # fmt: skip


def spell_slope(name: str, x: Term) -> Term:
    """The derivative of an operation, as it is written where it is used."""
    from ..ops import derivative

    op = OPS[name]
    assert isinstance(op, Elementwise)
    return spell(derivative(op, 0), (x,), {})


def definition(op: Elementwise, x: Expr, attrs: Mapping[str, Any]) -> tuple[Expr, Expr, str] | None:
    """f(x) and f'(x) written out, and the source; None for a function that needs no definition."""
    found = DEFINITIONS.get(op.name)
    if found is None:
        return None
    given = {k: v for k, v in attrs.items() if v is not None}
    return found.value(term(x), **given).expr(), found.slope(term(x), **given).expr(), found.source
