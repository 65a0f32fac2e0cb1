"""A backward pass that is the user's own code: no entry of the table of operations, since nobody knows its formula."""

from __future__ import annotations

from .base import Op

__all__ = ["FAMILY", "own_backward"]

FAMILY = "own"

own_backward = Op(
    "own_backward",
    FAMILY,
    ("*xs",),
    lambda shapes, attrs: tuple(attrs["shape"]),
    attrs={"run": None, "operand": 0, "results": (), "operands": (), "label": "", "shape": (), "dtype": None},
    dtype="attr",
    text="backward",
    differentiable=False,
    doc="What the user's own backward pass sends to one operand, from the gradients of its results.",
)
