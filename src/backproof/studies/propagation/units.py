"""Units at rest: activations that have slope 0, or next to none, for what they are given."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from ...domains.numbers import numbers
from ...domains.variances import function_values
from ...graph import Builder, Graph, Node
from ...ops import Elementwise
from .predicting import function_behind, slope

__all__ = ["BOUNDED", "at_rest", "flat_entries", "saturated"]

BOUNDED = ("sigmoid", "tanh", "hardtanh", "softsign", "hardsigmoid", "atan", "erf")


def at_rest(graph: Graph, node: Node, values: Mapping[Node, Tensor]) -> float:
    """The share of units whose activation has slope 0 for every input."""
    function = function_behind(graph, node)
    if function is None or function.inputs[0] not in values:
        return 0.0
    slopes = numbers.apply(slope(function), values[function.inputs[0]]).abs()
    axis = 1 if node.op.name.startswith("conv") else slopes.ndim - 1
    units = slopes.movedim(axis, -1).reshape(-1, slopes.shape[axis])
    return float((units.amax(0) < 1e-12).double().mean())


def saturated(graph: Graph, node: Node, values: Mapping[Node, Tensor]) -> float:
    """The share of entries where a bounded activation has less than 1/20 of its largest slope."""
    function = function_behind(graph, node)
    if function is None or function.op.name not in BOUNDED or function.inputs[0] not in values:
        return 0.0
    return float(flat_entries(function, values[function.inputs[0]]).double().mean())


def flat_entries(function: Node, x: Tensor) -> Tensor:
    """Where a bounded function has less than 1/20 of its largest slope."""
    if function.op.name == "hardtanh" and function.attrs["min_val"] >= 0:
        return x != x  # ReLU6: half of it is flat where nothing is wrong
    slopes: Tensor = numbers.apply(slope(function), x).abs()
    assert isinstance(function.op, Elementwise)
    return slopes < _steepest(function.op, tuple(sorted(function.attrs.items()))) / 20


@lru_cache(maxsize=64)
def _steepest(op: Elementwise, attrs: tuple[tuple[str, Any], ...]) -> float:
    node = Builder().emit(op, Builder().leaf("x", "input", (1,), "float64"), **dict(attrs))
    return float(np.abs(function_values(slope(node), np.linspace(-10, 10, 2001))).max())
