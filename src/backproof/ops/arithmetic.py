"""Operations of two or three operands applied entry by entry with broadcasting, comparisons and pointwise losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sympy import Abs, Eq, Piecewise, S, atan2, exp, log

from .base import Elementwise, Example, Op, register
from .shapes import broadcast

__all__ = ["binary", "comparison", "pointwise_loss"]

_PAIRS: tuple[tuple[tuple[int, ...], ...], ...] = (((), ()), ((3, 4), (3, 4)), ((3, 1), (4,)), ((2, 3), ()))
Formula = Callable[..., Any]


def binary(
    name: str,
    formula: Formula,
    aten: tuple[str, ...],
    *,
    operands: tuple[str, ...] = ("a", "b"),
    family: str = "arithmetic",
    **more: Any,
) -> Elementwise:
    """Register an operation of several operands with broadcasting, by its formula."""
    examples = more.pop("examples", None) or tuple(
        Example(pair, setting) for setting in more.pop("tries", ({},)) for pair in _PAIRS
    )
    latex = more.pop("latex", rf"\operatorname{{{name.replace('_', ' ')}}}")
    text = more.pop("text", name)
    op = Elementwise(
        name=name,
        family=family,
        operands=operands,
        shape=broadcast,
        aten=aten,
        formula=formula,
        examples=examples,
        latex=latex,
        text=text,
        **more,
    )
    register(op)
    return op


def _between(a: Any, b: Any) -> Any:
    return (a + b) / 2


binary("add", lambda a, b: a + b, (), text="+", latex="+")
binary("sub", lambda a, b: a - b, (), text="-", latex="-")
binary("mul", lambda a, b: a * b, ("mul.Tensor", "mul.Scalar"), text="·", latex=r"\cdot")
binary("div", lambda a, b: a / b, ("div.Tensor", "div.Scalar"), text="/", latex="/", region=(0.3, 3))
binary(
    "pow",
    lambda a, b: a**b,
    ("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar"),
    text="^",
    latex="^",
    region=(0.3, 2.5),
    slopes=(
        lambda a, b: Piecewise((0, Eq(b, 0)), (b * a ** (b - 1), True)),
        lambda a, b: Piecewise((0, Eq(a, 0) & (b >= 0)), (a**b * log(a), True)),
    ),
)
binary(
    "maximum",
    lambda a, b: Piecewise((a, a > b), (b, a < b), (_between(a, b), True)),
    ("maximum.default",),
    text="max",
    latex=r"\max",
    kinks=lambda a, b: (a - b,),
)
binary(
    "minimum",
    lambda a, b: Piecewise((a, a < b), (b, a > b), (_between(a, b), True)),
    ("minimum.default",),
    text="min",
    latex=r"\min",
    kinks=lambda a, b: (a - b,),
)
binary("atan2", lambda a, b: atan2(a, b), ("atan2.default",), region=(0.3, 3))
binary("prelu", lambda a, b: Piecewise((a, a > 0), (b * a, True)), (), text="PReLU", kinks=lambda a, b: (a,))


def comparison(name: str, sign: str, relation: Formula, aten: str) -> Op:
    """Register a comparison a R b; its result is a truth value, through which no gradient passes."""
    return binary(
        name,
        relation,
        (f"{aten}.Tensor", f"{aten}.Scalar"),
        text=sign,
        latex=sign,
        dtype="bool",
        differentiable=False,
        family="comparison",
    )


def _truth(yes: Any) -> Any:
    return Piecewise((1, yes), (0, True))


comparison("gt", ">", lambda a, b: _truth(a > b), "gt")
comparison("lt", "<", lambda a, b: _truth(a < b), "lt")
comparison("ge", ">=", lambda a, b: _truth(a >= b), "ge")
comparison("le", "<=", lambda a, b: _truth(a <= b), "le")
comparison("eq", "=", lambda a, b: Piecewise((0, a > b), (0, a < b), (1, True)), "eq")
comparison("ne", "!=", lambda a, b: Piecewise((1, a > b), (1, a < b), (0, True)), "ne")

binary(
    "where",
    lambda c, a, b: Piecewise((a, Abs(c) > 0), (b, True)),
    ("where.self",),
    operands=("c", "a", "b"),
    examples=(Example(((3, 4), (3, 4), (3, 4)), kinds=("bool",)), Example(((4,), (3, 1), ()), kinds=("bool",))),
)
binary(
    "logical_and",
    lambda a, b: a * b,
    ("logical_and.default",),
    dtype="bool",
    text="and",
    family="comparison",
    differentiable=False,
    examples=(Example(((3, 4), (4,)), kinds=("bool", "bool")),),
)
binary(
    "logical_or",
    lambda a, b: a + b - a * b,
    ("logical_or.default",),
    dtype="bool",
    text="or",
    family="comparison",
    differentiable=False,
    examples=(Example(((3, 4), (4,)), kinds=("bool", "bool")),),
)
binary(
    "logical_not",
    lambda a: 1 - a,
    ("logical_not.default",),
    operands=("a",),
    dtype="bool",
    text="not",
    family="comparison",
    differentiable=False,
    examples=(Example(((3, 4),), kinds=("bool",)),),
)


# --- losses: the error of one entry; the reduction is a node of its own ------------------------------------------
def pointwise_loss(name: str, formula: Formula, **more: Any) -> Elementwise:
    """Register the loss of one prediction y against one target t; sums and means are separate operations."""
    kinds = more.pop("kinds", ("float", "float"))
    examples = tuple(
        Example(pair, setting, kinds)
        for setting in more.pop("tries", ({},))
        for pair in (((), ()), ((3, 4), (3, 4)), ((3, 1), (4,)))
    )
    return binary(name, formula, (), operands=("y", "t"), family="loss", examples=examples, **more)


def _huber(y: Any, t: Any, delta: Any = 1) -> Any:
    e = y - t
    return Piecewise((e**2 / 2, Abs(e) < delta), (delta * (Abs(e) - S(delta) / 2), True))


def _smooth_l1(y: Any, t: Any, beta: Any = 1) -> Any:
    e = y - t
    return Piecewise((e**2 / (2 * beta), Abs(e) < beta), (Abs(e) - S(beta) / 2, True)) if beta else Abs(e)


def _xlogx(t: Any, log_target: bool) -> Any:
    return exp(t) * t if log_target else Piecewise((t * log(t), t > 0), (0, True))


def _kl(y: Any, t: Any, log_target: bool = False) -> Any:
    return _xlogx(t, log_target) - (exp(t) if log_target else t) * y


pointwise_loss("squared_error", lambda y, t: (y - t) ** 2, doc="(y - t)^2, the term of the mean squared error.")
pointwise_loss(
    "absolute_error",
    lambda y, t: Piecewise((y - t, y > t), (t - y, y < t), (0, True)),
    kinks=lambda y, t: (y - t,),
    doc="|y - t|.",
)
pointwise_loss("huber_error", _huber, attrs={"delta": 1.0}, tries=({}, {"delta": 0.5}))
pointwise_loss("smooth_l1_error", _smooth_l1, attrs={"beta": 1.0}, tries=({}, {"beta": 0.5}))
pointwise_loss(
    "bernoulli_error",
    lambda y, t: -(t * log(y) + (1 - t) * log(1 - y)),
    kinds=("unit", "unit"),
    region=(0.05, 0.95),
    text="BCE",
    doc="Binary cross-entropy of a probability.",
)
pointwise_loss(
    "logistic_error",
    lambda y, t: log(1 + exp(-y)) + (1 - t) * y,
    kinds=("float", "unit"),
    text="BCElogits",
    doc="Binary cross-entropy of a logit y: ln(1 + e^-y) + (1 - t) y.",
)
pointwise_loss("soft_margin_error", lambda y, t: log(1 + exp(-t * y)), doc="ln(1 + e^(-t y)), t = +1 or -1.")
pointwise_loss(
    "hinge_embedding_error",
    lambda y, t, margin=1: Piecewise((y, t > 0), (Piecewise((0, margin - y < 0), (margin - y, True)), True)),
    attrs={"margin": 1.0},
    kinks=lambda y, t, margin=1: (margin - y,),
)
pointwise_loss(
    "poisson_error",
    lambda y, t, log_input=True, eps=1e-8: exp(y) - t * y if log_input else y - t * log(y + eps),
    attrs={"log_input": True, "eps": 1e-8},
    region=(0.2, 3),
    tries=({}, {"log_input": False}, {"log_input": False, "eps": 0.125}),
)
pointwise_loss("kl_error", _kl, attrs={"log_target": False}, kinds=("float", "unit"), tries=({}, {"log_target": True}))
