"""Modules that repeat one another, as the blocks of a transformer do: their equations are written once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...graph import Graph, Node

__all__ = ["Repeat", "repeats", "signature"]


@dataclass(frozen=True)
class Repeat:
    """Modules that compute the same as the first of them, each with parameters of its own.

    Args:
        first: the module that stands for all.
        others: the modules that repeat it.
        twins: for each node of the others (their parameters included), the node of the first that it repeats.
        reads, gives: for each of them what it takes from outside, and what is used outside of it.
    """

    first: str
    others: tuple[str, ...]
    twins: dict[Node, Node]
    reads: dict[str, tuple[Node, ...]]
    gives: dict[str, tuple[Node, ...]]

    @property
    def shares(self) -> bool:
        """Whether they are one module at several times, with the same parameters."""
        return not any(n.is_leaf for n in self.twins)


def repeats(graph: Graph) -> tuple[Repeat, ...]:
    """Return the modules that repeat a sibling before them, operation by operation.

    Siblings are numbered parts of one module ("blocks.0", "blocks.1"). They repeat one another when their nodes
    agree in operation, attributes, shape and in where their operands come from.

    Args:
        graph: the network.
    """
    groups: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if not node.is_leaf and (name := _numbered(node.module)):
            groups.setdefault(name, []).append(node)
    alike: dict[tuple[str, Any], list[str]] = {}
    for name, nodes in groups.items():
        alike.setdefault((name.rpartition(".")[0], signature(name, nodes)), []).append(name)
    return tuple(_repeat(graph, names, groups) for names in alike.values() if len(names) > 1)


def _numbered(module: str) -> str:
    """The outermost part of a path that ends in a number: blocks.3 of blocks.3.attention, lstm.t3 of a time step."""
    parts = module.split(".")
    place = next((i for i, part in enumerate(parts) if part.removeprefix("t").isdecimal()), None)
    return "" if place is None else ".".join(parts[: place + 1])


def signature(name: str, nodes: Sequence[Node]) -> Any:
    """What modules that repeat one another agree in.

    Args:
        name: the module's path.
        nodes: what it computes, in order.
    """
    places = {node: i for i, node in enumerate(nodes)}
    outside: dict[Node, int] = {}
    return tuple(
        (n.op.name, _attributes(n, name), n.shape, n.dtype, n.role, _operands(name, n, places, outside)) for n in nodes
    )


def _attributes(node: Node, name: str) -> str:
    """The attributes as text; which part of a sequence a time step reads is no difference."""
    in_time = node.op.name == "select" and name.rpartition(".")[2].startswith("t")
    return repr(sorted((key, value) for key, value in node.attrs.items() if not (in_time and key == "index")))


def _operands(name: str, node: Node, places: dict[Node, int], outside: dict[Node, int]) -> Any:
    """Where operands come from: a node inside, an own leaf, a constant, or something outside by its order."""
    return tuple(
        ("inside", places[x])
        if x in places
        else ("own", x.name.removeprefix(name), x.shape, x.role)
        if _owns(name, x)
        else ("constant", repr(x.value), x.shape)
        if x.role == "constant"
        else ("outside", outside.setdefault(x, len(outside)), x.shape)
        for x in node.inputs
    )


def _owns(name: str, node: Node) -> bool:
    return node.is_leaf and node.name.startswith(f"{name}.")


def _repeat(graph: Graph, names: Sequence[str], groups: dict[str, list[Node]]) -> Repeat:
    first, *others = names
    twins: dict[Node, Node] = {}
    for name in others:
        for node, twin in zip(groups[name], groups[first], strict=True):
            twins[node] = twin
            twins |= {x: y for x, y in zip(node.inputs, twin.inputs, strict=True) if _owns(name, x)}
    reads = {name: _outside(name, groups[name]) for name in names}
    gives = {name: tuple(n for n in groups[name] if set(graph.users[n]) - set(groups[name])) for name in names}
    return Repeat(first, tuple(others), twins, reads, gives)


def _outside(name: str, nodes: Iterable[Node]) -> tuple[Node, ...]:
    own = set(nodes)
    found = (x for n in nodes for x in n.inputs if x not in own and not _owns(name, x) and x.role != "constant")
    return tuple(dict.fromkeys(found))
