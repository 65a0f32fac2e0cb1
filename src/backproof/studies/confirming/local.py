"""Evidence for networks too large for 50-digit arithmetic as a whole: single operations, one random entry at a time.

An entry of a node depends on few entries of its operands: on one of each for an elementwise operation, on a row and
a column for a product, on a line for a softmax. Those are taken from the reading and the entry is computed again from the
operation's formula in 50 digits, which shares no kernel with torch. Operations that only move numbers compute none and
are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...domains.digits import digits
from ...domains.entries import Array
from ...graph import Node
from ...ops import Elementwise
from ...ops.shapes import axes_of
from ..verdicts import TOLERANCE
from .local_layers import CUT

__all__ = ["checkable", "entry_error", "random_places", "work"]

MOST_SCALARS = 20_000
_NUDGE = 2.0**-49
Place = tuple[int, ...]
_LINES = {"softmax", "log_softmax", "softmax_grad", "log_softmax_grad"}
_FOLDS = {"sum", "mean", "amax", "amin", "var", "logsumexp"}


def checkable(nodes: Iterable[Node]) -> list[Node]:
    """The nodes whose entries can be computed again one at a time."""
    return [n for n in nodes if n.is_float and n.size and _rule(n) is not None]


def entry_error(node: Node, place: Place, values: Mapping[Node, Tensor]) -> float | None:
    """The difference between a recorded entry and the same entry in 50 digits, relative to the tensor's size."""
    rule = _rule(node)
    assert rule is not None
    result = rule(node, place, [values[x] for x in node.inputs])
    if result is None:
        return None
    recorded = values[node].double()
    ours, theirs = float(recorded[place]), float(result)
    if ours == theirs:
        return 0.0  # also where both are infinite, as a score is that a mask hides
    size = max(float(recorded[recorded.isfinite()].abs().max()), 1e-300) if bool(recorded.isfinite().any()) else 1.0
    error = abs(theirs - ours) / size
    if error <= TOLERANCE:
        return error
    return None if abs(theirs - ours) <= _rounding(rule, node, place, values, result) else error


def _rounding(
    rule: Callable[[Node, Place, list[Tensor]], Any],
    node: Node,
    place: Place,
    values: Mapping[Node, Tensor],
    exact: Any,
) -> float:
    """How far the entry moves when its operands do by some units of rounding: much, where they cancel."""
    generator = torch.Generator().manual_seed(0)
    furthest = 0.0
    for sign in (1, -1, 1, -1):
        operands = [_nudged(values[x], sign, generator) for x in node.inputs]
        furthest = max(furthest, abs(float(rule(node, place, operands) - exact)))
    return 4 * furthest


def _nudged(x: Tensor, sign: int, generator: torch.Generator) -> Tensor:
    if not x.is_floating_point():
        return x
    noise = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    return x.double() * (1 + sign * _NUDGE * noise.to(x.device))


def _again(node: Node, operands: list[Array], result: tuple[int, ...], /, **attrs: Any) -> Any:
    """The one entry of an operation on small operands, in 50 digits."""
    small = replace(node, shape=result, attrs={**node.attrs, **attrs})
    return digits.apply(small, operands).reshape(-1)


def _rule(node: Node) -> Callable[[Node, Place, list[Tensor]], Any] | None:
    if isinstance(node.op, Elementwise):
        return _elementwise
    if node.op.name in _LINES:
        return _line
    if node.op.name in _FOLDS:
        return _fold
    if node.op.name in CUT:
        return _cut
    return {"linear": _linear, "matmul": _matmul, "outer": _outer}.get(node.op.name)


def _cut(node: Node, place: Place, operands: list[Tensor]) -> Any:
    small, shape, attrs = CUT[node.op.name](node, place, operands)
    if max(t.numel() for t in small) > MOST_SCALARS:
        return None
    return _again(node, [_scalars(t) for t in small], shape, **attrs)[0]


def _scalars(tensor: Tensor) -> Array:
    return digits.array(tensor.tolist(), tuple(tensor.shape))


def _entry(tensor: Tensor, place: Place) -> Tensor:
    """The entry that broadcasting takes to this place."""
    own = place[len(place) - tensor.ndim :]
    return tensor[tuple(0 if n == 1 else i for i, n in zip(own, tensor.shape, strict=True))]


def _elementwise(node: Node, place: Place, operands: list[Tensor]) -> Any:
    return _again(node, [_scalars(_entry(x, place)) for x in operands], ())[0]


def _linear(node: Node, place: Place, operands: list[Tensor]) -> Any:
    x, weight, *bias = operands
    row, column = x[place[:-1]].unsqueeze(0), weight[place[-1] : place[-1] + 1]
    small = [row, column, *(b[place[-1] : place[-1] + 1] for b in bias)]
    return _again(node, [_scalars(t) for t in small], (1, 1))[0] if row.numel() <= MOST_SCALARS else None


def _matmul(node: Node, place: Place, operands: list[Tensor]) -> Any:
    a, b = operands
    column = place[-1] if b.ndim > 1 else None
    row = (place[-2] if column is not None else place[-1]) if a.ndim > 1 else None
    batch = place[: len(place) - (column is not None) - (row is not None)]
    left = _batch(a, batch, 2)[row] if row is not None else a
    right = _batch(b, batch, 2)[:, column] if column is not None else b
    if left.numel() > MOST_SCALARS:
        return None
    return _again(node, [_scalars(left), _scalars(right)], ())[0]


def _batch(tensor: Tensor, batch: Place, keep: int) -> Tensor:
    """The matrix of a batch at this place, with broadcasting."""
    own = tensor.shape[:-keep]
    return tensor[tuple(0 if n == 1 else i for i, n in zip(batch[len(batch) - len(own) :], own, strict=True))]


def _outer(node: Node, place: Place, operands: list[Tensor]) -> Any:
    a, b = operands
    return _again(node, [_scalars(a[place[0] : place[0] + 1]), _scalars(b[place[1] : place[1] + 1])], (1, 1))[0]


def _fold(node: Node, place: Place, operands: list[Tensor]) -> Any:
    x = operands[0]
    axes = axes_of(node.attrs["dim"], x.ndim)
    at = iter(place if not node.attrs["keepdim"] else [p for i, p in enumerate(place) if i not in axes])
    index: list[Any] = [slice(None) if i in axes else next(at) for i in range(x.ndim)]
    folded = x[tuple(index)].reshape(-1)
    return _again(node, [_scalars(folded)], (), dim=None, keepdim=False)[0] if folded.numel() <= MOST_SCALARS else None


def _line(node: Node, place: Place, operands: list[Tensor]) -> Any:
    dim = node.attrs["dim"] % len(node.shape)
    index = tuple(slice(None) if i == dim else p for i, p in enumerate(place))
    lines = [x[index] for x in operands]
    if lines[0].numel() > MOST_SCALARS:
        return None
    return _again(node, [_scalars(line) for line in lines], (lines[0].numel(),), dim=0)[place[dim]]


def random_places(nodes: list[Node], count: int, seed: int) -> list[tuple[Node, Place]]:
    """Random entries, every node once before any twice."""
    random = np.random.default_rng(seed)
    order = [nodes[i] for i in random.permutation(len(nodes))] if nodes else []
    chosen = (order * (count // max(len(order), 1) + 1))[:count]
    return [(n, tuple(int(random.integers(0, k)) for k in n.shape)) for n in chosen]


def work(nodes: Iterable[Node]) -> int:
    """About how many scalar operations a reading takes."""
    return sum(_node_work(n) for n in nodes if not n.is_leaf)


def _node_work(node: Node) -> int:
    if node.op.name in ("matmul", "linear"):
        return node.size * node.inputs[0].shape[-1]
    if node.op.family in ("convolution", "pooling"):
        return _windowed_work(node)
    return max(node.size, *(x.size for x in node.inputs), 1)


def _windowed_work(node: Node) -> int:
    """About how many scalar operations a convolution or pool takes: its places times what a kernel or window holds."""
    if node.op.family == "convolution":
        kernel = node.shape if node.op.name == "conv_weight_grad" else node.inputs[1].shape
        places = node.inputs[1 if node.op.name == "conv_weight_grad" else 0] if node.op.name != "conv" else node
        return math.prod(places.shape[2:]) * places.shape[0] * math.prod(kernel)
    if "kernel" in node.attrs:
        smaller = min(node.size, node.inputs[0].size)
        return int(smaller * math.prod(node.attrs["kernel"]))
    return max(node.size, *(x.size for x in node.inputs))
