"""An operation without a textbook form: said by name; everything else is derived."""

from __future__ import annotations

from ...differentiate import is_unknown
from ...graph import Graph, Node

__all__ = ["gaps"]


def gaps(graph: Graph, behind: set[Node]) -> list[str]:
    """What a page says of each unknown operation that the loss depends on."""
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node in behind and is_unknown(node):
            found.setdefault(node.op.name, []).append(node)
    return [_said(name, nodes) for name, nodes in found.items()]


def _said(name: str, nodes: list[Node]) -> str:
    first = nodes[0]
    where = f" in {first.module}" if first.module else ""
    source = f", at {first.source}" if first.source else ""
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return (
        f"{name} ({first.name}{where}{source}{more}) has no textbook form here: what goes back through it is written as its "
        "transposed Jacobian times the error signal, and its numbers are not computed from this page. The rest is derived."
    )
