"""Functions of one variable applied entry by entry: the activations of torch.nn and the elementary functions.

To add an activation, add one line here: its name, the ATen overload, its formula. Value, derivative,
enclosure and every printed form follow. Write kinks with ``Piecewise`` so that each branch's boundary follows torch's convention
for the derivative there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sympy import (
    Abs,
    Piecewise,
    Rational,
    S,
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atanh,
    ceiling,
    cos,
    cosh,
    erf,
    exp,
    floor,
    log,
    pi,
    sign,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)

from .base import Elementwise, Example, register
from .shapes import same

__all__ = ["unary"]

_SHAPES: tuple[tuple[int, ...], ...] = ((), (7,), (3, 4))


def unary(
    name: str,
    formula: Callable[..., Any],
    aten: str | tuple[str, ...] = (),
    *,
    latex: str = "",
    text: str = "",
    kinks: Callable[..., tuple[Any, ...]] | None = None,
    region: tuple[float, float] = (-3.0, 3.0),
    attrs: dict[str, Any] | None = None,
    tries: tuple[dict[str, Any], ...] = ({},),
    differentiable: bool = True,
    doc: str = "",
) -> Elementwise:
    """Register a function of one variable.

    Args:
        name: its name; the notation defaults to it.
        formula: x -> f(x) as a SymPy expression; attributes come as keywords.
        aten: the overload(s) that are this function.
        latex, text: how it is written.
        kinks: x -> the expressions that vanish where f has no derivative.
        region: where examples are drawn.
        attrs: attributes with their defaults; ``tries`` are settings of them for the law tests.
        differentiable: False for steps such as ``floor``.
    """
    op = Elementwise(
        name=name,
        family="elementwise",
        operands=("x",),
        shape=same,
        attrs=attrs or {},
        aten=(aten,) if isinstance(aten, str) else aten,
        text=text or name,
        latex=latex or rf"\operatorname{{{(text or name).replace('_', chr(92) + '_')}}}",
        formula=formula,
        kinks=kinks,
        region=region,
        differentiable=differentiable,
        examples=tuple(Example((s,), setting) for setting in tries for s in _SHAPES),
        doc=doc,
    )
    register(op)
    return op


def at(*points: Any) -> Callable[..., tuple[Any, ...]]:
    """Kinks at fixed points."""
    return lambda x, **attrs: tuple(x - p for p in points)


def _softplus(x: Any, beta: Any = 1, threshold: Any = 20) -> Any:
    return Piecewise((x, beta * x > threshold), (log(1 + exp(beta * x)) / beta, True))


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + exp(-x))


def _elu(x: Any, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Any:
    return Piecewise((scale * x, x > 0), (scale * alpha * (exp(input_scale * x) - 1), True))


def _gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return x / 2 * (1 + tanh(sqrt(2 / pi) * (x + Rational(44715, 10**6) * x**3)))
    return x / 2 * (1 + erf(x / sqrt(2)))


def _hardtanh(x: Any, min_val: Any = -1, max_val: Any = 1) -> Any:
    return Piecewise((min_val, x <= min_val), (max_val, x >= max_val), (x, True))


def _clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    cases = [] if min is None else [(min, x < min)]
    cases += [] if max is None else [(max, x > max)]
    return Piecewise(*cases, (x, True))


def _clamp_kinks(x: Any, min: Any = None, max: Any = None) -> tuple[Any, ...]:
    return tuple(x - bound for bound in (min, max) if bound is not None)


def _round(x: Any) -> Any:
    down = floor(x)
    gap, half = x - down, S.Half
    even = Piecewise((down, (-1) ** down > 0), (down + 1, True))
    return Piecewise((down, gap < half), (down + 1, gap > half), (even, True))


# --- elementary functions -------------------------------------------------------------------------------------
unary("identity", lambda x: x, "clone.default", text="id", doc="x itself.")
unary("neg", lambda x: -x, "neg.default", text="-", latex="-", doc="-x.")
unary("exp", exp, "exp.default", latex=r"\exp", doc="e to the power of x.")
unary("log", log, "log.default", latex=r"\ln", text="ln", region=(0.1, 4), doc="The natural logarithm.")
unary("log2", lambda x: log(x) / log(2), "log2.default", latex=r"\log_2", region=(0.1, 4))
unary("log10", lambda x: log(x) / log(10), "log10.default", latex=r"\log_{10}", region=(0.1, 4))
unary("log1p", lambda x: log(1 + x), "log1p.default", region=(-0.8, 3), doc="ln(1 + x).")
unary("expm1", lambda x: exp(x) - 1, "expm1.default", doc="e^x - 1.")
unary("sqrt", sqrt, "sqrt.default", latex=r"\sqrt", region=(0.1, 4))
unary(
    "root",
    lambda x: Piecewise((sqrt(x), x > 0), (0, True)),
    text="sqrt",
    latex=r"\sqrt",
    kinks=at(0),
    region=(0.1, 4),
    doc="The root in a standard deviation or a length: at 0 its slope is taken to be 0, as torch.std does.",
)
unary("rsqrt", lambda x: 1 / sqrt(x), "rsqrt.default", region=(0.2, 4), doc="1 / sqrt(x).")
unary("reciprocal", lambda x: 1 / x, "reciprocal.default", region=(0.2, 3), doc="1 / x.")
unary("square", lambda x: x**2, "square.default", doc="x squared.")
unary("sin", sin, "sin.default", latex=r"\sin")
unary("cos", cos, "cos.default", latex=r"\cos")
unary("tan", tan, "tan.default", latex=r"\tan", region=(-1.2, 1.2))
unary("asin", asin, "asin.default", latex=r"\arcsin", text="arcsin", region=(-0.9, 0.9))
unary("acos", acos, "acos.default", latex=r"\arccos", text="arccos", region=(-0.9, 0.9))
unary("atan", atan, "atan.default", latex=r"\arctan", text="arctan")
unary("sinh", sinh, "sinh.default", latex=r"\sinh")
unary("cosh", cosh, "cosh.default", latex=r"\cosh")
unary("tanh", tanh, "tanh.default", latex=r"\tanh")
unary("asinh", asinh, "asinh.default", latex=r"\operatorname{arsinh}", text="arsinh")
unary("acosh", acosh, "acosh.default", latex=r"\operatorname{arcosh}", text="arcosh", region=(1.2, 4))
unary("atanh", atanh, "atanh.default", latex=r"\operatorname{artanh}", text="artanh", region=(-0.9, 0.9))
unary("erf", erf, "erf.default", latex=r"\operatorname{erf}")
unary("abs", lambda x: Piecewise((x, x > 0), (-x, x < 0), (0, True)), (), kinks=at(0))
unary(
    "sign",
    sign,
    ("sign.default", "sgn.default"),
    latex=r"\operatorname{sign}",
    kinks=at(0),
    differentiable=False,
)
unary("floor", floor, "floor.default", differentiable=False)
unary("ceil", ceiling, "ceil.default", differentiable=False)
unary("round", _round, "round.default", differentiable=False)
unary(
    "clamp",
    _clamp,
    "clamp.default",
    kinks=_clamp_kinks,
    attrs={"min": None, "max": None},
    tries=({"min": -1.0, "max": 1.0}, {"min": 0.5}, {"max": 0.25}),
)

# --- activations of torch.nn ------------------------------------------------------------------------------------
unary(
    "sigmoid",
    _sigmoid,
    "sigmoid.default",
    text="σ",
    latex=r"\sigma",
    doc="The logistic function 1/(1 + e^-x).",
)
unary("relu", lambda x: Piecewise((x, x > 0), (0, True)), "relu.default", text="ReLU", kinks=at(0))
unary("relu6", lambda x: _hardtanh(x, 0, 6), "relu6.default", text="ReLU6", kinks=at(0, 6))
unary(
    "leaky_relu",
    lambda x, negative_slope=0.01: Piecewise((x, x > 0), (negative_slope * x, True)),
    "leaky_relu.default",
    text="LeakyReLU",
    kinks=at(0),
    attrs={"negative_slope": 0.01},
    tries=({}, {"negative_slope": 0.2}),
)
unary(
    "elu",
    _elu,
    "elu.default",
    text="ELU",
    kinks=at(0),
    attrs={"alpha": 1, "scale": 1, "input_scale": 1},
    tries=({}, {"alpha": 0.5}),
)
unary(
    "celu",
    lambda x, alpha=1.0: Piecewise((x, x > 0), (alpha * (exp(x / alpha) - 1), True)),
    "celu.default",
    text="CELU",
    kinks=at(0),
    attrs={"alpha": 1.0},
    tries=({}, {"alpha": 0.5}),
)
unary(
    "selu",
    lambda x: _elu(x, Rational("1.6732632423543772848170429916717"), Rational("1.0507009873554804934193349852946")),
    "selu.default",
    text="SELU",
    kinks=at(0),
)
unary(
    "gelu",
    _gelu,
    "gelu.default",
    text="GELU",
    attrs={"approximate": "none"},
    tries=({}, {"approximate": "tanh"}),
)
unary("silu", lambda x: x * _sigmoid(x), "silu.default", text="SiLU", doc="x times the logistic function of x.")
unary("mish", lambda x: x * tanh(log(1 + exp(x))), "mish.default", doc="x tanh(ln(1 + e^x)); Misra 2019.")
unary(
    "softplus",
    _softplus,
    "softplus.default",
    attrs={"beta": 1, "threshold": 20},
    tries=({}, {"beta": 2.0, "threshold": 20.0}),
)
unary("softsign", lambda x: x / (1 + Abs(x)), ())
unary("logsigmoid", lambda x: -log(1 + exp(-x)), "log_sigmoid.default", text="ln σ", latex=r"\ln\sigma")
unary(
    "hardtanh",
    _hardtanh,
    "hardtanh.default",
    attrs={"min_val": -1, "max_val": 1},
    kinks=lambda x, min_val=-1, max_val=1: (x - min_val, x - max_val),
    tries=({}, {"min_val": -0.5, "max_val": 2.0}),
)
unary(
    "hardsigmoid",
    lambda x: Piecewise((0, x <= -3), (1, x >= 3), (x / 6 + S.Half, True)),
    "hardsigmoid.default",
    kinks=at(-3, 3),
    region=(-5, 5),
)
unary(
    "hardswish",
    lambda x: Piecewise((0, x <= -3), (x, x >= 3), (x * (x + 3) / 6, True)),
    "hardswish.default",
    kinks=at(-3, 3),
    region=(-5, 5),
)
unary(
    "hardshrink",
    lambda x, lambd=0.5: Piecewise((x, x > lambd), (x, x < -lambd), (0, True)),
    "hardshrink.default",
    attrs={"lambd": 0.5},
    kinks=lambda x, lambd=0.5: (x - lambd, x + lambd),
)
unary(
    "softshrink",
    lambda x, lambd=0.5: Piecewise((x - lambd, x > lambd), (x + lambd, x < -lambd), (0, True)),
    "softshrink.default",
    attrs={"lambd": 0.5},
    kinks=lambda x, lambd=0.5: (x - lambd, x + lambd),
)
unary(
    "threshold",
    lambda x, threshold=0, value=0: Piecewise((x, x > threshold), (value, True)),
    "threshold.default",
    attrs={"threshold": None, "value": None},
    kinks=lambda x, threshold=0, value=0: (x - threshold,),
    tries=({"threshold": 0.1, "value": 20.0},),
)
