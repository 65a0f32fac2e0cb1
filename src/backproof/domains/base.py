"""A domain: one way to read a Graph, as a table of rules by operation or by family."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import BackproofError, MissingRule
from ..graph import Graph, Node
from ..ops import Elementwise, Op

__all__ = ["REGISTERED", "Cover", "Domain", "Rule", "register"]

Rule = Callable[..., Any]
Cover = Literal["own", "family", "none"]


@dataclass(frozen=True)
class Domain:
    """A reading of graphs.

    Args:
        name: how messages call it.
        doc: what its values are.
        rules: rule by operation name or by family; a rule takes (node, *operand values) and returns the value.
    """

    name: str
    doc: str
    rules: dict[str, Rule] = field(default_factory=dict)

    def rule(self, *keys: str) -> Callable[[Rule], Rule]:
        """Register a rule for operations or families by name; a second one for the same key is refused."""

        def add(function: Rule) -> Rule:
            for key in keys:
                if key in self.rules:
                    raise BackproofError(f"the {self.name} domain has a rule for '{key}' already")
                self.rules[key] = function
            return function

        return add

    def lookup(self, op: Op) -> Rule | None:
        """The rule of an operation: its own, else its family's, else (for formulas) the elementwise one."""
        found = self.rules.get(op.name) or self.rules.get(op.family)
        return found or (self.rules.get("elementwise") if isinstance(op, Elementwise) else None)

    def cover(self, op: Op) -> Cover:
        """How the domain covers an operation: by a rule of its own, by its family's, or not at all."""
        if op.name in self.rules:
            return "own"
        return "family" if self.lookup(op) else "none"

    def missing(self, nodes: Iterable[Node]) -> list[Node]:
        """The nodes for which there is no rule."""
        return [n for n in nodes if not n.is_leaf and self.lookup(n.op) is None]

    def require(self, graph: Graph) -> None:
        """Raise MissingRule with every gap in the graph, if there is one."""
        gaps = self.missing(graph.nodes)
        if not gaps:
            return
        first, counts = gaps[0], Counter(n.op.name for n in gaps)
        where = "".join(
            part
            for part in (
                f" in {first.module}" if first.module else "",
                f", at {first.source}" if first.source else "",
            )
        )
        others = ", ".join(f"{name} ({k} nodes)" for name, k in counts.items() if name != first.op.name)
        raise MissingRule(
            f"the {self.name} domain has no rule for '{first.op.name}', needed by {first.name} {list(first.shape)}{where}."
            + (f" Also missing in this graph: {others}." if others else "")
            + _advice(first, self)
        )

    def apply(self, node: Node, *operands: Any) -> Any:
        """The value of one node from the values of its operands."""
        rule = self.lookup(node.op)
        if rule is None:
            self.require(Graph((node,), (node,)))
        assert rule is not None
        return rule(node, *operands)

    def run(self, graph: Graph, leaves: Mapping[Node, Any]) -> dict[Node, Any]:
        """Read the whole graph: the value of every node from the values of the leaves.

        Args:
            graph: what to read.
            leaves: values of the leaves (constants included) and of any node that should be held fixed.
        """
        self.require(graph)
        values: dict[Node, Any] = dict(leaves)
        for node in graph.nodes:
            if node not in values:
                values[node] = self.apply(node, *(values[x] for x in node.inputs))
        return values


REGISTERED: dict[str, Domain] = {}
"""Domains of other packages, by name."""


def register(domain: Domain) -> Domain:
    """Add a domain of another package to the table of ``backproof ops``; a second of the same name is refused."""
    if domain.name in REGISTERED:
        raise BackproofError(f"a domain named '{domain.name}' is registered already")
    REGISTERED[domain.name] = domain
    return domain


def _advice(gap: Node, domain: Domain) -> str:
    """What to do about a missing rule."""
    if gap.op.family == "opaque":
        return (
            f" '{gap.op.name}' is opaque: torch computes it and its derivative, and nothing else is known of it, so that the"
            " numbers domain alone can read it. Write it with operations of `backproof ops`, or register one for it."
        )
    return f" It knows: {', '.join(sorted(domain.rules))}. Add one with @{domain.name}.rule({gap.op.name!r})."
