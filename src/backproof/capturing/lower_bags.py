"""From ATen overloads to our operations: bags of rows of a table (torch.nn.EmbeddingBag)."""

from __future__ import annotations

from typing import Any

import torch

from ..graph import Node
from .lower import Call, lowering

__all__: list[str] = []

_SUM, _MEAN, _MAX = 0, 1, 2


@lowering("embedding_bag.default", "embedding_bag.padding_idx")
def _embedding_bag(call: Call) -> tuple[Any, ...]:
    """The rows of each bag added up, averaged, or their largest entries; a bag goes from one offset to the next."""
    call.refuse_unless(not call["scale_grad_by_freq"], "gradients scaled by frequency")
    rows = call.emit("embedding", call["weight"], call["indices"])
    result = _largest(call, rows) if call["mode"] == _MAX else _added(call, rows)
    return call.named(result, "bags"), None, None, None


def _bags(call: Call) -> tuple[int, Node]:
    """How many bags there are, and for each entry the number of its bag: of the offsets that are not behind it, less one."""
    offsets, count = call["offsets"], call["indices"].shape[0]
    places = call.builder.constant(torch.arange(count).unsqueeze(1), (count, 1), "int64", name="places")
    begun = call.emit("cast", call.emit("ge", places, offsets), dtype="int64")
    bag = call.emit("sub", call.emit("sum", begun, dim=(1,)), 1)
    bags = offsets.shape[0] - bool(call["include_last_offset"])
    return bags, call.emit("minimum", bag, bags - 1) if call["include_last_offset"] else bag


def _added(call: Call, rows: Node) -> Node:
    bags, bag = _bags(call)
    counted = _counted(call, rows)
    weights = call["per_sample_weights"]
    if weights is not None:
        rows = call.emit("mul", rows, call.emit("reshape", weights, shape=(weights.size, 1)))
    rows = call.emit("mul", rows, counted)
    total = call.emit("embedding_grad", rows, bag, shape=(bags, rows.shape[1]))
    if call["mode"] == _SUM:
        return total
    sizes = call.emit("embedding_grad", counted, bag, shape=(bags, 1))
    return call.emit("div", total, call.emit("clamp", sizes, min=1.0))


def _counted(call: Call, rows: Node) -> Node:
    """1 for each entry of a bag, 0 for the padding."""
    index, padding = call["indices"], call["padding_idx"]
    if padding is None or padding < 0:
        value = torch.ones(index.shape[0], 1, dtype=getattr(torch, rows.dtype))
        return call.builder.constant(value, tuple(value.shape), rows.dtype, name="ones")
    kept = call.emit("cast", call.emit("ne", index, padding), dtype=rows.dtype)
    return call.emit("reshape", kept, shape=(index.shape[0], 1))


def _largest(call: Call, rows: Node) -> Node:
    """The largest entries of bags of one size, as a matrix of indices gives them."""
    offsets, count = call["offsets"].value, rows.shape[0]
    even = isinstance(offsets, torch.Tensor) and count % max(offsets.numel(), 1) == 0
    size = count // max(offsets.numel(), 1) if even else 0
    even = even and torch.equal(offsets, torch.arange(0, count, max(size, 1)))
    call.refuse_unless(even and call["padding_idx"] in (None, -1), "the largest of bags of different sizes")
    return call.emit("amax", call.emit("reshape", rows, shape=(count // size, size, rows.shape[1])), dim=(1,))
