"""Gates that are shut or open for good, and dropouts that leave next to nothing: what no linear map's activation shows."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...graph import Graph, Node
from .units import BOUNDED, flat_entries

__all__ = ["Dropout", "Gates", "dropouts_of", "gates_of"]

ONE_SIDED = 0.1
_STEP = re.compile(r"\.t\d+$")  # the times of a recurrent layer count together


@dataclass(frozen=True)
class Gates:
    """The bounded functions of one module that stand behind no linear map directly, as those of a recurrent layer.

    Args:
        name: of the module.
        functions: what they are.
        share: of their entries, how many lie where the function has less than 1/20 of its largest slope.
        size: the root mean square of what goes in.
    """

    name: str
    functions: tuple[str, ...]
    share: float
    size: float


def gates_of(graph: Graph, values: Mapping[Node, Tensor], others: Collection[Node]) -> tuple[Gates, ...]:
    """The gates of each module, read off one run.

    Args:
        graph: the network.
        values: of its nodes.
        others: functions that are looked at elsewhere.
    """
    groups: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.op.name in BOUNDED and node not in others and node.inputs[0] in values and not _own_gate(graph, node):
            groups.setdefault(_STEP.sub("", node.module or node.name), []).append(node)
    return tuple(_gates(name, nodes, values) for name, nodes in groups.items())


def _gates(name: str, nodes: list[Node], values: Mapping[Node, Tensor]) -> Gates:
    shares = [_shut(n, values[n.inputs[0]].double()) for n in nodes]
    squares = [float((values[n.inputs[0]].double() ** 2).mean()) for n in nodes]
    functions = tuple(dict.fromkeys(n.op.name for n in nodes))
    return Gates(name, functions, sum(shares) / len(shares), math.sqrt(sum(squares) / len(squares)))


def _shut(node: Node, x: Tensor) -> float:
    """The share of flat entries; 0 where nearly all lie on one side, as those of a gate that a bias holds open on purpose."""
    flat = flat_entries(node, x)
    low, high = (float((flat & side).double().mean()) for side in (x < 0, x > 0))
    return low + high if min(low, high) >= ONE_SIDED * (low + high) else 0.0


def _own_gate(graph: Graph, node: Node) -> bool:
    """Whether a function only multiplies what it was given, as in x σ(x): that is an activation, with a slope of its own."""
    x = node.inputs[0]
    sources = {x, *(x.inputs if x.op.name in ("mul", "div") else ())}
    return any(u.op.name == "mul" and sources & set(u.inputs) - {node} for u in graph.users[node])


@dataclass(frozen=True)
class Dropout:
    """One dropout.

    Args:
        mask: the draw of what is kept.
        name: of the value that it is applied to.
        keep: the probability 1 - p.
    """

    mask: Node
    name: str
    keep: float

    @property
    def noise(self) -> float:
        """The mean square of the noise that it adds over that of the signal, p/(1 - p)."""
        return (1 - self.keep) / self.keep


def dropouts_of(graph: Graph) -> tuple[Dropout, ...]:
    """All inverted dropouts: a value times a Bernoulli mask over its own probability."""
    return tuple(_dropouts(graph))


def _dropouts(graph: Graph) -> Iterator[Dropout]:
    for mask in graph.of_role("draw"):
        if mask.attrs.get("method") != "bernoulli":
            continue
        keep = float(mask.attrs["arguments"][0])
        for scaled in (u for u in graph.users[mask] if u.op.name == "div" and _is(u.inputs[1], keep)):
            for product in (u for u in graph.users[scaled] if u.op.name == "mul"):
                other = next((x for x in product.inputs if x is not scaled), product)
                yield Dropout(mask, other.name, keep)


def _is(node: Node, number: float) -> bool:
    known = node.is_leaf and node.size == 1 and node.value is not None
    return known and math.isclose(float(torch.as_tensor(node.value).reshape(-1)[0]), number, rel_tol=1e-6)
