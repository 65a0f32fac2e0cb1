"""From ATen overloads to our operations: what two vectors have to do with one another (products, distances, angles)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..graph import Node
from .lower import Call, lowering

__all__ = ["distance"]


# --- products ------------------------------------------------------------------------------------------------------------
@lowering("vdot.default")
def _vdot(call: Call) -> Node:
    return call.emit("matmul", call["self"], call["other"])


@lowering("bilinear.default")
def _bilinear(call: Call) -> Node:
    """y_o = x₁ᵀ W_o x₂ + b_o."""
    a, b, weight = call["input1"], call["input2"], call["weight"]
    count, left, right = weight.shape
    rows = call.emit("matmul", call.emit("reshape", a, shape=(-1 if a.size else 0, 1, 1, left)), weight)
    other = call.emit("reshape", b, shape=(-1 if b.size else 0, 1, 1, right))
    y = call.emit("sum", call.emit("mul", rows, other), dim=(2, 3))
    y = call.emit("reshape", y, shape=(*a.shape[:-1], count))
    return y if call["bias"] is None else call.emit("add", y, call["bias"])


# --- distances and angles ------------------------------------------------------------------------------------------------
@lowering("pairwise_distance.default")
def _pairwise_distance(call: Call) -> Node:
    return distance(call, call["x1"], call["x2"], bool(call["keepdim"]))


def distance(call: Call, a: Node, b: Node, keepdim: bool = False) -> Node:
    """The p-norm of a - b + eps along the last axis."""
    gap = call.emit("add", call.emit("sub", a, b), call["eps"])
    return _length(call, gap, call["p"], (len(gap.shape) - 1,), keepdim)


def _length(call: Call, x: Node, p: float, dim: Sequence[int], keepdim: bool) -> Node:
    """The p-norm."""
    along = {"dim": tuple(dim), "keepdim": keepdim}
    if p == 2:
        return call.emit("root", call.emit("sum", call.emit("square", x), **along))
    size = call.emit("abs", x)
    if p == math.inf:
        return call.emit("amax", size, **along)
    if p == 1:
        return call.emit("sum", size, **along)
    call.refuse_unless(p > 0, f"a norm of order {p}")
    return call.emit("pow", call.emit("sum", call.emit("pow", size, float(p)), **along), 1 / p)


@lowering("cosine_similarity.default")
def _cosine(call: Call) -> Node:
    """x₁ · x₂ / (‖x₁‖ ‖x₂‖), the lengths not below eps; torch lets the gradient pass as if they were not held."""
    dim = call["dim"] % max(len(call["x1"].shape), len(call["x2"].shape))
    parts = []
    for x in (call["x1"], call["x2"]):
        length = _length(call, x, 2, (dim - max(len(call["x1"].shape), len(call["x2"].shape)),), True)
        parts.append(call.emit("div", x, _not_below(call, length, call["eps"])))
    return call.emit("sum", call.emit("mul", *parts), dim=(dim,))


def _not_below(call: Call, x: Node, low: float) -> Node:
    """max(x, low), whose gradient is that of x everywhere (a clamp under no_grad)."""
    missing = call.emit("stop_gradient", call.emit("relu", call.emit("sub", low, x)))
    return call.emit("add", x, missing)
