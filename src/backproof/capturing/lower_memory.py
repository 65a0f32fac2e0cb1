"""From ATen overloads to our operations: what concerns memory alone and leaves every number as it is."""

from __future__ import annotations

from ..graph import Node
from .lower import Call, lowering

__all__: list[str] = []


@lowering(
    "lift_fresh.default", "resolve_conj.default", "resolve_neg.default", "requires_grad_.default", "pin_memory.default"
)
def _as_it_is(call: Call) -> Node:
    first: Node = next(iter(call.args.values()))
    return first
