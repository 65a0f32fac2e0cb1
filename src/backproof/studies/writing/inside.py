"""The inside of a module as a graph of its own, and its drawing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

from ...document.blocks import Figure
from ...document.math import Expr
from ...graph import Graph, Node
from ...notation import symbol
from ...ops import OPS
from ...result import written
from .derived import names_of
from .repeats import Repeat

if TYPE_CHECKING:
    from .worked import Page
    from .written import StepWriter

__all__ = ["alike", "inside", "module_figure"]


def inside(graph: Graph, module: str) -> tuple[Graph, Mapping[Node, Node]]:
    """Return what a module computes as a graph, and the node of the whole that each of its nodes stands for.

    What comes from outside becomes a given of the same name.

    Args:
        graph: the whole network.
        module: the module's path.
    """
    own = {n for n in graph.nodes if not n.is_leaf and (n.module == module or n.module.startswith(f"{module}."))}
    made: dict[Node, Node] = {}
    for node in graph.nodes:
        if node in own:
            made[node] = replace(node, inputs=tuple(made[x] for x in node.inputs))
        elif set(graph.users[node]) & own:
            made[node] = node if node.is_leaf else _given(node)
    outputs = tuple(made[n] for n in graph.nodes if n in own and not set(graph.users[n]) <= own)
    return Graph(tuple(made.values()), outputs, title=module), {new: old for old, new in made.items()}


def _given(node: Node) -> Node:
    leaf = Node(OPS["leaf"], (), {"shape": node.shape}, node.shape, node.dtype, node.name, "input")
    return replace(leaf, module=node.module, source=node.source)


def module_figure(page: Page, writer: StepWriter, module: str) -> tuple[Figure, ...]:
    """The drawing of a module's operations; nothing for a module that repeats another, which is drawn."""
    from ...pictures.operations import operations

    if any(_within(module, other) for repeat in page.repeated for other in repeat.others):
        return ()
    graph, whole = inside(writer.step.graph, module)
    found = writer.joint.gradients if writer.joint else {}
    joint = SimpleNamespace(gradients={new: found.get(old) for new, old in whole.items()})

    def write(node: Node) -> Expr:
        return symbol(whole.get(node, node), page.names)

    drawing = operations(graph, joint=joint, symbols=write, max_nodes=48)
    like = "".join(f"; {names_of(repeat)} look the same" for repeat in page.repeated if repeat.first == module)
    count = sum(n.is_operation for n in graph.nodes)
    return (Figure(drawing, (f"Inside {module}{like}.",), f"The {count} operations of {module}", "module"),)


def _within(module: str, other: str) -> bool:
    return module == other or module.startswith(f"{other}.")


def alike(page: Page) -> dict[str, dict[str, object]]:
    """For each module that repeats another: the other, and the names and symbols that its path does not give."""
    return {
        other: {"first": repeat.first, "names": names, "symbols": symbols}
        for repeat in page.repeated
        for other in repeat.others
        for names, symbols in [_renamed(page, repeat, other)]
    }


def _renamed(page: Page, repeat: Repeat, other: str) -> tuple[dict[str, str], dict[str, str]]:
    own = [(twin, node) for node, twin in repeat.twins.items() if _within(node.module or node.name, other)]
    pairs = [*own, *zip(repeat.reads[repeat.first], repeat.reads[other], strict=True)]
    texts = [(written(symbol(a, page.names))[0], written(symbol(b, page.names))[0]) for a, b in pairs]
    names = {a.name: b.name for a, b in pairs if _moved(a.name, repeat.first, other) != b.name}
    return names, {a: b for a, b in texts if a.replace(repeat.first, other) != b}


def _moved(name: str, first: str, other: str) -> str:
    return other + name.removeprefix(first) if name.startswith(f"{first}.") else name
