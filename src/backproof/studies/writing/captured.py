"""A captured graph as a result that can be shown and saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...document.blocks import Block, Document, Figure, Items
from ...graph import Graph, Node
from ...notation import symbol
from ...result import Result
from .worked import graph_listing

__all__ = ["Captured"]


@dataclass(frozen=True)
class Captured(Result):
    """The graph of a network: its drawing, its nodes, and what its structure says."""

    graph: Graph

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The graph as plain data."""
        loss = None if self.graph.loss is None else self.graph.loss.name
        return {
            "model": self.graph.title,
            "nodes": [_node(n) for n in self.graph.nodes],
            "outputs": [n.name for n in self.graph.outputs],
            "loss": loss,
            "facts": self.graph.facts,
        }

    def document(self) -> Document:
        """The drawing, the facts and the list of nodes."""
        from ...pictures.operations import operations

        drawing = operations(self.graph, symbols=symbol)
        figure = Figure(drawing, ("The computational graph.",), f"Computational graph of {self.graph.title}")
        count = sum(not n.is_leaf for n in self.graph.nodes)
        blocks: tuple[Block, ...] = (figure, *_facts(self.graph), graph_listing(self.graph))
        return Document(
            f"The graph of {self.graph.title}",
            blocks,
            f"{count} operations, {len(self.graph.parameters)} parameters",
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
    said += [
        f"the skip of {s['module'] or 'the network'} (the sum {s['sum']}, from {s['from']}) is {_SKIPS.get(s['skip'], s['skip'])}"
        for s in facts["skips"]
    ]
    if names := [old.name for old in graph.state]:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        said.append(f"the forward pass changes buffers, which the next one begins with: {', '.join(names[:3])}{more}")
    return (Items(tuple((text,) for text in said)),) if said else ()
