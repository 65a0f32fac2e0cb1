"""Reverse mode as a transform from Graph to Graph, one vector-Jacobian product per node.

The joint graph holds the forward nodes unchanged, then for every node that the output depends on one adjoint
node, the gradient of the output with respect to it. Domains have forward rules only: the joint graph read over
numbers is backpropagation, over symbols the derivation.

The rules stand in :mod:`backproof.vjps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import CaptureError, MissingRule
from .graph import Builder, Graph, Node, Surrogate
from .ops import own_backward as _written
from .vjps import VJP, Contributions, Rule, fused, has_vjp, is_unknown, pull_back, vjp_of

__all__ = ["Joint", "differentiate", "in_kernels", "is_unknown"]


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
        if node.is_number and node.op.differentiable and any(x in active for x in _sources(node, own)):
            active.add(node)
    return active


def _sources(node: Node, own: Mapping[Node, Surrogate]) -> tuple[Node, ...]:
    """The nodes to which a node's adjoint is sent."""
    surrogate = own.get(node)
    return node.inputs if surrogate is None else tuple(x for x in surrogate.operands if x is not None)


def differentiate(
    graph: Graph,
    of: Node | None = None,
    wrt: Iterable[Node] | None = None,
    own_backward: bool = False,
    beyond: bool = False,
) -> Joint:
    """Return the joint graph of forward and backward pass.

    Args:
        graph: the captured network.
        of: the scalar node to differentiate (the graph's loss by default).
        wrt: the nodes with respect to which gradients are wanted (by default every float leaf that is no
            constant); every node between them and ``of`` gets its adjoint too.
        own_backward: whether the gradient goes as the user's own backward passes say (``graph.surrogates``), as in
            training; by default it is the derivative of the forward pass.
        beyond: whether to go on behind an operation without a rule, with its transposed Jacobian as it stands, for a
            reading that can write that.

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
    rules: dict[Node, VJP] = {n: pull_back for n in graph.nodes if is_unknown(n)} if beyond else {}
    if not beyond:
        _require_rules(active, output, own)
    joint = _transform(graph, output, active, Builder(graph.nodes), rules, own)
    kept = _used(joint.graph.nodes, {*graph.nodes, *(g for g in joint.gradients.values() if g is not None)})
    return replace(joint, graph=replace(joint.graph, nodes=kept))


def in_kernels(graph: Graph, calls: Mapping[Node, Any]) -> tuple[Graph, dict[Node, Node | None], dict[Node, Node]]:
    """Return the joint graph as torch computes it: several results from one call wherever it has a kernel for that.

    Args:
        graph: the captured network; without a loss there is a forward pass alone.
        calls: for some nodes the call of the program that computes their value in one go.

    Returns:
        The graph; for each forward node its adjoint; and for some forward nodes the node that stands for their value.
    """
    builder = Builder(graph.nodes)
    found = fused(graph, builder, calls)
    output = graph.loss
    if output is None:
        return replace(graph, nodes=tuple(builder.nodes)), {}, found.values
    active = _active(graph, [n for n in graph.nodes if _is_wanted(n)], {})
    _require_rules(active, output, {})
    joint = _transform(graph, output, active, builder, found.rules, {})
    return joint.graph, joint.gradients, found.values


def _is_wanted(node: Node) -> bool:
    """Float leaves that are neither constant nor held fixed, and every named value (also behind a step such as floor)."""
    return node.is_number and node.role not in ("constant", "draw", "helper") and not node.is_frozen


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


def _transform(
    graph: Graph,
    output: Node,
    active: set[Node],
    builder: Builder,
    rules: Mapping[Node, VJP],
    own: Mapping[Node, Surrogate],
) -> Joint:
    """The backward pass behind what the builder has.

    ``rules`` has those that are not the table's, ``own`` the values with a backward pass of the user's own.
    """
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
                rule = Rule(builder, node, delta, active)
                contributions = rule.fitted(rules.get(node, vjp_of(node))(rule))
                _send_back(node, contributions, active, pieces)
    return Joint(replace(graph, nodes=tuple(builder.nodes)), output, gradients)


def _used(nodes: Sequence[Node], wanted: set[Node]) -> tuple[Node, ...]:
    """The nodes that are wanted, or that one of them is computed from."""
    for node in reversed(nodes):
        if node in wanted:
            wanted.update(node.inputs)
    return tuple(n for n in nodes if n in wanted)


def _adjoint(builder: Builder, node: Node, parts: list[Node]) -> Node:
    """Add up the contributions along all paths and name the sum the adjoint of ``node``."""
    parts = _put_together(builder, node, parts)
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


def _put_together(builder: Builder, node: Node, parts: list[Node]) -> list[Node]:
    """Contributions that lie side by side and fill the operand, as one: of its slices, or of its rows.

    The adjoint of taking apart is putting together; as a sum of zeros it would grow with the square of their number.
    """
    for op in ("unslice", "unselect"):
        pieces = [p for p in parts if p.op.name == op and p.attrs["dim"] == parts[0].attrs.get("dim")]
        if len(pieces) > 1 and len(node.shape) > 1 and (filled := _in_order(pieces, node)):
            whole = builder.emit(
                "cat" if op == "unslice" else "stack",
                *(p.inputs[0] for p in filled),
                dim=filled[0].attrs["dim"],
                module=node.module,
                source=node.source,
            )
            return [*(p for p in parts if p not in filled), whole]
    return parts


def _in_order(pieces: list[Node], node: Node) -> list[Node] | None:
    """The pieces in the order in which they lie along their axis, if each place belongs to exactly one of them."""
    size = node.shape[pieces[0].attrs["dim"]]

    def span(piece: Node) -> range:
        if piece.op.name == "unselect":
            return range(piece.attrs["index"] % size, piece.attrs["index"] % size + 1)
        return range(*slice(piece.attrs["start"], piece.attrs["end"], piece.attrs["step"]).indices(size))

    ordered = sorted(pieces, key=lambda p: span(p).start)
    places = [i for p in ordered for i in span(p)]
    return ordered if places == list(range(size)) else None


def _send_back(node: Node, contributions: Contributions, active: set[Node], pieces: dict[Node, list[Node]]) -> None:
    for operand, part in zip(node.inputs, contributions, strict=True):
        if part is not None and operand in active:
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
