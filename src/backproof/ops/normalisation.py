"""Normalisation: entries made to have mean 0 and variance 1, then scaled and shifted.

Mean and variance are operands. In training they are nodes of their own, computed from the batch, so that the gradient flows
through them as in Ioffe and Szegedy (2015), section 3; in evaluation they are the running statistics.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from .base import Attrs, Example, Op, Shape, register
from .shapes import broadcast

__all__: list[str] = []


def _by_channel(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    x, rest = shapes[0], shapes[1:]
    if len(x) < 2 or any(s != (x[1],) for s in rest):
        raise InputError(f"batch norm of an input of shape {list(x)} takes vectors with one entry per channel")
    return x


def _as_wide(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    if broadcast(shapes, attrs) != shapes[0]:
        raise InputError("the mean, variance, weight and bias of a normalisation may not be wider than its input")
    return shapes[0]


_KINDS = ("float", "float", "positive", "float", "float")
_BARE = ("float", "float", "positive", "none", "none")

register(
    Op(
        "batch_norm",
        "normalisation",
        ("x", "mean", "var", "weight?", "bias?"),
        _by_channel,
        attrs={"eps": 1e-5, "training": False},
        examples=(
            Example(((4, 3), (3,), (3,), (3,), (3,)), {}, _KINDS),
            Example(((2, 2, 3), (2,), (2,), (), ()), {"eps": 0.01}, _BARE),
            Example(((2, 3, 2, 2), (3,), (3,), (3,), (3,)), {}, _KINDS),
            Example(((1, 2, 1, 2, 2), (2,), (2,), (2,), (2,)), {}, _KINDS),
        ),
        text="BN",
        latex=r"\operatorname{BN}",
        doc="y = γ (x - μ) / √(σ² + ε) + β with one μ, σ², γ and β per channel.",
    )
)
register(
    Op(
        "layer_norm",
        "normalisation",
        ("x", "mean", "var", "weight?", "bias?"),
        _as_wide,
        attrs={"eps": 1e-5},
        examples=(
            Example(((4, 3), (4, 1), (4, 1), (3,), (3,)), {}, _KINDS),
            Example(((2, 3, 2), (2, 1, 1), (2, 1, 1), (3, 2), (3, 2)), {}, _KINDS),
            Example(((2, 3, 2), (2, 3, 1), (2, 3, 1), (), ()), {"eps": 0.01}, _BARE),
        ),
        text="LN",
        latex=r"\operatorname{LN}",
        doc="y = γ (x - μ) / √(σ² + ε) + β with one μ and σ² per sample, γ and β per entry.",
    )
)
