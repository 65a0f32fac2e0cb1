"""Exactly which cells of the input a unit sees, borders included, and by how many paths: a mask carried from the unit back.

A mask has a first axis for the units that are asked for at once, then one axis per axis of its tensor; an axis of length 1
stands for indices that are all alike. With truth values branches are joined by "or", with numbers they are added, which
counts paths. No box can say a union exactly; a mask can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ..errors import InputError, MissingRule
from ..graph import Graph, Node
from .boxes import index_of
from .positions import Digit

__all__ = [
    "Mask", "back_rule", "carried_back", "fold", "full", "paths_to", "pointwise_back", "seen_cells", "seen_channels", "unit_mask",
]  # fmt: skip

Mask = np.ndarray[Any, np.dtype[Any]]
Kernels = Mapping[Node, Mask]
"""Of convolutions, which of their weights are not zero: [O, C/groups, kernel...]."""
Places = Sequence[Sequence[Digit]]
"""For each spatial axis of the input the digits that tell a tensor's positions apart."""


def seen_cells(
    graph: Graph,
    unit: Node,
    positions: Sequence[Sequence[int]],
    source: Node,
    places: Places | None = None,
    channel: int | None = None,
    kernels: Kernels | None = None,
) -> Mask:
    """The cells of ``source`` (over its axes from 2 on) that positions of ``unit`` depend on, one mask for each of them.

    Args:
        graph: the network.
        unit: the tensor.
        positions: for each unit one index per spatial axis; all channels of the first sample are meant.
        source: the input, or any other tensor on the way.
        places: which of the tensor's axes the positions count; its axes from 2 on where nothing is said.
        channel: one channel of the tensor; all of them by default.
        kernels: of convolutions that are to be read weight by weight, where they are not zero.

    Raises:
        InputError: a position is outside the tensor.
    """
    start = np.concatenate([_of_channel(unit_mask(unit, position, places), unit, channel) for position in positions])
    return _spatial(carried_back(graph, {unit: start}, source, kernels), len(positions), source)


def seen_channels(
    graph: Graph, unit: Node, position: Sequence[int], source: Node, places: Places | None, channel: int
) -> list[int]:
    """The channels of ``source`` that one channel of ``unit`` sees at a position."""
    mask = carried_back(graph, {unit: _of_channel(unit_mask(unit, position, places), unit, channel)}, source)
    if mask is None:
        return []
    full = np.broadcast_to(mask, (1, *source.shape))[0, 0]
    return [int(c) for c in full.any(axis=tuple(range(1, full.ndim))).nonzero()[0]]


def _of_channel(mask: Mask, unit: Node, channel: int | None) -> Mask:
    if channel is None:
        return mask
    own = np.arange(unit.shape[1]) == channel
    found: Mask = mask & own.reshape([-1 if i == 2 else 1 for i in range(mask.ndim)])
    return found


def paths_to(graph: Graph, unit: Node, position: Sequence[int], source: Node, places: Places | None = None) -> Mask:
    """How many paths lead from each cell of ``source`` to one position of ``unit``, channels multiplied in (float64)."""
    start = unit_mask(unit, position, places).astype(float)
    return np.asarray(_spatial(carried_back(graph, {unit: start}, source), 1, source)[0])


def unit_mask(unit: Node, position: Sequence[int], places: Places | None = None) -> Mask:
    """One position of a tensor as a mask, its first axis counting this one unit."""
    rank = len(unit.shape)
    axes = places if places is not None else [[Digit(i, 1, unit.shape[i])] for i in range(2, rank)]
    sizes = [prod(d.size for d in digits) for digits in axes]
    if len(position) != len(sizes) or not all(0 <= p < n for p, n in zip(position, sizes, strict=True)):
        raise InputError(f"{unit.name} has positions below {sizes}, and {list(position)} is asked")
    mask = np.ones((1,) * (rank + 1), bool)
    for digits, place in zip(axes, position, strict=True):
        value: Any = 0
        for digit in digits:
            along = np.arange(unit.shape[digit.axis]) // digit.below % digit.size
            shape = [-1 if i == digit.axis + 1 else 1 for i in range(rank + 1)]
            value = value * digit.size + along.reshape(shape)
        mask = mask & (value == place)
    if rank and unit.shape[0] > 1 and mask.shape[1] == 1:
        mask = mask & (np.arange(unit.shape[0]) == 0).reshape([-1 if i == 1 else 1 for i in range(rank + 1)])
    return mask


def _spatial(mask: Mask | None, count: int, source: Node) -> Mask:
    """The first sample, all channels together."""
    shape = (count, *source.shape[2:])
    if mask is None:
        return np.zeros(shape, bool)
    found = fold(np.asarray(mask[:, :1]), 2, source.shape[1])[:, 0, 0]
    return np.array(np.broadcast_to(found, shape))


def carried_back(graph: Graph, masks: dict[Node, Mask], source: Node, kernels: Kernels | None = None) -> Mask | None:
    """Carry masks from their nodes back to ``source``; None where it is not reached."""
    masks = dict(masks)
    order = {node: i for i, node in enumerate(graph.nodes)}
    first, last = order[source], max(order[node] for node in masks)
    for node in reversed(graph.nodes[first + 1 : last + 1]):
        if node in masks and not node.is_leaf:
            mask = masks.pop(node)
            known = None if kernels is None else kernels.get(node)
            found = _back(node, mask) if known is None else [_weighted_back(node, mask, known)]
            for operand, seen in zip(node.inputs, found, strict=False):
                if seen is not None and operand.role not in ("parameter", "constant", "buffer", "draw"):
                    masks[operand] = masks[operand] + seen if operand in masks else seen
    return masks.get(source)


_Back = Callable[[Node, Mask], "list[Mask | None]"]
_RULES: dict[str, _Back] = {}


def back_rule(*keys: str) -> Callable[[_Back], _Back]:
    """Register how a mask goes back through operations or families, by name."""

    def add(function: _Back) -> _Back:
        _RULES.update(dict.fromkeys(keys, function))
        return function

    return add


def _back(node: Node, mask: Mask) -> list[Mask | None]:
    rule = _RULES.get(node.op.name) or _RULES.get(node.op.family)
    if rule is None:
        raise MissingRule(f"the cells that '{node.op.name}' sees are not known, needed by {node.name}")
    return rule(node, mask)


# --- what masks are made of ---------------------------------------------------------------------------------------------
def fold(mask: Mask, axis: int, size: int) -> Mask:
    """What is seen from any index of an axis (of a mask, counted with the units' axis), as an axis of length 1."""
    if mask.shape[axis] == 1:
        return mask if mask.dtype == bool or size == 1 else mask * size
    return np.asarray(mask.any(axis, keepdims=True) if mask.dtype == bool else mask.sum(axis, keepdims=True))


def full(mask: Mask, axis: int, size: int) -> Mask:
    """The mask with an axis written out."""
    return np.repeat(mask, size, axis) if mask.shape[axis] == 1 < size else mask


def _empty(mask: Mask, axis: int, size: int) -> Mask:
    shape = list(mask.shape)
    shape[axis] = size
    return np.zeros(shape, mask.dtype)


def _at(axis: int, where: Any) -> tuple[Any, ...]:
    return (slice(None),) * axis + (where,)


def _taps_back(mask: Mask, axis: int, taps: Iterable[int], stride: int, outputs: int, inputs: int) -> Mask:
    """Through windows: input s o + t is seen by output o, for each tap t."""
    mask, found = full(mask, axis, outputs), _empty(mask, axis, inputs)
    for t in taps:
        low, high = max(-(t // stride), 0), min((inputs - 1 - t) // stride, outputs - 1)
        if low <= high:
            target = slice(low * stride + t, high * stride + t + 1, stride)
            found[_at(axis, target)] += mask[_at(axis, slice(low, high + 1))]
    return found


def _transposed_back(mask: Mask, axis: int, taps: Iterable[int], stride: int, outputs: int, inputs: int) -> Mask:
    """Through a transposed convolution: input i is seen by outputs s i + t."""
    mask, found = full(mask, axis, outputs), _empty(mask, axis, inputs)
    for t in taps:
        low, high = max(-(t // stride), 0), min((outputs - 1 - t) // stride, inputs - 1)
        if low <= high:
            origin = slice(low * stride + t, high * stride + t + 1, stride)
            found[_at(axis, slice(low, high + 1))] += mask[_at(axis, origin)]
    return found


# --- rules --------------------------------------------------------------------------------------------------------------
@back_rule(
    "elementwise", "arithmetic", "comparison", "loss", "normalisation", "stop_gradient", "cast", "expand", "where"
)
def pointwise_back(node: Node, mask: Mask) -> list[Mask | None]:
    """Entry by entry: the mask, folded along the axes in which an operand was broadcast."""
    return [_narrowed(mask, node, x) for x in node.inputs]


def _narrowed(mask: Mask, node: Node, operand: Node) -> Mask | None:
    """What a broadcast operand gives: an axis that it lacks or has only once is seen from every position."""
    if operand.role in ("parameter", "constant", "buffer", "draw"):
        return None
    if node.op.name == "batch_norm" and len(operand.shape) == 1:
        for i in (0, *range(2, len(node.shape))):
            mask = fold(mask, i + 1, node.shape[i])
        return mask.reshape(mask.shape[0], mask.shape[2])
    extra = len(node.shape) - len(operand.shape)
    for i, size in enumerate(node.shape):
        if i < extra or operand.shape[i - extra] == 1 < size:
            mask = fold(mask, i + 1, size)
    return mask.reshape(mask.shape[0], *mask.shape[1 + extra :])


@back_rule("conv", "conv_transpose", "max_pool", "max_pool_index", "avg_pool", "adaptive_avg_pool")
def _windows(node: Node, mask: Mask) -> list[Mask | None]:
    shape = node.inputs[0].shape
    for i in range(2, len(shape)):
        mask = _window_back(node, mask, i, node.shape[i], shape[i])
    return [_channels_back(node, mask) if len(node.inputs) > 1 else mask]


def _window_back(node: Node, mask: Mask, i: int, outputs: int, inputs: int) -> Mask:
    attrs = node.attrs
    if node.op.name == "adaptive_avg_pool":
        return _rows_back(
            mask, i + 1, [range(o * inputs // outputs, -(-(o + 1) * inputs // outputs)) for o in range(outputs)], inputs
        )
    kernel = attrs["kernel"][i - 2] if "kernel" in attrs else node.inputs[1].shape[i]
    dilation = attrs["dilation"][i - 2] if attrs.get("dilation") else 1
    taps = [k * dilation - attrs["padding"][i - 2] for k in range(kernel)]
    back = _transposed_back if node.op.name == "conv_transpose" else _taps_back
    return back(mask, i + 1, taps, attrs["stride"][i - 2], outputs, inputs)


def _rows_back(mask: Mask, axis: int, rows: Sequence[Sequence[int]], inputs: int) -> Mask:
    """Through a list: output o sees the inputs rows[o]."""
    mask, found = full(mask, axis, len(rows)), _empty(mask, axis, inputs)
    for o, row in enumerate(rows):
        for i in row:
            found[_at(axis, i)] += mask[_at(axis, o)]
    return found


def _channels_back(node: Node, mask: Mask) -> Mask:
    """Each group of output channels sees its group of input channels."""
    groups, outputs, inputs = node.attrs["groups"], node.shape[1], node.inputs[0].shape[1]
    if groups == 1 or mask.shape[2] == 1:
        return fold(mask, 2, outputs // groups)
    apart = mask.reshape(*mask.shape[:2], groups, outputs // groups, *mask.shape[3:])
    together = fold(apart, 3, outputs // groups)[:, :, :, 0]
    return np.repeat(together, inputs // groups, 2)


def _weighted_back(node: Node, mask: Mask, kernel: Mask) -> Mask:
    """Through a convolution weight by weight: what is multiplied by an exact zero is not seen."""
    inputs, groups = node.inputs[0].shape, node.attrs["groups"]
    mask = np.broadcast_to(mask, (mask.shape[0], *node.shape))
    apart = mask.reshape(*mask.shape[:2], groups, node.shape[1] // groups, *mask.shape[3:])
    links = kernel.reshape(groups, node.shape[1] // groups, *kernel.shape[1:])
    found = np.zeros((mask.shape[0], *inputs), mask.dtype)
    for place in np.ndindex(kernel.shape[2:]):
        link = links[(..., *place)].astype(np.float64)
        seen = np.einsum("ungo...,goi->ungi...", apart.astype(np.float64), link)
        tap = seen.reshape(*mask.shape[:2], inputs[1], *mask.shape[3:]).astype(mask.dtype)
        for i, k in enumerate(place):
            start = k * node.attrs["dilation"][i] - node.attrs["padding"][i]
            tap = _taps_back(tap, i + 3, [start], node.attrs["stride"][i], node.shape[i + 2], inputs[i + 2])
        found += tap
    return found


def _dims(node: Node) -> list[int]:
    rank, dim = len(node.inputs[0].shape), node.attrs.get("dim")
    return sorted({d % rank for d in (range(rank) if dim is None else [dim] if isinstance(dim, int) else dim)})


@back_rule("reduce", "argmax", "argmin")
def _reduced(node: Node, mask: Mask) -> list[Mask | None]:
    if not node.attrs.get("keepdim"):
        for d in _dims(node):
            mask = np.expand_dims(mask, d + 1)
    return [mask]


@back_rule("softmax")
def _softmax(node: Node, mask: Mask) -> list[Mask | None]:
    dim = node.attrs["dim"] % len(node.shape)
    return [fold(mask, dim + 1, node.shape[dim])]


@back_rule("linear", "matmul")
def _product(node: Node, mask: Mask) -> list[Mask | None]:
    a, b = (len(x.shape) for x in node.inputs[:2])
    if node.op.name == "linear":
        return [fold(mask, len(node.shape), node.shape[-1])]
    if node.op.name == "outer":
        return [fold(mask, 2, node.shape[1])[:, :, 0], fold(mask, 1, node.shape[0])[:, 0]]
    shape = list(node.shape)
    if a == 1:
        mask = np.expand_dims(mask, mask.ndim - (b > 1))
        shape.insert(len(shape) - (b > 1), 1)
    if b == 1:
        mask, shape = mask[..., None], [*shape, 1]
    rank = len(shape)
    left, right = fold(mask, rank, shape[-1]), fold(mask, rank - 1, shape[-2])
    return [_factor(left, shape, node.inputs[0], -2), _factor(right, shape, node.inputs[1], -1)]


def _factor(mask: Mask, shape: Sequence[int], operand: Node, own: int) -> Mask:
    """The mask of a product's factor: batch axes that it lacks are folded, a vector has one axis."""
    if len(operand.shape) == 1:
        for i in range(len(shape)):
            mask = fold(mask, i + 1, shape[i] if i != len(shape) + own else 1)
        return mask.reshape(mask.shape[0], 1)
    extra = len(shape) - len(operand.shape)
    for i in range(len(shape) - 2):
        if i < extra or operand.shape[i - extra] == 1 < shape[i]:
            mask = fold(mask, i + 1, shape[i])
    return mask.reshape(mask.shape[0], *mask.shape[1 + extra :])


# --- the same entries elsewhere -----------------------------------------------------------------------------------------
@back_rule("reshape")
def _reshaped(node: Node, mask: Mask) -> list[Mask | None]:
    full = np.broadcast_to(mask, (mask.shape[0], *node.shape))
    return [full.reshape(mask.shape[0], *node.inputs[0].shape)]


@back_rule("permute")
def _permuted(node: Node, mask: Mask) -> list[Mask | None]:
    dims = [d % len(node.shape) for d in node.attrs["dims"]]
    return [np.transpose(mask, [0, *(i + 1 for i in np.argsort(dims))])]


@back_rule("pad")
def _padded(node: Node, mask: Mask) -> list[Mask | None]:
    pad, rank = node.attrs["pad"], len(node.shape)
    for i in range(len(pad) // 2):
        axis = rank - 1 - i
        mask = _taps_back(mask, axis + 1, [-pad[2 * i]], 1, node.shape[axis], node.inputs[0].shape[axis])
    return [mask]


@back_rule("slice")
def _sliced(node: Node, mask: Mask) -> list[Mask | None]:
    dim = node.attrs["dim"] % len(node.shape)
    size = node.inputs[0].shape[dim]
    start = range(size)[slice(node.attrs["start"], node.attrs["end"])].start
    return [_taps_back(mask, dim + 1, [start], node.attrs["step"], node.shape[dim], size)]


@back_rule("select")
def _selected(node: Node, mask: Mask) -> list[Mask | None]:
    size = node.inputs[0].shape
    dim = node.attrs["dim"] % len(size)
    return [_rows_back(np.expand_dims(mask, dim + 1), dim + 1, [[node.attrs["index"] % size[dim]]], size[dim])]


@back_rule("cat", "stack")
def _joined(node: Node, mask: Mask) -> list[Mask | None]:
    dim = node.attrs["dim"] % len(node.shape)
    mask = full(mask, dim + 1, node.shape[dim])
    found: list[Mask | None] = []
    start = 0
    for x in node.inputs:
        size = 1 if node.op.name == "stack" else x.shape[dim]
        piece = mask[_at(dim + 1, slice(start, start + size))]
        found.append(piece[_at(dim + 1, 0)] if node.op.name == "stack" else piece)
        start += size
    return found


@back_rule("embedding")
def _picked(node: Node, mask: Mask) -> list[Mask | None]:
    entries, index = index_of(node.inputs[1]), node.inputs[1]
    size, grown = node.inputs[0].shape[0], len(index.shape)
    if entries is not None:
        return [_rows_back(mask, 1, [[e] for e in entries], size), None]
    for i in range(grown):
        mask = fold(mask, i + 1, node.shape[i])
    rest = mask.reshape(mask.shape[0], 1, *mask.shape[1 + grown :])
    for i in range(grown, len(node.shape)):
        mask = fold(mask, i + 1, node.shape[i])
    return [rest, mask.reshape(mask.shape[0], *mask.shape[1 : 1 + grown])]


@back_rule("gather")
def _gathered(node: Node, mask: Mask) -> list[Mask | None]:
    dim = node.attrs["dim"] % len(node.shape)
    return [fold(mask, dim + 1, node.shape[dim]), mask]
