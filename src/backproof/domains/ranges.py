"""The ranges domain: an interval of real numbers that holds every entry of a node, whatever the parameters are.

Used to say what an output can never reach ("sin(u) - b stays within [-1, 1]"). It is an outer bound in float64, for
remarks; it certifies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..graph import Graph, Node
from .base import Domain

__all__ = ["Range", "ranges", "reach"]

Range = tuple[float, float]
ALL: Range = (-math.inf, math.inf)

ranges = Domain("ranges", "intervals of reals that hold every entry, for all values of the free leaves")

_BOUNDED: dict[str, Range] = {
    "sin": (-1, 1), "cos": (-1, 1), "tanh": (-1, 1), "sigmoid": (0, 1), "relu": (0, math.inf), "relu6": (0, 6),
    "abs": (0, math.inf), "square": (0, math.inf), "sqrt": (0, math.inf), "root": (0, math.inf), "exp": (0, math.inf), "softmax": (0, 1),
    "hardtanh": (-1, 1), "hardsigmoid": (0, 1), "softplus": (0, math.inf), "softsign": (-1, 1), "erf": (-1, 1),
    "atan": (-math.pi / 2, math.pi / 2), "logsigmoid": (-math.inf, 0), "sign": (-1, 1), "cosh": (1, math.inf),
    "log_softmax": (-math.inf, 0), "squared_error": (0, math.inf), "absolute_error": (0, math.inf),
}  # fmt: skip
_RISING: dict[str, Callable[[float], float]] = {"tanh": math.tanh, "relu": lambda v: max(v, 0.0), "exp": lambda v: math.exp(min(v, 700.0)),
           "sigmoid": lambda v: 1 / (1 + math.exp(-max(min(v, 700.0), -700.0)))}  # fmt: skip


def _products(a: Range, b: Range) -> Range:
    ends = [0.0 if 0 in (x, y) else x * y for x in a for y in b]
    return min(ends), max(ends)


@ranges.rule("elementwise", "arithmetic", "comparison", "loss", "linear", "reduce", "softmax", "convolution",
    "pooling", "normalisation", "scan", "contraction", "matrix")  # fmt: skip
def _general(node: Node, *x: Range) -> Range:
    name = node.op.name
    if name in _RISING and math.isfinite(x[0][0]) and math.isfinite(x[0][1]):
        return _RISING[name](x[0][0]), _RISING[name](x[0][1])
    return _BOUNDED.get(name, ALL)


@ranges.rule("add")
def _add(node: Node, a: Range, b: Range) -> Range:
    return a[0] + b[0], a[1] + b[1]


@ranges.rule("sub")
def _sub(node: Node, a: Range, b: Range) -> Range:
    return a[0] - b[1], a[1] - b[0]


@ranges.rule("mul")
def _mul(node: Node, a: Range, b: Range) -> Range:
    return _products(a, b)


@ranges.rule("neg")
def _neg(node: Node, a: Range) -> Range:
    return -a[1], -a[0]


@ranges.rule("shape", "index", "mean", "amax", "amin", "identity")
def _moved(node: Node, *x: Range) -> Range:
    return min(r[0] for r in x[:1]), max(r[1] for r in x[:1])


@ranges.rule("max_pool", "adaptive_avg_pool", "max_pool_index")
def _pooled(node: Node, x: Range) -> Range:
    return (0, math.inf) if node.op.name == "max_pool_index" else x


@ranges.rule("pad")
def _padded(node: Node, x: Range) -> Range:
    value = float(node.attrs["value"])
    return min(x[0], value), max(x[1], value)


@ranges.rule("positions")
def _positions(node: Node, x: Range) -> Range:
    return 0.0, float(node.shape[node.attrs["dim"]] - 1)


@ranges.rule("unslice", "unselect", "scatter_add", "embedding_grad", "sum_to", "cat", "stack", "put", "scatter", "scatter_extreme",
    "argsort", "topk_index", "median_index", "bucket", "argmax", "argmin")  # fmt: skip
def _unknown(node: Node, *x: Range) -> Range:
    return ALL


def reach(graph: Graph, given: Mapping[str, Any]) -> dict[Node, Range]:
    """The range of every node when the leaves in ``given`` have those (smallest, largest) entries and the rest is free."""
    leaves = {n: given.get(n.name, ALL) for n in graph.nodes if n.is_leaf and n.role != "constant"}
    constants = {n: _entries(n.value) for n in graph.of_role("constant")}
    return ranges.run(graph, {**leaves, **constants})


def _entries(value: Any) -> Range:
    if hasattr(value, "min") and hasattr(value, "numel"):
        return (float(value.min()), float(value.max())) if value.numel() else ALL
    return (float(value), float(value)) if not isinstance(value, (tuple, list)) else ALL
