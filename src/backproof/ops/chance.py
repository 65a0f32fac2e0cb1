"""What is drawn at random: a leaf whose value a run draws, records and can replay.

A draw is never hidden inside another operation: dropout is its input times a drawn mask, attention's dropout
likewise, noise is a leaf of its own. Whatever reads the graph takes the recorded value, so that every reading of
one step sees the same draw.
"""

from __future__ import annotations

from typing import Any

from .base import Op, register

__all__ = ["spelled"]

register(
    Op(
        "draw",
        "leaf",
        (),
        lambda shapes, attrs: tuple(attrs["shape"]),
        attrs={"shape": (), "method": None, "arguments": (), "stride": None},
        differentiable=False,
        doc="Numbers drawn independently from a distribution, anew in every step; no gradient is asked for.",
    )
)

_NAMES = {
    "bernoulli": "Bernoulli",
    "uniform": "Uniform",
    "normal": "Normal",
    "exponential": "Exponential",
    "log_normal": "LogNormal",
    "cauchy": "Cauchy",
    "geometric": "Geometric",
    "random": "UniformInteger",
    "permutation": "Permutation",
}


def spelled(attrs: Any) -> str:
    """The distribution of a draw in words: Bernoulli(0.9), Normal(0, 1)."""
    numbers = ", ".join(f"{x:g}" for x in attrs["arguments"])
    return f"{_NAMES.get(attrs['method'], attrs['method'])}({numbers})"
