"""How the stretches of an operation's result follow from those of its operands, without any moments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ...graph import Node
from ...ops.shapes import axes_of
from ..fields import Axis, Kind, Known, Layout, Unpredictable, refined, regrouped, seen_from

__all__ = ["layout_of", "plain_layout", "uncopied"]


def _entrywise(layouts: Sequence[Layout], shape: tuple[int, ...]) -> Layout:
    """Of operands that meet entry by entry: positions win over features, and features over copies."""
    wide = [((),) * (len(shape) - len(x)) + x for x in layouts if len(x) <= len(shape)]
    return tuple(_met([x[d] for x in wide], n) for d, n in enumerate(shape))


_ORDER = ("position", "feature", "copy")


def _met(cuts: Sequence[tuple[Axis, ...]], n: int) -> tuple[Axis, ...]:
    found: tuple[Axis, ...] = ()
    for cut in cuts:
        if math.prod(a.size for a in cut) != n or not cut:
            continue
        if not found:
            found = cut
            continue
        one, two = refined(found, cut)
        found = tuple(min(a, b, key=lambda x: _ORDER.index(x.kind)) for a, b in zip(one, two, strict=True))
    return found or ((Axis(n, "position"),) if n > 1 else ())


def layout_of(node: Node, operands: Sequence[Layout]) -> Layout:
    """The layout of a result."""
    name, shape = node.op.name, node.shape
    first = operands[0] if operands else ()
    if name in ("reshape", "cast", "identity"):
        return regrouped([a for d in first for a in d], shape)
    if name == "permute":
        return tuple(first[d] for d in node.attrs["dims"])
    if name == "matmul" and len(first) > 1 and len(operands[1]) > 1:
        batch = _entrywise([x[:-2] for x in operands[:2]], shape[:-2])
        return (*batch, first[-2], operands[1][-1])
    if name in ("select", "slice"):
        return _part(node, first)
    if name in ("stack", "cat"):
        return _joined(node, operands)
    if node.op.family == "pooling":
        return (*first[:2], *((Axis(n, "position"),) if n > 1 else () for n in shape[2:]))
    if node.op.family == "reduce" or name in ("argmax", "argmin"):
        return _reduced(node, first)
    if node.op.family in ("elementwise", "arithmetic", "loss", "softmax", "normalisation", "comparison") or shape == (
        node.inputs[0].shape if node.inputs else ()
    ):
        return () if shape == () else _entrywise(operands, shape)
    if math.prod(shape) <= 64:
        return tuple((Axis(n, "position"),) if n > 1 else () for n in shape)
    raise Unpredictable(f"the result of {name} has axes that are neither positions nor features")


def _part(node: Node, x: Layout) -> Layout:
    d = node.attrs["dim"] % len(x)
    if node.op.name == "select":
        return (*x[:d], *x[d + 1 :])
    kind = x[d][0].kind if len(x[d]) == 1 else "position"
    n = node.shape[d]
    return (*x[:d], (Axis(n, kind),) if n > 1 else (), *x[d + 1 :])  # type: ignore[arg-type]


def _reduced(node: Node, x: Layout) -> Layout:
    axes = axes_of(node.attrs.get("dim"), len(x))
    if node.attrs.get("keepdim"):
        return tuple(() if d in axes else dim for d, dim in enumerate(x))
    return tuple(dim for d, dim in enumerate(x) if d not in axes)


def _joined(node: Node, operands: Sequence[Layout]) -> Layout:
    """One behind the other along a new axis of positions, or along one that they have."""
    d, shape = node.attrs["dim"] % len(node.shape), node.shape
    if node.op.name == "stack":
        whole = _entrywise(operands, (*shape[:d], *shape[d + 1 :]))
        return (*whole[:d], (Axis(shape[d], "position"),) if shape[d] > 1 else (), *whole[d:])
    whole = _entrywise([(*x[:d], (), *x[d + 1 :]) for x in operands], (*shape[:d], 1, *shape[d + 1 :]))
    kinds = {a.kind for x in operands for a in x[d]}
    kind: Kind = kinds.pop() if len(kinds) == 1 else "position"
    return (*whole[:d], (Axis(shape[d], kind),) if shape[d] > 1 else (), *whole[d + 1 :])


def uncopied(layout: Layout) -> Layout:
    """An error signal is not the same along the axes along which the value is."""
    return tuple(tuple(replace(a, kind="feature") if a.kind == "copy" else a for a in dim) for dim in layout)


def plain_layout(known: Known) -> Layout:
    """What is given counts as equal entries, a parameter as independent ones."""
    if known.random:
        return seen_from(known).layout
    return tuple((Axis(n, "copy"),) if n > 1 else () for n in known.values.shape)
