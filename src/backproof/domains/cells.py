"""Exactly which cells of the input one unit sees, borders included: a mask carried from the unit back to the input.

A mask has one axis per axis of its tensor; an axis of length 1 stands for all indices. Windows are products over the
axes, so a mask goes back through one matrix of truth values per axis; branches are joined by "or", which no box can do
exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import InputError, MissingRule
from ..graph import Graph, Node
from .boxes import local_relation, same_axes
from .relations import Relation, offsets

__all__ = ["Mask", "seen_cells"]

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def seen_cells(graph: Graph, unit: Node, position: Sequence[int], source: Node) -> Mask:
    """The cells of ``source`` (over its axes from 2 on) that one position of ``unit`` depends on.

    Args:
        graph: the network.
        unit: the tensor, with samples and channels as its first two axes.
        position: one index per spatial axis of it; all channels are meant.
        source: the input.

    Raises:
        InputError: the position is outside the tensor.
    """
    masks: dict[Node, Mask] = {unit: _start(unit, position)}
    for node in reversed(graph.nodes):
        if node in masks and not node.is_leaf and node is not source:
            for operand, mask in zip(node.inputs, _back(node, masks[node]), strict=False):
                if mask is not None and operand.role != "parameter":
                    masks[operand] = masks[operand] | mask if operand in masks else mask
    found = masks.get(source)
    shape = source.shape[2:]
    return np.zeros(shape, bool) if found is None else np.array(np.broadcast_to(found, source.shape)[0, 0])


def _start(unit: Node, position: Sequence[int]) -> Mask:
    spatial = unit.shape[2:]
    if len(position) != len(spatial) or not all(0 <= p < n for p, n in zip(position, spatial, strict=True)):
        raise InputError(f"{unit.name} has positions below {list(spatial)}, and {list(position)} is asked")
    mask = np.zeros((1, 1, *spatial), bool)
    mask[(0, 0, *position)] = True
    return mask


_Back = Callable[[Node, Mask], "list[Mask | None]"]
_RULES: dict[str, _Back] = {}


def _rule(*keys: str) -> Callable[[_Back], _Back]:
    def add(function: _Back) -> _Back:
        _RULES.update(dict.fromkeys(keys, function))
        return function

    return add


def _back(node: Node, mask: Mask) -> list[Mask | None]:
    rule = _RULES.get(node.op.name) or _RULES.get(node.op.family)
    if rule is None:
        raise MissingRule(f"the cells that '{node.op.name}' sees are not known, needed by {node.name}")
    return rule(node, mask)


@_rule("elementwise", "arithmetic", "comparison", "loss", "normalisation", "stop_gradient", "cast", "expand", "where")
def _pointwise(node: Node, mask: Mask) -> list[Mask | None]:
    return [_narrowed(mask, node, x) for x in node.inputs]


def _narrowed(mask: Mask, node: Node, operand: Node) -> Mask:
    """What a broadcast operand gives: an axis that it lacks or has only once is seen from every position."""
    if node.op.name == "batch_norm" and len(operand.shape) == 1:
        return np.ones((1,), bool)
    extra = tuple(range(len(node.shape) - len(operand.shape)))
    found = np.asarray(mask.any(axis=extra)) if extra else mask
    return _all(found, [i for i, n in enumerate(operand.shape) if n == 1 and found.shape[i] > 1])


@_rule("conv", "conv_transpose", "max_pool", "avg_pool", "adaptive_avg_pool")
def _windows(node: Node, mask: Mask) -> list[Mask | None]:
    for i in range(2, len(node.shape)):
        mask = _axis_back(mask, i, local_relation(node, i - 2), node.shape[i], node.inputs[0].shape[i])
    return [_all(mask, [1])]


def _axis_back(mask: Mask, axis: int, relation: Relation, outputs: int, inputs: int) -> Mask:
    """A mask through one axis: input i is seen if some output o in the mask has i in R(o)."""
    table = np.zeros((outputs, inputs), bool)
    for o in range(outputs):
        for i in relation.at(o):
            if 0 <= i < inputs:
                table[o, i] = True
    if mask.shape[axis] == 1 != outputs:
        mask = np.repeat(mask, outputs, axis)
    moved = np.moveaxis(mask, axis, -1)
    return np.moveaxis((moved.astype(np.float32) @ table.astype(np.float32)) > 0, -1, axis)


@_rule("reduce", "argmax", "argmin")
def _reduced(node: Node, mask: Mask) -> list[Mask | None]:
    rank, dim = len(node.inputs[0].shape), node.attrs.get("dim")
    dims = sorted({d % rank for d in (range(rank) if dim is None else [dim] if isinstance(dim, int) else dim)})
    if not node.attrs.get("keepdim"):
        for d in dims:
            mask = np.expand_dims(mask, d)
    return [_all(mask, dims)]


def _all(mask: Mask, dims: Sequence[int]) -> Mask:
    for d in dims:
        mask = np.asarray(mask.any(axis=d, keepdims=True))
    return mask


@_rule("softmax")
def _softmax(node: Node, mask: Mask) -> list[Mask | None]:
    return [_all(mask, [node.attrs["dim"] % len(node.shape)])]


@_rule("linear", "matmul")
def _product(node: Node, mask: Mask) -> list[Mask | None]:
    return [np.ones((1,) * len(x.shape), bool) if i or len(x.shape) != len(node.shape) else _all(mask, [len(x.shape) - 1])
            for i, x in enumerate(node.inputs)]  # fmt: skip


@_rule("reshape")
def _reshaped(node: Node, mask: Mask) -> list[Mask | None]:
    old, same = node.inputs[0].shape, same_axes(node.inputs[0].shape, node.shape)
    kept = set(same.values())
    mask = _all(mask, [i for i in range(len(node.shape)) if i not in kept])
    order = [same[i] for i in sorted(same)]
    rest = [i for i in range(len(node.shape)) if i not in kept]
    flat = np.transpose(mask, [*order, *rest]).reshape([mask.shape[i] for i in order])
    sizes = iter(flat.shape)
    return [flat.reshape([next(sizes) if i in same else 1 for i in range(len(old))])]


@_rule("permute")
def _permuted(node: Node, mask: Mask) -> list[Mask | None]:
    dims = [d % len(node.shape) for d in node.attrs["dims"]]
    return [np.transpose(mask, np.argsort(dims))]


@_rule("pad")
def _padded(node: Node, mask: Mask) -> list[Mask | None]:
    pad, rank = node.attrs["pad"], len(node.shape)
    for i in range(len(pad) // 2):
        axis = rank - 1 - i
        size = node.inputs[0].shape[axis]
        mask = _axis_back(mask, axis, _shift(-pad[2 * i]), node.shape[axis], size) if mask.shape[axis] > 1 else mask
    return [mask]


def _shift(by: int, step: int = 1) -> Relation:
    return Relation(step, (offsets([by]),))


@_rule("slice")
def _sliced(node: Node, mask: Mask) -> list[Mask | None]:
    dim = node.attrs["dim"] % len(node.shape)
    size = node.inputs[0].shape[dim]
    start = range(size)[slice(node.attrs["start"], node.attrs["end"])].start
    if mask.shape[dim] == 1 and dim < 2:
        return [mask]
    return [_axis_back(mask, dim, _shift(start, node.attrs["step"]), node.shape[dim], size)]


@_rule("select")
def _selected(node: Node, mask: Mask) -> list[Mask | None]:
    rank = len(node.inputs[0].shape)
    dim = node.attrs["dim"] % rank
    if dim < 2:
        return [np.expand_dims(mask, dim)]
    size = node.inputs[0].shape[dim]
    place = np.zeros([size if i == dim else 1 for i in range(rank)], bool)
    place[tuple(node.attrs["index"] % size if i == dim else 0 for i in range(rank))] = True
    return [np.expand_dims(mask, dim) & place]


@_rule("cat", "stack")
def _joined(node: Node, mask: Mask) -> list[Mask | None]:
    dim = node.attrs["dim"] % len(node.shape)
    if node.op.name == "stack":
        return [np.asarray(mask.any(axis=dim)) for _ in node.inputs]
    if mask.shape[dim] == 1:
        return [mask for _ in node.inputs]
    found: list[Mask | None] = []
    start = 0
    for x in node.inputs:
        found.append(np.take(mask, range(start, start + x.shape[dim]), axis=dim))
        start += x.shape[dim]
    return found
