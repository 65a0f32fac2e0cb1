"""A captured graph as a result that can be shown and saved."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...document.blocks import Block, Callout, Details, Document, Figure, Items, Paragraph
from ...graph import Graph, Node
from ...notation import symbol
from ...result import Result
from ..caveats import caveats, marks
from .inside import inside
from .opened import HINT, is_long, modules_dict, network_table
from .worked import graph_listing

__all__ = ["Captured"]


@dataclass(frozen=True)
class Captured(Result):
    """The graph of a network: its drawing, its nodes or modules, and what its structure says.

    Args:
        graph: the network.
        depth: how many levels of modules are opened; None for as many as are read at a glance.
        module: the module whose inside is shown; "" for the network.
    """

    graph: Graph
    depth: int | None = None
    module: str = ""

    @property
    def by_module(self) -> bool:
        """Whether it is shown module by module."""
        return self.depth is not None or bool(self.module) or is_long(self.graph)

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The graph as plain data."""
        loss = None if self.graph.loss is None else self.graph.loss.name
        return {
            "model": self.graph.title,
            "nodes": [_node(n) for n in self.graph.nodes],
            "outputs": [n.name for n in self.graph.outputs],
            "loss": loss,
            "facts": self.graph.facts,
            "remarks": list(caveats(self.graph, own_backward=True)),
            "modules": list(modules_dict(self.graph, self.depth, self.module)),
        }

    def document(self) -> Document:
        """The drawing, the facts and the list of nodes, of a large network by module and with the list folded away."""
        listing = graph_listing(self.graph)
        if not self.by_module:
            return self._with((*_facts(self.graph), listing))
        count = len(self.graph.nodes)
        return self._with((*self._modules(), *_facts(self.graph), Details(f"All {count} nodes", (listing,))))

    def terminal(self) -> Document:
        """What a terminal shows: of a large network no list of nodes."""
        return self._with((*self._modules(), *_facts(self.graph))) if self.by_module else self.document()

    def _modules(self) -> tuple[Block, ...]:
        return network_table(self.graph, self.depth, self.module), Paragraph((HINT,))

    def _with(self, blocks: tuple[Block, ...]) -> Document:
        from ...pictures.operations import operations

        graph = inside(self.graph, self.module)[0] if self.module else self.graph
        drawing = operations(graph, symbols=symbol)
        figure = Figure(drawing, ("The computational graph.",), f"Computational graph of {self.graph.title}")
        count = sum(n.is_operation for n in self.graph.nodes)
        said = tuple(Callout("note", (r,)) for r in caveats(self.graph, own_backward=True))
        return Document(
            f"The graph of {self.graph.title}",
            (figure, *said, *blocks),
            " · ".join((f"{count} operations, {len(self.graph.parameters)} parameters", *marks(self.graph))),
            record=self.to_dict(),
        )


def _node(node: Node) -> dict[str, Any]:
    source = (
        None if node.source is None else {"file": node.source.file, "line": node.source.line, "text": node.source.text}
    )
    return {
        "name": node.name,
        "role": node.role,
        "operation": node.op.name,
        "shape": list(node.shape),
        "dtype": node.dtype,
        "inputs": [x.name for x in node.inputs],
        "module": node.module,
        "source": source,
    }


_SKIPS = {
    "identity": "the identity",
    "conv": "a convolution",
    "linear": "a linear layer",
    "matmul": "a matrix product",
}


def _facts(graph: Graph) -> tuple[Items, ...]:
    facts = graph.facts
    said = [
        f"{name} is the same tensor as {first} (tied): one parameter, whose gradients add up"
        for name, first in facts["tied_weights"].items()
    ]
    if opaque := facts["opaque_nodes"]:
        said.append(
            f"opaque, that is computed and differentiated by torch, and unknown to every reading but numbers: {', '.join(opaque)}"
        )
    said += [f"no output depends on the parameter {name}" for name in facts["unused_parameters"]]
    said += [f"there is an identity path from {name} to an output" for name in facts["identity_paths"]]
    said += _skips(facts["skips"])
    if names := [old.name for old in graph.state]:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        said.append(f"the forward pass changes buffers, which the next one begins with: {', '.join(names[:3])}{more}")
    return (Items(tuple((text,) for text in said)),) if said else ()


def _skips(skips: Sequence[Mapping[str, str]]) -> list[str]:
    """Each skip in words; those of modules that differ in their number alone together."""
    groups: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for skip in skips:
        groups.setdefault((re.sub(r"\d+", "#", skip["module"]), skip["skip"]), []).append(skip)
    return [_skip(kind, found) for (_, kind), found in groups.items()]


def _skip(kind: str, found: Sequence[Mapping[str, str]]) -> str:
    what = _SKIPS.get(kind, kind)
    if len(found) > 3:
        return f"the {len(found)} skips of {found[0]['module'] or 'the network'} to {found[-1]['module']} are {what}"
    each = (f"{s['module'] or 'the network'} (the sum {s['sum']}, from {s['from']})" for s in found)
    return f"the skip of {' and that of '.join(each)} is {what}"
