"""More operations entry by entry: remainders, interpolation, sums of exponentials, and steps."""

from __future__ import annotations

from typing import Any

from sympy import Piecewise, S, ceiling, exp, floor, log

from .arithmetic import binary
from .base import Example
from .elementwise import unary

__all__: list[str] = []


def _truncated(x: Any) -> Any:
    return Piecewise((floor(x), x > 0), (ceiling(x), True))


binary(
    "remainder",
    lambda a, b: a - b * floor(a / b),
    ("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor"),
    region=(0.3, 3),
    text="mod",
    latex=r"\operatorname{mod}",
    slopes=(lambda a, b: S.One, lambda a, b: -floor(a / b)),
    doc="a - b floor(a / b): what is left of a, with the sign of b.",
)
binary(
    "fmod",
    lambda a, b: a - b * _truncated(a / b),
    ("fmod.Tensor", "fmod.Scalar"),
    region=(0.3, 3),
    slopes=(lambda a, b: S.One, lambda a, b: -_truncated(a / b)),
    doc="a - b trunc(a / b): what is left of a, with the sign of a.",
)
binary(
    "floor_divide",
    lambda a, b: floor(a / b),
    (),
    region=(0.3, 3),
    differentiable=False,
    doc="floor(a / b).",
)
binary(
    "logaddexp",
    lambda a, b: log(exp(a) + exp(b)),
    ("logaddexp.default",),
    slopes=(lambda a, b: 1 / (1 + exp(b - a)), lambda a, b: 1 / (1 + exp(a - b))),
    doc="ln(e^a + e^b).",
)
binary(
    "lerp",
    lambda a, b, w: a + w * (b - a),
    ("lerp.Tensor", "lerp.Scalar"),
    operands=("a", "b", "w"),
    examples=(Example(((3, 4), (3, 4), (3, 4))), Example(((3, 4), (4,), ())), Example(((), (), ()))),
    doc="a + w (b - a): between a and b.",
)
unary("trunc", _truncated, "trunc.default", differentiable=False, doc="x without its fractional part.")
unary("exp2", lambda x: 2**x, ("exp2.default", "special_exp2.default"), doc="2^x.")
