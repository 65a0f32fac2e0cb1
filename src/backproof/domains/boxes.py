"""The boxes domain: which indices of the input each entry of a tensor can see, axis by axis.

The value of a node says, for each spatial axis of the network's input, along which of the node's own axes it is found
again and by which relation, and what has made the field global. None: the node does not depend on the input.

What it reads exactly: convolutions, pools, padding, slices, upsampling by transposed convolutions, sums and other
operations entry by entry, branches that move at one speed. What it cannot follow is said as a reason, never left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from ..graph import Node
from .base import Domain
from .relations import IDENTITY, Relation, offsets, windows

__all__ = ["Axis", "Seen", "boxes", "local_relation", "same_axes", "seen_input"]

boxes = Domain("boxes", "index sets of the input, axis by axis")


@dataclass(frozen=True)
class Axis:
    """One spatial axis of the input, as a tensor sees it.

    Args:
        at: the tensor's axis along which the position is still told apart; None if there is none.
        relation: which indices of the input an index of that axis sees; None if that is not known.
        reasons: what has made the field global, node by node; empty if it is local.
    """

    at: int | None
    relation: Relation | None
    reasons: tuple[str, ...] = ()

    def made_global(self, reason: str) -> Axis:
        """The same axis, seen as a whole from here on."""
        return replace(self, reasons=tuple(dict.fromkeys((*self.reasons, reason))))


Seen = tuple[Axis, ...]
"""One :class:`Axis` for each spatial axis of the input."""


def seen_input(rank: int) -> Seen:
    """The value of the input itself: samples, channels, then spatial axes."""
    return tuple(Axis(i, IDENTITY) for i in range(2, rank))


def _where(node: Node) -> str:
    return node.module or node.name


# --- entry by entry ---------------------------------------------------------------------------------------------------
@boxes.rule(
    "elementwise", "arithmetic", "comparison", "loss", "normalisation", "stop_gradient", "cast", "where", "expand"
)
def _pointwise(node: Node, *operands: Seen | None) -> Seen | None:
    return _together(node, [_aligned(node, x, v) for x, v in zip(node.inputs, operands, strict=False) if v is not None])


def _aligned(node: Node, operand: Node, seen: Seen) -> Seen:
    """The operand's axes as axes of the result (broadcasting aligns them from the last one on)."""
    if node.op.name == "batch_norm" and len(operand.shape) == 1:
        return tuple(_lost(axis, f"the statistics of the batch in {_where(node)}") for axis in seen)
    shift = len(node.shape) - len(operand.shape)

    def move(axis: Axis) -> Axis:
        if axis.at is None:
            return axis
        if operand.shape[axis.at] == 1 != node.shape[axis.at + shift]:
            return _lost(axis, f"a value spread over all positions in {_where(node)}")
        return replace(axis, at=axis.at + shift)

    return tuple(map(move, seen))


def _lost(axis: Axis, reason: str) -> Axis:
    """An axis whose positions are told apart no longer; why it is global is known from before, or it is this."""
    return Axis(None, None, axis.reasons or (reason,))


def _together(node: Node, operands: Sequence[Seen]) -> Seen | None:
    if not operands:
        return None
    return reduce(lambda a, b: tuple(_union(node, x, y) for x, y in zip(a, b, strict=True)), operands)


def _union(node: Node, a: Axis, b: Axis) -> Axis:
    reasons = tuple(dict.fromkeys((*a.reasons, *b.reasons)))
    if a.relation is None or b.relation is None:
        known = a if a.relation is not None else b
        return replace(known, reasons=reasons)
    both = a.relation.union(b.relation) if a.at == b.at else None
    if both is None:
        why = f"paths that move at different speeds meet in {_where(node)}"
        return Axis(None, None, (*reasons, why))
    return Axis(a.at, both, reasons)


# --- windows ------------------------------------------------------------------------------------------------------------
def local_relation(node: Node, axis: int) -> Relation:
    """What one output of a convolution or pool sees of its own input, along a spatial axis counted from 0."""
    attrs = node.attrs
    if node.op.name == "adaptive_avg_pool":
        return _adaptive(node.inputs[0].shape[axis + 2], node.shape[axis + 2])
    kernel = attrs["kernel"][axis] if "kernel" in attrs else node.inputs[1].shape[axis + 2]
    dilation = attrs["dilation"][axis] if attrs.get("dilation") else 1
    if node.op.name == "conv_transpose":
        return _transposed(kernel, attrs["stride"][axis], attrs["padding"][axis], dilation)
    return windows(kernel, attrs["stride"][axis], attrs["padding"][axis], dilation)


def _adaptive(size: int, wanted: int) -> Relation:
    rows = [offsets(range(i * size // wanted, -(-(i + 1) * size // wanted))) for i in range(wanted)]
    return Relation(size, tuple(rows)).normal()


def _transposed(kernel: int, stride: int, padding: int, dilation: int) -> Relation:
    """Output i receives from the inputs (i + p - t d) / s that are whole numbers."""
    rows = []
    for i in range(stride):
        taps = [i + padding - t * dilation for t in range(kernel)]
        found = [t // stride for t in taps if t % stride == 0]
        rows.append(found)
    if not all(rows):
        raise ValueError("some outputs of the transposed convolution see no input at all")
    return Relation(1, tuple(offsets(r) for r in rows)).normal()


@boxes.rule("conv", "conv_transpose", "max_pool", "avg_pool", "adaptive_avg_pool")
def _windows(node: Node, x: Seen | None, *_: Any) -> Seen | None:
    if x is None:
        return None
    return tuple(_through(node, axis) for axis in x)


def _through(node: Node, axis: Axis) -> Axis:
    if axis.at is None or axis.relation is None:
        return axis
    if axis.at < 2:
        return _lost(axis, f"{_where(node)} mixes the axis")
    place = axis.at - 2
    if node.op.name == "adaptive_avg_pool" and node.shape[axis.at] == 1:
        return replace(axis, relation=None).made_global(f"the pool over all positions in {_where(node)}")
    try:
        return replace(axis, relation=local_relation(node, place).after(axis.relation))
    except ValueError as error:
        return _lost(axis, f"{error} ({_where(node)})")


# --- axes that are folded, moved, cut -----------------------------------------------------------------------------------
@boxes.rule("reduce", "softmax", "argmax", "argmin")
def _folded(node: Node, x: Seen | None) -> Seen | None:
    if x is None:
        return None
    rank = len(node.inputs[0].shape)
    dim = node.attrs.get("dim")
    dims = range(rank) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {d % rank for d in dims} if rank else set()
    keeps = bool(node.attrs.get("keepdim")) or node.op.family == "softmax"
    return tuple(_fold(node, axis, gone, keeps) for axis in x)


def _fold(node: Node, axis: Axis, gone: set[int], keeps: bool) -> Axis:
    if axis.at is None:
        return axis
    if axis.at in gone:
        found = axis.made_global(f"{node.op.name} over all positions in {_where(node)}")
        return found if node.op.family == "softmax" else Axis(axis.at if keeps else None, None, found.reasons)
    return axis if keeps else replace(axis, at=axis.at - sum(d < axis.at for d in gone))


@boxes.rule("linear", "matmul")
def _product(node: Node, a: Seen | None, b: Seen | None = None, *_: Any) -> Seen | None:
    found = []
    for operand, seen, folded in ((node.inputs[0], a, -1), (node.inputs[1], b, -2)):
        if seen is not None:
            found.append(_contracted(node, operand, seen, folded))
    return _together(node, found)


def _contracted(node: Node, operand: Node, seen: Seen, folded: int) -> Seen:
    """A factor of a product: the axis that is summed over is seen as a whole."""
    rank = len(operand.shape)
    summed = rank + max(folded, -rank)
    shift = len(node.shape) - rank

    def move(axis: Axis) -> Axis:
        if axis.at is None:
            return axis
        if axis.at == summed:
            return _lost(axis, f"the sum over all positions in {_where(node)}")
        place = axis.at + shift
        return (
            replace(axis, at=place) if 0 <= place < len(node.shape) else _lost(axis, f"the product in {_where(node)}")
        )

    return tuple(map(move, seen))


@boxes.rule("reshape")
def _reshaped(node: Node, x: Seen | None) -> Seen | None:
    if x is None:
        return None
    old, new = node.inputs[0].shape, node.shape
    same = same_axes(old, new)
    return tuple(
        axis
        if axis.at is None
        else _moved(node, axis, same.get(axis.at), f"positions are mixed with other axes in {_where(node)}")
        for axis in x
    )


def _moved(node: Node, axis: Axis, place: int | None, reason: str) -> Axis:
    return replace(axis, at=place) if place is not None else _lost(axis, reason)


def same_axes(old: Sequence[int], new: Sequence[int]) -> dict[int, int]:
    """Which axes a change of shape leaves alone: those with the same size and the same number of entries before them."""

    def starts(shape: Sequence[int]) -> dict[tuple[int, int], int]:
        found, before = {}, 1
        for i, n in enumerate(shape):
            if n > 1:
                found[before, n] = i
            before *= n
        return found

    where = starts(new)
    return {i: where[key] for key, i in starts(old).items() if key in where}


@boxes.rule("permute")
def _permuted(node: Node, x: Seen | None) -> Seen | None:
    dims: list[int] = [d % len(node.shape) for d in node.attrs["dims"]]
    return None if x is None else tuple(a if a.at is None else replace(a, at=dims.index(a.at)) for a in x)


@boxes.rule("pad")
def _padded(node: Node, x: Seen | None) -> Seen | None:
    pad, rank = node.attrs["pad"], len(node.shape)
    before: dict[int | None, int] = {rank - 1 - i: int(pad[2 * i]) for i in range(len(pad) // 2)}
    return None if x is None else tuple(_stepped(a, 1, -before.get(a.at, 0)) if a.at is not None else a for a in x)


def _stepped(axis: Axis, step: int, start: int) -> Axis:
    """Every ``step``-th position from ``start`` on."""
    if axis.relation is None:
        return axis
    return replace(axis, relation=Relation(step, (offsets([start]),)).after(axis.relation))


@boxes.rule("slice")
def _sliced(node: Node, x: Seen | None) -> Seen | None:
    dim = node.attrs["dim"] % len(node.shape)
    size = node.inputs[0].shape[dim]
    start = range(size)[slice(node.attrs["start"], node.attrs["end"])].start
    return None if x is None else tuple(_stepped(a, node.attrs["step"], start) if a.at == dim else a for a in x)


@boxes.rule("select")
def _selected(node: Node, x: Seen | None) -> Seen | None:
    dim = node.attrs["dim"] % len(node.inputs[0].shape)
    return (
        None
        if x is None
        else tuple(
            a
            if a.at is None
            else _lost(a, f"one position is picked in {_where(node)}")
            if a.at == dim
            else replace(a, at=a.at - (a.at > dim))
            for a in x
        )
    )


@boxes.rule("cat", "stack")
def _joined(node: Node, *xs: Seen | None) -> Seen | None:
    rank = len(node.shape)
    dim = node.attrs["dim"] % rank
    grown = node.op.name == "stack"

    def move(axis: Axis) -> Axis:
        if axis.at is None:
            return axis
        if axis.at == dim and not grown:
            return _lost(axis, f"pieces are set side by side along the axis in {_where(node)}")
        return replace(axis, at=axis.at + (grown and axis.at >= dim))

    return _together(node, [tuple(map(move, x)) for x in _present(xs)])


def _present(xs: Iterable[Seen | None]) -> list[Seen]:
    return [x for x in xs if x is not None]
