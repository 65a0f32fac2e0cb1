"""Opaque operations: what torch can run and nothing here describes, kept as it is.

The record of one is made when it is met, from the name of the overload. It has no examples and no formula: the numbers
domain calls torch for its value and for its vector-Jacobian product (:mod:`backproof.domains.opaque`), and no other
domain reads it. Where torch is on both sides of a comparison the two are one witness.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from .base import Attrs, Op, Shape

__all__ = ["OPAQUE", "opaque"]

OPAQUE = "opaque"


def _given(shapes: Sequence[Shape], attrs: Attrs) -> Shape:
    return tuple(attrs["shape"])


@cache
def opaque(name: str) -> Op:
    """Return the record of an opaque operation; ``call`` is the function of its tensors, as an attribute of the node.

    Args:
        name: the overload, as "aten.fft_fft.default".
    """
    attrs = {"call": None, "shape": (), "dtype": "float64"}
    return Op(
        name,
        OPAQUE,
        ("*xs",),
        _given,
        attrs,
        dtype="attr",
        text=name,
        doc=f"torch's {name}, of which nothing more is known.",
    )
