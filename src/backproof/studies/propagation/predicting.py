"""The prediction: a network's graph read over fields, and what one network of finite width may differ from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...domains.fields import Axis, Field
from ...domains.signals.reading import Reading
from ...domains.variances import gaussian, kurtosis
from ...graph import Graph, Node
from ...ops import Elementwise, derivative

__all__ = ["Predicted", "function_behind", "gains_of", "slope"]


def slope(node: Node) -> Node:
    """The derivative of an elementwise node, as a node."""
    assert isinstance(node.op, Elementwise)
    return replace(node, op=derivative(node.op, 0))


def function_behind(graph: Graph, node: Node) -> Node | None:
    """The activation behind a linear map: the first function on the only way on, past norms, sums and changes of shape."""
    for _ in range(12):
        users = [u for u in graph.users[node] if u.op.name not in ("mean", "var") and u.role != "adjoint"]
        found = [u for u in users if u.op.family == "elementwise" and len(u.inputs) == 1 and _curved(u)]
        if found:
            return found[0]
        if len(users) != 1 or users[0].op.name not in _PASSES:
            return None
        node = users[0]
    return None


_PASSES = ("batch_norm", "layer_norm", "reshape", "permute", "add", "identity", "cast", "mul")
_STRAIGHT = (
    "identity",
    "neg",
    "cast",
    "sqrt",
    "root",
    "rsqrt",
    "square",
    "exp",
    "log",
    "abs",
    "reciprocal",
    "clamp",
    "erf",
)


def _curved(node: Node) -> bool:
    return isinstance(node.op, Elementwise) and node.op.name not in _STRAIGHT and node.op.differentiable


def gains_of(node: Node) -> tuple[float, float] | None:
    """(1/sqrt(E[f²]), 1/sqrt(E[f'²])) for a standard normal; None where they are infinite."""
    both = gaussian(node, 0.0, 1.0, 2), gaussian(slope(node), 0.0, 1.0, 2)
    return (1 / math.sqrt(both[0]), 1 / math.sqrt(both[1])) if min(both) > 0 and all(map(math.isfinite, both)) else None


class Predicted:
    """The fields of the linear maps, forwards and backwards.

    Args:
        graph: the network.
        given: the tensors of its leaves.
        maps: the nodes in question.
        start: where the backward pass begins.
        from_noise: whether it begins from a unit Gaussian (else from the loss).
    """

    def __init__(
        self,
        graph: Graph,
        given: Mapping[Node, Tensor],
        maps: Sequence[Node],
        start: Node,
        from_noise: bool,
        seed: int = 0,
    ) -> None:
        self.graph, self.maps = graph, list(maps)
        self.reading = Reading(graph, given, seed)
        self.reading.forward([*self.maps, start])
        field = self.reading.values.get(start)
        if isinstance(field, Field):
            self.reading.backward(start, _unit(field) if from_noise else _ONE)
        else:
            self.reading.reasons.setdefault(start, "the loss is not known")

    def forward(self, node: Node) -> float:
        """E[x²] of a node, nan where it is not known."""
        return self._second(self.reading.values.get(node))

    def backward(self, node: Node) -> float:
        """E[δ²] of a node, nan where it is not known."""
        return self._second(self.reading.deltas.get(node))

    @staticmethod
    def _second(field: object) -> float:
        return field.second if isinstance(field, Field) else math.nan

    def reason(self, node: Node) -> str:
        """Why nothing is predicted of a node."""
        silent = math.isnan(self.forward(node)) or math.isnan(self.backward(node))
        return (
            next(iter([self.reading.reasons.get(node), *self.reading.reasons.values()]), None) or "" if silent else ""
        )

    def correlation(self, node: Node) -> float:
        """The mean correlation between positions."""
        field = self.reading.values.get(node)
        return field.correlation if isinstance(field, Field) else math.nan

    def bands(self) -> list[tuple[float, float]]:
        """exp(2 sqrt(Σ shares)): forwards of the layers so far, backwards of those from here on."""
        shares = [self._share(n) for n in self.maps]
        total = sum(shares)
        found, so_far = [], 0.0
        for share in shares:
            so_far += share
            found.append(tuple(math.exp(min(2 * math.sqrt(s), 300.0)) for s in (so_far, total - so_far + share)))
        return found  # type: ignore[return-value]

    def _share(self, node: Node) -> float:
        """What one layer adds to the variance of the logarithm: (E[f⁴]/E[f²]² - 1 + 2)/n, and 2/n without a function."""
        function, width = function_behind(self.graph, node), max(_width(node), 1)
        field = self.reading.values.get(node)
        if function is None or not isinstance(field, Field):
            return 2 / width
        mean, variance = float(field.mean.mean()), float(field.variance.mean())
        back = kurtosis(slope(function), mean, variance)
        return (max(kurtosis(function, mean, variance), back) + 2) / width


def _width(node: Node) -> int:
    return node.shape[1] if node.op.name.startswith("conv") else node.shape[-1] if node.shape else 1


_ONE = Field((), torch.ones(1, dtype=torch.float64), torch.ones((1, 1), dtype=torch.float64))


def _unit(field: Field) -> Field:
    """Independent standard normal entries in the place of a field."""
    layout = tuple(tuple(Axis(a.size, "feature") if a.kind == "copy" else a for a in dim) for dim in field.layout)
    count = len(field.mean)
    return Field(layout, torch.zeros(count, dtype=torch.float64), torch.eye(count, dtype=torch.float64), True)
