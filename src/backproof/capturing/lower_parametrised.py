"""From ATen overloads to our operations: what parametrisations of weights use."""

from __future__ import annotations

from ..graph import Node
from .lower import Call, lowering

__all__: list[str] = []


@lowering("_weight_norm.default", "_weight_norm_interface.default")
def _weight_norm(call: Call) -> Node:
    """w = g v/‖v‖, the norm over all axes but one (dim -1: over all)."""
    v, g, dim = call["v"], call["g"], call["dim"]
    rank = len(v.shape)
    dims = tuple(i for i in range(rank) if dim == -1 or i != dim % rank)
    norm = call.emit("root", call.emit("sum", call.emit("square", v), dim=dims, keepdim=True))
    return call.emit("mul", v, call.emit("div", g, norm))


@lowering("vdot.default")
def _vdot(call: Call) -> Node:
    call.refuse_unless(call["self"].is_float, "complex operands")
    return call.emit("matmul", call["self"], call["other"])
