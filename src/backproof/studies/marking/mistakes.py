"""Which mistake gives this number? Single slips that people make, tried one by one on the numbers at hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ...domains.numbers import numbers
from ...errors import BackproofError
from ...graph import Node
from ...ops import OPS, Elementwise, Op, derivative

__all__ = ["slips"]

MOST_TRIES = 400
DEEPEST = 4


def slips(right: Tensor, known: Mapping[Node, Tensor], node: Node | None, samples: int) -> Iterator[tuple[str, Tensor]]:
    """What the number would be with one slip, and the slip in words, likely ones first.

    Args:
        right: the number that follows from what was known before.
        known: all numbers known before, by node.
        node: the operation that gives the number.
        samples: the number of samples, for a mean in place of a sum.
    """
    yield "the sign is reversed", -right
    yield from _factors(right, samples)
    if right.dim() == 2 and right.shape[0] == right.shape[1]:
        yield "the matrix is transposed", right.T
    if node is not None:
        yield from _left_out(right, known, node)
        yield from _one_edit(right, known, node)


def _factors(right: Tensor, samples: int) -> Iterator[tuple[str, Tensor]]:
    yield "a factor 2 is too much", 2 * right
    yield "a factor 1/2 is too much", right / 2
    if samples > 1:
        yield f"it is the sum where the mean over {samples} is meant (a factor {samples} is too much)", samples * right
        yield (
            f"it is the mean over {samples} where the sum is meant (a factor 1/{samples} is too much)",
            right / samples,
        )


def _left_out(right: Tensor, known: Mapping[Node, Tensor], node: Node) -> Iterator[tuple[str, Tensor]]:
    """The number before the last operations: the last factor was forgotten."""
    for depth, before in _above(node, DEEPEST):
        value = known.get(before)
        if value is not None and value.shape == right.shape and not before.role == "constant":
            words = f"this is the number of {_called(before)}" + _forgotten(node, before, depth)
            yield words, value


def _forgotten(node: Node, before: Node, depth: int) -> str:
    others = [x for x in node.inputs if x is not before]
    if depth > 1 or node.op.name not in ("mul", "div", "add", "sub") or not others:
        return ""
    return f"; {_called(others[0])} was forgotten"


def _above(node: Node, depth: int) -> Iterator[tuple[int, Node]]:
    level, seen = [node], {node}
    for d in range(1, depth + 1):
        level = [x for n in level for x in n.inputs if x not in seen]
        seen.update(level)
        yield from ((d, n) for n in level)


def _one_edit(right: Tensor, known: Mapping[Node, Tensor], node: Node) -> Iterator[tuple[str, Tensor]]:
    """One operand on the way replaced by another quantity of the same shape, or a difference taken wrongly."""
    cone = _way(node)
    rank = {n: i for i, n in enumerate(known)}
    cone.sort(key=lambda n: rank.get(n, len(rank)))
    for words, place, operands in itertools.islice(_edits(cone, known), MOST_TRIES):
        value = _again(known, cone, place, operands)
        if value is not None and value.shape == right.shape:
            yield words, value


def _way(node: Node) -> list[Node]:
    """The operation and the unnamed ones before it, up to the quantities that have a name of their own."""
    found, level = [node], [node]
    for _ in range(DEEPEST):
        level = [x for n in level for x in n.inputs if x not in found and not _has_name(x)]
        found += dict.fromkeys(level)
    return found


def _has_name(node: Node) -> bool:
    return node.is_leaf or node.role == "value" or (node.of is not None and node.of.role != "helper")


def _edits(cone: list[Node], known: Mapping[Node, Tensor]) -> Iterator[tuple[str, Node, list[Tensor]]]:
    """Every place on the way with the operation and the operands that a slip would give it."""
    for place in reversed(cone):
        if any(x not in known for x in place.inputs):
            continue
        own = [known[x] for x in place.inputs]
        if place.op.name == "sub":
            a, b = (_called(x) for x in place.inputs)
            yield f"{a} + {b} stands where {a} - {b} belongs", place, [own[0], -own[1]]
            yield f"{b} - {a} stands where {a} - {b} belongs", place, [own[1], own[0]]
        if place.op.name in _SLOPES:
            for name in _SLOPES:
                if name != place.op.name:
                    yield f"{name} stands where {place.op.name} belongs", _with(place, name), own
        for i, operand in enumerate(place.inputs):
            for other, value in known.items():
                if _can_stand_for(other, operand, cone):
                    words = f"{_called(other)} stands where {_called(operand)} belongs"
                    yield words, place, [*own[:i], value, *own[i + 1 :]]


_SLOPES = ("tanh'", "sigmoid'", "relu'", "sin'", "cos'", "tanh", "sigmoid", "relu")
"""Functions and slopes that are taken for one another."""


def _with(place: Node, name: str) -> Node:
    return Node(_operation(name), place.inputs, {}, place.shape, place.dtype, place.name, place.role)


def _operation(name: str) -> Op:
    if name in OPS:
        return OPS[name]
    base = OPS[name.rstrip("'")]
    assert isinstance(base, Elementwise)
    return derivative(base, 0)


def _can_stand_for(other: Node, operand: Node, cone: list[Node]) -> bool:
    same = other.shape == operand.shape and other.is_float and operand.is_float
    return same and other is not operand and other.role not in ("constant", "helper") and other not in cone


def _again(known: Mapping[Node, Tensor], cone: list[Node], place: Node, operands: list[Tensor]) -> Tensor | None:
    """The number of the last node of the way with other operands at one place."""
    values: dict[Node, Tensor] = {}
    with torch.no_grad():
        for n in cone:
            here = n is place or n.name == place.name
            own = operands if here else [values[x] if x in values else known[x] for x in n.inputs]
            try:
                values[n] = numbers.apply(place if here else n, *own)
            except (BackproofError, RuntimeError, ValueError, TypeError):
                return None
    return values[cone[-1]]


def _called(node: Node) -> str:
    """The quantity as people call it: dL/ds for the gradient of s."""
    if node.of is not None:
        return f"the gradient of {node.of.name}"
    return (
        f"'{node.name}'" if node.role in ("value", "parameter", "input", "target", "buffer", "draw") else _formula(node)
    )


_SIGNS = {"mul": " · ", "add": " + ", "sub": " - ", "div": " / "}


def _formula(node: Node) -> str:
    if node.role == "constant":
        return node.name
    inner = [x.name if _has_name(x) else _formula(x) for x in node.inputs]
    return _SIGNS[node.op.name].join(inner) if node.op.name in _SIGNS else f"{node.op.name}({', '.join(inner)})"
