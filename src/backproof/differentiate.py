"""Reverse mode as a transform from Graph to Graph, one vector-Jacobian product per node.

The joint graph holds the forward nodes unchanged, then for every node that the output depends on one adjoint
node, the gradient of the output with respect to it. Domains have forward rules only: the joint graph read over
numbers is backpropagation, over symbols the derivation.

The rules stand in :mod:`backproof.vjps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .errors import CaptureError, MissingRule
from .graph import Builder, Graph, Node, Surrogate
from .ops import own_backward as _written
from .vjps import Rule, has_vjp, vjp_of

__all__ = ["Joint", "differentiate"]


@dataclass(frozen=True)
class Joint:
    """The joint graph, and for each forward node its adjoint (None where no gradient arrives)."""

    graph: Graph
    of: Node
    gradients: dict[Node, Node | None]


def _active(graph: Graph, wrt: Iterable[Node], own: Mapping[Node, Surrogate]) -> set[Node]:
    """The nodes through which the output depends on ``wrt``."""
    active = set(wrt)
    for node in graph.nodes:
        if node.is_float and node.op.differentiable and any(x in active for x in _sources(node, own)):
            active.add(node)
    return active


def _sources(node: Node, own: Mapping[Node, Surrogate]) -> tuple[Node, ...]:
    """The nodes to which a node's adjoint is sent."""
    surrogate = own.get(node)
    return node.inputs if surrogate is None else tuple(x for x in surrogate.operands if x is not None)


def differentiate(
    graph: Graph, of: Node | None = None, wrt: Iterable[Node] | None = None, own_backward: bool = False
) -> Joint:
    """Return the joint graph of forward and backward pass.

    Args:
        graph: the captured network.
        of: the scalar node to differentiate (the graph's loss by default).
        wrt: the nodes with respect to which gradients are wanted (by default every float leaf that is no
            constant); every node between them and ``of`` gets its adjoint too.
        own_backward: whether the gradient goes as the user's own backward passes say (``graph.surrogates``), as in
            training; by default it is the derivative of the forward pass.

    Raises:
        CaptureError: ``of`` is not one number.
        MissingRule: an operation on the way has no vector-Jacobian product; all of them are named.
    """
    output = of or graph.loss
    if output is None or output.size != 1:
        shape = "nothing" if output is None else f"'{output.name}' of shape {list(output.shape)}"
        raise CaptureError(
            f"a gradient needs one number to differentiate, and this is {shape}; "
            "name a loss (loss=...), or reduce the output with .sum() or .mean()"
        )
    wanted = [n for n in graph.nodes if _is_wanted(n)] if wrt is None else list(wrt)
    own = graph.surrogates if own_backward else {}
    active = _active(graph, wanted, own)
    _require_rules(active, output, own)
    return _transform(graph, output, active, own)


def _is_wanted(node: Node) -> bool:
    """Float leaves that are neither constant nor held fixed, and every named value (also behind a step such as floor)."""
    return node.is_float and node.role not in ("constant", "helper") and not node.is_frozen


def _require_rules(active: set[Node], output: Node, own: Mapping[Node, Surrogate]) -> None:
    missing = [n for n in _ancestors(output, own) if n in active and _passes(n) and not has_vjp(n)]
    if missing:
        first, names = missing[0], sorted({n.op.name for n in missing})
        where = " in ".join(str(x) for x in (first.name, first.module, first.source) if x)
        raise MissingRule(
            f"no vector-Jacobian product for {', '.join(names)}; first needed by {where}. Add one in vjps.py"
        )


def _passes(node: Node) -> bool:
    """Whether a gradient goes on from this node to its operands."""
    return not node.is_leaf and node.op.differentiable


def _ancestors(node: Node, own: Mapping[Node, Surrogate]) -> set[Node]:
    found, stack = set(), [node]
    while stack:
        current = stack.pop()
        if current not in found:
            found.add(current)
            stack.extend(_sources(current, own))
    return found


def _transform(graph: Graph, output: Node, active: set[Node], own: Mapping[Node, Surrogate]) -> Joint:
    builder = Builder(graph.nodes)
    pieces: dict[Node, list[Node]] = {}
    gradients: dict[Node, Node | None] = dict.fromkeys(graph.nodes)
    if output in active:
        one = builder.constant(1, output.shape, output.dtype, name="one")
        pieces[output] = [one]
    for node in reversed(graph.nodes):
        if node in pieces:
            gradients[node] = delta = _adjoint(builder, node, pieces[node])
            if node in own:
                _send_as_written(builder, node, own, gradients, active, pieces)
            elif _passes(node):
                _send_back(builder, node, delta, active, pieces)
    return Joint(replace(graph, nodes=tuple(builder.nodes)), output, gradients)


def _adjoint(builder: Builder, node: Node, parts: list[Node]) -> Node:
    """Add up the contributions along all paths and name the sum the adjoint of ``node``."""
    total = parts[0]
    for part in parts[1:]:
        total = builder.emit("add", total, part, module=node.module, source=node.source)
    if total.role == "helper" and total is builder.nodes[-1]:
        builder.nodes.pop()
        builder.release(total.name)
        return builder.add(replace(total, role="adjoint", of=node, name=f"grad({node.name})"))
    return builder.emit(
        "identity", total, name=f"grad({node.name})", role="adjoint", of=node, module=node.module, source=node.source
    )


def _send_back(builder: Builder, node: Node, delta: Node, active: set[Node], pieces: dict[Node, list[Node]]) -> None:
    rule = vjp_of(node)
    contributions = rule(Rule(builder, node, delta, active))
    for operand, part in zip(node.inputs, contributions, strict=True):
        if part is not None and operand in active:
            if part.dtype != operand.dtype and part.is_float:  # a gradient has the dtype of what it is the gradient of
                part = builder.emit("cast", part, dtype=operand.dtype, module=node.module, source=node.source)
            pieces.setdefault(operand, []).append(part)


def _send_as_written(
    builder: Builder,
    node: Node,
    own: Mapping[Node, Surrogate],
    gradients: Mapping[Node, Node | None],
    active: set[Node],
    pieces: dict[Node, list[Node]],
) -> None:
    """Send back what the user's backward pass sends, once all results of its forward pass have their adjoints."""
    surrogate = own[node]
    group = {
        s.place: n for n, s in own.items() if s.gradients == surrogate.gradients and s.operands == surrogate.operands
    }
    if surrogate.place != min(p for p, n in group.items() if n in pieces):
        return
    deltas = [gradients[group[p]] if p in group else None for p in range(surrogate.count)]
    given = [x for x in surrogate.operands if x is not None]
    for place, operand in enumerate(surrogate.operands):
        if operand is not None and operand in active and operand.is_float:
            part = builder.emit(
                _written,
                *(d for d in deltas if d is not None),
                *given,
                run=surrogate.gradients,
                operand=place,
                results=tuple(d is not None for d in deltas),
                operands=tuple(x is not None for x in surrogate.operands),
                label=surrogate.name,
                shape=operand.shape,
                dtype=operand.dtype,
                module=node.module,
                source=node.source,
            )
            pieces.setdefault(operand, []).append(part)
